public import DataSync

/// A business type whose records are rows of tables: useful without a line of Swift.
///
/// Every name in its statements comes from the configuration and was found in the database's catalogue; every value is
/// bound. A payload is checked against the real columns before a transaction is begun.
public struct MappedType: RecordHandler {
    public typealias Transaction = SQLTransaction

    public let definition: BusinessTypeDefinition
    /// What works, but should be known. For the operator, in whole sentences.
    public let warnings: [String]
    let mapping: TypeMapping
    let root: MappedTable
    let children: [Child]
    private let sharedPosition: Int?

    struct Child: Sendable {
        var wire: String
        var table: MappedTable
    }

    /// What a payload says, as values for the columns.
    private struct Content: Sendable {
        /// In the order of the root's columns; of a deletion the key alone.
        var root: [SQLValue]
        /// For each child table, the values of its rows one after the other.
        var children: [[SQLValue]]
    }

    /// Compares `mapping` with the tables that `transaction` reaches.
    /// - Throws: `invalidConfiguration`, saying what does not fit and what to do.
    public init(_ mapping: TypeMapping, in transaction: SQLTransaction) async throws {
        let definition = mapping.definition
        func refuse(_ message: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "types", detail: "type \(definition.id) '\(definition.name)': \(message)")
        }
        try definition.validate()
        guard definition.kind == .state else { throw refuse("mapped tables hold states") }
        guard (definition.route == .shared) == (mapping.sharedField != nil) else {
            throw refuse("the route must be written shared(column)")
        }
        let dialect = transaction.dialect
        let shape = try await transaction.shape(of: mapping.root.table)
        let root = try MappedTable(mapping.root, shape: shape, definition: definition, dialect: dialect)
        var warnings = shape.map { MappedTable.warnings(mapping.root, shape: $0, parentColumns: []) } ?? []
        var children: [Child] = []
        for child in mapping.children {
            let parentKey = try mapping.root.key.map { key in
                guard let wire = child.parentKey.first(where: { $0.value == key.wire })?.key else {
                    throw refuse("table '\(child.table.table)': parent_key does not say which column repeats '\(key.wire)'")
                }
                return wire
            }
            guard child.parentKey.count == parentKey.count else {
                throw refuse("table '\(child.table.table)': parent_key names columns that are not in the root's key")
            }
            let shape = try await transaction.shape(of: child.table.table)
            let table = try MappedTable(
                child.table, shape: shape, definition: definition, parentKey: parentKey,
                originOfParent: mapping.root.originColumn != nil, dialect: dialect)
            guard !root.columns.contains(where: { $0.wire == child.wire }), !children.contains(where: { $0.wire == child.wire }) else {
                throw refuse("'\(child.wire)' names two things in the payload")
            }
            if let shape {
                warnings += MappedTable.warnings(
                    child.table, shape: shape, parentColumns: table.parentPositions.map { table.columns[$0].name })
            }
            children.append(Child(wire: child.wire, table: table))
        }
        var sharedPosition: Int?
        if let field = mapping.sharedField {
            guard let position = root.columns.firstIndex(where: { $0.wire == field }), case .integer = root.columns[position].kind else {
                throw refuse("the route names '\(field)', which is no integer column of the root table")
            }
            sharedPosition = position
        }
        self.definition = definition
        self.warnings = warnings
        self.mapping = mapping
        self.root = root
        self.children = children
        self.sharedPosition = sharedPosition
    }

    /// The tables that records of this type are written to.
    public var tables: [String] { [self.root.table] + self.children.map(\.table.table) }

    // MARK: - Reading a payload

    public func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        let read: (verb: PayloadVerb, content: Content, origin: Int64?)
        do { read = try self.read(record.payload) } catch let fault as RecordFault { throw fault } catch {
            throw .refused(.malformed, detail: "data_detail: \(error)")
        }
        let home = try self.scope(scope, origin: read.origin)
        let key = self.mapping.entityKey(try read.content.root.prefix(self.root.keyCount).map(Self.keyText(isOnly: self.root.keyCount == 1)))
        // What the key columns say is what is changed; a record must not claim to be about another entity.
        guard key == record.key else { throw .refused(.forbidden, detail: nil) }
        var isShared = false
        if read.verb == .upsert, let position = self.sharedPosition, case .int(let value) = read.content.root[position] { isShared = value != 0 }
        return PreparedRecord(
            record: record, scope: home, isDeletion: read.verb == .delete, isShared: isShared, content: read.content)
    }

    public func inspect(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        switch self.definition.route {
        // The payload names the home, or says whether the record is shared.
        case .origin, .shared: return try self.prepare(record, scope: scope)
        // It is not read on its way through: whoever applies it will.
        case .all, .target, .up:
            let verb = try PayloadVerb(beginningOf: record.payload)
            guard verb != .act else { throw .refused(.malformed, detail: "data_detail: 'act' does not fit mapped tables") }
            let home: ServerID = self.definition.route.isScopedByHome ? scope ?? .cloud : .cloud
            return PreparedRecord(record: record, scope: home, isDeletion: verb == .delete, isShared: false, content: ())
        }
    }

    /// Whose entity it is: whom the transport says, or whom the payload's origin column says, and both the same.
    private func scope(_ scope: ServerID?, origin: Int64?) throws(RecordFault) -> ServerID {
        guard self.definition.route.isScopedByHome else { return .cloud }
        guard let origin else {
            guard let scope else { throw .refused(.noTarget, detail: "data_to_server_id must name the home of the entity") }
            return scope
        }
        guard let named = Int32(exactly: origin).map(ServerID.init(rawValue:)), named.isBranch || named == scope else {
            throw .refused(.forbidden, detail: nil)
        }
        guard scope == nil || scope == named else { throw .refused(.forbidden, detail: nil) }
        return named
    }

    private func read(_ payload: String) throws -> (verb: PayloadVerb, content: Content, origin: Int64?) {
        var found: (PayloadVerb, Content, Int64?)?
        try JSONReader.read(payload) { reader in
            try reader.readObject { reader, name in
                guard found == nil, let verb = PayloadVerb(rawValue: name), verb != .act else {
                    throw PayloadEnvelope.shapeFailure(reader)
                }
                found = verb == .upsert ? try self.readUpsert(&reader) : try self.readDelete(&reader)
            }
            guard found != nil else { throw PayloadEnvelope.shapeFailure(reader) }
        }
        return found!
    }

    private func readDelete(_ reader: inout JSONReader) throws -> (PayloadVerb, Content, Int64?) {
        let row = try self.root.readRow(&reader, keyOnly: true) { _, _ in false }
        return (.delete, Content(root: row.values, children: []), row.origin)
    }

    private func readUpsert(_ reader: inout JSONReader) throws -> (PayloadVerb, Content, Int64?) {
        var children = [[SQLValue]?](repeating: nil, count: self.children.count)
        var childOrigins: Set<Int64> = []
        let row = try self.root.readRow(&reader) { reader, name in
            guard let index = self.children.firstIndex(where: { $0.wire == name }) else { return false }
            guard children[index] == nil else { throw RecordFault.refused(.malformed, detail: "\(name) is given twice") }
            var values: [SQLValue] = []
            try reader.readArray { reader in
                let row = try self.children[index].table.readRow(&reader) { _, _ in false }
                values += row.values
                if let origin = row.origin { childOrigins.insert(origin) }
            }
            children[index] = values
            return true
        }
        for (child, values) in zip(self.children, children) where values == nil {
            throw RecordFault.refused(.missingColumn, detail: "\(child.wire) is missing: an upsert replaces all of its rows")
        }
        let content = Content(root: row.values, children: children.map { $0 ?? [] })
        guard childOrigins.isEmpty || childOrigins == [row.origin] else { throw RecordFault.refused(.forbidden, detail: nil) }
        try self.checkParents(content)
        return (.upsert, content, row.origin)
    }

    /// A child row that belongs to another parent would be a way to change that parent's entity.
    private func checkParents(_ content: Content) throws(RecordFault) {
        let key = content.root.prefix(self.root.keyCount)
        for (child, values) in zip(self.children, content.children) {
            for start in stride(from: 0, to: values.count, by: child.table.columnCount) {
                for (position, value) in zip(child.table.parentPositions, key) where values[start + position] != value {
                    throw .refused(.forbidden, detail: nil)
                }
            }
        }
    }

    /// A key value as it stands in the name of the entity.
    private static func keyText(isOnly: Bool) -> (SQLValue) throws(RecordFault) -> String {
        { (value) throws(RecordFault) in
            switch value {
            case .int(let number): return String(number)
            case .text(let text):
                // Else ("a:b", "c") and ("a", "b:c") would be one entity.
                guard isOnly || !text.utf8.contains(UInt8(ascii: ":")) else {
                    throw .refused(.malformed, detail: "a value of a key of several columns must not contain ':'")
                }
                // Most collations, and every char column, take "a" and "a " for equal: two entities would be one row.
                guard text.utf8.last != UInt8(ascii: " ") else {
                    throw .refused(.malformed, detail: "a key value must not end in a space")
                }
                return text
            case .null, .double, .bytes: throw .refused(.malformed, detail: "a key value must be a number or a text")
            }
        }
    }

    // MARK: - Applying

    public func apply(_ records: [PreparedRecord], in transaction: SQLTransaction) async throws {
        // In the order of the stream, which is mostly that of the keys. Nobody can meet these rows in another order: whoever
        // of DataSync writes them has locked their entities.
        var (deletions, upserts): ([Row], [Row]) = ([], [])
        upserts.reserveCapacity(records.count)
        for prepared in records {
            guard let content = prepared.content as? Content else {
                preconditionFailure("a record of type \(self.definition.id) was prepared by another handler")
            }
            if prepared.isDeletion {
                deletions.append(Row(scope: prepared.scope, content: content))
            } else {
                upserts.append(Row(scope: prepared.scope, content: content))
            }
        }
        try await self.delete(deletions, in: transaction)
        try await self.upsert(upserts, in: transaction)
    }

    private struct Row {
        var scope: ServerID
        var content: Content
    }

    private func upsert(_ records: [Row], in transaction: SQLTransaction) async throws {
        guard !records.isEmpty else { return }
        var roots = self.root.insertBatch(replacing: true, rows: records.count)
        for record in records { self.root.append(record.content.root[...], scope: record.scope, to: &roots) }
        try await transaction.execute(roots)
        for (index, child) in self.children.enumerated() {
            try await self.deleteChildren(child, of: records, in: transaction)
            let count = child.table.columnCount
            var rows = child.table.insertBatch(
                replacing: false, rows: records.reduce(0) { $0 + $1.content.children[index].count / count })
            for record in records {
                let values = record.content.children[index]
                for start in stride(from: 0, to: values.count, by: count) {
                    child.table.append(values[start..<start + count], scope: record.scope, to: &rows)
                }
            }
            try await transaction.execute(rows)
        }
    }

    private func delete(_ records: [Row], in transaction: SQLTransaction) async throws {
        guard !records.isEmpty else { return }
        for child in self.children { try await self.deleteChildren(child, of: records, in: transaction) }
        var batch = self.root.deleteBatch(by: 0..<self.root.keyCount)
        for record in records { self.root.appendKey(record.content.root.prefix(self.root.keyCount), scope: record.scope, to: &batch) }
        try await transaction.execute(batch)
    }

    private func deleteChildren(
        _ child: Child, of records: [Row], in transaction: SQLTransaction
    ) async throws {
        var batch = child.table.deleteBatch(by: child.table.parentPositions)
        for record in records {
            child.table.appendKey(record.content.root.prefix(self.root.keyCount), scope: record.scope, to: &batch)
        }
        try await transaction.execute(batch)
    }
}
