public import DataSync

// What the tables hold, as payloads.
extension MappedType: StateReader {
    public var reader: (any StateReader<SQLTransaction>)? { self }

    public func payloads(of entities: [EntityID], locking: Bool, in transaction: SQLTransaction) async throws -> [EntityID: String] {
        var payloads: [EntityID: String] = [:]
        for (scope, entities) in Dictionary(grouping: entities, by: \.scope).sorted(by: { $0.key < $1.key }) {
            var names: [EntityKey: [SQLValue]] = [:]
            for entity in entities { names[entity.key] = self.keyValues(of: entity.key, in: transaction.dialect) }
            let keys = entities.compactMap { names[$0.key] }
            guard !keys.isEmpty else { continue }
            var texts: [EntityKey: String] = [:]
            for row in try await self.root.rows(by: Array(0..<self.root.keyCount), keys: keys, scope: scope, locking: locking, in: transaction) {
                // A collation may find rows whose key is not the one that was asked for.
                if let key = self.key(of: row.values.prefix(self.root.keyCount)), names[key] != nil { texts[key] = row.openObject }
            }
            for child in self.children {
                var lists: [EntityKey: [MappedTable.ReadRow]] = [:]
                for row in try await child.table.rows(by: child.table.parentPositions, keys: keys, scope: scope, locking: locking, in: transaction) {
                    if let key = self.key(of: child.table.parentPositions.map { row.values[$0] }) { lists[key, default: []].append(row) }
                }
                for key in texts.keys {
                    let rows = (lists[key] ?? []).sorted { Self.precedes($0.members, $1.members) }
                    texts[key]? += ",\(PayloadMember.key(child.wire))[" + rows.map { $0.openObject + "}" }.joined(separator: ",") + "]"
                }
            }
            for entity in entities { payloads[entity] = texts[entity.key].map { "{\"upsert\":\($0)}}" } }
        }
        return payloads
    }

    public func deletion(of entity: EntityID) -> String? {
        guard let values = self.keyValues(of: entity.key, in: nil) else { return nil }
        let members = zip(self.root.columns, values).map { "\(PayloadMember.key($0.wire))\($0.kind.payloadValue(of: $1).json)" }
        return "{\"delete\":{\(members.joined(separator: ","))}}"
    }

    /// The values of the root's key columns that make up this name; nil for a name that is none of this type's.
    private func keyValues(of key: EntityKey, in dialect: SQLDialect?) -> [SQLValue]? {
        let prefix = "\(self.definition.name):"
        guard key.text.utf8.starts(with: prefix.utf8) else { return nil }
        let rest = String(decoding: key.text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
        let parts = self.root.keyCount == 1 ? [rest] : rest.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == self.root.keyCount else { return nil }
        let values = zip(self.root.columns, parts).map { column, part -> SQLValue in
            guard case .integer = column.kind, let number = Int64(part) else { return .text(part) }
            return .int(number)
        }
        guard self.key(of: values[...]) == key, dialect?.isSQLite != true || !values.contains(where: \.holdsNUL) else { return nil }
        return values
    }

    /// The name of the entity with these key values; nil if there can be none.
    private func key(of values: some Sequence<SQLValue>) -> EntityKey? {
        let texts = values.map { value -> String? in
            switch value {
            case .int(let number): String(number)
            case .text(let text): text
            case .null, .double, .bytes: nil
            }
        }
        return texts.contains(nil) ? nil : self.mapping.entityKey(texts.compactMap { $0 })
    }

    /// Rows of a list in one order on every side: by their values in the order of the names, the shorter first, so that numbers are in theirs.
    private static func precedes(_ left: [(name: String, value: PayloadValue)], _ right: [(name: String, value: PayloadValue)]) -> Bool {
        for (left, right) in zip(left, right) where left.value.text != right.value.text {
            let (left, right) = (left.value.text.utf8, right.value.text.utf8)
            return left.count == right.count ? left.lexicographicallyPrecedes(right) : left.count < right.count
        }
        return false
    }
}
