public import DataSync

/// A transaction of ``SQLStorage``, for DataSync's tables, for handlers and for the host application.
public final class SQLTransaction: SyncTransaction {
    private let connection: any SQLConnection
    public let dialect: SQLDialect

    init(_ connection: any SQLConnection, dialect: SQLDialect) {
        self.connection = connection
        self.dialect = dialect
    }

    // MARK: - Business tables

    /// Runs a statement that returns rows. Values are bound, in the order of the question marks.
    /// - Throws: ``RecordFault`` where the data of the statement is at fault, `DataSyncError` for everything else. After
    ///   either the transaction is only good for being rolled back.
    public func query(_ sql: String, _ values: [SQLValue] = []) async throws -> SQLRows {
        try self.refuseNUL(values)
        do { return try await self.connection.query(sql, values) } catch let error as SQLError {
            throw error.inHandler("query")
        }
    }

    /// Runs a statement that returns no rows.
    /// - Returns: The rows that were found, whether or not they changed.
    @discardableResult
    public func execute(_ sql: String, _ values: [SQLValue] = []) async throws -> Int {
        try self.refuseNUL(values)
        do { return try await self.connection.execute(sql, values) } catch let error as SQLError {
            if PlantedBug.isOn(.goesOnAfterDeadlock), error.fault == .retry { return 0 }
            throw error.inHandler("execute")
        }
    }

    /// Runs a statement for many rows of values.
    @discardableResult
    public func execute(_ batch: SQLBatch) async throws -> Int {
        guard batch.rowCount > 0 else { return 0 }
        try self.refuseNUL(batch.values)
        do { return try await self.connection.execute(batch) } catch let error as SQLError {
            throw error.inHandler("execute")
        }
    }

    /// SQLite's interface takes a text to end at its first NUL: half of a value would be stored, without a word.
    private func refuseNUL(_ values: [SQLValue]) throws {
        guard self.dialect.isSQLite, values.contains(where: \.holdsNUL) else { return }
        throw RecordFault.refused(.badCharacter, detail: "a text must not hold the character NUL")
    }

    // MARK: - DataSync's own tables

    func read(_ operation: StaticString, _ sql: String, _ values: [SQLValue] = []) async throws -> SQLRows {
        do { return try await self.connection.query(sql, values) } catch let error as SQLError {
            throw error.inStorage(operation)
        }
    }

    @discardableResult
    func write(_ operation: StaticString, _ sql: String, _ values: [SQLValue] = []) async throws -> Int {
        do { return try await self.connection.execute(sql, values) } catch let error as SQLError {
            throw error.inStorage(operation)
        }
    }

    @discardableResult
    func write(_ operation: StaticString, _ batch: SQLBatch) async throws -> Int {
        guard batch.rowCount > 0 else { return 0 }
        do { return try await self.connection.execute(batch) } catch let error as SQLError {
            throw error.inStorage(operation)
        }
    }

    /// Reads what `values` select through an IN list, a list at a time.
    /// - Parameter sql: With one `%@` where the placeholders belong, after those of `before`.
    func readList(
        _ operation: StaticString, _ sql: String, before: [SQLValue] = [], list: [SQLValue], after: [SQLValue] = [],
        _ row: (SQLRow) throws -> Void
    ) async throws {
        var start = 0
        while start < list.count {
            let part = SQLDialect.padded(Array(list[start..<min(start + 1_024, list.count)]))
            let statement = sql.replacing("%@", with: SQLDialect.placeholders(part.count))
            for found in try await self.read(operation, statement, before + part + after) { try row(found) }
            start += 1_024
        }
    }

    /// The rows that every database of DataSync has.
    func prepareTables() async throws {
        try await self.write(
            "init", "insert into sync_frontier (id, frontier) values (1, 0)" + self.dialect.upsertTail(key: ["id"], replacing: []))
        // A head that somebody removed is not made anew over lines that are there: that would hide it.
        if try await self.auditHead() == nil, try await self.auditRows(after: 0, limit: 1).isEmpty {
            try await self.write(
                "init", "insert into sync_audit_head (id, last, digest) values (1, 0, '')" + self.dialect.upsertTail(key: ["id"], replacing: []))
        }
    }
}
