import CMariaDB
import DataSync
import DataSyncSQL

/// Owns one `MYSQL *` and its prepared statements. Together with ``MySQLStatement`` the only code that calls `mysql_*`.
///
/// Bytes are copied in and out; no pointer leaves this folder.
final class MySQLHandle {
    let raw: UnsafeMutablePointer<MYSQL>
    private(set) var isBroken = false
    /// Set while a commit is under way: losing the server then leaves its outcome open.
    private var isCommitting = false
    /// Whether a transaction was begun and not ended by us.
    private var isInTransaction = false
    private var statements: [String: MySQLStatement] = [:]
    /// From the one used longest ago to the latest.
    private var order: [String] = []
    /// As large as any server takes, until it is known what this one takes.
    private var packetBytesMax = 1 << 20
    /// Whether the server takes arrays of parameters, and can be trusted with them.
    private var hasBulk = false

    /// Most statements that are kept prepared; a server limits them over all connections (`max_prepared_stmt_count`).
    static let statementsMax = 96
    /// A longer text is unlikely to come again.
    static let keptTextMax = 8_192

    init(raw: UnsafeMutablePointer<MYSQL>) { self.raw = raw }

    func learn(packetBytesMax: Int, hasBulk: Bool) {
        self.packetBytesMax = packetBytesMax
        self.hasBulk = hasBulk
    }

    deinit { self.close() }

    private var isClosed = false

    func close() {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.isBroken = true
        self.statements = [:]
        mysql_close(self.raw)
    }

    func markBroken() { self.isBroken = true }

    // MARK: - Statements

    func query(_ sql: String, _ values: [SQLValue]) throws -> SQLRows {
        try self.inTransaction {
            let statement = try self.statement(sql)
            try statement.execute(values)
            return try statement.rows()
        }
    }

    func execute(_ sql: String, _ values: [SQLValue]) throws -> Int {
        try self.inTransaction {
            if values.isEmpty { return try self.run(sql) }
            let statement = try self.statement(sql)
            try statement.execute(values)
            return statement.affectedRows
        }
    }

    func execute(_ batch: SQLBatch) throws -> Int { try self.inTransaction { try self.run(batch) } }

    private func run(_ batch: SQLBatch) throws -> Int {
        if self.hasBulk {
            let statement = try self.statement(batch.statement)
            return try self.pieces(of: batch, rowsMax: 4_096).reduce(0) { count, piece in
                try statement.executeBulk(batch.values, arity: batch.arity, rows: piece)
                return count + statement.affectedRows
            }
        }
        guard batch.isInsert else {
            let statement = try self.statement(batch.statement)
            return try (0..<batch.rowCount).reduce(0) { count, row in
                try statement.execute(Array(batch.values[row * batch.arity..<(row + 1) * batch.arity]))
                return count + statement.affectedRows
            }
        }
        // As many rows as have at most 65,535 placeholders, in sizes that come again.
        return try self.pieces(of: batch, rowsMax: min(512, 65_535 / batch.arity), powersOfTwo: true).reduce(0) { count, piece in
            let statement = try self.statement(batch.statement(rows: piece.count))
            try statement.execute(Array(batch.values[piece.lowerBound * batch.arity..<piece.upperBound * batch.arity]))
            return count + statement.affectedRows
        }
    }

    /// Rows that fit into one packet, with room for what surrounds them.
    private func pieces(of batch: SQLBatch, rowsMax: Int, powersOfTwo: Bool = false) -> [Range<Int>] {
        var pieces: [Range<Int>] = []
        var start = 0
        while start < batch.rowCount {
            var end = start
            var bytes = 0
            while end < batch.rowCount, end - start < rowsMax {
                let size = batch.values[end * batch.arity..<(end + 1) * batch.arity].reduce(0) { $0 + $1.packetBytes }
                if end > start, bytes + size > self.packetBytesMax / 2 { break }
                bytes += size
                end += 1
            }
            if powersOfTwo {
                var count = 1
                while count * 2 <= end - start { count *= 2 }
                end = start + count
            }
            pieces.append(start..<end)
            start = end
        }
        return pieces
    }

    /// Runs a statement of a transaction, if one was begun, and makes sure that it was one: a server that has ended the transaction by
    /// itself carries out what follows all the same, and commits it statement by statement.
    private func inTransaction<Result>(_ body: () throws -> Result) throws -> Result {
        let result = try body()
        guard !self.isInTransaction || self.raw.pointee.server_status & UInt32(SERVER_STATUS_IN_TRANS) != 0 else {
            throw SQLError(
                .retry, number: 0, message: "the server has ended the transaction by itself: a definition of a table commits it, a cluster may undo it")
        }
        return result
    }

    func begin(_ statement: String) throws {
        try self.run(statement)
        self.isInTransaction = true
    }

    func rollback() throws {
        self.isInTransaction = false
        try self.run("rollback")
    }

    /// Runs a statement without values that returns no rows: definitions, `begin`, `commit`.
    @discardableResult
    func run(_ sql: String) throws -> Int {
        var sql = sql
        let status = sql.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { mysql_real_query(self.raw, $0.baseAddress, UInt($0.count)) }
        }
        guard status == 0 else { throw self.error() }
        // A statement that does return rows must be read to its end before the next.
        if mysql_field_count(self.raw) > 0, let result = mysql_store_result(self.raw) { mysql_free_result(result) }
        return Int(clamping: mysql_affected_rows(self.raw))
    }

    func commit() throws {
        self.isInTransaction = false
        self.isCommitting = true
        defer { self.isCommitting = false }
        try self.run("commit")
    }

    private func statement(_ sql: String) throws -> MySQLStatement {
        if let known = self.statements[sql] {
            if let index = self.order.lastIndex(of: sql) { self.order.remove(at: index) }
            self.order.append(sql)
            return known
        }
        let statement = try MySQLStatement(sql, handle: self)
        guard sql.utf8.count <= Self.keptTextMax else { return statement }
        if self.order.count >= Self.statementsMax { self.statements[self.order.removeFirst()] = nil }
        self.statements[sql] = statement
        self.order.append(sql)
        return statement
    }

    // MARK: - Errors

    func error() -> SQLError { self.error(mysql_errno(self.raw), mysql_error(self.raw)) }

    func error(_ number: UInt32, _ text: UnsafePointer<CChar>?) -> SQLError {
        let message = text.map { String(cString: $0) } ?? ""
        let fault = MySQLErrorTable.fault(number, message: message, inCommit: self.isCommitting)
        if fault == .connection || fault == .commitUnknown { self.isBroken = true }
        return SQLError(fault, number: Int(number), message: message, subject: MySQLErrorTable.subject(number, message: message))
    }
}

extension SQLValue {
    /// What the value takes in a packet, at most.
    fileprivate var packetBytes: Int {
        switch self {
        case .null: 2
        case .int, .double: 10
        case .text(let text): text.utf8.count + 10
        case .bytes(let bytes): bytes.count + 10
        }
    }
}
