import DataSync
import DataSyncSQL
import Yams

/// The part of a configuration file that says which business types there are and which tables they map to.
///
/// ```yaml
/// types:
///   - id: 2
///     name: order
///     priority: 20
///     route: origin
///     tables:
///       - table: orders
///         key: [basket_id]
///         columns: [household_id, ordered_at, total]
///         origin: branch_id
///       - table: order_lines
///         as: lines
///         key: [basket_id, line]
///         columns: [product_id, quantity]
///         parent_key: {basket_id: basket_id}
///         origin: branch_id
/// ```
enum TypesFile {
    static func mappings(_ node: Node, path: String) throws(DataSyncError) -> [TypeMapping] {
        // `types:` with nothing behind it.
        if let scalar = node.scalar, scalar.string.isEmpty || scalar.string == "~" || scalar.string == "null" { return [] }
        guard case .sequence(let sequence) = node else { throw self.failure(node, path, "'types' must be a list") }
        var mappings: [TypeMapping] = []
        for element in sequence { mappings.append(try self.mapping(element, path)) }
        return mappings
    }

    private static func failure(_ node: Node, _ path: String, _ message: String) -> DataSyncError {
        ConfigurationFile.failure("\(path):\(ConfigurationFile.line(node)): \(message)")
    }

    /// A mapping of words to values, in which nothing unknown stands.
    private struct Fields {
        let node: Node
        let path: String
        private var values: [String: Node] = [:]

        init(_ node: Node, _ path: String, _ what: String, known: Set<String>) throws(DataSyncError) {
            self.node = node
            self.path = path
            guard case .mapping(let mapping) = node else { throw failure(node, path, "\(what) must be a mapping") }
            for (key, value) in mapping {
                guard let name = key.string, known.contains(name) else {
                    throw failure(key, path, "unknown key '\(key.string ?? "")' in \(what): known are \(known.sorted().joined(separator: ", "))")
                }
                self.values[name] = value
            }
        }

        subscript(name: String) -> Node? { self.values[name] }

        func required(_ name: String) throws(DataSyncError) -> Node {
            guard let node = self.values[name] else { throw failure(self.node, self.path, "'\(name)' is missing") }
            return node
        }

        func text(_ name: String) throws(DataSyncError) -> String {
            let node = try self.required(name)
            guard let text = node.scalar?.string, !text.isEmpty else { throw failure(node, self.path, "'\(name)' must be a word") }
            return text
        }

        func integer(_ name: String) throws(DataSyncError) -> Int32 {
            let node = try self.required(name)
            guard let value = node.scalar.flatMap({ Int32($0.string) }) else { throw failure(node, self.path, "'\(name)' must be a whole number") }
            return value
        }
    }

    private static func mapping(_ node: Node, _ path: String) throws(DataSyncError) -> TypeMapping {
        let fields = try Fields(node, path, "a type", known: ["id", "name", "priority", "route", "targets", "tables"])
        let (route, sharedField) = try self.route(try fields.required("route"), path)
        let definition = BusinessTypeDefinition(
            id: BusinessTypeID(rawValue: try fields.integer("id")), name: try fields.text("name"),
            priority: Int(try fields.integer("priority")), route: route, targets: try self.targets(fields["targets"], route, path))
        do { try definition.validate() } catch { throw self.failure(node, path, error.detail ?? "") }
        let tablesNode = try fields.required("tables")
        guard case .sequence(let tables) = tablesNode, let first = tables.first else {
            throw self.failure(tablesNode, path, "'tables' must be a list with at least one table")
        }
        let root = try self.table(first, path, isChild: false)
        var children: [ChildMapping] = []
        for child in tables.dropFirst() {
            let (table, fields) = try self.table(child, path, isChild: true)
            let keyNode = try fields.required("parent_key")
            guard case .mapping(let pairs) = keyNode else {
                throw self.failure(keyNode, path, "'parent_key' must say which column repeats which key column of the first table: {order_id: id}")
            }
            var parentKey: [String: String] = [:]
            for (column, parent) in pairs {
                guard let column = column.string, let parent = parent.string else { throw self.failure(keyNode, path, "'parent_key' must be of words") }
                parentKey[column] = parent
            }
            children.append(ChildMapping(wire: try fields["as"] == nil ? table.table : fields.text("as"), table: table, parentKey: parentKey))
        }
        return TypeMapping(definition: definition, sharedField: sharedField, root: root.mapping, children: children)
    }

    private static func route(_ node: Node, _ path: String) throws(DataSyncError) -> (RouteKind, String?) {
        let text = node.scalar?.string ?? ""
        if text.hasPrefix("shared("), text.hasSuffix(")") {
            let field = text.dropFirst("shared(".count).dropLast().trimmingSpaces
            if !field.isEmpty { return (.shared, field) }
        } else if let route = RouteKind(rawValue: text), route != .shared {
            return (route, nil)
        }
        throw self.failure(node, path, "the route '\(text)' is none of up, origin, all, target and shared(column)")
    }

    private static func targets(_ node: Node?, _ route: RouteKind, _ path: String) throws(DataSyncError) -> TargetRule {
        guard let node else { return .anyServer }
        guard route == .target else { throw self.failure(node, path, "'targets' belongs to the route target") }
        if node.scalar?.string == "any" { return .anyServer }
        guard case .sequence(let list) = node else { throw self.failure(node, path, "'targets' must be any, or a list of server ids") }
        var servers: Set<ServerID> = []
        for element in list {
            guard let id = element.scalar.flatMap({ Int32($0.string) }), id >= 0 else {
                throw self.failure(element, path, "a target must be a server's id; 0 is the cloud")
            }
            servers.insert(ServerID(rawValue: id))
        }
        return .servers(servers)
    }

    private static func table(_ node: Node, _ path: String, isChild: Bool) throws(DataSyncError) -> (mapping: TableMapping, fields: Fields) {
        let common: Set<String> = ["table", "key", "columns", "origin", "constants"]
        let fields = try Fields(node, path, isChild ? "a child table" : "a table", known: isChild ? common.union(["as", "parent_key"]) : common)
        var constants: [String: String] = [:]
        if let constantsNode = fields["constants"] {
            guard case .mapping(let pairs) = constantsNode else {
                throw self.failure(constantsNode, path, "'constants' must be a mapping of columns to values")
            }
            for (column, value) in pairs {
                guard let column = column.string, let value = value.scalar?.string else {
                    throw self.failure(constantsNode, path, "'constants' must be a mapping of columns to values")
                }
                constants[column] = value
            }
        }
        let mapping = TableMapping(
            table: try fields.text("table"), key: try self.columns(try fields.required("key"), path),
            columns: try fields["columns"].map { (node) throws(DataSyncError) in try self.columns(node, path) } ?? [],
            originColumn: try fields["origin"] == nil ? nil : fields.text("origin"), constants: constants)
        return (mapping, fields)
    }

    /// Columns by name, or as `{name in the payload: column}` where this side calls it something else.
    private static func columns(_ node: Node, _ path: String) throws(DataSyncError) -> [ColumnMapping] {
        guard case .sequence(let list) = node else { throw self.failure(node, path, "columns must be a list") }
        var columns: [ColumnMapping] = []
        for element in list {
            if let name = element.scalar?.string, !name.isEmpty {
                columns.append(ColumnMapping(name))
            } else if case .mapping(let pairs) = element, pairs.count == 1, let pair = pairs.first, let wire = pair.key.string,
                let column = pair.value.scalar?.string
            {
                columns.append(ColumnMapping(wire: wire, column: column))
            } else {
                throw self.failure(element, path, "a column must be a name, or {name in the payload: column here}")
            }
        }
        return columns
    }
}
