import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Synchronization
import Testing

// How a branch is introduced, at the cloud.

private final class Clock: Sendable {
    private let time = Mutex<Int64>(1_700_000_000_000)

    var now: Int64 { self.time.withLock { $0 } }
    func advance(seconds: Int64) { self.time.withLock { $0 += seconds * 1_000 } }

    var environment: SyncEnvironment {
        var environment = SyncEnvironment.system
        environment.wallTime = { self.now }
        return environment
    }
}

private struct Office: Sendable {
    let storage = InMemoryStorage()
    let clock = Clock()
    let cloudKey: MachineKey
    let enrolment: Enrolment<InMemoryStorage>

    init() throws {
        self.cloudKey = try MachineKey.generate()
        self.enrolment = Enrolment(storage: self.storage, cloudKey: self.cloudKey.publicKey, environment: self.clock.environment)
    }

    func row(_ id: ServerID = 7) async throws -> ServerRow? {
        try await self.storage.withTransaction(.snapshot) { try await $0.server(id) }
    }

    /// What the audit says.
    func audit() async throws -> [String] {
        #expect(try await self.storage.verifyAudit().fault == nil)
        return try await self.storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }.map {
            "\($0.entry.action) \($0.entry.subject)"
        }
    }

    func join(_ token: JoinToken, _ key: MachineKey, from branch: ServerID? = nil) async throws -> JoinAnswer {
        try await self.enrolment.join(
            JoinRequest(secret: token.secret, publicKey: key.publicKey.text, software: "test 1"), from: branch ?? token.server)
    }

    func expectRefusal(
        _ code: DataSyncError.Code = .unauthorized, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
    ) async {
        let error = await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { try await body() }
        #expect(error?.code == code, sourceLocation: sourceLocation)
    }
}

@Test func aBranchIsInvitedAndJoinsOnce() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(7, name: "Markt · 市场", actor: "ada")
    #expect(try await office.row()?.status == .invited)
    let key = try MachineKey.generate()
    let answer = try await office.join(token, key)
    #expect(answer.name == "Markt · 市场")
    #expect(answer.cloudPublicKey == office.cloudKey.publicKey.text)
    #expect(token.cloudThumbprint == office.cloudKey.publicKey.thumbprint)
    let row = try await office.row()
    #expect(row?.status == .active)
    #expect(row?.publicKey == key.publicKey.text)
    #expect(row?.version == "test 1")
    // The database has a digest, and the secret is not in it.
    #expect(row?.joinDigest == Digest.secret(token.secret))
    #expect(row?.joinDigest != token.secret.revealed)
}

@Test func theSameKeyAgainGetsTheSameAnswerAndAnotherNone() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(7, name: "a", actor: "ada")
    let key = try MachineKey.generate()
    let first = try await office.join(token, key)
    let second = try await office.join(token, key)
    #expect(first.body == second.body)
    let thief = try MachineKey.generate()
    await office.expectRefusal { _ = try await office.join(token, thief) }
    #expect(try await office.row()?.publicKey == key.publicKey.text)
    // Each that came with another key is told of, with its fingerprint.
    #expect(
        try await office.audit() == [
            "branch.add branch 7", "branch.join branch 7, key \(key.publicKey)", "branch.join.second_key branch 7, key \(thief.publicKey)",
        ])
}

@Test func twoKeysThatComeAtOnceDoNotBothJoin() async throws {
    for _ in 0..<20 {
        let office = try Office()
        let token = try await office.enrolment.add(7, name: "a", actor: "ada")
        let joined = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                let key = try MachineKey.generate()
                group.addTask { (try? await office.join(token, key)) == nil ? 0 : 1 }
            }
            return try await group.reduce(0, +)
        }
        #expect(joined == 1)
    }
}

@Test func anInvitationIsGoodForAnHour() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(7, name: "a", actor: "ada")
    office.clock.advance(seconds: 3_600)
    let key = try MachineKey.generate()
    _ = try await office.join(token, key)
    office.clock.advance(seconds: 1)
    // Nor is it told to the one who has joined with it.
    await office.expectRefusal { _ = try await office.join(token, key) }
    let late = try await office.enrolment.add(8, name: "b", actor: "ada")
    office.clock.advance(seconds: 3_601)
    await office.expectRefusal { _ = try await office.join(late, key) }
    let renewed = try await office.enrolment.renewToken(of: 8, actor: "ada")
    await office.expectRefusal { _ = try await office.join(late, key) }
    #expect(try await office.join(renewed, try MachineKey.generate()).name == "b")
}

@Test func anInvitationIsGoodForOneBranch() async throws {
    let office = try Office()
    let seven = try await office.enrolment.add(7, name: "a", actor: "ada")
    let eight = try await office.enrolment.add(8, name: "b", actor: "ada")
    #expect(seven.secret != eight.secret)
    let key = try MachineKey.generate()
    await office.expectRefusal { _ = try await office.join(seven, key, from: 8) }
    await office.expectRefusal { _ = try await office.join(seven, key, from: 9) }
    await office.expectRefusal { _ = try await office.join(seven, key, from: .cloud) }
    #expect(try await office.row(8)?.status == .invited)
}

/// Whatever is wrong is said in the same words.
@Test func aRefusedJoinSaysNothing() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(7, name: "a", actor: "ada")
    let key = try MachineKey.generate()
    var words: Set<String> = []
    for request in [
        JoinRequest(secret: Secret(String(repeating: "0", count: 32)), publicKey: key.publicKey.text, software: "x"),
        JoinRequest(secret: "", publicKey: key.publicKey.text, software: "x"), JoinRequest(secret: token.secret, publicKey: "", software: "x"),
        JoinRequest(secret: Secret(Digest.secret(token.secret)), publicKey: key.publicKey.text, software: "x"),
    ] {
        let error = await #expect(throws: DataSyncError.self) { _ = try await office.enrolment.join(request, from: 7) }
        words.insert(String(reflecting: error))
    }
    #expect(words.count == 1)
    #expect(words.first?.contains(token.secret.revealed) == false)
}

@Test func aSuspendedBranchDoesNotJoinAgain() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(7, name: "a", actor: "ada")
    let key = try MachineKey.generate()
    _ = try await office.join(token, key)
    try await office.enrolment.suspend(7, actor: "ada")
    await office.expectRefusal { _ = try await office.join(token, key) }
    await office.expectRefusal(.invalidState) { try await office.enrolment.suspend(7, actor: "ada") }
    await office.expectRefusal(.invalidState) { _ = try await office.enrolment.renewToken(of: 7, actor: "ada") }
    try await office.enrolment.resume(7, actor: "ada")
    await office.expectRefusal(.invalidState) { try await office.enrolment.resume(7, actor: "ada") }
    #expect(try await office.join(token, key).name == "a")
}

@Test func aBranchThatHasJoinedJoinsAgainWithItsKeyAlone() async throws {
    let office = try Office()
    let key = try MachineKey.generate()
    _ = try await office.join(try await office.enrolment.add(7, name: "a", actor: "ada"), key)
    let token = try await office.enrolment.renewToken(of: 7, actor: "ada")
    let thief = try MachineKey.generate()
    await office.expectRefusal { _ = try await office.join(token, thief) }
    #expect(try await office.join(token, key).epoch == 1)
    #expect(try await office.row()?.publicKey == key.publicKey.text)
}

@Test func aReplacedBranchJoinsWithAnotherKeyInANewEpoch() async throws {
    let office = try Office()
    let first = try await office.enrolment.add(7, name: "a", actor: "ada")
    await office.expectRefusal(.invalidState) { _ = try await office.enrolment.replace(7, actor: "ada") }
    let (old, new) = (try MachineKey.generate(), try MachineKey.generate())
    _ = try await office.join(first, old)
    let before = try #require(try await office.row())
    let token = try await office.enrolment.replace(7, actor: "ada")
    let shutOut = try #require(try await office.row())
    #expect(shutOut.status == .invited)
    #expect(shutOut.publicKey == nil)
    #expect(shutOut.session == before.session + 1)
    // The first token is worth nothing, and the key that was shut out does not come back by the second.
    await office.expectRefusal { _ = try await office.join(first, new) }
    await office.expectRefusal { _ = try await office.join(token, old) }
    #expect(try await office.row() == shutOut)
    let answer = try await office.join(token, new)
    #expect(answer.epoch == 2)
    let row = try #require(try await office.row())
    #expect(row.status == .active)
    #expect(row.publicKey == new.publicKey.text)
    #expect(row.nextKey == nil)
    #expect(try await office.audit().map { $0.prefix { $0 != " " } } == ["branch.add", "branch.join", "branch.replace", "branch.join"])
    await office.expectRefusal(.notFound) { _ = try await office.enrolment.replace(9, actor: "ada") }
}

/// A suspended branch may be replaced: its machine was stolen, and it was stopped at once.
@Test func aSuspendedBranchIsReplaced() async throws {
    let office = try Office()
    _ = try await office.join(try await office.enrolment.add(7, name: "a", actor: "ada"), try MachineKey.generate())
    try await office.enrolment.suspend(7, actor: "ada")
    let token = try await office.enrolment.replace(7, actor: "ada")
    #expect(try await office.join(token, try MachineKey.generate()).epoch == 2)
    #expect(try await office.row()?.status == .active)
}

@Test func whatCannotBeIntroducedIsRefused() async throws {
    let office = try Office()
    _ = try await office.enrolment.add(7, name: "a", actor: "ada")
    await office.expectRefusal(.invalidState) { _ = try await office.enrolment.add(7, name: "again", actor: "ada") }
    await office.expectRefusal(.invalidInput) { _ = try await office.enrolment.add(.cloud, name: "a", actor: "ada") }
    await office.expectRefusal(.invalidInput) { _ = try await office.enrolment.add(-1, name: "a", actor: "ada") }
    await office.expectRefusal(.invalidInput) { _ = try await office.enrolment.add(8, name: "", actor: "ada") }
    await office.expectRefusal(.invalidInput) { _ = try await office.enrolment.add(8, name: String(repeating: "名", count: 101), actor: "ada") }
    await office.expectRefusal(.notFound) { try await office.enrolment.suspend(9, actor: "ada") }
    await office.expectRefusal(.invalidState) { try await office.enrolment.suspend(7, actor: "ada") }
    _ = try await office.enrolment.add(8, name: String(repeating: "名", count: 100), actor: "ada")
}

// MARK: - The token as it is printed

@Test func aJoinTokenSurvivesBeingPasted() async throws {
    let office = try Office()
    let token = try await office.enrolment.add(2_147_483_647, name: "a", actor: "ada")
    let read = try JoinToken(text: token.text)
    #expect(read.server == token.server)
    #expect(read.secret == token.secret)
    #expect(read.cloudThumbprint == token.cloudThumbprint)
    #expect(token.text.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "'") && $0 != UInt8(ascii: "$") })
}

private let secret = "0123456789abcdef0123456789abcdef"

@Test(arguments: [
    "", "dsj1", "dsj1.7.\(secret)", "dsj1.7.\(secret).\(secret).", "dsj2.7.\(secret).\(secret)", "dsj1.0.\(secret).\(secret)", "dsj1.-7.\(secret).\(secret)",
    "dsj1.x.\(secret).\(secret)", "dsj1.2147483648.\(secret).\(secret)", "dsj1.7.\(secret)0.\(secret)", "dsj1.7.\(secret).\(secret.dropLast())",
    "dsj1..\(secret).\(secret)", "dsj1.7..\(secret)", " dsj1.7.\(secret).\(secret)", "dsj1.7.\(secret).\(secret)\n",
])
func whatIsNoJoinTokenIsRefusedWithoutBeingShown(text: String) {
    let error = #expect(throws: DataSyncError.self) { try JoinToken(text: text) }
    #expect(error?.code == .invalidInput)
    #expect(!String(reflecting: error).contains("0123456789abcdef"))
}

@Test func noDescriptionShowsTheSecretOfAJoin() throws {
    let token = try JoinToken(text: "dsj1.7.\(secret).\(String(repeating: "f", count: 32))")
    let request = JoinRequest(secret: Secret(secret), publicKey: "key", software: "x")
    var dumped = ""
    dump((token, request), to: &dumped)
    for text in [
        dumped, "\(Mirror(reflecting: token).children.map(\.value))", "\(token)", String(reflecting: token), "\([token])", "\(request)",
        String(reflecting: request), "\([request])", "\(Optional(request) as Any)",
    ] { #expect(!text.contains("0123456789abcdef"), "\(text)") }
}
