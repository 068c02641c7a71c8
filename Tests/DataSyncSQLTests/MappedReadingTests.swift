import DataSync
import DataSyncSQL
import Testing

/// What mapped tables hold, read back: the same on every database, and understood by whoever gets it.
@Suite(.serialized) struct MappedReadingTests {
    private func payload(_ type: MappedType, _ entity: EntityID, _ bench: Bench, locking: Bool = false) async throws -> String? {
        try await bench.storage.withTransaction(locking ? .write : .snapshot) {
            try await type.payloads(of: [entity], locking: locking, in: $0)[entity]
        }
    }

    /// A column of a kind on one database, and of the kind that fits it on another, with one value in two spellings.
    private static let columns: [(sqlite: String, mysql: String, values: [String])] = [
        ("integer", "bigint", ["7", "\"7\""]), ("integer", "bigint", ["-9223372036854775808"]), ("bigint", "tinyint", ["1"]),
        ("bigint", "bigint unsigned", ["9007199254740993"]), ("boolean", "boolean", ["true", "1"]), ("bigint", "bit(8)", ["255"]), ("bigint", "year", ["2024"]),
        ("decimal(12,2)", "decimal(12,2)", ["100", "100.00", "\"100.0\""]), ("decimal(12,2)", "decimal(12,2)", ["-0.5", "\"-0.50\""]),
        ("decimal(12,4)", "decimal(20,6)", ["1234567.8901", "\"1234567.89010\""]), ("numeric", "decimal(10,0)", ["5", "5.0"]),
        ("double", "double", ["0.1", "1e-1"]), ("double", "double", ["1e300"]), ("real", "float", ["0.1", "0.10"]), ("double", "double", ["-2.5e-3"]),
        ("text", "varchar(40) character set utf8mb4", ["\"价格 😀 e\\u0301é \\\"q\\\\\""]), ("text", "varchar(40) character set utf8mb4", ["\"007\""]),
        ("text", "text character set utf8mb4", ["\"\""]), ("text", "char(10) character set utf8mb4", ["\"ab\""]), ("text", "enum('a','b')", ["\"b\""]),
        ("blob", "varbinary(40)", ["\"AP8Bfw==\""]), ("blob", "blob", ["\"\""]), ("date", "date", ["\"2024-02-29\""]),
        ("datetime", "datetime(6)", ["\"2024-02-29 23:59:59.120000\"", "\"2024-02-29T23:59:59.12\""]), ("datetime", "datetime", ["\"2024-02-29 23:59:59\""]),
        ("timestamp", "timestamp(3) null", ["\"2024-02-29 23:59:59.5\"", "\"2024-02-29 23:59:59.500\""]),
        ("time", "time(6)", ["\"10:20:30.5\"", "\"010:20:30.500\""]), ("time", "time", ["\"-100:00:01\""]), ("time", "time", ["\"00:00:00\""]),
        ("json", "json", [#"{"b": [1, 2.50], "a": null}"#, #"{"a":null,"b":[1.0,2.5]}"#]), ("text", "varchar(40)", ["null"]),
        ("decimal(5,2)", "decimal(5,2)", ["null"]),
    ]

    @Test(arguments: TestDatabase.available)
    func everyKindOfColumnHasTheSameDigestOnEveryDatabase(kind: TestDatabase) async throws {
        let lite = try await Bench(.sqlite)
        let other = try await Bench(kind)
        var digests: Set<StateDigest> = []
        // A MariaDB that is taken for a MySQL has no such column.
        for (index, column) in Self.columns.enumerated() where column.mysql != "json" || kind != .mysqlStatements {
            let mapping = TypeMapping(
                definition: BusinessTypeDefinition(id: 1, name: "item", priority: 1, route: .all),
                root: TableMapping(table: "item\(index)", key: [ColumnMapping("id")], columns: [ColumnMapping("value")]))
            var seen: [StateDigest] = []
            for (bench, definition) in [(lite, column.sqlite), (other, kind.isSQLite ? column.sqlite : column.mysql)] {
                try await bench.run("create table item\(index) (id bigint not null primary key, value \(definition))")
                let type = try await bench.type(mapping)
                for (number, value) in column.values.enumerated() {
                    let id = EntityID(type: 1, scope: .cloud, key: EntityKey("item:\(number)"))
                    try await bench.apply(type, id.key.text, "{\"upsert\": {\"value\": \(value), \"id\": \(number)}}")
                    let payload = try #require(try await self.payload(type, id, bench))
                    seen.append(StateDigest(ofPayload: payload.replacing("\"id\":\(number)", with: "\"id\":0")))
                    // What is read back is understood by the type itself, and changes nothing.
                    try await bench.apply(type, id.key.text, payload)
                    #expect(try await self.payload(type, id, bench) == payload, "\(definition) \(value)")
                }
            }
            #expect(Set(seen).count == 1, "\(column.mysql) \(column.values): \(seen.map(\.hex))")
            digests.formUnion(seen)
        }
        #expect(digests.count > 20)
    }

    @Test(arguments: TestDatabase.available)
    func anAggregateIsReadWithItsChildrenOfItsHome(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        let lines = [Shop.line(1, 10, quantity: "2.0"), Shop.line(1, 2, product: "cake")]
        try await bench.apply(type, "order:1", Shop.order(1, lines: lines), scope: 7)
        try await bench.apply(type, "order:1", Shop.order(1, lines: []), scope: 8)
        try await bench.apply(type, "order:2", Shop.order(2, lines: [Shop.line(2, 1)]), scope: 8)
        func order(_ id: Int, _ scope: ServerID) -> EntityID { EntityID(type: 2, scope: scope, key: EntityKey("order:\(id)")) }
        let asked = [order(1, 7), order(2, 7), order(1, 8), order(2, 8), EntityID(type: 2, scope: 8, key: "order:x"), EntityID(type: 2, scope: 8, key: "odd")]
        for locking in [false, true] {
            let found = try await bench.storage.withTransaction(locking ? .write : .snapshot) { try await type.payloads(of: asked, locking: locking, in: $0) }
            #expect(
                found == [
                    order(1, 7):
                        #"{"upsert":{"id":1,"member":null,"total":"23.5","lines":[{"line":2,"order":1,"product":"cake","qty":"1.5"},"#
                        + #"{"line":10,"order":1,"product":"tea","qty":"2"}]}}"#,
                    order(1, 8): #"{"upsert":{"id":1,"member":null,"total":"23.5","lines":[]}}"#,
                    order(2, 8): #"{"upsert":{"id":2,"member":null,"total":"23.5","lines":[{"line":1,"order":2,"product":"tea","qty":"1.5"}]}}"#,
                ])
        }
        #expect(type.deletion(of: order(1, 7)) == #"{"delete":{"id":1}}"#)
        #expect(type.deletion(of: EntityID(type: 2, scope: 8, key: "order:01")) == nil)
        #expect(type.deletion(of: EntityID(type: 2, scope: 8, key: "member:1")) == nil)
    }

    @Test(arguments: TestDatabase.available)
    func aKeyOfSeveralColumnsIsFoundByItsName(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run("create table price (shop varchar(20) not null, day date not null, amount decimal(8,2) not null, primary key (shop, day))")
        let mapping = TypeMapping(
            definition: BusinessTypeDefinition(id: 1, name: "price", priority: 1, route: .all),
            root: TableMapping(table: "price", key: [ColumnMapping("shop"), ColumnMapping("day")], columns: [ColumnMapping("amount")]))
        let type = try await bench.type(mapping)
        for shop in ["a", "b'`\\\""] {
            for day in ["2024-01-01", "2024-01-02"] {
                let name = shop.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                try await bench.apply(type, "price:\(shop):\(day)", "{\"upsert\": {\"shop\": \"\(name)\", \"day\": \"\(day)\", \"amount\": 1.50}}")
            }
        }
        let keys: [EntityKey] = ["price:a:2024-01-02", "price:b'`\\\":2024-01-01", "price:a:2024-01-03", "price:a", "price:a:b:2024-01-01"]
        let ids = keys.map { EntityID(type: 1, scope: .cloud, key: $0) }
        let found = try await bench.storage.withTransaction(.snapshot) { try await type.payloads(of: ids, locking: false, in: $0) }
        #expect(Set(found.keys) == Set(ids.prefix(2)))
        #expect(found[ids[0]] == #"{"upsert":{"amount":"1.5","day":"2024-01-02","shop":"a"}}"#)
        #expect(type.deletion(of: ids[0]) == #"{"delete":{"shop":"a","day":"2024-01-02"}}"#)
    }

    /// A branch under another's names, on SQLite and on MariaDB, and a cloud on each: compared, and repaired both ways.
    @Test(arguments: TestDatabase.available, TestDatabase.available)
    func aBranchAndACloudAreComparedWhateverTheirDatabases(cloud: TestDatabase, branch: TestDatabase) async throws {
        let company = try await MappedCompany(cloud: cloud, branch: branch)
        try await company.write(
            (1...40).map { (1, "member:\($0)", Shop.member($0, name: "Ada 😀 \($0)", isShared: true, note: "x")) }
                + (1...30).map {
                    (2, "order:\($0)", Shop.order($0, member: $0, lines: [Shop.line($0, 1), Shop.line($0, 2, product: "价格", quantity: "0.250")]))
                },
            at: company.branch)
        try await company.write([(1, "member:99", Shop.member(99))], at: company.cloud)
        // The branch's applications have their rows; here they are applied from what was sent.
        try await company.applyOwn()
        for _ in 1...3 { _ = try await company.agent.cycle() }
        let equal = try await company.agent.reconcile(actor: "test")
        #expect(equal.isEqual, "\(equal.summary) \(equal.differences)")
        #expect(equal.types.map(\.compared) == [41, 30])

        try await company.branch.run("update member set note = 'changed' where id = 1")
        try await company.branch.run("update order_line set qty = 9 where `order` = 2 and line = 1")
        try await company.cloud.run("delete from order_line where order_number = 3")
        try await company.cloud.run("delete from orders where number = 4")
        try await company.branch.run("delete from member where id = 5")
        let different = try await company.agent.reconcile(actor: "test")
        let kinds = Dictionary(uniqueKeysWithValues: different.differences.map { ($0.entity, $0.kind) })
        #expect(kinds == ["member:1": .differs, "order:2": .differs, "order:3": .differs, "order:4": .onlyHere, "member:5": .onlyAtCloud])

        _ = try await company.agent.reconcile([1], repair: .cloud, actor: "test")
        #expect(try await company.branch.texts("select note from member where id in (1, 5) order by id") == [["x"], ["x"]])
        _ = try await company.agent.reconcile([2], repair: .branch, actor: "test")
        #expect(try await company.cloud.texts("select count(*) from order_line where order_number in (3, 4)") == [["4"]])
        #expect(try await company.cloud.texts("select store from orders where number = 4") == [["7"]])
        let repaired = try await company.agent.reconcile(actor: "test")
        #expect(repaired.isEqual, "\(repaired.summary) \(repaired.differences)")
    }

    @Test(arguments: TestDatabase.available)
    func aTableThatIsGoneIsToldAndTheOtherTypesAreCompared(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        try await company.write([(1, "member:1", Shop.member(1)), (2, "order:1", Shop.order(1, lines: []))], at: company.branch)
        try await company.applyOwn()
        _ = try await company.agent.cycle()
        try await company.branch.run("drop table order_line")
        let here = try await company.agent.reconcile(actor: "test")
        #expect(here.types.map { $0.notCompared == nil } == [true, false], "\(here.summary)")
        #expect(here.types.map(\.wasStopped) == [false, true])
        try await company.cloud.run("drop table order_line")
        try await company.branch.run(MappedCompany.branchLines)
        let there = try await company.agent.reconcile(actor: "test")
        #expect(there.types.last?.notCompared == "the cloud cannot read its tables back", "\(there.summary)")
        #expect(there.types.first?.compared == 1)
    }

    /// What an application is about to commit is waited for: else its change would stand before the older state in the outbox.
    @Test(arguments: TestDatabase.available.filter { !$0.isSQLite })
    func rowsThatAreReadToBeSentAgainAreLocked(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        try await bench.apply(type, "order:1", Shop.order(1, lines: [Shop.line(1, 1)]))
        let id = EntityID(type: 2, scope: 7, key: "order:1")
        struct Undo: Error {}
        for statement in ["update orders set total = 1 where number = 1", "update order_line set quantity = 5 where order_number = 1"] {
            do {
                try await bench.storage.withTransaction { transaction in
                    try await transaction.execute(Bench.mark(statement))
                    let plain = try await self.payload(type, id, bench)
                    #expect(plain?.contains("\"23.5\"") == true)
                    do {
                        _ = try await self.payload(type, id, bench, locking: true)
                        Issue.record("what another transaction has changed was read to be sent again")
                    } catch let error as DataSyncError { #expect(error.code == .storageBusy) }
                    throw Undo()
                }
            } catch is Undo {}
        }
    }
}
