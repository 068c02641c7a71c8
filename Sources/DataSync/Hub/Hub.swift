public import Logging
import Synchronization

/// The cloud side (云服务端): takes in what branches push, hands out what is for them, and remembers nothing outside its
/// storage that matters. Any number of hubs may share one database.
public final class Hub<Storage: SyncStorage>: Sendable {
    public let storage: Storage
    public let types: TypeRegistry<Storage.Transaction>
    public let limits: SyncLimits
    let environment: SyncEnvironment
    let logger: Logger
    /// Which types a fault of the system has stopped in this process. Nothing rests on it but how often one is tried.
    private let breaker = Mutex(TypeBreaker())
    let sweep = Mutex(OutboxSweep())
    let lanes = BranchLanes()
    let guess = Mutex(NoveltyGuess())
    /// The cloud's own rows are numbered by one task of a process at a time: two would only roll each other back.
    let numbering = AsyncSemaphore(1)
    let databaseClock: DatabaseClock
    private let retention = Mutex(Retention())
    let start = Mutex(Start())
    let loneWatch: LoneWatch
    /// When each branch's row last said that it was seen, in running time.
    let seen = Mutex<[ServerID: Duration]>([:])
    private let ownSteps = Mutex<UInt64>(0)
    #if PLANTED_BUGS
        /// What each branch was told of the end of its records.
        let told = Mutex<[ServerID: Set<RecordNumber>]>([:])
    #endif

    /// Throws `invalidConfiguration` when types or limits contradict each other.
    public init(
        storage: Storage, types: [any RecordHandler<Storage.Transaction>], limits: SyncLimits = SyncLimits(),
        environment: SyncEnvironment = .system, logger: Logger = Logger(label: "datasync.hub")
    ) throws(DataSyncError) {
        try limits.validate()
        self.storage = storage
        self.types = try TypeRegistry(types)
        self.limits = limits
        self.environment = environment
        self.databaseClock = DatabaseClock(self.environment)
        self.loneWatch = LoneWatch(isSole: false, self.environment)
        self.logger = logger
    }

    /// Inserts a record of the cloud's own application into the outbox: in the caller's transaction, or not at all.
    public func enqueue<Type: BusinessType>(
        _ change: Change<Type.Payload>, as type: Type, to target: ServerID = .cloud, in transaction: Storage.Transaction
    ) async throws where Type.Transaction == Storage.Transaction {
        try await Outbox.enqueue(try type.row(for: change, to: target), limits: self.limits, in: transaction)
    }

    func unit<Result: Sendable>(
        _ body: (Storage.Transaction) async throws -> Result
    ) async throws -> Result {
        try await self.storage.runUnit(attemptsMax: self.limits.unitAttemptsMax, self.environment, body)
    }

    /// Removes what is older than the retention, once an hour.
    func removeOld() async throws {
        guard self.retention.withLock({ $0.isDue(at: self.environment.runningTime()) }) else { return }
        while try await self.unit({ try await $0.removeOld(self.limits, age: self.databaseClock.age(in: $0)) }) > 0 {
            try await self.environment.sleepUnlessShuttingDown(for: .milliseconds(20))
        }
    }

    /// How often a piece of the hub's own work has ended, well or not: it grows each second while `run` gets on. Whoever feeds a
    /// watchdog does so when this has grown.
    public var steps: UInt64 { self.ownSteps.withLock { $0 } }

    func noteStep() { self.ownSteps.withLock { $0 &+= 1 } }

    // MARK: - The session

    /// Begins a write that `branch` causes. Nothing of it counts unless this is its newest session.
    func fence(_ branch: ServerID, _ session: SessionID, in transaction: Storage.Transaction) async throws {
        if PlantedBug.isOn(.fenceByRead) { return try await self.checkSession(branch, session, in: transaction) }
        let isCurrent = try await transaction.raiseFence(
            branch, session: session.number, epoch: session.epoch, time: self.environment.wallTime())
        guard !isCurrent else { return }
        try await self.checkSession(branch, session, in: transaction)
        // The row says that the session is current and yet was not raised: somebody changed it in between.
        throw DataSyncError(.storageBusy, operation: "fence")
    }

    /// Why a session is not current, if it is not.
    func checkSession(_ branch: ServerID, _ session: SessionID, in transaction: Storage.Transaction) async throws {
        guard let row = try await transaction.server(branch) else {
            throw DataSyncError(.unauthorized, operation: "session", detail: "no such branch")
        }
        switch row.status {
        case .invited: throw DataSyncError(.unauthorized, operation: "session", detail: "the branch has not joined")
        case .suspended: throw DataSyncError(.suspended, operation: "session", detail: "the branch is suspended")
        case .active: break
        }
        guard row.session == session.number, row.epoch == session.epoch else {
            throw DataSyncError(.fenced, operation: "session", detail: "a newer session was opened")
        }
    }

    func logEpoch(in transaction: Storage.Transaction) async throws -> Int32 {
        try await transaction.setting(SettingName.logEpoch).flatMap { Int32($0) } ?? 1
    }

    // MARK: - Types that a fault of the system has stopped

    func wait(for type: BusinessTypeID) -> Duration? {
        let now = self.runningTime
        return self.breaker.withLock { $0.wait(for: type, at: now) }
    }

    func stop(_ type: BusinessTypeID, because error: any Error) -> Duration {
        let (now, jitter) = (self.runningTime, self.environment.jitter())
        let message = (error as? DataSyncError)?.description ?? "\(Swift.type(of: error))"
        let delay = self.breaker.withLock { $0.stop(type, message: message, at: now, jitter: jitter) }
        self.logger.error(
            "type stopped by a fault of the system; nothing is counted or lost",
            metadata: ["type": "\(type)", "error": "\(String(reflecting: error))", "retry_after": "\(delay)"])
        return delay
    }

    func passed(_ types: some Sequence<BusinessTypeID>) {
        for type in types where self.breaker.withLock({ $0.passed(type) }) {
            self.logger.notice("type flows again", metadata: ["type": "\(type)"])
        }
    }

    /// The types that are stopped in this process, with the reason.
    public var stoppedTypes: [BusinessTypeID: String] { self.breaker.withLock { $0.stopped } }

    /// Since the process began, by the clock that it waits by.
    private var runningTime: Duration { self.environment.runningTime() }
}

/// Names in `sync_config` that both sides use.
package enum SettingName {
    /// For how long somebody has worked on this database, and when that was written down (``Age/Noted``).
    package static let age = "age"
    /// The epoch of the cloud's log.
    static let logEpoch = "log.epoch"
    /// Per type that has rows which were passed over because nobody here knew the type: the smallest id of them.
    static let heldPrefix = "outbox.held."
    static func held(_ type: BusinessTypeID) -> String { "\(self.heldPrefix)\(type)" }
    /// How often the process that works on this database has come up since it last got through its work.
    static let starts = "starts"
    /// What was begun with alone, of what a sender sends, and of what is tried again.
    static func lone(_ sender: ServerID, _ type: BusinessTypeID) -> String { "lone.\(sender).\(type)" }
    static func loneRetry(_ sender: ServerID, _ type: BusinessTypeID) -> String { "lone.\(sender).\(type).retry" }
}
