import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Foundation
import Synchronization
import Testing

// How a cloud changes its key while branches work, stay away, and come back.

private final class Office: Sendable {
    let storage = InMemoryStorage()
    let folder: URL
    let first: MachineKey

    init() async throws {
        self.folder = FileManager.default.temporaryDirectory.appending(path: "datasync-ring-\(UUID())")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        self.first = try MachineKey.generate()
        try self.first.write(to: self.folder.appending(path: "key").path)
        let row = ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: self.first.publicKey.text)
        try await self.storage.withTransaction { try await $0.insertServer(row) }
    }

    deinit { try? FileManager.default.removeItem(at: self.folder) }

    var path: String { self.folder.appending(path: "key").path }

    /// As a replica that was started a moment ago.
    var ring: CloudKeyRing<InMemoryStorage> { CloudKeyRing(storage: self.storage, file: self.path) }

    var enrolment: Enrolment<InMemoryStorage> { Enrolment(storage: self.storage, cloudKey: self.first.publicKey) }

    func change(_ body: @escaping @Sendable (inout ServerRow) -> Void) async throws {
        try await self.storage.withTransaction { transaction in
            guard var row = try await transaction.server(.cloud) else { return }
            body(&row)
            #expect(try await transaction.replaceServer(row))
        }
    }

    func audit() async throws -> [String] {
        #expect(try await self.storage.verifyAudit().fault == nil)
        return try await self.storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }.map(\.entry.action)
    }
}

private final class Branch: Sendable {
    let id: ServerID
    let key: MachineKey
    let identity: BranchIdentity
    private let kept: Kept

    /// What is written down at the branch.
    private final class Kept: Sendable {
        let keys = Mutex<[MachinePublicKey]>([])
        let writes = Mutex(0)
        let isBroken = Mutex(false)
    }

    init(_ id: ServerID = 7, trusting cloudKey: MachinePublicKey) throws {
        self.id = id
        let (key, kept) = (try MachineKey.generate(), Kept())
        (self.key, self.kept) = (key, kept)
        kept.keys.withLock { $0 = [cloudKey] }
        self.identity = BranchIdentity(
            branch: id, key: key, cloudKey: cloudKey,
            keepCloudKeys: { keys in
                if kept.isBroken.withLock({ $0 }) { throw DataSyncError(.storageUnavailable, operation: "test") }
                kept.keys.withLock { $0 = keys }
                kept.writes.withLock { $0 += 1 }
            })
    }

    var known: [MachinePublicKey] { self.kept.keys.withLock { $0 } }
    var writes: Int { self.kept.writes.withLock { $0 } }
    func breakDatabase(_ isBroken: Bool) { self.kept.isBroken.withLock { $0 = isBroken } }

    /// One request, answered by a replica of `office`.
    /// - Returns: The key that signed the answer.
    @discardableResult
    func ask(_ office: Office) async throws -> MachinePublicKey {
        let ring = office.ring
        let cloud = CloudIdentity { try await ring.keys() }
        let request = SignedRequest(path: "/v1/open", body: [], session: nil)
        let (token, id) = try await self.identity.sign(request)
        let caller = try await cloud.verify(token, of: request) { _, _ in self.key.publicKey }
        let signature = try await cloud.sign(status: 200, body: [], to: caller)
        try await self.identity.verify(signature.token, status: 200, body: [], request: id)
        return signature.key
    }
}

@Test func aCloudChangesItsKeyWithoutAskingTheBranches() async throws {
    let office = try await Office()
    let first = office.first.publicKey
    let (present, late) = (try Branch(7, trusting: first), try Branch(8, trusting: first))
    #expect(try await present.ask(office) == first)
    #expect(present.writes == 0)

    let second = try await office.ring.announce(by: "ada")
    #expect(second != first)
    #expect(try await present.ask(office) == first)
    #expect(present.known == [first, second])
    // It is said with every answer, and written down once.
    try await present.ask(office)
    #expect(present.writes == 1)

    #expect(try await office.ring.activate(by: "ada") == second)
    #expect(try await present.ask(office) == second)
    #expect(Set(present.known) == [first, second])
    #expect(present.writes == 1)
    // Who was away is answered by the key that it knows, and learns the other.
    #expect(try await late.ask(office) == first)
    #expect(Set(late.known) == [first, second])
    #expect(try await late.ask(office) == second)

    let absent = try Branch(9, trusting: first)
    #expect(try await office.ring.retire(isForced: true, by: "ada") == second)
    #expect(try await present.ask(office) == second)
    #expect(present.known == [second])
    #expect(try MachineKey(file: office.path).publicKey == second)
    #expect(!FileManager.default.fileExists(atPath: MachineKey.nextFile(of: office.path)))
    // Who was away for all of it does not take the answers any more.
    let error = await #expect(throws: DataSyncError.self) { try await absent.ask(office) }
    #expect(error?.code == .peerUnreachable)
    #expect(try await office.audit() == ["cloud.key.announce", "cloud.key.activate", "cloud.key.retire"])
    // And the next change begins.
    #expect(try await office.ring.announce(by: "ada") != second)
    try await present.ask(office)
    #expect(present.known.count == 2)
}

/// Whoever holds the key that was retired is nobody to a branch that has heard of it.
@Test func aRetiredKeySignsNothing() async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    _ = try await office.ring.announce(by: "ada")
    try await branch.ask(office)
    _ = try await office.ring.activate(by: "ada")
    _ = try await office.ring.retire(isForced: true, by: "ada")
    try await branch.ask(office)
    let request = SignedRequest(path: "/v1/open", body: [], session: nil)
    let (token, id) = try await branch.identity.sign(request)
    let thief = CloudIdentity(key: office.first)
    let caller = try await thief.verify(token, of: request) { _, _ in branch.key.publicKey }
    let signature = try await thief.sign(status: 200, body: [], to: caller)
    let error = await #expect(throws: DataSyncError.self) { try await branch.identity.verify(signature.token, status: 200, body: [], request: id) }
    #expect(error?.code == .peerUnreachable)
}

/// What could not be written down is not relied upon: the branch says that it knows the first key alone, until it could.
@Test func aKeyThatABranchCouldNotKeepIsNotTaken() async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    let second = try await office.ring.announce(by: "ada")
    branch.breakDatabase(true)
    try await branch.ask(office)
    _ = try await office.ring.activate(by: "ada")
    #expect(try await branch.ask(office) == office.first.publicKey)
    branch.breakDatabase(false)
    #expect(try await branch.ask(office) == office.first.publicKey)
    #expect(try await branch.ask(office) == second)
}

@Test func theKeyBeforeIsRetiredWhenAllActiveBranchesKnowTheNewOne() async throws {
    let office = try await Office()
    for (id, status) in [(7, .active), (8, .suspended), (9, .invited)] as [(ServerID, ServerRow.Status)] {
        try await office.storage.withTransaction { try await $0.insertServer(ServerRow(id: id, name: "b", status: status)) }
    }
    let second = try await office.ring.announce(by: "ada")
    #expect(try await office.ring.standing().unaware == [7])
    _ = try await office.ring.activate(by: "ada")
    let error = await #expect(throws: DataSyncError.self) { _ = try await office.ring.retire(isForced: false, by: "ada") }
    #expect(error?.code == .invalidState)
    #expect(error?.detail?.contains("branches 7 ") == true)
    try await office.enrolment.note(trusted: [office.first.publicKey, second].map(\.thumbprint).sorted().joined(separator: " "), by: 7)
    #expect(try await office.ring.standing().unaware == [])
    _ = try await office.ring.retire(isForced: false, by: "ada")
    #expect(try await office.ring.standing().phase == .settled)
}

@Test func theStepsOfAChangeHaveAnOrder() async throws {
    let office = try await Office()
    func expectRefusal(sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> MachinePublicKey) async {
        let error = await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { _ = try await body() }
        #expect(error?.code == .invalidState, sourceLocation: sourceLocation)
    }
    await expectRefusal { try await office.ring.activate(by: "ada") }
    await expectRefusal { try await office.ring.retire(isForced: true, by: "ada") }
    _ = try await office.ring.announce(by: "ada")
    await expectRefusal { try await office.ring.announce(by: "ada") }
    await expectRefusal { try await office.ring.retire(isForced: true, by: "ada") }
    _ = try await office.ring.activate(by: "ada")
    await expectRefusal { try await office.ring.announce(by: "ada") }
    await expectRefusal { try await office.ring.activate(by: "ada") }
    _ = try await office.ring.retire(isForced: true, by: "ada")
    await expectRefusal { try await office.ring.retire(isForced: true, by: "ada") }
    #expect(try await office.audit().count == 3)
}

@Test func aChangeThatBrokeOffIsFinished() async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    // The next key was written, and not announced.
    let leftover = try MachineKey.generate()
    try leftover.write(to: MachineKey.nextFile(of: office.path))
    #expect(try await branch.ask(office) == office.first.publicKey)
    #expect(branch.known == [office.first.publicKey])
    #expect(try await office.ring.announce(by: "ada") == leftover.publicKey)
    try await branch.ask(office)
    _ = try await office.ring.activate(by: "ada")
    // The key before was retired in the database, and the new one has not got to its place.
    try await office.change { $0.nextKey = nil }
    #expect(try await branch.ask(office) == leftover.publicKey)
    #expect(branch.known == [leftover.publicKey])
    _ = try await office.ring.retire(isForced: false, by: "ada")
    #expect(try MachineKey(file: office.path).publicKey == leftover.publicKey)
    #expect(try await branch.ask(office) == leftover.publicKey)
}

/// On another replica it was never put in its place: its next change does that first.
@Test func theNextChangeBeginsWhereTheLastOneEnded() async throws {
    let office = try await Office()
    let second = try await office.ring.announce(by: "ada")
    _ = try await office.ring.activate(by: "ada")
    try await office.change { $0.nextKey = nil }
    let third = try await office.ring.announce(by: "ada")
    #expect(![office.first.publicKey, second].contains(third))
    #expect(try MachineKey(file: office.path).publicKey == second)
    #expect(try MachineKey(file: MachineKey.nextFile(of: office.path)).publicKey == third)
    #expect(try await office.ring.standing().phase == .announced)
}

/// A replica without the next key's file goes on with the one it has, which the branches trust as well.
@Test func aReplicaWithoutTheNextKeySignsByTheOneBefore() async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    let second = try await office.ring.announce(by: "ada")
    try await branch.ask(office)
    _ = try await office.ring.activate(by: "ada")
    try FileManager.default.removeItem(atPath: MachineKey.nextFile(of: office.path))
    #expect(try await branch.ask(office) == office.first.publicKey)
    #expect(Set(branch.known) == [office.first.publicKey, second])
    // Nor does the change go on there, or back: how far it has got is in the database, and not in what lies here.
    #expect(try await office.ring.standing().phase == .active)
    let steps: [@Sendable () async throws -> MachinePublicKey] = [
        { try await office.ring.announce(by: "ada") }, { try await office.ring.activate(by: "ada") },
        { try await office.ring.retire(isForced: true, by: "ada") },
    ]
    for step in steps {
        let error = await #expect(throws: DataSyncError.self) { _ = try await step() }
        #expect(error?.code == .invalidState)
    }
    let row = try await office.storage.withTransaction(.snapshot) { try await $0.server(.cloud) }
    #expect(row?.publicKey == second.text)
    #expect(row?.nextKey == office.first.publicKey.text)
    #expect(try await office.audit() == ["cloud.key.announce", "cloud.key.activate"])
}

/// A change that was begun before it was written down how far it is: what lies here says it, as it did then.
@Test func aChangeThatAnOlderVersionBeganIsEnded() async throws {
    let office = try await Office()
    let second = try await office.ring.announce(by: "ada")
    func forget() async throws { try await office.storage.withTransaction { try await $0.removeSetting("cloud.key.phase") } }
    try await forget()
    #expect(try await office.ring.standing().phase == .announced)
    _ = try await office.ring.activate(by: "ada")
    try await forget()
    #expect(try await office.ring.standing().phase == .active)
    #expect(try await office.ring.retire(isForced: true, by: "ada") == second)
    #expect(try await office.ring.standing().phase == .settled)
}

@Test func aTokenToJoinNamesTheKeyThatSigns() async throws {
    let office = try await Office()
    let before = try await office.enrolment.add(7, name: "a", actor: "ada")
    #expect(before.cloudThumbprint == office.first.publicKey.thumbprint)
    let second = try await office.ring.announce(by: "ada")
    _ = try await office.ring.activate(by: "ada")
    #expect(try await office.enrolment.add(8, name: "b", actor: "ada").cloudThumbprint == second.thumbprint)
    // One that was printed before is good until the key that it names is retired: the branch says whom it trusts.
    let branch = try Branch(trusting: try MachineKey.generate().publicKey)
    let cloud = CloudIdentity { try await office.ring.keys() }
    let request = SignedRequest(path: "/v1/join", body: [], session: nil)
    let (token, _) = try await branch.identity.sign(request, trusting: [before.cloudThumbprint])
    let caller = try await cloud.verify(token, of: request) { _, _ in branch.key.publicKey }
    #expect(try await cloud.sign(status: 200, body: [], to: caller).key == office.first.publicKey)
}

// MARK: - Databases that were put back

/// The database says of a key that it is the cloud's, and that key is gone. The branches know the one in the file.
@Test(arguments: [false, true])
func aDatabaseThatIsOlderThanTheKeyIsToldOfIt(isChanging: Bool) async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    let before = try #require(try await office.storage.withTransaction(.snapshot) { try await $0.server(.cloud) })
    let second = try await office.ring.announce(by: "ada")
    try await branch.ask(office)
    _ = try await office.ring.activate(by: "ada")
    _ = try await office.ring.retire(isForced: true, by: "ada")
    if isChanging { _ = try await office.ring.announce(by: "ada") }
    try await branch.ask(office)
    // Nothing is to be said while both agree.
    #expect(try await office.ring.adoptFile(by: "ada") == nil)
    try await office.change { ($0.publicKey, $0.nextKey) = (before.publicKey, before.nextKey) }
    // Branches are answered, and nobody new can be introduced.
    #expect(try await branch.ask(office) == second)
    #expect(try await office.enrolment.add(7, name: "a", actor: "ada").cloudThumbprint == office.first.publicKey.thumbprint)
    await #expect(throws: DataSyncError.self) { _ = try await office.ring.announce(by: "ada") }

    #expect(try await office.ring.adoptFile(by: "ada") == second)
    #expect(try await office.ring.adoptFile(by: "ada") == nil)
    #expect(try await office.enrolment.add(8, name: "b", actor: "ada").cloudThumbprint == second.thumbprint)
    #expect(try await branch.ask(office) == second)
    #expect(try await office.ring.announce(by: "ada") != second)
    try await branch.ask(office)
    #expect(branch.known.count == 2)
    #expect(try await office.audit().contains("cloud.key.adopt"))
}

/// The database knows the key in the file as the next one: the change that it has forgotten the end of is ended again.
@Test func aChangeWhoseEndWasForgottenIsEndedAgain() async throws {
    let office = try await Office()
    let branch = try Branch(trusting: office.first.publicKey)
    let second = try await office.ring.announce(by: "ada")
    try await branch.ask(office)
    let announced = try #require(try await office.storage.withTransaction(.snapshot) { try await $0.server(.cloud) })
    _ = try await office.ring.activate(by: "ada")
    _ = try await office.ring.retire(isForced: true, by: "ada")
    try await branch.ask(office)
    #expect(branch.known == [second])
    try await office.change { ($0.publicKey, $0.nextKey) = (announced.publicKey, announced.nextKey) }
    #expect(try await branch.ask(office) == second)
    #expect(try await office.ring.adoptFile(by: "ada") == nil)
    #expect(try await office.ring.activate(by: "ada") == second)
    #expect(try await branch.ask(office) == second)
    #expect(try await office.ring.retire(isForced: true, by: "ada") == second)
    #expect(try await office.ring.standing().phase == .settled)
    #expect(try await branch.ask(office) == second)
    #expect(branch.known == [second])
}

/// A replica that cannot look for a while goes on; one that could not for long says nothing in the cloud's name, since branches forget the
/// newer key when they are answered by who does not know it.
@Test func keysThatWereFoundLongAgoAreNotUsed() async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "datasync-ring-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appending(path: "key").path
    let key = try MachineKey.generate()
    try key.write(to: path)
    let storage = ControlledStorage()
    try await storage.withTransaction { try await $0.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: key.publicKey.text)) }
    let time = Running()
    var environment = SyncEnvironment.system
    environment.runningTime = { time.now }
    let ring = CloudKeyRing(storage: storage, file: path, environment: environment)
    _ = try await ring.keys()
    storage.fail(with: DataSyncError(.storageUnavailable, operation: "test"))
    time.now = .seconds(64)
    #expect(try await ring.keys().present.publicKey == key.publicKey)
    time.now = .seconds(65)
    let error = await #expect(throws: DataSyncError.self) { _ = try await ring.keys() }
    #expect(error?.code == .storageUnavailable)
    storage.fail(with: nil)
    _ = try await ring.keys()
}

private final class Running: Sendable {
    private let time = Mutex(Duration.zero)

    var now: Duration {
        get { self.time.withLock { $0 } }
        set { self.time.withLock { $0 = newValue } }
    }
}
