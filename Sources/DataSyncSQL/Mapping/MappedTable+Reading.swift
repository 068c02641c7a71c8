import DataSync

// Reading rows back, as payloads hold them.
extension MappedTable {
    /// A row that was read back.
    struct ReadRow {
        /// In the order of the columns.
        var values: [SQLValue]
        /// By the names of the wire, in their order: the same on every side.
        var members: [(name: String, value: PayloadValue)]

        /// The JSON object, open at its end.
        var openObject: String {
            "{" + self.members.map { "\(PayloadMember.key($0.name))\($0.value.json)" }.joined(separator: ",")
        }
    }

    /// The rows whose columns at `positions` have one of `keys`, of one home where the table has an origin column.
    func rows(
        by positions: [Int], keys: [[SQLValue]], scope: ServerID, locking: Bool, in transaction: SQLTransaction
    ) async throws -> [ReadRow] {
        guard !keys.isEmpty else { return [] }
        let columns = self.columns.map { Self.quoted($0.name) }.joined(separator: ", ")
        let names = positions.map { Self.quoted(self.columns[$0].name) }
        var values: [SQLValue] = []
        var condition = ""
        if let originColumn {
            condition = "\(Self.quoted(originColumn)) = ? and "
            values.append(.int(scope.rawValue))
        }
        // As many placeholders as the next power of two has, so that few different statements are prepared.
        let count = SQLDialect.listSize(keys.count)
        let padded = keys + Array(repeating: keys[keys.count - 1], count: count - keys.count)
        if names.count == 1 {
            condition += "\(names[0]) in (\(SQLDialect.placeholders(count)))"
        } else {
            // Not a list of tuples: not every version of every server looks those up in an index.
            let one = "(" + names.map { "\($0) = ?" }.joined(separator: " and ") + ")"
            condition += "(" + Array(repeating: one, count: count).joined(separator: " or ") + ")"
        }
        values += padded.flatMap { $0 }
        let sql = "select \(columns) from \(Self.quoted(self.table)) where \(condition)" + (locking ? transaction.dialect.forUpdate : "")
        return try await transaction.query(sql, values).map { row in
            let values = (0..<row.count).map { row[$0] }
            let members = zip(self.columns, values).map { (name: $0.wire, value: $0.kind.payloadValue(of: $1)) }
            return ReadRow(values: values, members: members.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) })
        }
    }
}

enum PayloadMember {
    /// The name of a member, with its colon.
    static func key(_ name: String) -> String {
        var writer = JSONWriter()
        writer.key(name)
        return writer.text
    }
}
