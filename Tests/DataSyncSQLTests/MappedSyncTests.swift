import DataSync
import DataSyncSQL
import Synchronization
import Testing

/// A branch and the cloud, each on a database of its own, with mapped tables and applications that know nothing but SQL.
struct MappedCompany: Sendable {
    let cloud: Bench
    let branch: Bench
    let hub: Hub<SQLStorage>
    let agent: Agent<SQLStorage, InMemoryTransport<SQLStorage>>

    /// The branch's own orders have no column for their home.
    static let branchOrders: TypeMapping = {
        var mapping = Shop.orderMapping
        mapping.root = TableMapping(
            table: "orders", key: [ColumnMapping("id")], columns: [ColumnMapping("total"), ColumnMapping("member")])
        mapping.children[0].table = TableMapping(
            table: "order_line", key: [ColumnMapping("order"), ColumnMapping("line")], columns: [ColumnMapping("product"), ColumnMapping("qty")])
        return mapping
    }()

    static let branchLines =
        "create table order_line (`order` bigint not null, line int not null, product varchar(40) not null, qty decimal(10,3) not null, "
        + "primary key (`order`, line))"

    init(_ kind: TestDatabase) async throws { try await self.init(cloud: kind, branch: kind) }

    init(cloud: TestDatabase, branch: TestDatabase) async throws {
        self.cloud = try await Bench(cloud, isMigrated: true)
        self.branch = try await Bench(branch, isMigrated: true)
        try await Shop.create(in: self.cloud)
        try await self.branch.run(
            """
            create table member (id bigint not null primary key, name varchar(40) not null, points int not null,
              shared smallint not null, note varchar(200))
            """,
            "create table orders (id bigint not null primary key, total decimal(12,2) not null, member bigint)",
            Self.branchLines
        )
        var limits = SyncLimits()
        limits.retryDelays = [.zero, .zero]
        limits.waitingDelay = .nanoseconds(1)
        limits.waitingDelayMax = .nanoseconds(1)
        let cloudTypes = [try await self.cloud.type(Shop.memberMapping), try await self.cloud.type(Shop.orderMapping)]
        let branchTypes = [try await self.branch.type(Shop.memberMapping), try await self.branch.type(Self.branchOrders)]
        self.hub = try Hub(storage: self.cloud.storage, types: cloudTypes, limits: limits)
        try await self.cloud.storage.withTransaction { transaction in
            try await transaction.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active))
            try await transaction.insertServer(ServerRow(id: 7, name: "branch", status: .active))
        }
        try await self.branch.storage.withTransaction { try await $0.insertServer(ServerRow(id: 7, name: "branch", status: .active)) }
        self.agent = try Agent(
            server: 7, storage: self.branch.storage, transport: InMemoryTransport(hub: self.hub, branch: 7), types: branchTypes, limits: limits)
    }

    /// What the applications have done before: the rows that their outbox speaks of.
    func applyOwn() async throws {
        let sides: [(Bench, TypeRegistry<SQLTransaction>, ServerID)] = [(self.branch, self.agent.types, 7), (self.cloud, self.hub.types, 0)]
        for (bench, types, scope) in sides {
            try await bench.storage.withTransaction { transaction in
                for row in try await transaction.outboxRows(after: 0, limit: 10_000, bytesMax: .max).rows {
                    guard let handler = types[row.head.type], let key = row.key else { continue }
                    let prepared = try handler.prepare(Bench.record(key.text, row.payload, type: row.head.type), scope: scope)
                    try await handler.apply([prepared], in: transaction)
                }
            }
        }
    }

    /// As an application does: its row, and the outbox row, in one transaction.
    /// - Parameter home: `data_to_server_id`: at the cloud, whose order it is.
    func write(_ records: [(type: Int, key: String, payload: String)], home: Int = 0, at bench: Bench) async throws {
        let rows = records
        try await bench.storage.withTransaction { transaction in
            for row in rows {
                try await transaction.execute(
                    Bench.mark("insert into sync_data (data_detail, data_from_detail, business_type, data_to_server_id) values (?, ?, ?, ?)"),
                    [.text(row.payload), bench.kind.isSQLite ? .text(row.key) : .bytes(Array(row.key.utf8)), .int(row.type), .int(home)])
            }
        }
    }
}

@Suite(.serialized) struct MappedSyncTests {
    /// SQLite locks the whole file: there is no row to be locked alone.
    @Test(arguments: TestDatabase.available.filter { !$0.isSQLite })
    func aRowThatAnApplicationKeepsLockedHoldsUpItsTypeAlone(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        try await company.write([(1, "member:1", Shop.member(1))], at: company.branch)
        #expect(try await company.agent.cycle().pushed == [.applied: 1])
        try await company.write([(1, "member:1", Shop.member(1)), (2, "order:1", Shop.order(1, lines: [Shop.line(1, 1)]))], at: company.branch)
        try await company.cloud.storage.withTransaction { transaction in
            // The server would end it while the agent waits on a busy machine.
            try await transaction.execute(Bench.mark("set session idle_transaction_timeout = 0"))
            _ = try await transaction.query(Bench.mark("select id from member where id = 1 for update"), [])
            let report = try await company.agent.cycle()
            #expect(report.pushed == [.applied: 1])
            #expect(report.stopped.keys.sorted() == [1])
        }
        #expect(try await company.cloud.texts("select count(*) from orders") == [["1"]])
        #expect(try await company.branch.texts("select count(*) from sync_data where fail_num > 0") == [["0"]])
    }

    @Test(arguments: TestDatabase.available)
    func oneBadRecordInAChunkIsFoundAndTheOthersAreApplied(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        var records = (1...100).map { (2, "order:\($0)", Shop.order($0, lines: [Shop.line($0, 1), Shop.line($0, 2)])) }
        // It passes every check but the database's.
        records[36].2 = Shop.order(37, lines: [Shop.line(37, 1), Shop.line(37, 2, product: "s3cretvalue", quantity: "-1")])
        try await company.write(records, at: company.branch)
        let report = try await company.agent.cycle()
        #expect(report.pushed == [.applied: 99, .parked: 1])
        #expect(try await company.cloud.texts("select count(*), min(store), max(store) from orders") == [["99", "7", "7"]])
        #expect(try await company.cloud.texts("select count(*) from order_line") == [["198"]])
        #expect(try await company.cloud.query("select number from orders where number = 37").isEmpty)
        let shown = try await company.branch.texts("select fail_num, result_of_send_business, reason from sync_data where data_from_detail = 'order:37'")
        #expect(shown[0][0] == "1")
        #expect(shown[0][1] == "\(ReasonCode.constraint.rawValue)")
        #expect(shown[0][2]?.contains("line_quantity") == true)
        #expect(shown[0][2]?.contains("s3cretvalue") == false)
        for _ in 1...2 { try await company.hub.retryDue() }
        _ = try await company.agent.cycle()
        #expect(try await company.branch.texts("select fail_num from sync_data where data_from_detail = 'order:37'") == [["3"]])
        #expect(try await company.branch.texts("select count(*) from sync_data where fail_num = 0 and result_of_send_business = 1") == [["99"]])
    }

    @Test(arguments: TestDatabase.available)
    func twoTypesInOneBatchAreAppliedInTheOrderOfTheirPriority(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        // The orders stand before the members that they name; the members' type goes first.
        try await company.write(
            (1...30).map { (2, "order:\($0)", Shop.order($0, member: $0, lines: [Shop.line($0, 1)])) }
                + (1...30).map { (1, "member:\($0)", Shop.member($0, isShared: $0.isMultiple(of: 2))) }, at: company.branch)
        let report = try await company.agent.cycle()
        #expect(report.pushed == [.applied: 60])
        #expect(try await company.cloud.texts("select count(*) from orders o join member m on m.id = o.member_id") == [["30"]])
        #expect(try await company.agent.cycle().isIdle)
    }

    @Test(arguments: TestDatabase.available)
    func anOrderWaitsForItsMemberWithoutBeingCounted(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        try await company.write([(2, "order:1", Shop.order(1, member: 5, lines: [])), (2, "order:2", Shop.order(2, lines: []))], at: company.branch)
        #expect(try await company.agent.cycle().pushed == [.applied: 1, .waiting: 1])
        for _ in 1...5 { try await company.hub.retryDue() }
        _ = try await company.agent.cycle()
        #expect(try await company.branch.texts("select fail_num from sync_data order by id") == [["0"], ["0"]])
        try await company.write([(1, "member:5", Shop.member(5))], at: company.branch)
        _ = try await company.agent.cycle()
        try await company.hub.retryDue()
        #expect(try await company.cloud.texts("select number, member_id from orders order by number") == [["1", "5"], ["2", nil]])
    }

    @Test(arguments: TestDatabase.available)
    func whatTheCloudsApplicationWritesComesDownUnderTheBranchsNames(kind: TestDatabase) async throws {
        let company = try await MappedCompany(kind)
        try await company.write(
            [(1, "member:1", Shop.member(1, name: "Ada 😀")), (1, "member:2", Shop.member(2, isShared: false))], at: company.cloud)
        try await company.write([(2, "order:9", Shop.order(9, lines: [Shop.line(9, 1, product: "价格")]))], home: 7, at: company.cloud)
        try await company.write([(2, "order:9", Shop.order(9, lines: []))], home: 8, at: company.cloud)
        for _ in 1...2 { _ = try await company.agent.cycle() }
        #expect(try await company.branch.texts("select name from member") == [["Ada 😀"]])
        #expect(try await company.branch.texts("select o.id, l.product from orders o join order_line l on l.`order` = o.id") == [["9", "价格"]])
        #expect(try await company.branch.query("select id from sync_memo").isEmpty)
    }
}
