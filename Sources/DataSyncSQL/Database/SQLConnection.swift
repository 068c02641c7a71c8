public import DataSync

/// One connection to a database. The only thing that a driver has to provide, with ``SQLDatabase``.
///
/// Calls are made one after the other. A call whose task is cancelled closes the connection, and so does any error of the
/// class `connection`: afterwards `isUsable` is false for good. All errors are ``SQLError`` or `CancellationError`.
public protocol SQLConnection: Sendable {
    /// Runs one statement that returns rows. Every value is bound.
    func query(_ sql: String, _ values: [SQLValue]) async throws -> SQLRows
    /// Runs one statement that returns none.
    /// - Returns: The rows that were found, whether or not they changed.
    func execute(_ sql: String, _ values: [SQLValue]) async throws -> Int
    /// Runs one statement for many rows of values, as few round trips as the server allows. All of it, or it throws.
    /// - Returns: The rows that were found, where `batch` is not an upsert.
    func execute(_ batch: SQLBatch) async throws -> Int

    func begin(_ access: Access) async throws
    /// Throws ``SQLError`` of the class `commitUnknown` when the connection is lost meanwhile.
    func commit() async throws
    func rollback() async throws
    func close() async

    var isUsable: Bool { get }
    /// Of the server at the other end.
    var dialect: SQLDialect { get }
}

/// A database that connections can be made to.
public protocol SQLDatabase: Sendable {
    /// What the operator knows the database by. Without a password.
    var name: String { get }
    /// How many transactions may write at the same time: 1 where the whole database is locked by a writer.
    var writersMax: Int { get }
    /// A connection that was left alone for longer is not used again: the server may have closed it.
    var idleMax: Duration { get }
    /// Makes a connection that meets the contract of a connection (DESIGN section 7), or refuses the server.
    func connect() async throws -> any SQLConnection
    /// Takes what keeps a second agent off this database, or throws `leaseHeld` at once.
    func takeLease() async throws -> any StorageLease
}

/// One statement for many rows: `head` `tuple`, `tuple`, … `tail` for an insert, else `head` once for each row.
public struct SQLBatch: Sendable {
    public let head: String
    /// The placeholders of one row, such as `(?, ?)`; empty for a statement that is no insert.
    public let tuple: String
    public let tail: String
    public let arity: Int
    /// Row after row.
    public private(set) var values: [SQLValue] = []

    public init(insertInto table: String, columns: [String], tail: String = "", reservingRows rows: Int = 0) {
        self.head = "insert into \(table) (\(columns.joined(separator: ", "))) values "
        self.tuple = "(\(SQLDialect.placeholders(columns.count)))"
        self.tail = tail
        self.arity = columns.count
        self.values.reserveCapacity(rows * columns.count)
    }

    /// - Parameter arity: How many placeholders `sql` has.
    public init(each sql: String, arity: Int) {
        self.head = sql
        self.tuple = ""
        self.tail = ""
        self.arity = arity
    }

    public var isInsert: Bool { !self.tuple.isEmpty }
    public var rowCount: Int { self.values.count / self.arity }

    /// The statement for one row.
    public var statement: String { self.head + self.tuple + self.tail }

    /// The statement for `count` rows; for inserts only.
    public func statement(rows count: Int) -> String {
        self.head + Array(repeating: self.tuple, count: count).joined(separator: ", ") + self.tail
    }

    public mutating func append(_ row: some Collection<SQLValue>) {
        self.appendRow { $0.append(contentsOf: row) }
    }

    /// Adds a row value by value, without an array of its own.
    mutating func appendRow(_ row: (inout [SQLValue]) -> Void) {
        let count = self.values.count
        row(&self.values)
        precondition(self.values.count - count == self.arity, "a row of a batch has the wrong number of values")
    }
}
