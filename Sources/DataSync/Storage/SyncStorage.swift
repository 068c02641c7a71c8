/// Where one server keeps its outbox, its positions, its log and, in the same database, its business tables.
///
/// Conforming types must pass `StorageContract` of DataSyncTesting. ``InMemoryStorage`` is the reference.
public protocol SyncStorage<Transaction>: Sendable {
    associatedtype Transaction: SyncTransaction

    /// Runs `body` in one transaction: when this returns, all that it wrote is durable; when it throws, nothing is,
    /// with the one exception of `commitUnknown`.
    ///
    /// One attempt: nothing is run again behind the caller's back, since the caller alone knows whether it may be.
    /// DataSync's own units may, always, and are (`runUnit`); an application that counts something in `body` must look
    /// at the code first.
    ///
    /// - `Access.write` is READ COMMITTED: each statement sees what was committed when it began, and what the
    ///   transaction wrote itself. Rows that it changed or locked stay locked to its end.
    /// - `Access.snapshot` is read-only, and all of its statements see one state of the database.
    ///
    /// - Throws: `DataSyncError` with a storage code, or whatever `body` threw.
    func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (Transaction) async throws -> Result
    ) async throws -> Result
}

public enum Access: Hashable, Sendable { case write, snapshot }

extension SyncStorage {
    /// Runs `body` in one transaction that may write.
    public func withTransaction<Result: Sendable>(
        _ body: (Transaction) async throws -> Result
    ) async throws -> Result {
        try await self.withTransaction(.write, body)
    }
}

/// What a storage does for an agent so that only one of them works on a database.
///
/// The lease is for liveness: it goes away with the process that held it, however that ended. Safety does not rest on
/// it but on the agent's term, which every write of an agent raises conditionally.
public protocol LeasingStorage: SyncStorage {
    /// Takes the lease, or throws `leaseHeld` at once.
    func takeLease() async throws -> any StorageLease
}

public protocol StorageLease: Sendable {
    /// Whether the lease is still held, asked of where it is held.
    func isHeld() async -> Bool
    func release() async
}

/// The tables of DataSync within one transaction, one protocol for each group of them.
///
/// The operations are set-based: a thousand records cost as many calls as one. Every operation either does the whole
/// of what it says or throws, and after it threw the transaction is only good for being rolled back.
public protocol SyncTransaction: SettingTable, ServerTable, OutboxTable, PositionTable, LogTable, EntityTable, MemoTable,
    ReceiptTable, AuditTable, Sendable
{}
