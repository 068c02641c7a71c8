import DataSync
import DataSyncSQL
import Testing

/// The tables that most of these tests map: members, which may be shared, and orders with lines, which belong to a branch.
enum Shop {
    static let memberMapping = TypeMapping(
        definition: BusinessTypeDefinition(id: 1, name: "member", priority: 10, route: .shared), sharedField: "shared",
        root: TableMapping(
            table: "member", key: [ColumnMapping("id")],
            columns: [ColumnMapping("name"), ColumnMapping("points"), ColumnMapping("shared"), ColumnMapping("note")]))

    /// The cloud's side of orders: other names, the home in a column, and a constant.
    static let orderMapping = TypeMapping(
        definition: BusinessTypeDefinition(id: 2, name: "order", priority: 20, route: .origin),
        root: TableMapping(
            table: "orders", key: [ColumnMapping(wire: "id", column: "number")],
            columns: [ColumnMapping("total"), ColumnMapping(wire: "member", column: "member_id")], originColumn: "store",
            constants: ["source": "sync"]),
        children: [
            ChildMapping(
                wire: "lines",
                table: TableMapping(
                    table: "order_line", key: [ColumnMapping(wire: "order", column: "order_number"), ColumnMapping("line")],
                    columns: [ColumnMapping("product"), ColumnMapping(wire: "qty", column: "quantity")], originColumn: "store"),
                parentKey: ["order": "id"])
        ])

    static func create(in bench: Bench) async throws {
        try await bench.run(
            """
            create table member (id bigint not null primary key, name varchar(40) not null, points int not null,
              shared smallint not null, note varchar(200), joined varchar(20) not null default 'today')
            """,
            """
            create table orders (store int not null, number bigint not null, total decimal(12,2) not null, member_id bigint,
              source varchar(20) not null, primary key (store, number),
              constraint order_member foreign key (member_id) references member (id))
            """,
            """
            create table order_line (store int not null, order_number bigint not null, line int not null,
              product varchar(40) not null, quantity decimal(10,3) not null, primary key (store, order_number, line),
              constraint line_quantity check (quantity > 0))
            """)
    }

    static func member(_ id: Int, name: String = "Ada", points: Int = 0, isShared: Bool = true, note: String? = nil) -> String {
        let note = note.map { "\"\($0)\"" } ?? "null"
        return #"{"upsert": {"id": \#(id), "name": "\#(name)", "points": \#(points), "shared": \#(isShared ? 1 : 0), "note": \#(note)}}"#
    }

    static func order(_ id: Int, member: Int? = nil, lines: [String]) -> String {
        let member = member.map { "\($0)" } ?? "null"
        return #"{"upsert": {"id": \#(id), "total": "23.50", "member": \#(member), "lines": [\#(lines.joined(separator: ","))]}}"#
    }

    static func line(_ order: Int, _ line: Int, product: String = "tea", quantity: String = "1.5") -> String {
        #"{"order": \#(order), "line": \#(line), "product": "\#(product)", "qty": "\#(quantity)"}"#
    }
}

@Suite(.serialized) struct MappedTypeTests {
    @Test(arguments: TestDatabase.available)
    func aRowIsInsertedChangedAndDeleted(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.memberMapping)
        #expect(type.tables == ["member"])
        #expect(type.warnings.isEmpty)
        try await bench.apply(type, "member:1", Shop.member(1, name: "Ada", points: 5, note: "long known"))
        try await bench.apply(type, "member:2", Shop.member(2, name: "Bob"))
        try await bench.apply(type, "member:1", Shop.member(1, name: "Ada L.", points: 6))
        let select = "select id, name, points, note, joined from member order by id"
        #expect(try await bench.texts(select) == [["1", "Ada L.", "6", nil, "today"], ["2", "Bob", "0", nil, "today"]])
        // A deletion names the key alone; one of a row that is gone has nothing to do.
        for _ in 1...2 { try await bench.apply(type, "member:1", #"{"delete": {"id": 1}}"#) }
        #expect(try await bench.texts(select) == [["2", "Bob", "0", nil, "today"]])
    }

    @Test(arguments: TestDatabase.available)
    func columnsThatAreNotMappedKeepTheirValue(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.memberMapping)
        try await bench.apply(type, "member:1", Shop.member(1))
        try await bench.run("update member set joined = 'in 2020' where id = 1")
        try await bench.apply(type, "member:1", Shop.member(1, points: 3))
        #expect(try await bench.texts("select points, joined from member") == [["3", "in 2020"]])
    }

    @Test(arguments: TestDatabase.available)
    func anAggregateReplacesItsChildrenUnderItsHome(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        #expect(type.tables == ["orders", "order_line"])
        let lines = "select store, order_number, line, product, quantity * 1000 from order_line order by store, order_number, line"
        func thousandths(_ value: Int) -> String { kind.isSQLite ? "\(value).0" : "\(value).000" }
        // Two branches number alike; they do not meet.
        try await bench.apply(type, "order:1", Shop.order(1, lines: [Shop.line(1, 1), Shop.line(1, 2, product: "cake")]), scope: 7)
        try await bench.apply(type, "order:1", Shop.order(1, lines: [Shop.line(1, 1, product: "bread", quantity: "2")]), scope: 8)
        #expect(
            try await bench.texts("select store, number, total * 100, source from orders order by store").map { [$0[0], $0[1], $0[3]] }
                == [["7", "1", "sync"], ["8", "1", "sync"]])
        try await bench.apply(type, "order:1", Shop.order(1, lines: [Shop.line(1, 2, product: "pie"), Shop.line(1, 9)]), scope: 7)
        let found = try await bench.query(lines).map { row in [try row.text(0), try row.text(2), try row.text(3)] }
        #expect(found == [["7", "2", "pie"], ["7", "9", "tea"], ["8", "1", "bread"]])
        // No lines at all is a state like any other.
        try await bench.apply(type, "order:1", Shop.order(1, lines: []), scope: 7)
        #expect(try await bench.texts("select distinct store from order_line") == [["8"]])
        try await bench.apply(type, "order:1", #"{"delete": {"id": 1}}"#, scope: 8)
        #expect(try await bench.query(lines).isEmpty)
        #expect(try await bench.texts("select store from orders") == [["7"]])
    }

    @Test(arguments: TestDatabase.available)
    func anOriginColumnInThePayloadMustBeTheSenders(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        let payload = { (store: Int, lineStore: Int) in
            """
            {"upsert": {"store": \(store), "id": 1, "total": 5, "member": null,
              "lines": [{"store": \(lineStore), "order": 1, "line": 1, "product": "tea", "qty": 1}]}}
            """
        }
        try await bench.apply(type, "order:1", payload(7, 7), scope: 7)
        for (store, lineStore) in [(8, 8), (7, 8), (8, 7), (0, 0), (-7, -7)] {
            #expect(try await bench.fault(type, "order:1", payload(store, lineStore), scope: 7) == .refused(.forbidden, detail: nil))
        }
        #expect(try await bench.fault(type, "order:1", #"{"delete": {"store": 8, "id": 1}}"#, scope: 7) == .refused(.forbidden, detail: nil))
        // The cloud's own row names the home: in its payload, or in data_to_server_id.
        try await bench.apply(type, "order:1", payload(9, 9), scope: nil)
        #expect(try await bench.texts("select store from orders order by store") == [["7"], ["9"]])
        let homeless = try await bench.fault(type, "order:1", Shop.order(1, lines: []), scope: nil)
        #expect(homeless?.reason == .noTarget)
    }

    @Test(arguments: TestDatabase.available)
    func aRecordMustBeAboutTheEntityThatItClaims(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let (members, orders) = (try await bench.type(Shop.memberMapping), try await bench.type(Shop.orderMapping))
        for key in ["member:2", "member:01", "Member:1", "member:1 ", "order:1", "1", "member:1:1"] {
            #expect(try await bench.fault(members, key, Shop.member(1)) == .refused(.forbidden, detail: nil))
            #expect(try await bench.fault(members, key, #"{"delete": {"id": 1}}"#) == .refused(.forbidden, detail: nil))
        }
        // A line of another order would be a way into that order.
        let foreign = Shop.order(1, lines: [Shop.line(1, 1), Shop.line(2, 1)])
        #expect(try await bench.fault(orders, "order:1", foreign) == .refused(.forbidden, detail: nil))
        #expect(try await bench.texts("select count(*) from orders") == [["0"]])
        // However a number is written, it is the same row and so the same entity.
        try await bench.apply(members, "member:1", Shop.member(1).replacing(#""id": 1"#, with: #""id": "01""#))
        #expect(try await bench.texts("select id from member") == [["1"]])
    }

    @Test(arguments: TestDatabase.available)
    func theSharedFieldSaysWhereARecordGoes(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.memberMapping)
        func inspect(_ payload: String) throws -> PreparedRecord {
            try type.inspect(Bench.record("member:1", payload, type: 1), scope: nil)
        }
        #expect(try inspect(Shop.member(1, isShared: true)).isShared)
        #expect(try !inspect(Shop.member(1, isShared: false)).isShared)
        let deletion = try inspect(#"{"delete": {"id": 1}}"#)
        #expect(deletion.isDeletion)
        #expect(deletion.scope == .cloud)
        // What a branch of another version might send: true and false for 1 and 0.
        #expect(try inspect(Shop.member(1).replacing(#""shared": 1"#, with: #""shared": true"#)).isShared)
    }

    @Test(arguments: TestDatabase.available)
    func aCompositeKeyIsOneNameAndCannotBeForgedWithAColon(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run("create table price (region varchar(20) not null, sku varchar(20) not null, cents int not null, primary key (region, sku))")
        let type = try await bench.type(
            TypeMapping(
                definition: BusinessTypeDefinition(id: 5, name: "price", priority: 1, route: .all),
                root: TableMapping(table: "price", key: [ColumnMapping("region"), ColumnMapping("sku")], columns: [ColumnMapping("cents")])))
        try await bench.apply(type, "price:north:tea", #"{"upsert": {"region": "north", "sku": "tea", "cents": 250}}"#)
        let forged = try await bench.fault(type, "price:north:tea:x", #"{"upsert": {"region": "north:tea", "sku": "x", "cents": 1}}"#)
        #expect(forged?.reason == .malformed)
        #expect(try await bench.texts("select region, sku, cents from price") == [["north", "tea", "250"]])
        try await bench.apply(type, "price:north:tea", #"{"delete": {"region": "north", "sku": "tea"}}"#)
        #expect(try await bench.query("select * from price").isEmpty)
    }

    /// Collations that pad with spaces take "a" and "a " for equal, and would let one entity change the row of another.
    @Test(arguments: TestDatabase.available)
    func aKeyCannotBeForgedWithASpace(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run("create table coupon (code varchar(20) not null primary key, cents int not null)")
        let type = try await bench.type(
            TypeMapping(
                definition: BusinessTypeDefinition(id: 5, name: "coupon", priority: 1, route: .all),
                root: TableMapping(table: "coupon", key: [ColumnMapping("code")], columns: [ColumnMapping("cents")])))
        try await bench.apply(type, "coupon:A", #"{"upsert": {"code": "A", "cents": 5}}"#)
        for code in ["A ", "A  "] {
            #expect(try await bench.fault(type, "coupon:\(code)", #"{"upsert": {"code": "\#(code)", "cents": 500}}"#)?.reason == .malformed)
            #expect(try await bench.fault(type, "coupon:\(code)", #"{"delete": {"code": "\#(code)"}}"#)?.reason == .malformed)
        }
        #expect(try await bench.texts("select code, cents from coupon") == [["A", "5"]])
    }

    @Test(arguments: TestDatabase.available)
    func namesWithQuotesAndReservedWordsAreNames(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let table = "order`; drop \"group\" '--"
        let quoted = "`\(table.replacing("`", with: "``"))`"
        try await bench.run(
            "create table \(quoted) (`select` bigint not null primary key, `from``where` varchar(20) not null, `rank` int not null, `a'b\"c` int not null default 3)"
        )
        let type = try await bench.type(
            TypeMapping(
                definition: BusinessTypeDefinition(id: 6, name: "odd", priority: 1, route: .all),
                root: TableMapping(
                    table: table, key: [ColumnMapping("select")],
                    columns: [ColumnMapping(wire: "text", column: "from`where"), ColumnMapping("rank")], constants: ["a'b\"c": "4"])))
        try await bench.apply(type, "odd:1", #"{"upsert": {"select": 1, "text": "it's \"quoted\" `", "rank": 2}}"#)
        try await bench.apply(type, "odd:1", #"{"upsert": {"select": 1, "text": "'); drop table x; --", "rank": 3}}"#)
        #expect(
            try await bench.texts("select `from``where`, `rank`, `a'b\"c` from \(quoted)") == [["'); drop table x; --", "3", "4"]])
        try await bench.apply(type, "odd:1", #"{"delete": {"select": 1}}"#)
        #expect(try await bench.query("select * from \(quoted)").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aThousandRowsAreOneChunk(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        let payload = { (id: Int, round: Int) in
            ("order:\(id)", Shop.order(id, lines: (1...3).map { Shop.line(id, $0, product: "p\(round)") }))
        }
        try await bench.apply(type, (1...1_000).map { payload($0, 1) })
        #expect(try await bench.texts("select count(*), count(distinct number) from orders") == [["1000", "1000"]])
        // Again, all of them changed and every second one deleted.
        try await bench.apply(
            type, (1...1_000).map { $0.isMultiple(of: 2) ? ("order:\($0)", #"{"delete": {"id": \#($0)}}"#) : payload($0, 2) })
        #expect(try await bench.texts("select count(*) from orders where number % 2 = 1") == [["500"]])
        #expect(try await bench.texts("select product, count(*) from order_line group by product") == [["p2", "1500"]])
    }

    @Test(arguments: TestDatabase.available)
    func whatFailsInAChunkLeavesNothingOfIt(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        var records = (1...20).map { ("order:\($0)", Shop.order($0, lines: [Shop.line($0, 1)])) }
        records[11].1 = Shop.order(12, lines: [Shop.line(12, 1, quantity: "-1")])
        await #expect(throws: RecordFault.self) { try await bench.apply(type, records) }
        #expect(try await bench.query("select number from orders").isEmpty)
    }
}
