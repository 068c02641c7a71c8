import DataSync
import DataSyncSQL
import Testing

/// What is found wrong with a mapping before anything is carried: in words that say what to do.
@Suite(.serialized) struct MappedRefusalTests {
    private static func mapping(
        table: String = "thing", key: [String] = ["id"], columns: [String] = ["name"], origin: String? = nil, route: RouteKind = .all,
        constants: [String: String] = [:], children: [ChildMapping] = []
    ) -> TypeMapping {
        TypeMapping(
            definition: BusinessTypeDefinition(id: 1, name: "thing", priority: 1, route: route),
            root: TableMapping(
                table: table, key: key.map { ColumnMapping($0) }, columns: columns.map { ColumnMapping($0) }, originColumn: origin, constants: constants),
            children: children)
    }

    @Test(arguments: TestDatabase.available)
    func tablesThatCannotCarryAMappingAreRefused(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run(
            "create table no_key (id bigint not null, name varchar(20))",
            "create table two_keys (id bigint not null primary key, name varchar(20) not null unique)",
            "create table thing (id bigint not null primary key, name varchar(20))",
            "create view a_view as select id, name from thing",
            "create table generated (id bigint not null primary key, name varchar(20), twice varchar(40) generated always as (name) stored)",
            "create table demanding (id bigint not null primary key, name varchar(20), must int not null)",
            "create table named (name varchar(20) not null, id bigint not null, primary key (name, id))",
            "create table pair (store int not null, id bigint not null, name varchar(20), primary key (store, id))")
        if !kind.isSQLite {
            try await bench.run("create table no_transactions (id bigint not null primary key, name varchar(20)) engine = MyISAM")
        }
        var cases: [(TypeMapping, String)] = [
            (Self.mapping(table: "nowhere"), "there is no such table"),
            (Self.mapping(table: "no_key"), "primary key"),
            (Self.mapping(table: "two_keys"), "unique key besides its primary key: (name)"),
            (Self.mapping(table: "generated", columns: ["name", "twice"]), "'twice' is computed by the database"),
            (Self.mapping(columns: ["name", "colour"]), "no column 'colour'"),
            (Self.mapping(key: ["name"], columns: ["id"]), "primary key is (id), but the mapping has (name)"),
            (Self.mapping(key: ["id", "name"], columns: []), "primary key is (id)"),
            (Self.mapping(table: "pair"), "primary key is (store, id)"),
            (Self.mapping(key: []), "no key columns"),
            (Self.mapping(columns: ["name", "name"]), "given twice"),
            (Self.mapping(table: "demanding"), "'must' must be given a value"),
            (Self.mapping(constants: ["colour": "red"]), "no column 'colour' for the constant"),
            (Self.mapping(table: "pair", origin: "store", route: .all), "routes up, origin and target"),
            (Self.mapping(table: "named", key: ["id"], columns: [], origin: "name", route: .origin), "origin column 'name' must be an integer"),
            (Self.mapping(route: .shared), "shared(column)"),
        ]
        if kind.isSQLite {
            cases.append((Self.mapping(table: "a_view"), "primary key"))
        } else {
            cases.append((Self.mapping(table: "a_view"), "there is no such table"))
            cases.append((Self.mapping(table: "no_transactions"), "InnoDB"))
        }
        for (mapping, words) in cases {
            let refusal = try await bench.refusal(of: mapping)
            #expect(refusal?.contains(words) == true, "\(mapping.root.table): \(refusal ?? "not refused")")
            #expect(refusal?.contains("type 1 'thing'") == true)
        }
        // What was wrong is right: nothing is refused for good measure.
        #expect(try await bench.refusal(of: Self.mapping()) == nil)
        #expect(try await bench.refusal(of: Self.mapping(table: "generated")) == nil)
        #expect(try await bench.refusal(of: Self.mapping(table: "demanding", constants: ["must": "1"])) == nil)
        #expect(try await bench.refusal(of: Self.mapping(table: "pair", origin: "store", route: .origin)) == nil)
    }

    /// A key that can be written in two ways would be two entities over one row: a way around the check of who may change it.
    @Test(arguments: TestDatabase.available, ["decimal(10,2)", "double", "datetime", "time", "varbinary(20)"])
    func aKeyThatCanBeSpelledInTwoWaysIsRefused(kind: TestDatabase, column: String) async throws {
        let bench = try await Bench(kind)
        try await bench.run("create table thing (id \(kind.isSQLite && column.hasPrefix("varb") ? "blob" : column) not null primary key, name varchar(20))")
        let refusal = try await bench.refusal(of: Self.mapping())
        #expect(refusal?.contains("key column 'id'") == true, "\(refusal ?? "not refused")")
    }

    @Test(arguments: TestDatabase.available)
    func childrenMustFitTheirParent(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run(
            "create table thing (id bigint not null primary key, name varchar(20))",
            "create table part (thing bigint not null, n int not null, name varchar(20), primary key (thing, n))",
            "create table part_keys (thing bigint not null, n int not null, name varchar(20) unique, primary key (thing, n))")
        func child(
            _ table: String = "part", wire: String = "parts", key: [String] = ["thing", "n"], parentKey: [String: String] = ["thing": "id"],
            origin: String? = nil
        ) -> ChildMapping {
            ChildMapping(
                wire: wire, table: TableMapping(table: table, key: key.map { ColumnMapping($0) }, columns: [ColumnMapping("name")], originColumn: origin),
                parentKey: parentKey)
        }
        let cases: [([ChildMapping], String)] = [
            ([child("nowhere")], "there is no such table"),
            ([child("part_keys")], "unique key"),
            ([child(parentKey: [:])], "parent_key does not say which column repeats 'id'"),
            ([child(parentKey: ["thing": "id", "n": "name"])], "not in the root's key"),
            ([child(parentKey: ["owner": "id"])], "parent_key names 'owner'"),
            ([child(wire: "name")], "'name' names two things"),
            ([child(), child()], "'parts' names two things"),
            ([child(origin: "name")], "origin column"),
        ]
        for (children, words) in cases {
            let refusal = try await bench.refusal(of: Self.mapping(children: children))
            #expect(refusal?.contains(words) == true, "\(words): \(refusal ?? "not refused")")
        }
        #expect(try await bench.refusal(of: Self.mapping(children: [child()])) == nil)
    }

    @Test func aConstraintThatOnlyTheCommitLooksAtIsRefused() async throws {
        let bench = try await Bench(.sqlite)
        try await bench.run(
            "create table thing (id integer primary key, name text)",
            "create table late (id integer primary key, name text, owner integer references other (id) DEFERRABLE INITIALLY\n DEFERRED)",
            "create table other (id integer primary key, name text)",
            "create table early (id integer primary key, name text, deferred_owner integer references thing (id) deferrable initially immediate)")
        for table in ["late", "other"] { #expect(try await bench.refusal(of: Self.mapping(table: table))?.contains("'late' is 'initially deferred'") == true) }
        for table in ["thing", "early"] { #expect(try await bench.refusal(of: Self.mapping(table: table)) == nil) }
    }

    @Test(arguments: TestDatabase.available)
    func anActionTypeCannotBeMapped(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run("create table thing (id bigint not null primary key, name varchar(20))")
        var mapping = Self.mapping()
        mapping.definition.kind = .action
        #expect(try await bench.refusal(of: mapping)?.contains("mapped tables hold states") == true)
    }

    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
    func aKeyThatComparesLooselyIsRefusedWhereItCouldBeAnothersAndElseWarnedAbout() async throws {
        let bench = try await Bench(.mariadb)
        try await bench.run(
            "create table thing (id varchar(20) collate utf8mb4_general_ci not null primary key, name varchar(20))",
            "create table exact (id varchar(20) collate utf8mb4_bin not null primary key, name varchar(20))")
        #expect(try await bench.refusal(of: Self.mapping())?.contains("'id' has a collation") == true)
        var own = Self.mapping()
        own.definition.route = .origin
        #expect(try await bench.type(own).warnings.contains { $0.contains("'id'") && $0.contains("collation") })
        #expect(try await bench.type(Self.mapping(table: "exact")).warnings.isEmpty)
    }

    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
    func aChildWithoutAnIndexForItsParentIsWarnedAbout() async throws {
        let bench = try await Bench(.mariadb)
        try await bench.run(
            "create table thing (id bigint not null primary key, name varchar(20))",
            "create table part (thing bigint not null, n int not null primary key)")
        let child = ChildMapping(
            wire: "parts", table: TableMapping(table: "part", key: [ColumnMapping("n")], columns: [ColumnMapping("thing")]), parentKey: ["thing": "id"])
        #expect(try await bench.type(Self.mapping(children: [child])).warnings.contains { $0.contains("no index begins with (thing)") })
    }
}
