import DataSync
package import DataSyncSQL

/// `types draft`: the YAML for tables that exist, so that nobody types forty of them.
package enum TypeDraft {
    /// - Parameters:
    ///   - tables: Names; empty for all of the application's tables.
    ///   - isCloud: At the cloud a table whose key begins with a branch's id gets it as its origin column.
    /// - Throws: `notFound` for a table that is not there.
    package static func draft(_ tables: [String], isCloud: Bool, in storage: SQLStorage) async throws -> String {
        let shapes = try await storage.withTransaction(.snapshot) { transaction in
            var shapes: [TableShape] = []
            let names = try await tables.isEmpty ? transaction.businessTables() : tables
            for name in names {
                guard let shape = try await transaction.shape(of: name) else {
                    throw DataSyncError(.notFound, operation: "draft", detail: "there is no table '\(name)' in this database")
                }
                shapes.append(shape)
            }
            return shapes
        }
        // A table is a child of another one here whose whole key is repeated in its own.
        var children: [String: [(TableShape, TableShape.ForeignKey)]] = [:]
        var childNames: Set<String> = []
        for shape in shapes {
            let parent = shape.foreignKeys.first { key in
                key.table != shape.name && shapes.contains { $0.name == key.table && Set($0.primaryKey) == Set(key.referencedColumns) }
                    && Set(key.columns).isSubset(of: shape.primaryKey) && key.columns.count < shape.primaryKey.count
            }
            if let parent {
                children[parent.table, default: []].append((shape, parent))
                childNames.insert(shape.name)
            }
        }
        var lines = ["types:"]
        for (index, shape) in shapes.filter({ !childNames.contains($0.name) }).enumerated() {
            lines += self.type(shape, children: children[shape.name] ?? [], number: index + 1, isCloud: isCloud)
        }
        return lines.joined(separator: "\n")
    }

    private static let originNames: Set<String> = ["branch_id", "store_id", "origin_id", "shop_id", "server_id"]

    private static func type(
        _ shape: TableShape, children: [(TableShape, TableShape.ForeignKey)], number: Int, isCloud: Bool
    ) -> [String] {
        let origin = isCloud && shape.primaryKey.count > 1 ? shape.primaryKey.first { self.originNames.contains($0) } : nil
        let hasFlag = shape.columns.first { ["shared", "is_shared"].contains($0.name) }
        var lines = [
            "  - id: \(number)                   # the same at the cloud and at every branch; never used again",
            "    name: \(self.typeName(shape.name))",
            "    priority: \(number * 10)             # the smaller goes first; what others depend on should be smaller",
            hasFlag.map { "    route: shared(\($0.name))    # or up, origin, all, target" }
                ?? "    route: origin           # or up, all, target, shared(column)",
            "    tables:",
        ]
        lines += self.table(shape, origin: origin, extra: [])
        for (child, key) in children {
            let childOrigin = origin.flatMap { origin in zip(key.columns, key.referencedColumns).first { $0.1 == origin }?.0 }
            let pairs = zip(key.columns, key.referencedColumns).filter { $0.1 != origin }.map { "\($0): \($1)" }.joined(separator: ", ")
            lines += self.table(child, origin: childOrigin, extra: ["parent_key: {\(pairs)}"])
        }
        return lines
    }

    private static func table(_ shape: TableShape, origin: String?, extra: [String]) -> [String] {
        func problem(_ text: String) -> String { "      # \(shape.name): \(text)" }
        var lines: [String] = []
        if shape.primaryKey.isEmpty { lines.append(problem("has no primary key, and cannot be mapped without one")) }
        if !shape.otherUniqueKeys.isEmpty { lines.append(problem("has a second unique key, and cannot be mapped with it")) }
        if !shape.isTransactional { lines.append(problem("has an engine without transactions, and cannot be mapped with it")) }
        let columns = shape.columns.filter { !$0.isGenerated && !shape.primaryKey.contains($0.name) }.map(\.name)
        lines.append("      - table: \(shape.name)")
        lines.append("        key: [\(shape.primaryKey.filter { $0 != origin }.joined(separator: ", "))]")
        if !columns.isEmpty { lines.append("        columns: [\(columns.joined(separator: ", "))]") }
        if let origin { lines.append("        origin: \(origin)       # receives the id of the branch that a row is from") }
        return lines + extra.map { "        \($0)" }
    }

    /// `members` becomes `member`; the name is also what begins the name of an entity.
    private static func typeName(_ table: String) -> String {
        let plain = table.lowercased().map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") ? $0 : "_" }
        let name = String(plain)
        return name.hasSuffix("ss") || !name.hasSuffix("s") || name.count < 3 ? name : String(name.dropLast())
    }
}
