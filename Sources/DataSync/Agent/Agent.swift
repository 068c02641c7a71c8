public import Logging
import Synchronization

/// The branch side (本地服务端): sends what its applications put into the outbox, fetches what is for it, and never lets
/// anybody connect to it.
///
/// Run it in a `ServiceGroup`, or call ``cycle()`` at times of your own. One agent works on a database at a time.
public final class Agent<Storage: SyncStorage, Transport: SyncTransport>: Sendable {
    public let id: ServerID
    public let storage: Storage
    public let transport: Transport
    public let types: TypeRegistry<Storage.Transaction>
    public let limits: SyncLimits
    public let schedule: AgentSchedule
    let environment: SyncEnvironment
    let logger: Logger
    let software: String
    let host: String
    let databaseClock: DatabaseClock
    let loneWatch: LoneWatch
    let state = Mutex(AgentState())

    /// - Parameters:
    ///   - server: This branch's id.
    ///   - software: What the cloud's operator reads as the version of this branch; at most 64 bytes.
    ///   - host: What this machine calls itself since it was started, such as its boot id; at most 64 bytes. The cloud takes two that
    ///     take turns as one branch for a clone. Empty to leave that out.
    /// - Throws: `invalidConfiguration` when types or limits contradict each other.
    public init(
        server: ServerID, storage: Storage, transport: Transport, types: [any RecordHandler<Storage.Transaction>],
        limits: SyncLimits = SyncLimits(), schedule: AgentSchedule = AgentSchedule(),
        environment: SyncEnvironment = .system, software: String = "DataSync \(DataSyncVersion.current)", host: String = "",
        logger: Logger = Logger(label: "datasync.agent")
    ) throws(DataSyncError) {
        guard server.isBranch else {
            throw DataSyncError(.invalidConfiguration, operation: "agent", detail: "a branch's id must be positive")
        }
        try limits.validate()
        self.id = server
        self.storage = storage
        self.transport = transport
        self.types = try TypeRegistry(types)
        self.limits = limits
        self.schedule = schedule
        self.environment = PlantedBug.isOn(.wallClockTimer) ? environment.withWallClockTimers : environment
        self.databaseClock = DatabaseClock(self.environment)
        self.loneWatch = LoneWatch(isSole: true, self.environment)
        self.software = software
        self.host = host
        var logger = logger
        logger[metadataKey: "branch"] = "\(server)"
        self.logger = logger
    }

    /// Inserts a record into the outbox: in the caller's transaction, or not at all.
    ///
    /// Change the business row first: its lock makes the order in the outbox the order of commits.
    public func enqueue<Type: BusinessType>(
        _ change: Change<Type.Payload>, as type: Type, to target: ServerID = .cloud, in transaction: Storage.Transaction
    ) async throws where Type.Transaction == Storage.Transaction {
        try await Outbox.enqueue(try type.row(for: change, to: target), limits: self.limits, in: transaction)
    }

    // MARK: - One agent at a time

    /// Makes this the agent whose writes count: raises the term in the branch's own row. An agent that worked before is
    /// fenced by its next write.
    ///
    /// - Throws: `storageNotReady` where the branch has not joined.
    public func takeOver() async throws {
        let row = try await self.storage.runUnit(attemptsMax: self.limits.unitAttemptsMax, self.environment) { transaction in
            guard var row = try await transaction.server(self.id), row.status == .active else {
                throw DataSyncError(
                    .storageNotReady, operation: "agent", detail: "branch \(self.id) has not joined with this database")
            }
            row.session += 1
            row.lastSeen = self.environment.wallTime()
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "agent", detail: "the branch's row changed")
            }
            await self.environment.passes(.termBeforeCommit)
            return row
        }
        await self.environment.passes(.termAfterCommit)
        self.state.withLock { state in
            state.term = SessionID(number: row.session, epoch: row.epoch)
            state.session = nil
        }
    }

    /// Runs one of the agent's writes, as the agent whose writes count.
    func unit<Result: Sendable>(_ body: (Storage.Transaction) async throws -> Result) async throws -> Result {
        guard let term = self.state.withLock({ $0.term }) else {
            throw DataSyncError(.leaseLost, operation: "agent", detail: "this agent has not taken over the database")
        }
        defer { self.noteStep() }
        return try await self.storage.runUnit(attemptsMax: self.limits.unitAttemptsMax, self.environment) { transaction in
            let isCurrent = try await transaction.raiseFence(
                self.id, session: term.number, epoch: term.epoch, time: self.environment.wallTime())
            guard isCurrent else {
                throw DataSyncError(.leaseLost, operation: "agent", detail: "another agent took over this database")
            }
            return try await body(transaction)
        }
    }

    /// Removes what is older than the retention, once an hour.
    func removeOld() async throws {
        guard self.state.withLock({ $0.retention.isDue(at: self.environment.runningTime()) }) else { return }
        while try await self.unit({ try await $0.removeOld(self.limits, age: self.databaseClock.age(in: $0)) }) > 0 {
            try await self.environment.sleepUnlessShuttingDown(for: .milliseconds(20))
        }
    }

    /// Notes that something which could have lasted for ever has ended, well or not.
    func noteStep() { self.state.withLock { $0.health.steps &+= 1 } }

    // MARK: - What a session knows

    func session() throws -> AgentSession {
        guard let session = self.state.withLock({ $0.session }) else {
            throw DataSyncError(.fenced, operation: "agent", detail: "no session is open")
        }
        return session
    }

    func updateSession(_ change: (inout AgentSession) -> Void) {
        self.state.withLock { state in
            guard var session = state.session else { return }
            change(&session)
            state.session = session
        }
    }

    /// The scope of an entity of this branch's own.
    func ownScope(_ definition: BusinessTypeDefinition) -> ServerID { definition.route.isScopedByHome ? self.id : .cloud }

    /// Whether a row of this branch's outbox can be about `entity`: another branch's `transfer:1` is not this one's.
    func isOfOwnScope(_ entity: EntityID) -> Bool {
        self.types.definition(of: entity.type).map { self.ownScope($0) == entity.scope } ?? false
    }
}

struct AgentState: Sendable {
    /// The fencing number that this agent writes under.
    var term: SessionID?
    var session: AgentSession?
    /// Types that a fault of this branch's system has stopped.
    var breaker = TypeBreaker()
    /// Types that are not fetched until some running time, because too many refused records of them wait.
    var full: [BusinessTypeID: Duration] = [:]
    var sweep = OutboxSweep()
    var gaps = OutboxGaps()
    var retention = Retention()
    /// Pushes in a row that were not answered.
    var lostPushes = 0
    /// Types that the cloud stopped when it was careful with them.
    var careful: Set<BusinessTypeID> = []
    var start = Start()
    /// Types of which one record after the other ends the agent, with the running time until which they are left alone.
    var resting: [BusinessTypeID: Duration] = [:]
    var pushWindow = PushWindow()
    var pullWindow = PushWindow()
    var health = AgentHealth()
    /// When the health was last written down, in running time.
    var lastNote: Duration?
    /// In milliseconds since 1970.
    var lastSuccessTime: Int64?
    /// When it was last measured what waits, in running time, and when an alarm was last raised about which type.
    var lastVitals: Duration?
    var alarmed: [BusinessTypeID: Duration] = [:]
    var isCycling = false
    var wasNudged = false
    /// Records of which the cloud wants to know how they stand.
    var peerAsks: [RecordNumber] = []
    /// What it was told of them last.
    var told: [RecordNumber: Outcome] = [:]
    /// How far the cloud was told of each log, where that is not written down yet.
    var reports: [BusinessTypeID: Int64] = [:]
    /// What could not flow when it was last said in the log: said once, not in every session.
    var reported: Set<String> = []
}
