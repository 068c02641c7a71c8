import DataSync

/// What differs between the databases, and nothing else: all other SQL is understood by every one of them.
public struct SQLDialect: Hashable, Sendable {
    public enum Product: String, Hashable, Sendable { case mariadb = "MariaDB", mysql = "MySQL", sqlite = "SQLite" }

    public var product: Product
    /// Such as `10.11.6`.
    public var version: String

    public init(_ product: Product, version: String) {
        self.product = product
        self.version = version
    }

    public var isSQLite: Bool { self.product == .sqlite }

    // MARK: - Statements

    /// `?, ?, ?`
    public static func placeholders(_ count: Int) -> String { Array(repeating: "?", count: count).joined(separator: ", ") }

    /// How many placeholders an IN list for `count` values gets: a power of two, so that few different statements are
    /// prepared. The last value is repeated.
    static func listSize(_ count: Int) -> Int {
        precondition(count > 0)
        var size = 1
        while size < count { size *= 2 }
        return size
    }

    static func padded(_ values: [SQLValue]) -> [SQLValue] {
        let size = self.listSize(values.count)
        return values + Array(repeating: values[values.count - 1], count: size - values.count)
    }

    /// Locks the rows that a query returns. SQLite has one writer, so they are locked already.
    var forUpdate: String { self.isSQLite ? "" : " for update" }

    /// Nothing: rows are numbered by a plain read, which neither waits for locks nor passes over what is locked.
    var numberingLocks: String { PlantedBug.isOn(.lockedRowsSkipped) && !self.isSQLite ? " for update skip locked" : "" }

    /// The end of an insert that replaces the given columns where the key exists.
    ///
    /// `on duplicate key update` takes any unique key for the one that is meant, and then changes another row: it is used
    /// on tables with one unique key only.
    public func upsertTail(key: [String], replacing columns: [String]) -> String {
        switch self.product {
        case .sqlite:
            columns.isEmpty
                ? " on conflict (\(key.joined(separator: ", "))) do nothing"
                : " on conflict (\(key.joined(separator: ", "))) do update set "
                    + columns.map { "\($0) = excluded.\($0)" }.joined(separator: ", ")
        case .mariadb, .mysql:
            // With nothing to replace, a column that is set to itself says: leave the row.
            " on duplicate key update "
                + (columns.isEmpty ? ["\(key[0]) = \(key[0])"] : columns.map { "\($0) = values(\($0))" }).joined(separator: ", ")
        }
    }

    /// The same where the new row's `guardColumn` is greater.
    func upsertTail(key: [String], replacing columns: [String], whereGreater guardColumn: String) -> String {
        if PlantedBug.isOn(.noVersionGuard) { return self.upsertTail(key: key, replacing: columns + [guardColumn]) }
        let than = PlantedBug.isOn(.equalVersionGuard) ? ">=" : ">"
        switch self.product {
        case .sqlite:
            return self.upsertTail(key: key, replacing: columns + [guardColumn]) + " where excluded.\(guardColumn) \(than) \(guardColumn)"
        case .mariadb, .mysql:
            // Assignments are made from left to right: the guard comes last.
            let assignments = columns.map { "\($0) = if(values(\(guardColumn)) \(than) \(guardColumn), values(\($0)), \($0))" }
            let guardAssignment = "\(guardColumn) = greatest(\(guardColumn), values(\(guardColumn)))"
            return " on duplicate key update " + (assignments + [guardAssignment]).joined(separator: ", ")
        }
    }

    /// Reads a table through one index, whatever the statistics of a table that grew a moment ago say.
    func from(_ table: String, index: String) -> String {
        self.isSQLite ? "\(table) indexed by \(index)" : "\(table) force index (\(index))"
    }

    /// The same, by another name.
    func from(_ table: String, as name: String, index: String) -> String {
        self.isSQLite ? "\(table) as \(name) indexed by \(index)" : "\(table) as \(name) force index (\(index))"
    }

    /// The number of bytes of a text.
    func byteCount(_ column: String) -> String { self.isSQLite ? "length(cast(\(column) as blob))" : "length(\(column))" }

    /// ``CRC32/ofRow(key:payload:)``, computed by the database.
    var rowDigest: String {
        // SQLite has no exclusive or, and gets a function for it.
        self.isSQLite ? "crc32(data_from_detail, data_detail)" : "crc32(data_from_detail) ^ crc32(data_detail)"
    }

    /// An entity's name as the columns for it hold it: bytes, but for SQLite, whose texts are compared as bytes. Given as a
    /// text, MySQL would convert each before it compares.
    func key(_ key: EntityKey) -> SQLValue { self.isSQLite ? .text(key.text) : .bytes(Array(key.text.utf8)) }

    // MARK: - Schema

    /// What stands for the names in braces in ``Migration``.
    var schemaWords: [String: String] {
        switch self.product {
        case .sqlite:
            [
                "id": "integer primary key autoincrement", "bigint": "integer", "int": "integer", "tinyint": "integer",
                "key": "text", "text": "text", "short": "text", "name": "text", "blob": "blob", "uid": "blob",
                "uid_default": "(randomblob(16))",
                "now_ms": "(cast((julianday('now') - 2440587.5) * 86400000.0 as integer))",
                "table": "strict", "index": "create index if not exists", "data_keys": "", "memo_keys": "",
            ]
        case .mariadb, .mysql:
            [
                "id": "bigint not null auto_increment primary key", "bigint": "bigint", "int": "int",
                "tinyint": "tinyint", "key": "varbinary(190)", "text": "mediumtext", "short": "varchar(255)",
                "name": "varchar(100)", "blob": "mediumblob", "uid": "binary(16)",
                "uid_default": "(unhex(replace(uuid(), '-', '')))",
                "now_ms": "(cast(unix_timestamp(now(3)) * 1000 as signed))",
                "data_keys": ",\n  key sync_data_name (business_type, data_from_detail)",
                "memo_keys": ",\n  key sync_memo_entity (receiver, sender, business_type, data_from_detail),"
                    + "\n  key sync_memo_due (receiver, disposition, next_try),"
                    + "\n  key sync_memo_needs (receiver, needs)",
                "table": "engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin",
            ]
        }
    }
}
