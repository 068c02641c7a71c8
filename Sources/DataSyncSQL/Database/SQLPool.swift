import DataSync
import Synchronization

/// A bounded number of connections, lent one to a transaction.
///
/// Waiting is bounded too: a server that answers slowly must not collect a queue of requests whose clients have gone.
final class SQLPool: Sendable {
    private struct Idle {
        var connection: any SQLConnection
        var since: ContinuousClock.Instant
    }

    let database: any SQLDatabase
    private let slots: AsyncSemaphore
    private let writers: AsyncSemaphore?
    private let waitMax: Duration
    private let idle = Mutex<[Idle]>([])
    private let isClosed = Mutex(false)

    init(_ database: any SQLDatabase, connectionsMax: Int, waitMax: Duration) {
        self.database = database
        self.slots = AsyncSemaphore(connectionsMax)
        self.writers = database.writersMax < connectionsMax ? AsyncSemaphore(database.writersMax) : nil
        self.waitMax = waitMax
    }

    /// Lends a connection to `body`.
    /// - Throws: `storageUnavailable` when none becomes free in time, or none can be made.
    func withConnection<Result>(
        _ access: Access, _ body: (any SQLConnection) async throws -> Result
    ) async throws -> Result {
        try await self.wait(for: self.slots)
        defer { self.slots.signal() }
        guard access == .write, let writers = self.writers else { return try await self.lend(body) }
        try await self.wait(for: writers)
        defer { writers.signal() }
        return try await self.lend(body)
    }

    private func lend<Result>(_ body: (any SQLConnection) async throws -> Result) async throws -> Result {
        let connection: any SQLConnection
        if let known = await self.takeIdle() { connection = known } else { connection = try await self.connect() }
        do {
            let result = try await body(connection)
            await self.putBack(connection)
            return result
        } catch {
            await self.putBack(connection)
            throw error
        }
    }

    private func connect() async throws -> any SQLConnection {
        guard !self.isClosed.withLock({ $0 }) else {
            throw DataSyncError(.storageUnavailable, operation: "connect", detail: "the storage was closed")
        }
        return try await self.database.connect()
    }

    private func takeIdle() async -> (any SQLConnection)? {
        while let candidate = self.idle.withLock({ $0.popLast() }) {
            if candidate.connection.isUsable, candidate.since.duration(to: .now) < self.database.idleMax {
                return candidate.connection
            }
            await candidate.connection.close()
        }
        return nil
    }

    private func putBack(_ connection: any SQLConnection) async {
        if connection.isUsable, !self.isClosed.withLock({ $0 }) {
            self.idle.withLock { $0.append(Idle(connection: connection, since: .now)) }
        } else {
            await connection.close()
        }
    }

    private func wait(for semaphore: AsyncSemaphore) async throws {
        if semaphore.tryWait() { return }
        let isFree: Void? = try await withTimeout(self.waitMax) { try await semaphore.wait() }
        guard isFree != nil else {
            throw DataSyncError(
                .storageUnavailable, operation: "connect", detail: "no database connection became free within \(self.waitMax)",
                retryAfter: .seconds(1))
        }
    }

    /// Closes what is idle; what is lent is closed when it comes back.
    func close() async {
        self.isClosed.withLock { $0 = true }
        for idle in self.idle.withLock({ idle in
            defer { idle = [] }
            return idle
        }) { await idle.connection.close() }
    }
}
