import DataSync
import DataSyncHTTP
@testable import DataSyncIdentity
import DataSyncServer
import DataSyncTesting
import Foundation
import Hummingbird
import HummingbirdTesting
import Synchronization
import Testing

// How a branch changes its key, and what becomes of the old one.

/// A cloud whose replicas remember what they have looked up for as long as the test takes.
private func makePatientCloud() async throws -> NoteCloud {
    var cloud = try await makeNoteCloud()
    cloud.environment.runningTime = { .zero }
    return cloud
}

extension NoteCloud {
    fileprivate func row(_ branch: ServerID = 7) async throws -> ServerRow {
        try #require(try await self.hub.storage.withTransaction(.snapshot) { try await $0.server(branch) })
    }

    fileprivate func audit() async throws -> [String] {
        #expect(try await self.hub.storage.verifyAudit().fault == nil)
        return try await self.hub.storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }.map(\.entry.action)
    }
}

extension TestClientProtocol {
    fileprivate func offer(_ next: MachineKey, as branch: TestBranch) async throws {
        _ = try await self.ask("/v1/key", try await branch.identity.offer(next), as: branch, KeyAnswer.self)
    }

    /// What comes of an honest request.
    fileprivate func summary(_ path: String, _ message: some WireMessage, as branch: TestBranch, session: SessionID? = nil) async throws -> String {
        let body = message.body
        return try await self.ask(path, body, token: try await branch.token(path, body, session: session)).summary
    }
}

@Test func bothKeysAreGoodUntilTheNewOneIsUsed() async throws {
    let cloud = try await makeNoteCloud()
    let old = try await cloud.enrol(7)
    let new = try TestBranch(7, cloud: cloud.key)
    try await cloud.test { client async throws in
        let session = try await client.open(old)
        #expect(try await client.summary("/v1/pull", Ask.pull(session), as: new, session: session) == "401 unauthorized")
        // Its answer may be lost any number of times.
        for _ in 0..<3 { try await client.offer(new.key, as: old) }
        #expect(try await cloud.row().nextKey == new.key.publicKey.text)
        _ = try await client.ask("/v1/push", Ask.push(session, ["a"]), as: old, session: session, PushAnswer.self)
        // The first request that the new one signs ends what the old one had opened.
        #expect(try await client.summary("/v1/pull", Ask.pull(session), as: new, session: session) == "409 fenced signed")
        let row = try await cloud.row()
        #expect(row.publicKey == new.key.publicKey.text)
        #expect(row.nextKey == nil)
        let asked: [(String, any WireMessage)] = [("/v1/push", Ask.push(session, ["b"], first: 2)), ("/v1/open", Ask.open), ("/v1/pull", Ask.pull(session))]
        for (path, message) in asked {
            let signed = path == "/v1/open" ? nil : session
            #expect(try await client.summary(path, message, as: old, session: signed) == "401 unauthorized", "\(path)")
        }
        let next = try await client.open(new)
        _ = try await client.ask("/v1/push", Ask.push(next, ["b"], first: 2), as: new, session: next, PushAnswer.self)
    }
    #expect(try await cloud.effects() == ["1": "1", "2": "1"])
    #expect(try await cloud.audit() == ["branch.key.offer", "branch.key.change"])
}

/// A replica that has looked the old key up a moment ago lets nothing of it through after the change: neither writing nor reading nor opening.
@Test(arguments: ["change", "replace", "suspend"])
func anotherReplicaThatKnowsTheOldKeyLetsNothingThrough(how: String) async throws {
    let cloud = try await makePatientCloud()
    let old = try await cloud.enrol(7)
    let new = try TestBranch(7, cloud: cloud.key)
    let other = try cloud.application()
    try await cloud.test { client async throws in
        try await other.test(.router) { replica async throws in
            let session = try await replica.open(old)
            _ = try await replica.ask("/v1/push", Ask.push(session, ["a"]), as: old, session: session, PushAnswer.self)
            switch how {
            case "change":
                try await client.offer(new.key, as: old)
                try await client.offer(new.key, as: new)
            case "replace": _ = try await cloud.enrolment.replace(7, actor: "ada")
            default: try await cloud.enrolment.suspend(7, actor: "ada")
            }
            let word = how == "change" ? "409 fenced signed" : how == "replace" ? "401 unauthorized signed" : "403 suspended signed"
            let asked: [(String, any WireMessage)] = [
                ("/v1/push", Ask.push(session, ["b"], first: 2)), ("/v1/pull", Ask.pull(session)),
                ("/v1/acknowledge", AcknowledgeRequest(session: session, logEpoch: 1, positions: [:], outcomes: [])),
                ("/v1/recover", RecoverRequest(session: session, epoch: 1, after: [1: 0])),
                ("/v1/recover", RecoverRequest(session: session, epoch: 1, after: [:], isEnd: true)),
            ]
            for (path, message) in asked {
                #expect(try await replica.summary(path, message, as: old, session: session) == word, "\(path)")
            }
            let unknown = how == "suspend" ? word : "401 unauthorized"
            #expect(try await replica.summary("/v1/open", Ask.open, as: old) == unknown)
            #expect(try await replica.summary("/v1/key", try await old.identity.offer(try MachineKey.generate()), as: old) == unknown)
        }
    }
    #expect(try await cloud.effects() == ["1": "1"])
}

/// Sessions can be guessed. Whoever has the old key does not get into the one that the new key has opened, at a replica that has looked the
/// old key up a moment ago.
@Test(arguments: ["change", "replace"])
func theOldKeyDoesNotGetIntoTheNewKeysSession(how: String) async throws {
    let cloud = try await makePatientCloud()
    let old = try await cloud.enrol(7)
    let new = try TestBranch(7, cloud: cloud.key)
    let other = try cloud.application()
    try await cloud.test { client async throws in
        try await other.test(.router) { replica async throws in
            let session = try await replica.open(old)
            _ = try await replica.ask("/v1/push", Ask.push(session, ["a"]), as: old, session: session, PushAnswer.self)
            if how == "change" {
                try await client.offer(new.key, as: old)
            } else {
                let token = try await cloud.enrolment.replace(7, actor: "ada")
                _ = try await cloud.enrolment.join(JoinRequest(secret: token.secret, publicKey: new.key.publicKey.text, software: "x"), from: 7)
            }
            let next = try await client.open(new)
            #expect(next.number > session.number)
            for (path, message) in [("/v1/push", Ask.push(next, ["b"], first: 2)), ("/v1/pull", Ask.pull(next))] as [(String, any WireMessage)] {
                #expect(try await replica.summary(path, message, as: old, session: next) == "401 unauthorized", "\(path)")
                #expect(try await replica.summary(path, Ask.pull(next), as: new, session: next).hasSuffix(" signed"))
            }
        }
    }
    #expect(try await cloud.effects() == ["1": "1"])
}

@Test func aKeyIsTakenFromItsOwnerAndFromTheBranchAlone() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    let other = try await cloud.enrol(8)
    let (new, thief) = (try MachineKey.generate(), try MachineKey.generate())
    let right = try await branch.identity.offer(new)
    // Signed by the branch, with a proof that is not that of this key, of this branch, after this key.
    var wrong: [KeyRequest] = [
        KeyRequest(publicKey: new.publicKey.text, proof: ""),
        KeyRequest(publicKey: new.publicKey.text, proof: try await branch.identity.offer(thief).proof),
        KeyRequest(publicKey: thief.publicKey.text, proof: right.proof),
        KeyRequest(publicKey: "", proof: right.proof),
        try await other.identity.offer(new),
        try await TestBranch(7, cloud: cloud.key).identity.offer(new),
    ]
    // A request's token is no proof.
    wrong.append(KeyRequest(publicKey: new.publicKey.text, proof: try await TestBranch(7, cloud: cloud.key, key: new).token("/v1/key", [])))
    let requests = wrong
    try await cloud.test { client async throws in
        for (index, request) in requests.enumerated() {
            #expect(try await client.summary("/v1/key", request, as: branch) == "400 invalid signed", "\(index)")
        }
        // The owner of the new key alone is nobody.
        #expect(try await client.summary("/v1/key", right, as: try TestBranch(7, cloud: cloud.key, key: new)) == "401 unauthorized")
        #expect(try await client.summary("/v1/key", right, as: other) == "400 invalid signed")
        #expect(try await cloud.row().nextKey == nil)
        #expect(try await cloud.row(8).nextKey == nil)
        #expect(try await client.summary("/v1/key", right, as: branch) == "200 - signed")
        // A later offer takes the place of one that was not used.
        try await client.offer(thief, as: branch)
        #expect(try await client.summary("/v1/open", Ask.open, as: try TestBranch(7, cloud: cloud.key, key: new)) == "401 unauthorized")
    }
    #expect(try await cloud.row().publicKey == branch.key.publicKey.text)
}

@Test func aSuspendedBranchChangesNoKey() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    let new = try TestBranch(7, cloud: cloud.key)
    try await cloud.test { client async throws in
        try await client.offer(new.key, as: branch)
        try await cloud.enrolment.suspend(7, actor: "ada")
        #expect(try await client.summary("/v1/key", try await branch.identity.offer(try MachineKey.generate()), as: branch) == "403 suspended signed")
        #expect(try await client.summary("/v1/open", Ask.open, as: new) == "403 suspended signed")
        #expect(try await cloud.row().publicKey == branch.key.publicKey.text)
        try await cloud.enrolment.resume(7, actor: "ada")
        _ = try await client.open(new)
    }
    #expect(try await cloud.row().publicKey == new.key.publicKey.text)
}

/// The process that works while another one changes the key.
@Test func aTransportGoesOnWithTheKeyThatIsKeptNow() async throws {
    let cloud = try await makeNoteCloud()
    let old = try await cloud.enrol(7)
    let new = try MachineKey.generate()
    let box = KeptKey(old.key)
    let identity = BranchIdentity(branch: 7, key: old.key, cloudKey: cloud.key.publicKey) { box.key }
    try await cloud.serve { port async throws in
        let endpoint = try CloudEndpoint("http://127.0.0.1:\(port)")
        let transport = HTTPTransport(cloud: endpoint, identity: identity, limits: .patient)
        _ = try await transport.open(Ask.open)
        try await HTTPTransport(cloud: endpoint, identity: old.identity, limits: .patient).offer(new)
        box.key = new
        // Still good, so it is still used.
        _ = try await transport.open(Ask.open)
        #expect(try await cloud.row().publicKey == old.key.publicKey.text)
        let successor = BranchIdentity(branch: 7, key: new, cloudKey: cloud.key.publicKey)
        try await HTTPTransport(cloud: endpoint, identity: successor, limits: .patient).offer(new)
        #expect(try await cloud.row().publicKey == new.publicKey.text)
        let session = try await transport.open(Ask.open).session
        _ = try await transport.push(Ask.push(session, ["a"]))
        // Whose key is nobody's any more, and finds no other, is told so.
        let former = HTTPTransport(cloud: endpoint, identity: old.identity, limits: .patient)
        let error = await #expect(throws: DataSyncError.self) { _ = try await former.open(Ask.open) }
        #expect(error?.code == .peerUnreachable)
    }
    #expect(try await cloud.effects() == ["1": "1"])
}

private final class KeptKey: Sendable {
    private let kept: Mutex<MachineKey>
    init(_ key: MachineKey) { self.kept = Mutex(key) }

    var key: MachineKey {
        get { self.kept.withLock { $0 } }
        set { self.kept.withLock { $0 = newValue } }
    }
}

/// Who is not let in is not told so by the cloud, and the same whatever is wrong.
@Test func aStrangersJoinIsRefusedWithoutASignature() async throws {
    let cloud = try await makeNoteCloud()
    _ = try await cloud.enrol(7)
    let token = try await cloud.enrolment.add(9, name: "new", actor: "ada")
    let joined = try TestBranch(9, cloud: cloud.key)
    try await cloud.test { client async throws in
        func join(_ id: ServerID, _ secret: Secret<String>, _ key: TestBranch) async throws -> Asked {
            let body = JoinRequest(secret: secret, publicKey: key.key.publicKey.text, software: "x").body
            return try await client.ask("/v1/join", body, token: try await key.token("/v1/join", body))
        }
        let right = try await join(9, token.secret, joined)
        #expect(right.summary == "200 - signed")
        #expect(try await join(9, token.secret, joined).body == right.body)
        var answers: Set<[UInt8]> = []
        for (id, secret) in [(7, "0123"), (8, "0123"), (9, "0123"), (9, token.secret), (4_711, "0123")] as [(ServerID, Secret<String>)] {
            let refused = try await join(id, secret, try TestBranch(id, cloud: cloud.key))
            #expect(refused.summary == "401 unauthorized", "\(id)")
            answers.insert(refused.body)
        }
        #expect(answers.count == 1)
    }
    // The one that had the right token and another key.
    #expect(cloud.log.count(of: "critical") == 1)
    #expect(try await cloud.audit() == ["branch.add", "branch.join", "branch.join.second_key"])
}

// MARK: - The cloud's key

/// What a branch says of the keys that it trusts is noted once, and never while the cloud has its first key.
@Test func theCloudHearsWhoKnowsItsNextKey() async throws {
    let cloud = try await makeNoteCloud()
    let folder = FileManager.default.temporaryDirectory.appending(path: "datasync-ring-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appending(path: "key").path
    try cloud.key.write(to: path)
    let storage = cloud.hub.storage
    let row = ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: cloud.key.publicKey.text)
    try await storage.withTransaction { try await $0.insertServer(row) }
    let branch = try await cloud.enrol(7)

    func exchange(_ count: Int) async throws {
        let ring = CloudKeyRing(storage: storage, file: path)
        let router = Router(context: ServerRequestContext.self)
        try MachineRoutes(hub: cloud.hub, identity: CloudIdentity { try await ring.keys() }, enrolment: cloud.enrolment, logger: cloud.log.logger)
            .add(to: router.group("datasync"))
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let application = try HTTPServer.make(
            router: router, at: ListenAddress(host: "127.0.0.1", port: 0), tls: nil, limits: .patient, logger: cloud.log.logger
        ) { continuation.yield($0) }
        try await serving(application, ports) { port in
            let transport = HTTPTransport(cloud: try CloudEndpoint("http://127.0.0.1:\(port)"), identity: branch.identity, limits: .patient)
            for _ in 0..<count { _ = try await transport.open(Ask.open) }
        }
    }

    try await exchange(2)
    #expect(try await cloud.row().cloudKeys == nil)
    let ring = CloudKeyRing(storage: storage, file: path)
    let next = try await ring.announce(by: "ada")
    try await exchange(1)
    #expect(try await cloud.row().cloudKeys == nil)
    try await exchange(1)
    #expect(try await cloud.row().cloudKeys == [cloud.key.publicKey, next].map(\.thumbprint).sorted().joined(separator: " "))
    let operation = try await cloud.row().operation
    try await exchange(2)
    // The same opening changes nothing, and neither does the note.
    #expect(try await cloud.row().operation == operation)
    _ = try await ring.activate(by: "ada")
    try await cloud.setStatus(.suspended, of: 8)
    try await exchange(1)
    _ = try await ring.retire(isForced: false, by: "ada")
    try await exchange(2)
    #expect(try await cloud.row().cloudKeys == next.thumbprint)
}
