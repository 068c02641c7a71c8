import Synchronization

/// The reference storage: everything in memory, one writer at a time. For tests, and to see what a storage has to do.
///
/// A transaction works on a copy that becomes the state when it commits. Business data are rows of named tables, as text.
public final class InMemoryStorage: SyncStorage, LeasingStorage {
    private let state: Mutex<InMemoryState>
    private let writer = AsyncSemaphore(1)
    private let isLeased = Mutex(false)
    private let environment: SyncEnvironment

    /// - Parameter environment: Gives rows their uid and their default creation time.
    public init(environment: SyncEnvironment = .system) {
        self.environment = environment
        self.state = Mutex(InMemoryState())
    }

    public func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (InMemoryTransaction) async throws -> Result
    ) async throws -> Result {
        guard access == .write else {
            return try await body(InMemoryTransaction(self.state.withLock { $0 }, access: .snapshot, self.environment))
        }
        try await self.writer.wait()
        defer { self.writer.signal() }
        let transaction = InMemoryTransaction(self.state.withLock { $0 }, access: .write, self.environment)
        let result = try await body(transaction)
        let changed = transaction.end()
        self.state.withLock { $0 = changed }
        return result
    }

    public func takeLease() async throws -> any StorageLease {
        let isMine = self.isLeased.withLock { isLeased in
            defer { isLeased = true }
            return !isLeased
        }
        guard isMine else { throw DataSyncError(.leaseHeld, operation: "lease", detail: "another agent works on this storage") }
        return Lease(storage: self)
    }

    private struct Lease: StorageLease {
        let storage: InMemoryStorage
        func isHeld() async -> Bool { true }
        func release() async { self.storage.isLeased.withLock { $0 = false } }
    }
}

/// All that an ``InMemoryStorage`` holds; a value, so that a copy is a snapshot.
struct InMemoryState: Sendable {
    struct PositionKey: Hashable { var peer: ServerID; var epoch: Int32; var type: BusinessTypeID }
    struct ConfirmationKey: Hashable { var peer: ServerID; var type: BusinessTypeID }
    struct LogKey: Hashable { var type: BusinessTypeID; var audience: Audience }
    struct MemoKey: Hashable { var line: MemoLine; var number: Int64 }

    var settings: [String: String] = [:]
    var audit: [AuditEntry] = []
    var servers: [ServerID: ServerRow] = [:]
    /// By id, without gaps: row n is at index n - 1.
    var outbox: [OutboxRow] = []
    var frontier: Int64 = 0
    var lastNumbers: [StreamID: Int64] = [:]
    var manifests: [ManifestKey: Manifest] = [:]
    var positions: [PositionKey: ReceivedPosition] = [:]
    var confirmations: [ConfirmationKey: Confirmation] = [:]
    var lastPlaces: [BusinessTypeID: Int64] = [:]
    /// In order of place.
    var log: [LogKey: [LogRecord]] = [:]
    var entities: [EntityID: EntityState] = [:]
    var memos: [Int64: Memo] = [:]
    var memoIDs: [MemoKey: Int64] = [:]
    var lastMemoID: Int64 = 0
    /// Business tables: table, key, row.
    var tables: [String: [String: String]] = [:]
}
