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

    /// All that is committed.
    public struct Backup: Sendable {
        fileprivate let state: InMemoryState
    }

    public func backUp() -> Backup { Backup(state: self.state.withLock { $0 }) }

    /// Puts an older state back, as an operator does with a backup of a database.
    public func restore(_ backup: Backup) { self.state.withLock { $0 = backup.state } }

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
package struct InMemoryState: Sendable {
    package struct PositionKey: Hashable, Sendable {
        var peer: ServerID
        package let epoch: Int32
        package let type: BusinessTypeID

        package init(peer: ServerID, epoch: Int32, type: BusinessTypeID) {
            self.peer = peer
            self.epoch = PlantedBug.isOn(.epochNotInKey) ? 1 : epoch
            self.type = type
        }
    }

    package struct ConfirmationKey: Hashable, Sendable {
        var peer: ServerID
        var type: BusinessTypeID

        package init(peer: ServerID, type: BusinessTypeID) {
            self.peer = peer
            self.type = type
        }
    }

    package struct LogKey: Hashable, Sendable {
        package var type: BusinessTypeID
        package var audience: Audience
    }

    package struct SentManifest: Hashable, Sendable {
        var manifest: Manifest
        var time: Int64
    }

    package struct MemoKey: Hashable, Sendable {
        var line: MemoLine
        var number: Int64

        package init(line: MemoLine, number: Int64) {
            self.line = line
            self.number = number
        }
    }

    package var settings: [String: String] = [:]
    package var audit: [AuditRow] = []
    package var auditHead = AuditHead.start
    package var servers: [ServerID: ServerRow] = [:]
    package var persons: [PersonKey: PersonRow] = [:]
    package var logins: [String: LoginRow] = [:]
    /// By source.
    package var attempts: [PersonKey: AttemptRow] = [:]
    /// By id. Ids may be missing, as where a transaction was rolled back that had taken one.
    package var outbox: [OutboxRow] = []
    package var frontier: Int64 = 0
    package var lastNumbers: [StreamID: Int64] = [:]
    package var manifests: [ManifestKey: Manifest] = [:]
    /// Sent ones, with the time when they were put by.
    package var sentManifests: [ManifestKey: SentManifest] = [:]
    package var receipts: [ServerID: [Receipt]] = [:]
    package var uids: [RecordUID: Int64] = [:]
    package var positions: [PositionKey: ReceivedPosition] = [:]
    package var confirmations: [ConfirmationKey: Confirmation] = [:]
    package var lastPlaces: [BusinessTypeID: Int64] = [:]
    /// In order of place.
    package var log: [LogKey: [LogRecord]] = [:]
    package var entities: [EntityID: EntityState] = [:]
    package var memos: [Int64: Memo] = [:]
    package var memoIDs: [MemoKey: Int64] = [:]
    package var lastMemoID: Int64 = 0
    /// Business tables: table, key, row.
    package var tables: [String: [String: String]] = [:]

    package init() {}

    /// Where the row with this id is, or would be.
    package func outboxIndex(from id: Int64) -> Int {
        // Most often there are no gaps, and row n is at index n - 1.
        if id >= 1, id <= self.outbox.count, self.outbox[Int(id) - 1].id == id { return Int(id) - 1 }
        var (low, high) = (0, self.outbox.count)
        while low < high {
            let middle = (low + high) / 2
            if self.outbox[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low
    }

    package func outboxIndex(of id: Int64) -> Int? {
        let index = self.outboxIndex(from: id)
        return index < self.outbox.count && self.outbox[index].id == id ? index : nil
    }
}
