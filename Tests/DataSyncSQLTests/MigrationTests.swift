import DataSync
@testable import DataSyncSQL
import Testing

@Suite(.serialized) struct MigrationTests {
    private func columns(_ table: String, of bench: Bench) async throws -> [String: ColumnShape] {
        let shape = try await bench.storage.withTransaction(.snapshot) { try await $0.shape(of: table) }
        return Dictionary(uniqueKeysWithValues: (shape?.columns ?? []).map { ($0.name, $0) })
    }

    private func schema(of bench: Bench) async throws -> [[String?]] {
        try await bench.texts(
            bench.kind.isSQLite
                ? "select name, sql from sqlite_master order by name"
                : """
                select concat(table_name, '.', column_name), concat_ws(' ', ordinal_position, column_type, is_nullable, column_default, extra)
                from information_schema.columns where table_schema = database() order by table_name, ordinal_position
                """)
    }

    @Test(arguments: TestDatabase.available)
    func initCreatesTheTablesAndAnotherChangesNothing(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let missing = await #expect(throws: DataSyncError.self) { try await bench.storage.checkSchema() }
        #expect(missing?.code == .storageNotReady)
        #expect(missing?.detail?.contains("run init") == true)
        #expect(try await bench.storage.migrate() == 0)
        try await bench.storage.checkSchema()
        try await bench.storage.withTransaction { transaction in
            try await transaction.putSetting("mine", "kept")
            try await transaction.appendOutbox([NewOutboxRow(type: 1, key: "a:1", payload: "{}")])
            _ = try await transaction.moveOutboxFrontier(from: 0, to: 1)
        }
        let before = try await self.schema(of: bench)
        for _ in 1...2 { #expect(try await bench.storage.migrate() == Migration.latest) }
        #expect(try await self.schema(of: bench) == before)
        let (setting, frontier, hasRows) = try await bench.storage.withTransaction {
            (try await $0.setting("mine"), try await $0.outboxFrontier(), try await $0.hasOutboxRows(after: 0))
        }
        #expect(setting == "kept")
        #expect(frontier == 1)
        #expect(hasRows)
    }

    @Test(arguments: TestDatabase.available)
    func anInitThatBrokeOffIsFinishedByTheNext(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        // As after a crash: some tables are there, and no version.
        let statements = Migration.all[0].sql(for: try await bench.storage.withConnection { _, dialect in dialect })
        for count in [1, 5, statements.count] {
            try await bench.storage.withConnection { connection, _ in
                for statement in statements.prefix(count) { _ = try await connection.execute(statement, []) }
            }
        }
        #expect(try await bench.storage.migrate() == 0)
        try await bench.storage.checkSchema()
    }

    /// Between two definitions of tables there is a commit, and so a place to crash.
    @Test(arguments: TestDatabase.available, ["drop the limit", "forget the limit", "neither"])
    func anInitThatBrokeOffAtTheLimitIsFinishedByTheNext(kind: TestDatabase, crash: String) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        switch crash {
        case "drop the limit":
            try await bench.run(sqlite: "drop trigger sync_data_size", mysql: "alter table sync_data drop constraint sync_data_size")
        case "forget the limit": try await bench.run("delete from sync_config where name = 'record_bytes'")
        default: break
        }
        var limits = SyncLimits()
        limits.recordBytesMax = 100
        for _ in 1...2 { try await bench.storage.migrate(limits: limits) }
        await #expect(throws: DataSyncError.self) {
            try await bench.run(
                "insert into sync_data (data_from_detail, business_type, data_detail) values ('a:1', 1, '\(String(repeating: "x", count: 101))')")
        }
    }

    @Test(arguments: TestDatabase.available)
    func aNewerVersionIsRefusedAndLeftAlone(kind: TestDatabase) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        try await bench.storage.withTransaction { try await $0.putSetting(Migration.settingName, "999") }
        for attempt in 1...2 {
            let error = await #expect(throws: DataSyncError.self) {
                if attempt == 1 { try await bench.storage.checkSchema() } else { try await bench.storage.migrate() }
            }
            #expect(error?.code == .storageTooNew)
            #expect(error?.detail?.contains("version 999") == true)
            #expect(error?.detail?.contains("install the newer one") == true)
        }
        #expect(try await bench.storage.withTransaction { try await $0.setting(Migration.settingName) } == "999")
        try await bench.storage.withTransaction { try await $0.putSetting(Migration.settingName, "0") }
        let old = await #expect(throws: DataSyncError.self) { try await bench.storage.checkSchema() }
        #expect(old?.code == .storageNotReady)
    }

    @Test(arguments: TestDatabase.available)
    func theFiveTablesAreThereWithTheirColumns(kind: TestDatabase) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        for table in ["sync_config", "sync_server", "sync_data", "sync_send", "sync_memo"] {
            #expect(try await !self.columns(table, of: bench).isEmpty, Comment(rawValue: table))
        }
        let data = try await self.columns("sync_data", of: bench)
        let given = [
            "id", "syn_id", "data_detail", "data_from_detail", "business_type", "data_from_server_id", "data_to_server_id", "fail_num",
            "result_of_send_business", "create_time", "data_from_client",
        ]
        #expect(Set(given).isSubset(of: data.keys))
        #expect(Set(data.keys).subtracting(given) == ["state", "reason", "uid"])
        // An application names three columns; the others may be left out.
        #expect(Set(data.values.filter { !$0.hasDefault }.map(\.name)) == ["data_detail", "data_from_detail", "business_type"])
        #expect(try await bench.storage.withTransaction(.snapshot) { try await $0.businessTables() } == [])
        guard !kind.isSQLite else { return }
        let types = try await bench.texts(
            "select column_name, column_type from information_schema.columns where table_schema = database() and table_name = 'sync_data'")
        let byName = Dictionary(uniqueKeysWithValues: types.map { ($0[0]!, $0[1]!) })
        for (column, type) in [
            "id": "bigint", "syn_id": "bigint", "create_time": "bigint", "fail_num": "tinyint", "result_of_send_business": "tinyint",
            "data_from_detail": "varbinary(190)", "data_detail": "mediumtext",
        ] { #expect(byName[column]?.hasPrefix(type) == true, "\(column): \(byName[column] ?? "")") }
    }

    @Test(arguments: TestDatabase.available)
    func anApplicationsPlainInsertWorks(kind: TestDatabase) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        try await bench.run(
            #"insert into sync_data (data_detail, data_from_detail, business_type) values ('{"upsert":{"id":1}}', 'member:1', 1)"#,
            #"insert into sync_data (data_detail, data_from_detail, business_type, syn_id) values ('{"upsert":{"id":2}}', 'member:2', 1, null)"#,
            """
            insert into sync_data (data_detail, data_from_detail, business_type, data_to_server_id, create_time, data_from_client)
            values ('{}', 'member:3', 1, 9, 1234, 2)
            """)
        let rows = try await bench.storage.withTransaction { transaction in
            let heads = try await transaction.outboxHeads(in: 1...Int64.max, newOnly: true, limit: 10)
            return try await transaction.outboxRows(heads.map(\.id))
        }
        #expect(rows.map(\.key) == ["member:1", "member:2", "member:3"])
        #expect(rows.map(\.synID) == [0, 0, 0])
        #expect(rows.map(\.state) == [.new, .new, .new])
        #expect(rows.map(\.attempts) == [0, 0, 0])
        #expect(rows.map(\.reason) == [.none, .none, .none])
        #expect(rows.map(\.target) == [.cloud, .cloud, 9])
        #expect(rows.map(\.client) == [nil, nil, 2])
        #expect(Set(rows.map(\.uid)).count == 3)
        // Between 2020 and 2100, in milliseconds.
        #expect((1_577_836_800_000...4_102_444_800_000).contains(rows[0].head.createTime))
        #expect(rows[2].head.createTime == 1_234)
        // A row whose application gave NULL is settled like any other.
        let settled = OutboxSettlement(id: rows[1].id, type: 1, synID: 5, state: .settled, reason: .applied)
        #expect(try await bench.storage.withTransaction { try await $0.settleOutbox([settled], origin: 7) } == 1)
        #expect(try await bench.texts("select syn_id, fail_num, result_of_send_business from sync_data where id = \(rows[1].id)") == [["5", "0", "1"]])
    }

    @Test(
        arguments: TestDatabase.available,
        [
            "syn_id) values ('{}', 'a:1', 1, -1", "state) values ('{}', 'a:1', 1, 3", "state) values ('{}', 'a:1', 1, -1",
            "data_to_server_id) values ('{}', 'a:1', null, 1", "data_to_server_id) values (null, 'a:1', 1, 1",
            "data_to_server_id) values ('{}', null, 1, 1", "create_time) values ('{}', 'a:1', 1, 'today'",
        ])
    func anInsertThatBreaksTheContractIsRefused(kind: TestDatabase, rest: String) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        await #expect(throws: DataSyncError.self) {
            try await bench.run("insert into sync_data (data_detail, data_from_detail, business_type, \(rest))")
        }
        #expect(try await bench.query("select id from sync_data").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aPayloadAboveTheLimitIsRefusedWhereItIsInserted(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        var limits = SyncLimits()
        limits.recordBytesMax = 100
        try await bench.storage.migrate(limits: limits)
        let insert = "insert into sync_data (data_from_detail, business_type, data_detail) values ('a:1', 1, '\(String(repeating: "é", count: 50))"
        try await bench.run(insert + "')")
        await #expect(throws: DataSyncError.self) { try await bench.run(insert + "x')") }
        limits.recordBytesMax = 200
        try await bench.storage.migrate(limits: limits)
        try await bench.run(insert + "x')")
        #expect(try await bench.texts("select count(*) from sync_data") == [["2"]])
    }
}
