public import DataSyncSQL
public import DataSync
import FoundationEssentials
import GRDB
import Synchronization

/// One connection to a SQLite file. GRDB gives it a queue of its own, so that waiting for the file holds no thread of
/// Swift's.
public final class SQLiteConnection: SQLConnection {
    public let dialect: SQLDialect
    private let queue: DatabaseQueue
    private let access = Mutex<Access?>(nil)
    private let usable = Mutex(true)

    init(_ queue: DatabaseQueue, version: String) {
        self.queue = queue
        self.dialect = SQLDialect(.sqlite, version: version)
    }

    public var isUsable: Bool { self.usable.withLock { $0 } }

    public func query(_ sql: String, _ values: [SQLValue]) async throws -> SQLRows {
        try Task.checkCancellation()
        return try await self.perform { database in
            let statement = try database.cachedStatement(sql: sql)
            let rows = try Row.fetchCursor(statement, arguments: StatementArguments(values.map(\.databaseValue)))
            let columnCount = statement.columnCount
            var found: [SQLValue] = []
            while let row = try rows.next() {
                for column in 0..<columnCount { found.append(SQLValue(row[column] as DatabaseValue)) }
            }
            return SQLRows(columnCount: columnCount, values: found)
        }
    }

    public func execute(_ sql: String, _ values: [SQLValue]) async throws -> Int {
        try Task.checkCancellation()
        return try await self.perform { database in
            if values.isEmpty {
                // Definitions of tables come only once.
                try database.execute(sql: sql)
            } else {
                try database.cachedStatement(sql: sql).execute(arguments: StatementArguments(values.map(\.databaseValue)))
            }
            return database.changesCount
        }
    }

    public func execute(_ batch: SQLBatch) async throws -> Int {
        try Task.checkCancellation()
        return try await self.perform { database in
            // There is no round trip to save: one prepared statement, row after row.
            let statement = try database.cachedStatement(sql: batch.statement)
            var count = 0
            for row in 0..<batch.rowCount {
                let values = batch.values[row * batch.arity..<(row + 1) * batch.arity].map(\.databaseValue)
                try statement.execute(arguments: StatementArguments(values))
                count += database.changesCount
            }
            return count
        }
    }

    public func begin(_ access: Access) async throws {
        try Task.checkCancellation()
        try await self.perform { database in
            switch access {
            // The write lock at once: a transaction that becomes a writer later may find that it reads an old state.
            case .write: try database.execute(sql: "begin immediate")
            case .snapshot:
                try database.execute(sql: "begin deferred")
                // Last: what failed before leaves no connection behind that refuses to write.
                try database.execute(sql: "pragma query_only = 1")
            }
        }
        self.access.withLock { $0 = access }
    }

    public func commit() async throws { try await self.end("commit") }
    public func rollback() async throws { try await self.end("rollback") }

    private func end(_ sql: String) async throws {
        let access = self.access.withLock { access in
            defer { access = nil }
            return access
        }
        try await self.perform { database in
            // SQLite has ended the transaction itself after some errors, such as a full disk.
            if database.isInsideTransaction { try database.execute(sql: sql) }
            if access == .snapshot { try database.execute(sql: "pragma query_only = 0") }
        }
    }

    public func close() async {
        self.usable.withLock { $0 = false }
        try? self.queue.close()
    }

    /// Runs `body` on the connection's queue. Without GRDB's own handling of cancellation, which ends transactions.
    private func perform<Result: Sendable>(_ body: @escaping @Sendable (Database) throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            self.queue.asyncWriteWithoutTransaction { database in
                do { continuation.resume(returning: try body(database)) } catch let error as DatabaseError {
                    continuation.resume(throwing: SQLiteErrorTable.error(error))
                } catch { continuation.resume(throwing: error) }
            }
        }
    }
}

extension SQLValue {
    init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let value): self = .int(value)
        case .double(let value): self = .double(value)
        case .string(let text): self = .text(text)
        case .blob(let data): self = .bytes([UInt8](data))
        }
    }

    var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .int(let value): value.databaseValue
        case .double(let value): value.databaseValue
        case .text(let text): text.databaseValue
        case .bytes(let bytes): Data(bytes).databaseValue
        }
    }
}
