import DataSync

/// One table of a mapped type, compared with what the database says of it: how its rows are read and written.
struct MappedTable: Sendable {
    struct Column: Sendable {
        var wire: String
        var name: String
        var kind: ColumnKind
        var isNullable: Bool
    }

    let table: String
    /// Key columns first, in the order of the mapping.
    let columns: [Column]
    let keyCount: Int
    let originColumn: String?
    /// Of each parent key column of the root, in its order: the position of the column here that repeats it.
    let parentPositions: [Int]
    private let constants: [(column: String, value: String)]
    private let positions: [String: Int]
    private let dialect: SQLDialect

    /// The name of the origin column in a payload, where it may stand too.
    var columnCount: Int { self.columns.count }

    // MARK: - Comparing with the database

    /// - Parameters:
    ///   - parentKey: For a child: which of its columns repeat the root's key columns, in their order, by names on the wire.
    ///   - originOfParent: For a child: whether the root has an origin column.
    /// - Throws: `invalidConfiguration`, saying what does not fit and what to do.
    init(
        _ mapping: TableMapping, shape: TableShape?, definition: BusinessTypeDefinition, parentKey: [String]? = nil,
        originOfParent: Bool = false, dialect: SQLDialect
    ) throws(DataSyncError) {
        func refuse(_ message: String) -> DataSyncError {
            DataSyncError(
                .invalidConfiguration, operation: "types", detail: "type \(definition.id) '\(definition.name)', table '\(mapping.table)': \(message)")
        }
        guard let shape else { throw refuse("there is no such table in this database") }
        guard shape.isTransactional else { throw refuse("its engine has no transactions: alter it to InnoDB") }
        // Nobody could say which of a transaction's records is at fault, and all of them would be tried for ever.
        guard shape.deferredIn.isEmpty else {
            throw refuse(
                "a foreign key of \(shape.deferredIn.map { "'\($0)'" }.joined(separator: ", ")) is 'initially deferred', so a wrong record is "
                    + "noticed only when everything is committed: declare it without that")
        }
        guard !shape.primaryKey.isEmpty else { throw refuse("it has no primary key, so a row could not be found again: add one") }
        guard shape.otherUniqueKeys.isEmpty else {
            let keys = shape.otherUniqueKeys.map { "(\($0.joined(separator: ", ")))" }.joined(separator: ", ")
            throw refuse("it has a unique key besides its primary key: \(keys). An upsert could hit the row of another entity; make it a plain index")
        }
        let mappings = mapping.key + mapping.columns
        guard !mapping.key.isEmpty else { throw refuse("no key columns are given") }
        guard Set(mappings.map(\.wire)).count == mappings.count, Set(mappings.map(\.column)).count == mappings.count else {
            throw refuse("a column is given twice")
        }
        var columns: [Column] = []
        for mapping in mappings {
            guard let column = shape.column(mapping.column) else { throw refuse("it has no column '\(mapping.column)'") }
            guard !column.isGenerated else { throw refuse("column '\(mapping.column)' is computed by the database: leave it out") }
            columns.append(Column(wire: mapping.wire, name: mapping.column, kind: column.kind, isNullable: column.isNullable))
        }
        // One row with two names would be two entities, and a way around the check of who may change it.
        if parentKey == nil, let column = columns.prefix(mapping.key.count).first(where: { !$0.kind.isWrittenInOneWay }) {
            throw refuse("key column '\(column.name)' must be an integer, a text or a date: the same value of another kind can be written in several ways")
        }
        if parentKey == nil, !definition.route.isScopedByHome,
            let column = mapping.key.compactMap({ shape.column($0.column) }).first(where: \.comparesLoosely)
        {
            throw refuse(
                "key column '\(column.name)' has a collation that takes different texts for equal, so one branch's entity could overwrite "
                    + "another's: alter it to a _bin collation, such as utf8mb4_bin")
        }
        let mappedKey = Set(mapping.key.map(\.column) + [mapping.originColumn].compactMap { $0 })
        guard mappedKey == Set(shape.primaryKey) else {
            throw refuse(
                "its primary key is (\(shape.primaryKey.joined(separator: ", "))), but the mapping has (\(mappedKey.sorted().joined(separator: ", ")))"
                    + (mapping.originColumn == nil ? "" : ", with the origin column"))
        }
        try Self.checkOrigin(mapping, shape, definition, originOfParent: parentKey == nil ? nil : originOfParent, refuse: refuse)
        for name in mapping.constants.keys where shape.column(name) == nil { throw refuse("it has no column '\(name)' for the constant") }
        let written = Set(mappings.map(\.column)).union(mapping.constants.keys).union([mapping.originColumn].compactMap { $0 })
        if let missing = shape.columns.first(where: { !written.contains($0.name) && !$0.hasDefault && !$0.isGenerated }) {
            throw refuse("column '\(missing.name)' must be given a value: map it, give it a default or a constant")
        }
        var parentPositions: [Int] = []
        for wire in parentKey ?? [] {
            guard let position = columns.firstIndex(where: { $0.wire == wire }) else {
                throw refuse("parent_key names '\(wire)', which is not among its columns")
            }
            parentPositions.append(position)
        }
        self.table = mapping.table
        self.columns = columns
        self.keyCount = mapping.key.count
        self.originColumn = mapping.originColumn
        self.parentPositions = parentPositions
        self.constants = mapping.constants.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        self.positions = Dictionary(uniqueKeysWithValues: columns.enumerated().map { ($0.element.wire, $0.offset) })
        self.dialect = dialect
    }

    private static func checkOrigin(
        _ mapping: TableMapping, _ shape: TableShape, _ definition: BusinessTypeDefinition, originOfParent: Bool?,
        refuse: (String) -> DataSyncError
    ) throws(DataSyncError) {
        if let originOfParent, originOfParent != (mapping.originColumn != nil) {
            throw refuse("either both the root table and its children have an origin column or none of them")
        }
        guard let name = mapping.originColumn else { return }
        guard let column = shape.column(name) else { throw refuse("it has no column '\(name)' for the origin") }
        guard case .integer(let min, let max) = column.kind, min <= 0, max >= 127 else {
            throw refuse("the origin column '\(name)' must be an integer")
        }
        guard definition.route.isScopedByHome else {
            throw refuse("an origin column belongs to the routes up, origin and target: with '\(definition.route.rawValue)' names are unique everywhere")
        }
    }

    /// What an operator should know, and what still works.
    static func warnings(_ mapping: TableMapping, shape: TableShape, parentColumns: [String]) -> [String] {
        var warnings: [String] = []
        for key in mapping.key {
            if let column = shape.column(key.column), column.comparesLoosely {
                warnings.append(
                    "table '\(mapping.table)': key column '\(key.column)' has a collation that takes different texts for equal; "
                        + "DataSync takes them for different entities. A _bin collation is safe")
            }
        }
        let needed = Set(parentColumns + [mapping.originColumn].compactMap { $0 })
        if !parentColumns.isEmpty, !shape.indexes.contains(where: { Set($0.prefix(needed.count)) == needed }) {
            warnings.append(
                "table '\(mapping.table)': no index begins with (\(parentColumns.joined(separator: ", "))): every change of a parent will read the whole table")
        }
        return warnings
    }

    // MARK: - Reading a row

    /// Reads the next object as a row of this table: its columns, and what `other` takes of what is no column.
    /// - Returns: Values in the order of `columns`; the value of the origin column, if it stands there.
    /// - Parameter keyOnly: For a deletion: the key columns are all that may stand there.
    func readRow(
        _ reader: inout JSONReader, keyOnly: Bool = false, other: (inout JSONReader, String) throws -> Bool
    ) throws -> (values: [SQLValue], origin: Int64?) {
        let count = keyOnly ? self.keyCount : self.columns.count
        var values = [SQLValue](repeating: .null, count: count)
        var seen = [Bool](repeating: false, count: count)
        var origin: Int64?
        var next = 0
        try reader.readObject { reader, name in
            // Writers keep the order of the columns: mostly the next one is meant.
            let position = next < count && self.columns[next].wire == name ? next : self.positions[name].flatMap { $0 < count ? $0 : nil }
            guard let position else {
                if name == self.originColumn, origin == nil {
                    origin = try reader.readInteger()
                } else if try !other(&reader, name) {
                    throw RecordFault.refused(
                        .unknownColumn,
                        detail: keyOnly
                            ? "a deletion from \(self.table) names its key columns alone, not '\(name.prefix(64))'"
                            : "\(self.table) has no column '\(name.prefix(64))' in its mapping")
                }
                return
            }
            guard !seen[position] else { throw RecordFault.refused(.malformed, detail: "\(name) is given twice") }
            seen[position] = true
            next = position + 1
            let column = self.columns[position]
            values[position] = try column.kind.read(&reader, column: column.name, isNullable: column.isNullable)
            if self.dialect.isSQLite, values[position].holdsNUL {
                throw RecordFault.refused(.badCharacter, detail: "\(column.name) must not hold the character NUL")
            }
        }
        if let missing = seen.firstIndex(of: false) {
            throw RecordFault.refused(.missingColumn, detail: "\(self.columns[missing].wire) is missing")
        }
        return (values, origin)
    }

    // MARK: - Statements

    /// A name from the configuration that was found in the catalogue, quoted all the same.
    static func quoted(_ name: String) -> String { "`\(name.replacing("`", with: "``"))`" }

    private var allColumns: [String] {
        self.columns.map(\.name) + [self.originColumn].compactMap { $0 } + self.constants.map(\.column)
    }

    /// An insert of rows, which replaces those that exist if `replacing` says so.
    func insertBatch(replacing: Bool, rows: Int) -> SQLBatch {
        let columns = self.allColumns.map(Self.quoted)
        let key = (self.columns.prefix(self.keyCount).map(\.name) + [self.originColumn].compactMap { $0 }).map(Self.quoted)
        let tail = replacing ? self.dialect.upsertTail(key: key, replacing: columns.filter { !key.contains($0) }) : ""
        return SQLBatch(insertInto: Self.quoted(self.table), columns: columns, tail: tail, reservingRows: rows)
    }

    /// Adds one row to an `insertBatch`.
    func append(_ values: ArraySlice<SQLValue>, scope: ServerID, to batch: inout SQLBatch) {
        batch.appendRow { row in
            row.append(contentsOf: values)
            if self.originColumn != nil { row.append(.int(scope.rawValue)) }
            for constant in self.constants { row.append(.text(constant.value)) }
        }
    }

    /// A deletion of rows by the columns at `positions`, and by their home where the table has an origin column.
    func deleteBatch(by positions: some Collection<Int>) -> SQLBatch {
        let columns = positions.map { self.columns[$0].name } + [self.originColumn].compactMap { $0 }
        let condition = columns.map { "\(Self.quoted($0)) = ?" }.joined(separator: " and ")
        return SQLBatch(each: "delete from \(Self.quoted(self.table)) where \(condition)", arity: columns.count)
    }

    /// Adds one row's key to a `deleteBatch`.
    func appendKey(_ values: ArraySlice<SQLValue>, scope: ServerID, to batch: inout SQLBatch) {
        batch.appendRow { row in
            row.append(contentsOf: values)
            if self.originColumn != nil { row.append(.int(scope.rawValue)) }
        }
    }
}
