import DataSync
@testable import DataSyncIdentity
@testable import DataSyncServer
import DataSyncTesting
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Synchronization
import Testing

// Who has proven nothing takes little of the database, and nothing of what is there for the others.

@Suite struct StrangerTests {
    /// What somebody is answered who has not joined.
    private func open(as id: Int32, to cloud: NoteCloud, _ client: some TestClientProtocol) async throws -> String {
        let stranger = try TestBranch(ServerID(rawValue: id), cloud: cloud.key)
        return try await client.ask("/v1/open", Ask.open.body, token: try await stranger.token("/v1/open", Ask.open.body)).summary
    }

    /// Has a branch pull while strangers fill what they have of the database, which answers nobody until the branch has got to it.
    private func pull(
        _ session: SessionID, of branch: TestBranch, amongStrangersTo cloud: NoteCloud, _ client: some TestClientProtocol
    ) async throws {
        let storage = cloud.hub.storage
        storage.hold()
        try await withThrowingTaskGroup(of: String.self) { group in
            for id in 101...108 as ClosedRange<Int32> { group.addTask { try await self.open(as: id, to: cloud, client) } }
            for _ in 0..<2 { try await storage.waitForArrival() }
            let body = Ask.pull(session).body
            let token = try await branch.token("/v1/pull", body, session: session)
            group.addTask { try await client.ask("/v1/pull", body, token: token).summary }
            // The third at the database is the branch.
            try await storage.waitForArrival()
            storage.release()
            var summaries: [String] = []
            for try await summary in group { summaries.append(summary) }
            #expect(summaries.sorted() == ["200 - signed"] + Array(repeating: "401 unauthorized", count: 8))
        }
    }

    /// Two strangers are at the database, and the others wait. A branch is looked up all the same, also one that was silent for long.
    @Test(.timeLimit(.minutes(30)), arguments: [Duration.zero, .seconds(600)])
    func strangersDoNotKeepBranchesFromTheDatabase(silence: Duration) async throws {
        var limited = try await makeNoteCloud()
        let time = Mutex(Duration.seconds(100))
        limited.environment.runningTime = { time.withLock { $0 } }
        let cloud = limited
        let branch = try await cloud.enrol(7)
        try await cloud.test { client async throws in
            let session = try await client.open(branch)
            time.withLock { $0 += silence }
            try await self.pull(session, of: branch, amongStrangersTo: cloud, client)
        }
    }

    /// A replica that has met nobody yet: the first that comes is a stranger. Perhaps its database was away when somebody came before.
    @Test(.timeLimit(.minutes(30)), arguments: [false, true]) func aFreshReplicaKnowsItsBranches(wasDatabaseAway: Bool) async throws {
        let cloud = try await makeNoteCloud()
        let branch = try await cloud.enrol(7)
        let storage = cloud.hub.storage
        // Opened at another replica.
        let session = try await cloud.hub.open(Ask.open, from: 7).session
        try await cloud.test { client async throws in
            if wasDatabaseAway {
                storage.fail(with: DataSyncError(.storageUnavailable, operation: "test"))
                #expect(try await self.open(as: 99, to: cloud, client) == "503 unavailable")
                storage.fail(with: nil)
            }
            #expect(try await self.open(as: 100, to: cloud, client) == "401 unauthorized")
            try await self.pull(session, of: branch, amongStrangersTo: cloud, client)
        }
    }

    /// Whoever names a key that is known, and does not have it, is refused without a question to the database.
    @Test(arguments: [Duration.zero, .seconds(600)])
    func whoOnlyNamesAKeyIsNotLookedUp(silence: Duration) async throws {
        var limited = try await makeNoteCloud()
        let time = Mutex(Duration.seconds(100))
        limited.environment.runningTime = { time.withLock { $0 } }
        let cloud = limited
        let branch = try await cloud.enrol(7)
        let thief = try TestBranch(7, cloud: cloud.key)
        try await cloud.test { client async throws in
            _ = try await client.open(branch)
            time.withLock { $0 += silence }
            cloud.hub.storage.fail(with: DataSyncError(.storageUnavailable, operation: "test"))
            let body = Ask.open.body
            let forged = try await thief.token(thief.claims("/v1/open", body), keyID: KeyID(7, branch.key.publicKey).text)
            #expect(try await client.ask("/v1/open", body, token: forged).summary == "401 unauthorized")
            #expect(try await client.ask("/v1/open", body, token: try await branch.token("/v1/open", body)).status == 503)
        }
    }

    /// On SQLite there is one that writes at a time.
    @Test func aStrangerBeginsNothingThatWrites() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let (cloud, storage) = (world.cloud, world.cloud.hub.storage)
        _ = try await cloud.enrolment.add(9, name: "b", actor: "ada")
        let (stranger, unknown) = (try TestBranch(9, cloud: cloud.key), try TestBranch(99, cloud: cloud.key))
        let before = storage.writes
        try await cloud.test { client async throws in
            for branch in [stranger, unknown] {
                let join = JoinRequest(secret: Secret(String(repeating: "0", count: 32)), publicKey: branch.key.publicKey.text, software: "x").body
                #expect(try await client.ask("/v1/join", join, token: try await branch.token("/v1/join", join)).summary == "401 unauthorized")
                #expect(try await client.ask("/v1/open", Ask.open.body, token: try await branch.token("/v1/open", Ask.open.body)).status == 401)
            }
        }
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            let token = "dsr1.operator.\(String(repeating: "0", count: 32)).\(String(repeating: "0", count: OpaqueSecret.characters))"
            #expect(try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(token)"}"#).summary == "401 unauthorized")
            #expect(try await client.people(.get, "v1/me", token: "x.y.z").summary == "401 unauthorized")
        }
        #expect(storage.writes == before)
    }

    /// Refresh tokens are looked up apart from what people who are known ask.
    @Test(.timeLimit(.minutes(30))) func whoRefreshesTakesNoTurnFromThoseWhoAreKnown() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.operatorToken(.viewer)
        let storage = world.cloud.hub.storage
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            storage.hold()
            try await withThrowingTaskGroup(of: Int.self) { group in
                let refresh = "dsr1.operator.\(String(repeating: "0", count: 32)).\(String(repeating: "0", count: OpaqueSecret.characters))"
                for _ in 0..<8 { group.addTask { try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(refresh)"}"#).status } }
                for _ in 0..<2 { try await storage.waitForArrival() }
                group.addTask { try await client.people(.get, "v1/me", token: token).status }
                try await storage.waitForArrival()
                storage.release()
                var statuses: [Int] = []
                for try await status in group { statuses.append(status) }
                #expect(statuses.sorted() == [200] + Array(repeating: 401, count: 8))
            }
        }
    }

    @Test(.timeLimit(.minutes(30))) func twoAreLetThroughAtATime() async throws {
        let gate = StrangerGate()
        let crowd = Crowd()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<200 {
                group.addTask {
                    do {
                        try await gate.pass(from: "address \(number % 10)") {
                            crowd.enter()
                            for _ in 0..<20 { await Task.yield() }
                            crowd.leave()
                        }
                    } catch let error as DataSyncError { #expect(error.code == .storageBusy) }
                }
            }
            try await group.waitForAll()
        }
        #expect((1...2).contains(crowd.most))
        // Of one address eight: two are inside and six wait.
        let (held, arrived) = (AsyncSemaphore(0), AsyncSemaphore(0))
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<9 {
                group.addTask {
                    do {
                        try await gate.pass(from: "one") {
                            arrived.signal()
                            try await held.wait()
                        }
                        return true
                    } catch is DataSyncError { return false }
                }
            }
            #expect(try await group.next() == false)
            for _ in 0..<2 { try await arrived.wait() }
            #expect(!arrived.tryWait())
            for _ in 0..<8 { held.signal() }
            for _ in 0..<8 { #expect(try await group.next() == true) }
        }
        // Whoever was let through has left.
        for _ in 0..<100 { try await gate.pass(from: "one") {} }
    }

    /// Anybody may ask whether the cloud is ready: the database is asked once in a second.
    @Test func readinessIsAskedForOnceInAWhile() async throws {
        let time = Mutex(Duration.seconds(100))
        let count = Mutex(0)
        var environment = SyncEnvironment.system
        environment.runningTime = { time.withLock { $0 } }
        let router = Router(context: ServerRequestContext.self)
        HTTPServer.addHealth(to: router, goodFor: .seconds(1), environment: environment) {
            let asked = count.withLock { count in
                count += 1
                return count
            }
            await Task.yield()
            return (asked == 1, "asked \(asked)")
        }
        try await Application(router: router, logger: LogLines().logger).test(.router) { client async throws in
            @Sendable func ready() async throws -> Int { try await client.executeRequest(uri: "/ready", method: .get, headers: [:], body: nil).status.code }
            let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<50 { group.addTask { try await ready() } }
                return try await group.reduce(into: Set<Int>()) { $0.insert($1) }
            }
            #expect(statuses == [200])
            #expect(count.withLock { $0 } == 1)
            time.withLock { $0 += .milliseconds(999) }
            #expect(try await ready() == 200)
            time.withLock { $0 += .milliseconds(1) }
            #expect(try await ready() == 503)
            #expect(count.withLock { $0 } == 2)
        }
    }
}

/// How many are inside at a time.
private final class Crowd: Sendable {
    private struct State {
        var inside = 0
        var most = 0
    }
    private let state = Mutex(State())

    var most: Int { self.state.withLock { $0.most } }

    func enter() {
        self.state.withLock { state in
            state.inside += 1
            state.most = max(state.most, state.inside)
        }
    }

    func leave() { self.state.withLock { $0.inside -= 1 } }
}
