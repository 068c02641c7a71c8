public import DataSync

/// How the records of one business type map to tables of this side: what a configuration file says, before it is compared
/// with the tables.
///
/// A payload uses the names of the wire; each side says which of its own columns they are. One row of the root table is
/// one entity; its rows of the child tables come with it, as arrays under the child's name:
///
/// ```json
/// {"upsert": {"id": 17, "store": 3, "total": "23.50", "lines": [{"order": 17, "line": 1, "product": 844165}]}}
/// ```
public struct TypeMapping: Hashable, Sendable {
    public var definition: BusinessTypeDefinition
    /// For the route `shared`: the root column, by its name on the wire, that says so.
    public var sharedField: String?
    public var root: TableMapping
    public var children: [ChildMapping]

    public init(
        definition: BusinessTypeDefinition, sharedField: String? = nil, root: TableMapping, children: [ChildMapping] = []
    ) {
        self.definition = definition
        self.sharedField = sharedField
        self.root = root
        self.children = children
    }

    /// The name of the entity with these key values: the type's name and the values, such as `order:17`.
    func entityKey(_ values: [String]) -> EntityKey { EntityKey(([self.definition.name] + values).joined(separator: ":")) }
}

public struct TableMapping: Hashable, Sendable {
    public var table: String
    /// In the order of the entity's name.
    public var key: [ColumnMapping]
    public var columns: [ColumnMapping]
    /// The column that receives the id of the entity's home. Part of the primary key: branches count alike.
    public var originColumn: String?
    /// Columns of this side that always get the same value.
    public var constants: [String: String]

    public init(
        table: String, key: [ColumnMapping], columns: [ColumnMapping], originColumn: String? = nil,
        constants: [String: String] = [:]
    ) {
        self.table = table
        self.key = key
        self.columns = columns
        self.originColumn = originColumn
        self.constants = constants
    }
}

public struct ColumnMapping: Hashable, Sendable {
    /// In the payload.
    public var wire: String
    /// In this side's table.
    public var column: String

    public init(wire: String, column: String) {
        self.wire = wire
        self.column = column
    }

    public init(_ name: String) { self.init(wire: name, column: name) }
}

public struct ChildMapping: Hashable, Sendable {
    /// The member of the payload that holds the rows.
    public var wire: String
    public var table: TableMapping
    /// Which columns of the child, by their names on the wire, repeat which key columns of the root.
    public var parentKey: [String: String]

    public init(wire: String, table: TableMapping, parentKey: [String: String]) {
        self.wire = wire
        self.table = table
        self.parentKey = parentKey
    }
}
