import DataSync
import DataSyncSQL
import Logging
import Synchronization
import Testing

/// What is kept for the retention is removed when it is over: by the services of both programs, in the storage that they use, and by running
/// time.
@Suite(.serialized) struct RetentionTests {
    @Test(arguments: TestDatabase.available)
    func bothSidesRemoveWhatIsOldWhileTheyRun(kind: TestDatabase) async throws {
        let company = try await KeepingCompany(kind)
        try await company.running(PassingTime()) { services in
            try await services.tell([1, 2], at: .branch)
            try await services.tell([11], at: .cloud)
            try await company.until { branch, cloud in
                branch.states == ["note:1": 2, "note:2": 2] && branch.uids == 1 && cloud.states == ["note:11": 2]
            }
            try await services.tell([3], waits: true, at: .branch)
            try await company.until { branch, cloud in branch.states["note:3"] == 1 && cloud.sent == 1 && cloud.receipts == 2 }
            services.time.advance(by: .days(10))
            try await services.tell([4], at: .branch)
            try await services.tell([12], at: .cloud)
            try await company.until { branch, cloud in
                branch.states == ["note:1": 2, "note:2": 2, "note:3": 1, "note:4": 2] && branch.uids == 2 && cloud.receipts == 3
            }
            services.time.advance(by: .days(5))
            // What is not settled stays, however old it is, and so does what is young.
            try await company.until { branch, cloud in
                branch.states == ["note:3": 1, "note:4": 2] && branch.uids == 1 && cloud.states == ["note:12": 2] && cloud.sent == 1
                    && cloud.receipts == 1
            }
        }
    }

    /// Two processes share the time: the first runs for ten days, the second for five. Its clock says that ten years have passed.
    @Test(arguments: TestDatabase.available)
    func theRetentionIsRunningTimeOfAllProcesses(kind: TestDatabase) async throws {
        let company = try await KeepingCompany(kind)
        try await company.running(PassingTime()) { services in
            try await services.tell([1], at: .branch)
            try await services.tell([11], at: .cloud)
            try await company.until { branch, cloud in branch.states == ["note:1": 2] && branch.uids == 1 && cloud.states == ["note:11": 2] }
            services.time.advance(by: .days(10))
            try await company.until { branch, cloud in branch.days == 10 && cloud.days == 10 }
        }
        try await company.running(PassingTime(wallAhead: .days(3_650))) { services in
            services.time.advance(by: .days(3))
            try await company.until { branch, cloud in branch.days == 13 && cloud.days == 13 }
            let (branch, cloud) = (try await company.kept(at: .branch), try await company.kept(at: .cloud))
            #expect(branch.states == ["note:1": 2] && branch.uids == 1)
            #expect(cloud.states == ["note:11": 2] && cloud.sent == 1 && cloud.receipts == 1)
            services.time.advance(by: .days(2))
            try await company.until { branch, cloud in
                branch.states.isEmpty && branch.sent == 0 && branch.uids == 0 && cloud.states.isEmpty && cloud.sent == 0 && cloud.receipts == 0
            }
        }
    }
}

/// A cloud and a branch whose services run, each on a database of its own.
struct KeepingCompany: Sendable {
    enum Side: Sendable { case cloud, branch }

    let cloud: Bench
    let branch: Bench

    init(_ kind: TestDatabase) async throws {
        self.cloud = try await Bench(kind, isMigrated: true)
        self.branch = try await Bench(kind, isMigrated: true)
        try await self.cloud.storage.withTransaction { transaction in
            try await transaction.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active))
            try await transaction.insertServer(ServerRow(id: 7, name: "branch", status: .active))
        }
        try await self.branch.storage.withTransaction { try await $0.insertServer(ServerRow(id: 7, name: "branch", status: .active)) }
    }

    private func bench(_ side: Side) -> Bench { side == .cloud ? self.cloud : self.branch }

    // MARK: - The processes

    struct Services: Sendable {
        let company: KeepingCompany
        let time: PassingTime

        /// What an application does.
        func tell(_ notes: [Int], waits: Bool = false, at side: Side) async throws {
            try await self.company.bench(side).storage.withTransaction { transaction in
                try await transaction.appendOutbox(try notes.map { try NoteType().row(for: .act(NoteType.Note(id: $0, waits: waits))) })
            }
        }
    }

    /// Runs the services of both sides during `body`, as two programs do that are started before and ended after it.
    func running(_ time: PassingTime, _ body: (Services) async throws -> Void) async throws {
        var limits = SyncLimits()
        limits.waitingAgeMax = .days(100)
        let environment = time.environment
        let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let hub = try Hub(storage: self.cloud.storage, types: [NoteType()], limits: limits, environment: environment, logger: silent)
        let agent = try Agent(
            server: 7, storage: self.branch.storage, transport: InMemoryTransport(hub: hub, branch: 7), types: [NoteType()], limits: limits,
            environment: environment, logger: silent)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { do { try await hub.run() } catch is CancellationError {} }
            group.addTask { do { try await agent.run() } catch is CancellationError {} }
            // Both have looked through what is old once: from then on they count the time.
            var firstCycle: Duration?
            try await self.until { _, _ in
                firstCycle = firstCycle ?? agent.health.lastCycle
                return hub.steps > 3 && agent.health.lastCycle != firstCycle
            }
            try await body(Services(company: self, time: time))
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    /// Returns when `condition` holds of the branch and the cloud: their services work towards it meanwhile.
    func until(_ condition: (Kept, Kept) -> Bool, _ location: SourceLocation = #_sourceLocation) async throws {
        if try await asking({ condition(try await self.kept(at: .branch), try await self.kept(at: .cloud)) }) { return }
        Issue.record("it does not come to that: \(try await self.kept(at: .branch)), \(try await self.kept(at: .cloud))", sourceLocation: location)
    }

    // MARK: - What is there

    struct Kept: Sendable {
        /// How the rows of the outbox stand.
        var states: [String: Int]
        var sent: Int
        var receipts: Int
        var uids: Int
        /// For how long somebody has worked on this database, as it says itself.
        var days: Int
    }

    func kept(at side: Side) async throws -> Kept {
        try await self.bench(side).storage.withTransaction(.snapshot) { transaction in
            let rows = try await transaction.query(Bench.mark("select data_from_detail, state from sync_data"))
            let counts = try await transaction.query(
                Bench.mark("select (select count(*) from sync_sent), (select count(*) from sync_receipt), (select count(*) from sync_uid)"))[0]
            let age = try await transaction.setting("age").flatMap { $0.split(separator: " ").first.flatMap { Int($0) } } ?? 0
            return Kept(
                states: try rows.reduce(into: [:]) { $0[try $1.text(0)] = Int(try $1.int(1)) }, sent: Int(try counts.int(0)),
                receipts: Int(try counts.int(1)), uids: Int(try counts.int(2)), days: age / 86_400_000)
        }
    }
}

/// Something that happened, of which nothing remains but that it was taken in.
struct NoteType: BusinessType {
    struct Note: Codable, Sendable {
        var id: Int
        var waits: Bool
    }

    let id: BusinessTypeID = 1
    let name = "note"
    let kind = RecordKind.action
    let priority = 10
    let route: Route<Note> = .all

    func key(of note: Note) -> EntityKey { EntityKey("note:\(note.id)") }

    func apply(_ change: Change<Note>, of entity: EntityID, in transaction: SQLTransaction) async throws {
        if case .act(let note) = change, note.waits { throw RecordFault.missingDependency(on: EntityKey("note:0")) }
    }
}

/// Time that passes as fast as somebody waits for it, and in leaps when a test says so.
final class PassingTime: Sendable {
    private let running = Mutex(Duration.seconds(3_600))
    private let wallStart: Int64

    /// - Parameter wallAhead: How wrong the wall clock is.
    init(wallAhead: Duration = .zero) { self.wallStart = 1_700_000_000_000 + wallAhead.components.seconds * 1_000 }

    func advance(by duration: Duration) { self.running.withLock { $0 += duration } }

    var environment: SyncEnvironment {
        SyncEnvironment(
            clock: PassingClock(time: self), runningTime: { self.now }, wallTime: { self.wallStart + self.now.components.seconds * 1_000 },
            random: SyncEnvironment.system.random)
    }

    fileprivate var now: Duration { self.running.withLock { $0 } }
    fileprivate func pass(to time: Duration) { self.running.withLock { $0 = max($0, time) } }
}

private struct PassingClock: Clock {
    struct Instant: InstantProtocol {
        var offset: Duration
        func advanced(by duration: Duration) -> Instant { Instant(offset: self.offset + duration) }
        func duration(to other: Instant) -> Duration { other.offset - self.offset }
        static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    let time: PassingTime

    var now: Instant { Instant(offset: self.time.now) }
    var minimumResolution: Duration { .zero }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        try Task.checkCancellation()
        self.time.pass(to: deadline.offset)
        await Task.yield()
    }
}

extension Duration {
    fileprivate static func days(_ count: Int) -> Duration { .seconds(count * 86_400) }
}
