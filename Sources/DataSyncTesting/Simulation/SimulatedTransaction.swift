public import DataSync

/// A transaction of a ``SimulatedDatabase``.
///
/// A statement sees what was committed when it began and what the transaction wrote itself. What it writes is kept as a list of
/// operations over the rows that it has locked, and carried out again over what others committed meanwhile.
public final class SimulatedTransaction: SyncTransaction, @unchecked Sendable {  // on the one thread of the simulation
    typealias Operation = (InMemoryTransaction) async throws -> Void

    let id: Int
    let database: SimulatedDatabase
    let process: SimulatedProcess
    let access: Access
    private var view: InMemoryTransaction?
    private var viewVersion: Int
    private var written: [Operation] = []
    private(set) var events: [SimulationEvent] = []
    /// The connection is gone, and what was not committed with it.
    var isLost = false
    private var hasFailed = false
    /// It met a lock wait that took too long: the statement is rolled back, and the transaction is open still.
    private(set) var hasWaitedInVain = false
    /// Entities of which this transaction inserted the row.
    var wroteEntities: Set<EntityID> = []

    init(id: Int, database: SimulatedDatabase, process: SimulatedProcess, access: Access) {
        self.id = id
        self.database = database
        self.process = process
        self.access = access
        self.viewVersion = -1
    }

    /// What is to be written down if this commits.
    public func note(_ event: SimulationEvent) { self.events.append(event) }

    func discard() {
        self.view = nil
        self.written = []
    }

    /// All that it did is undone, and it goes on.
    private func forget() {
        self.discard()
        self.events = []
        self.viewVersion = -1
    }

    // MARK: - Statements

    private func check() throws {
        if self.database.executor.isEnding { throw CancellationError() }
        guard !self.isLost else { throw DataSyncError(.storageUnavailable, operation: "simulation", detail: "the connection was lost") }
    }

    private func fail(_ error: DataSyncError) -> DataSyncError {
        self.hasFailed = true
        return error
    }

    /// Time passes, and things may go wrong.
    private func step() async throws {
        let executor = self.database.executor
        try self.check()
        let isSlow = executor.happens(self.database.faults.slow)
        await executor.pass(isSlow ? executor.random(Int64(1_000)...200_000) : executor.random(Int64(20)...600))
        try Task.checkCancellation()
        try self.check()
        if executor.happens(self.database.faults.cut) {
            self.database.log.fault("cut")
            self.database.lose(self)
            try self.check()
        }
        if self.access == .write, executor.happens(self.database.faults.busy) {
            self.database.log.fault("busy")
            if executor.random(0...1) == 0 {
                self.hasWaitedInVain = true
                throw self.fail(DataSyncError(.storageBusy, operation: "simulation", detail: "lock wait timeout"))
            }
            // The server has rolled back everything; what comes next begins another transaction.
            if PlantedBug.isOn(.goesOnAfterDeadlock) { return self.forget() }
            throw self.fail(DataSyncError(.storageBusy, operation: "simulation", detail: "deadlock"))
        }
    }

    func start() async throws {
        try await self.step()
        try await self.refresh()
    }

    /// What the next statement sees.
    private func refresh() async throws {
        guard self.viewVersion < 0 || (self.access == .write && self.viewVersion != self.database.version) else { return }
        let view = InMemoryTransaction(self.database.state, access: self.access, self.process.environment)
        for operation in self.written { try await operation(view) }
        self.view = view
        self.viewVersion = self.database.version
    }

    func look<Result>(_ body: (InMemoryTransaction) async throws -> Result) async throws -> Result {
        guard let view = self.view else { throw DataSyncError(.storageUnavailable, operation: "simulation") }
        return try await body(view)
    }

    /// A plain read.
    func read<Result>(_ body: (InMemoryTransaction) async throws -> Result) async throws -> Result {
        try await self.step()
        try await self.refresh()
        return try await self.look(body)
    }

    func lock(_ keys: [SimulatedLocks.Key]) async throws {
        for key in keys {
            do { try await self.database.lock(key, for: self) } catch let error as DataSyncError {
                try self.check()
                // Whom a deadlock costs its transaction lets go at once.
                self.hasFailed = true
                throw error
            }
            try self.check()
        }
    }

    /// A statement that writes rows which it locks first.
    func write<Result>(
        _ keys: [SimulatedLocks.Key], _ body: @escaping (InMemoryTransaction) async throws -> Result
    ) async throws -> Result {
        try await self.step()
        guard self.access == .write else { throw DataSyncError(.storageFailed, operation: "write", detail: "the transaction is read-only") }
        try await self.lock(keys)
        try await self.refresh()
        return try await self.perform(body)
    }

    /// Writes rows that are locked, without a statement of its own.
    func perform<Result>(_ body: @escaping (InMemoryTransaction) async throws -> Result) async throws -> Result {
        let result: Result
        do { result = try await self.look(body) } catch let error as DataSyncError { throw self.fail(error) }
        self.written.append { _ = try await body($0) }
        return result
    }

    /// What a statement sees that has waited for its locks.
    func now<Result>(_ body: (InMemoryTransaction) async throws -> Result) async throws -> Result {
        try await self.refresh()
        return try await self.look(body)
    }

    func wrote(_ entity: EntityID) -> Bool { self.wroteEntities.contains(entity) }

    func commit() async throws {
        try await self.step()
        try await self.refresh()
        guard let view = self.view else { throw DataSyncError(.storageUnavailable, operation: "simulation") }
        let executor = self.database.executor
        if executor.happens(self.database.faults.unknownCommit) {
            self.database.log.fault("unknown commit")
            if executor.random(0...1) == 0 { self.finish(view) }
            throw DataSyncError(.commitUnknown, operation: "simulation")
        }
        // Who dies during this does not know what became of it: it is done at the one end of the wait, or at the other.
        let isEarly = executor.random(0...1) == 0
        if isEarly { self.finish(view) }
        await executor.pass(executor.random(Int64(20)...800))
        if isEarly { return }
        if self.isLost { throw DataSyncError(.commitUnknown, operation: "simulation") }
        try self.check()
        try await self.refresh()
        if let view = self.view { self.finish(view) }
    }

    private func finish(_ view: InMemoryTransaction) {
        let state = view.end()
        if self.hasFailed { self.note(.committedAfterError(at: self.database.server)) }
        self.database.commit(self, state)
        self.database.close(self)
    }

    // MARK: - Business tables

    public func row(_ table: String, _ key: String) async throws -> String? { try await self.read { $0.row(table, key) } }

    /// Creates, replaces or, with nil, removes a row. To remove one that is not there takes no lock.
    /// - Returns: Whether there was one before.
    @discardableResult
    public func setRow(_ table: String, _ key: String, _ row: String?) async throws -> Bool {
        let lock = SimulatedLocks.Key.row(table, key)
        if row == nil, !self.database.isLockedByAnother(lock, than: self), try await self.read({ $0.row(table, key) }) == nil { return false }
        return try await self.write([lock]) {
            let isThere = $0.row(table, key) != nil
            try $0.setRow(table, key, row)
            return isThere
        }
    }

    /// Raises a number in a row that is locked first.
    public func increaseRow(_ table: String, _ key: String, by amount: Int) async throws {
        try await self.write([.row(table, key)]) { try $0.setRow(table, key, String(($0.row(table, key).flatMap { Int($0) } ?? 0) + amount)) }
    }

    public func rows(_ table: String) async throws -> [String: String] { try await self.read { $0.rows(table) } }
}
