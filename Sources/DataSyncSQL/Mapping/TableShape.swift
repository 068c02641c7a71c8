import DataSync

/// What the database says of one of the application's own tables.
public struct TableShape: Hashable, Sendable {
    public var name: String
    /// Whether a rollback undoes what is written to it.
    public var isTransactional: Bool
    /// In the order of the table.
    public var columns: [ColumnShape]
    /// The primary key, by position in the key; empty if there is none.
    public var primaryKey: [String]
    /// Unique keys besides it.
    public var otherUniqueKeys: [[String]]
    /// The columns of every index, keys included.
    public var indexes: [[String]]
    public var foreignKeys: [ForeignKey]
    /// Tables with constraints that are looked at only when a transaction is committed, and that writing to this table
    /// may break: its own, and those that refer to it.
    public var deferredIn: [String]

    public struct ForeignKey: Hashable, Sendable {
        public var columns: [String]
        public var table: String
        public var referencedColumns: [String]
    }

    public func column(_ name: String) -> ColumnShape? { self.columns.first { $0.name == name } }
}

public struct ColumnShape: Hashable, Sendable {
    public var name: String
    public var kind: ColumnKind
    public var isNullable: Bool
    /// Whether an insert may leave the column out.
    public var hasDefault: Bool
    /// Computed by the database: cannot be written.
    public var isGenerated: Bool
    /// Whether different texts may be equal in this column, as with a collation that ignores case, accents or normal forms.
    public var comparesLoosely: Bool
}

/// What a column holds, as far as a payload's value is checked before it is sent to the database.
public enum ColumnKind: Hashable, Sendable {
    /// Between the two, inclusive; a maximum beyond `Int64` is that of an unsigned column.
    case integer(min: Int64, max: UInt64)
    /// Digits in all, and behind the point. Nil where the database does not limit them; without a scale, the digits before
    /// and behind the point count together.
    case decimal(precision: Int?, scale: Int?)
    case double
    /// Most characters.
    case text(characters: Int?)
    /// Most bytes.
    case bytes(Int?)
    case date
    /// Digits behind the second.
    case time(fraction: Int)
    case dateTime(fraction: Int)
    case json

    /// Whether equal values of the column are equal texts in every payload, as the name of an entity needs it.
    var isWrittenInOneWay: Bool {
        switch self {
        case .integer, .text, .date: true
        case .decimal, .double, .bytes, .time, .dateTime, .json: false
        }
    }
}

extension SQLTransaction {
    /// What the database says of a table; nil if there is none of that name.
    public func shape(of table: String) async throws -> TableShape? {
        self.dialect.isSQLite ? try await self.sqliteShape(of: table) : try await self.mysqlShape(of: table)
    }

    /// The names of the application's own tables.
    public func businessTables() async throws -> [String] {
        let sql =
            self.dialect.isSQLite
            ? "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
            : "select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'"
        let own = Set(
            [
                "config", "server", "data", "frontier", "stream", "batch", "position", "send", "log_counter", "log_tail", "log",
                "entity", "memo", "audit", "audit_head", "receipt", "sent", "uid", "person", "login", "attempt",
            ].map { "sync_\($0)" })
        return try await self.read("tables", sql).map { try $0.text(0) }.filter { !own.contains($0) }.sorted()
    }
}

// MARK: - MySQL and MariaDB

extension SQLTransaction {
    private func mysqlShape(of table: String) async throws -> TableShape? {
        let engines = try await self.read(
            "shape", "select engine from information_schema.tables where table_schema = database() and table_name = ? and table_type = 'BASE TABLE'",
            [.text(table)])
        guard let engine = try engines.first?.optionalText(0) else { return nil }
        let rows = try await self.read(
            "shape",
            """
            select column_name, data_type, column_type, is_nullable, column_default, extra, character_maximum_length,
              numeric_precision, numeric_scale, datetime_precision, collation_name
            from information_schema.columns where table_schema = database() and table_name = ? order by ordinal_position
            """, [.text(table)])
        // MariaDB's json is a longtext with a check.
        let checks =
            self.dialect.product == .mariadb
            ? Set(
                try await self.read(
                    "shape", "select check_clause from information_schema.check_constraints where constraint_schema = database() and table_name = ?",
                    [.text(table)]
                ).map { try $0.text(0) }) : []
        let columns = try rows.map { row in
            var column = try Self.mysqlColumn(row)
            if checks.contains("json_valid(\(MappedTable.quoted(column.name)))") { column.kind = .json }
            return column
        }
        var indexes: [(name: String, isUnique: Bool, columns: [String])] = []
        for row in try await self.read(
            "shape",
            """
            select index_name, non_unique, column_name from information_schema.statistics
            where table_schema = database() and table_name = ? order by index_name, seq_in_index
            """, [.text(table)])
        {
            let (name, column) = (try row.text(0), try row.optionalText(2) ?? "")
            if indexes.last?.name == name {
                indexes[indexes.count - 1].columns.append(column)
            } else {
                indexes.append((name, try row.int(1) == 0, [column]))
            }
        }
        var keys: [(name: String, key: TableShape.ForeignKey)] = []
        for row in try await self.read(
            "shape",
            """
            select constraint_name, column_name, referenced_table_name, referenced_column_name
            from information_schema.key_column_usage
            where table_schema = database() and table_name = ? and referenced_table_name is not null
            order by constraint_name, ordinal_position
            """, [.text(table)])
        {
            let name = try row.text(0)
            if keys.last?.name != name {
                keys.append((name, TableShape.ForeignKey(columns: [], table: try row.text(2), referencedColumns: [])))
            }
            keys[keys.count - 1].key.columns.append(try row.text(1))
            keys[keys.count - 1].key.referencedColumns.append(try row.text(3))
        }
        return TableShape(
            name: table, isTransactional: engine.lowercased() == "innodb", columns: columns,
            primaryKey: indexes.first { $0.name == "PRIMARY" }?.columns ?? [],
            otherUniqueKeys: indexes.filter { $0.isUnique && $0.name != "PRIMARY" }.map(\.columns),
            indexes: indexes.map(\.columns), foreignKeys: keys.map(\.key), deferredIn: [])
    }

    private static func mysqlColumn(_ row: SQLRow) throws -> ColumnShape {
        let (type, fullType) = (try row.text(1).lowercased(), try row.text(2).lowercased())
        let isUnsigned = fullType.contains("unsigned")
        let characters = try row.optionalInt(6).map { Int(clamping: $0) }
        let fraction = try row.optionalInt(9).map { Int($0) } ?? 0
        func integer(_ bits: Int) -> ColumnKind {
            isUnsigned
                ? .integer(min: 0, max: UInt64.max >> UInt64(64 - bits))
                : .integer(min: Int64.min >> Int64(64 - bits), max: UInt64(Int64.max >> Int64(64 - bits)))
        }
        let kind: ColumnKind =
            switch type {
            case "tinyint": integer(8)
            case "smallint": integer(16)
            case "mediumint": integer(24)
            case "int", "integer": integer(32)
            case "bigint": integer(64)
            case "bit": .integer(min: 0, max: UInt64.max >> UInt64(64 - max(1, try row.optionalInt(7) ?? 1)))
            // Smaller numbers are taken for years of this century or the last.
            case "year": .integer(min: 1901, max: 2155)
            case "decimal", "numeric": .decimal(precision: try row.optionalInt(7).map { Int($0) }, scale: try row.optionalInt(8).map { Int($0) })
            case "float", "double", "real": .double
            case "date": .date
            case "time": .time(fraction: fraction)
            case "datetime", "timestamp": .dateTime(fraction: fraction)
            case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob": .bytes(characters)
            case "json": .json
            case "enum", "set": .text(characters: nil)
            default: .text(characters: characters)
            }
        let extra = try row.optionalText(5)?.lowercased() ?? ""
        let isNullable = try row.text(3) == "YES"
        let hasDefault = try row.optionalText(4) != nil || isNullable || extra.contains("auto_increment")
        return ColumnShape(
            name: try row.text(0), kind: kind, isNullable: isNullable, hasDefault: hasDefault,
            isGenerated: extra.contains("generated") && !extra.contains("default_generated") || extra.contains("persistent") || extra.contains("virtual"),
            comparesLoosely: try row.optionalText(10).map { !$0.hasSuffix("_bin") && $0 != "binary" } ?? false)
    }
}

// MARK: - SQLite

extension SQLTransaction {
    private func sqliteShape(of table: String) async throws -> TableShape? {
        // hidden: 2 and 3 are generated columns.
        let info = try await self.read(
            "shape", "select name, type, \"notnull\", dflt_value, pk, hidden from pragma_table_xinfo(?) order by cid", [.text(table)])
        guard !info.isEmpty else { return nil }
        let key = try info.map { (position: try $0.int(4), name: try $0.text(0)) }
            .filter { $0.position > 0 }.sorted { $0.position < $1.position }.map(\.name)
        let columns = try info.map { row in
            let type = try row.text(1).uppercased()
            // A lone INTEGER PRIMARY KEY is the row's id: given if it is left out.
            let isRowID = key == [try row.text(0)] && type == "INTEGER"
            let isKey = try row.int(4) > 0
            let isRequired = try row.int(2) != 0
            let isNullable = !isRequired && !isKey
            return ColumnShape(
                name: try row.text(0), kind: Self.sqliteKind(type), isNullable: isNullable,
                hasDefault: try row.optionalText(3) != nil || isNullable || isRowID, isGenerated: try row.int(5) >= 2, comparesLoosely: false)
        }
        var unique: [[String]] = []
        var indexes: [[String]] = [key]
        for row in try await self.read("shape", "select name, \"unique\", origin from pragma_index_list(?)", [.text(table)]) {
            let names = try await self.read("shape", "select name from pragma_index_info(?) order by seqno", [.text(try row.text(0))])
                .map { try $0.optionalText(0) ?? "" }
            indexes.append(names)
            if try row.int(1) == 1, try row.text(2) != "pk" { unique.append(names) }
        }
        var keys: [Int64: TableShape.ForeignKey] = [:]
        for row in try await self.read("shape", "select id, \"table\", \"from\", \"to\" from pragma_foreign_key_list(?) order by id, seq", [.text(table)]) {
            let id = try row.int(0)
            let table = try row.text(1)
            var key = keys[id] ?? TableShape.ForeignKey(columns: [], table: table, referencedColumns: [])
            key.columns.append(try row.text(2))
            if let column = try row.optionalText(3) { key.referencedColumns.append(column) }
            keys[id] = key
        }
        return TableShape(
            name: table, isTransactional: true, columns: columns, primaryKey: key, otherUniqueKeys: unique, indexes: indexes,
            foreignKeys: keys.sorted { $0.key < $1.key }.map(\.value), deferredIn: try await self.sqliteDeferred(around: table))
    }

    private func sqliteDeferred(around table: String) async throws -> [String] {
        try await self.read(
            "shape",
            """
            select m.name, m.sql from sqlite_master m where m.type = 'table' and m.sql like '%deferred%'
              and exists (select 1 from pragma_foreign_key_list(m.name) k where lower(?) in (lower(m.name), lower(k."table"))) order by m.name
            """, [.text(table)]
        ).compactMap { row in
            let words = try row.text(1).lowercased().split { !$0.isLetter && !$0.isNumber && $0 != "_" }
            return zip(words, words.dropFirst()).contains { $0 == "initially" && $1 == "deferred" } ? try row.text(0) : nil
        }
    }

    /// By the declared type, as https://www.sqlite.org/datatype3.html takes it, with the lengths that SQLite itself does
    /// not look at.
    private static func sqliteKind(_ type: String) -> ColumnKind {
        let numbers = type.split { !("0"..."9").contains($0) }.compactMap { Int($0) }
        if type.contains("BOOL") { return .integer(min: 0, max: 1) }
        if type.contains("INT") { return .integer(min: .min, max: UInt64(Int64.max)) }
        if type.contains("CHAR") || type.contains("TEXT") || type.contains("CLOB") { return .text(characters: numbers.first) }
        if type.contains("BLOB") { return .bytes(nil) }
        if type.contains("REAL") || type.contains("FLOA") || type.contains("DOUB") { return .double }
        if type.contains("DATETIME") || type.contains("TIMESTAMP") { return .dateTime(fraction: 6) }
        if type.contains("DATE") { return .date }
        if type.contains("TIME") { return .time(fraction: 6) }
        if type.contains("JSON") { return .json }
        if type.contains("DEC") || type.contains("NUM") {
            // Kept as an integer where it is one, which holds 18 digits, else as a double, which holds 15: SQLite would round.
            let scale = numbers.count > 1 ? numbers[1] : numbers.isEmpty ? nil : 0
            let precision = min(numbers.first ?? 15, scale == 0 ? 18 : 15)
            return .decimal(precision: precision, scale: scale.map { min($0, precision) })
        }
        return .text(characters: nil)
    }
}
