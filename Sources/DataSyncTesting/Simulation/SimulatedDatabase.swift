public import DataSync

/// How often things go wrong in a simulated database, in a million statements or commits.
public struct DatabaseFaults: Sendable {
    /// A statement meets a deadlock or waits too long for a lock: the transaction is rolled back.
    public var busy = 0
    /// The connection is lost before the commit.
    public var cut = 0
    /// The connection is lost during the commit: half of them were carried out.
    public var unknownCommit = 0
    /// A statement takes long.
    public var slow = 0

    public init() {}
}

/// A database server of the simulated fleet: several transactions at once, with row locks, READ COMMITTED, lock waits, deadlocks
/// and commits of unknown outcome. What is committed survives every process; what is not dies with its connection.
public final class SimulatedDatabase: @unchecked Sendable {  // on the one thread of the simulation
    public let server: ServerID
    public let executor: SimulatedExecutor
    public let log: SimulationLog
    public var faults = DatabaseFaults()
    package private(set) var state = InMemoryState()
    /// Raised by every commit.
    private(set) var version = 0
    private(set) var locks = SimulatedLocks()
    private var open: [Int: SimulatedTransaction] = [:]
    private var lastTransaction = 0
    // Handed out at once and for good, as by an auto-increment: a rollback leaves a gap, and a smaller id may commit later.
    private var lastOutboxID: Int64 = 0
    private var lastMemoID: Int64 = 0
    private var leaseHolder: SimulatedProcess?
    private var leaseNumber = 0

    public init(server: ServerID, executor: SimulatedExecutor, log: SimulationLog) {
        self.server = server
        self.executor = executor
        self.log = log
    }

    /// The same database as a process uses it.
    public func storage(for process: SimulatedProcess) -> SimulatedStorage { SimulatedStorage(database: self, process: process) }

    /// Writes the servers that are there from the beginning.
    public func prepare(servers: [ServerRow]) {
        for row in servers { self.state.servers[row.id] = row }
        self.version += 1
    }

    // MARK: - Backups

    /// All that is committed, as a value.
    public struct Backup: Sendable {
        fileprivate let state: InMemoryState
        fileprivate let lastOutboxID: Int64
        fileprivate let lastMemoID: Int64
    }

    public func backUp() -> Backup { Backup(state: self.state, lastOutboxID: self.lastOutboxID, lastMemoID: self.lastMemoID) }

    /// Puts an older state back. Nobody is connected then.
    public func restore(_ backup: Backup) {
        self.restart()
        self.state = backup.state
        // Ids grow back as well: rows that were lost leave theirs to others.
        self.lastOutboxID = backup.lastOutboxID
        self.lastMemoID = backup.lastMemoID
        self.version += 1
    }

    // MARK: - Faults

    /// The server goes down and comes back: every connection is lost, what was committed is there.
    public func restart() {
        for transaction in self.open.values.sorted(by: { $0.id < $1.id }) { self.lose(transaction) }
        self.leaseHolder = nil
    }

    func lose(_ transaction: SimulatedTransaction) {
        transaction.isLost = true
        self.close(transaction)
    }

    /// The connections of a process are gone: it died, or stood still for too long.
    func disconnect(_ process: SimulatedProcess) {
        for transaction in self.open.values.sorted(by: { $0.id < $1.id }) where transaction.process === process {
            self.lose(transaction)
        }
        if self.leaseHolder === process { self.leaseHolder = nil }
    }

    // MARK: - Transactions

    func begin(_ process: SimulatedProcess, _ access: Access) -> SimulatedTransaction {
        self.lastTransaction += 1
        let transaction = SimulatedTransaction(id: self.lastTransaction, database: self, process: process, access: access)
        self.open[transaction.id] = transaction
        return transaction
    }

    func commit(_ transaction: SimulatedTransaction, _ state: InMemoryState) {
        precondition(!transaction.isLost, "a transaction that was lost is committed")
        self.state = state
        self.version += 1
        for event in transaction.events { self.log.append(event) }
    }

    func close(_ transaction: SimulatedTransaction) {
        guard self.open.removeValue(forKey: transaction.id) != nil else { return }
        transaction.discard()
        self.locks.releaseAll(of: transaction.id)
    }

    func nextOutboxID() -> Int64 {
        self.lastOutboxID += 1
        return self.lastOutboxID
    }

    func nextMemoID() -> Int64 {
        self.lastMemoID += 1
        return self.lastMemoID
    }

    /// Takes a lock, now or when its holder ends.
    func lock(_ key: SimulatedLocks.Key, for transaction: SimulatedTransaction) async throws {
        switch self.locks.request(key, for: transaction.id) {
        case .taken: return
        case .deadlock: throw DataSyncError(.storageBusy, operation: "simulation", detail: "deadlock")
        case .wait(let wait):
            self.executor.wake(after: 5_000_000) {
                wait.fail(DataSyncError(.storageBusy, operation: "simulation", detail: "lock wait timeout"))
            }
            defer { self.locks.stopWaiting(transaction.id) }
            try await wait.value()
        }
    }

    func isLockedByAnother(_ key: SimulatedLocks.Key, than transaction: SimulatedTransaction) -> Bool {
        self.locks.holder(of: key).map { $0 != transaction.id } ?? false
    }

    func unlock(_ key: SimulatedLocks.Key, of transaction: SimulatedTransaction) { self.locks.release(key, of: transaction.id) }

    // MARK: - The lease

    func takeLease(_ process: SimulatedProcess) throws -> Int {
        guard self.leaseHolder == nil else { throw DataSyncError(.leaseHeld, operation: "lease", detail: "another agent works on this storage") }
        self.leaseHolder = process
        self.leaseNumber += 1
        return self.leaseNumber
    }

    func holdsLease(_ process: SimulatedProcess, _ number: Int) -> Bool { self.leaseHolder === process && self.leaseNumber == number }
    func releaseLease(_ process: SimulatedProcess, _ number: Int) { if self.holdsLease(process, number) { self.leaseHolder = nil } }

    /// Forgets everything, when the simulation is over.
    func clear() {
        self.restart()
        self.state = InMemoryState()
    }
}

/// Row locks, all of them exclusive, first come first served.
struct SimulatedLocks {
    enum Key: Hashable {
        case setting(String), server(ServerID), frontier, outbox(Int64), stream(StreamID), manifest(ManifestKey)
        case position(InMemoryState.PositionKey), confirmation(InMemoryState.ConfirmationKey), places(BusinessTypeID), entity(EntityID)
        case memo(Int64), memoNumber(InMemoryState.MemoKey), row(String, String), audit
    }

    enum Grant {
        case taken
        case wait(SimulatedWait<Void>)
        /// The holder waits for the one who asks.
        case deadlock
    }

    private struct Lock {
        var holder: Int
        var queue: [(transaction: Int, wait: SimulatedWait<Void>)] = []
    }

    private var locks: [Key: Lock] = [:]
    private var held: [Int: [Key]] = [:]
    private var waiting: [Int: Key] = [:]

    func holder(of key: Key) -> Int? { self.locks[key]?.holder }

    mutating func request(_ key: Key, for transaction: Int) -> Grant {
        guard let lock = self.locks[key] else {
            self.locks[key] = Lock(holder: transaction)
            self.held[transaction, default: []].append(key)
            return .taken
        }
        if lock.holder == transaction { return .taken }
        var (ahead, seen): ([Int], Set<Int>) = ([lock.holder] + lock.queue.map(\.transaction), [])
        while let other = ahead.popLast() {
            if other == transaction { return .deadlock }
            guard seen.insert(other).inserted, let next = self.waiting[other], let lock = self.locks[next] else { continue }
            ahead += [lock.holder] + lock.queue.prefix { $0.transaction != other }.map(\.transaction)
        }
        let wait = SimulatedWait<Void>()
        self.locks[key]?.queue.append((transaction, wait))
        self.waiting[transaction] = key
        return .wait(wait)
    }

    /// Its wait has ended, one way or another.
    mutating func stopWaiting(_ transaction: Int) {
        guard let key = self.waiting.removeValue(forKey: transaction) else { return }
        self.locks[key]?.queue.removeAll { $0.transaction == transaction }
    }

    mutating func release(_ key: Key, of transaction: Int) {
        guard self.locks[key]?.holder == transaction else { return }
        self.held[transaction]?.removeAll { $0 == key }
        self.passOn(key)
    }

    mutating func releaseAll(of transaction: Int) {
        self.stopWaiting(transaction)
        for key in self.held.removeValue(forKey: transaction) ?? [] { self.passOn(key) }
    }

    private mutating func passOn(_ key: Key) {
        while var lock = self.locks[key], !lock.queue.isEmpty {
            let next = lock.queue.removeFirst()
            self.locks[key] = lock
            // Who gave up waiting gets nothing.
            if next.wait.isDone { continue }
            self.waiting[next.transaction] = nil
            lock.holder = next.transaction
            self.locks[key] = lock
            self.held[next.transaction, default: []].append(key)
            next.wait.succeed(())
            return
        }
        self.locks[key] = nil
    }
}
