import DataSync
import DataSyncSQL
import DataSyncTesting
import Synchronization
import Testing

/// Every statement that a storage sends, whoever asked for it.
final class StatementLog: Sendable {
    private let seen = Mutex<Set<String>>([])

    func note(_ sql: String) { self.seen.withLock { _ = $0.insert(sql) } }
    var statements: [String] { self.seen.withLock { $0.sorted() } }
}

private struct RecordingDatabase: SQLDatabase {
    let base: any SQLDatabase
    let log: StatementLog

    var name: String { self.base.name }
    var writersMax: Int { self.base.writersMax }
    var idleMax: Duration { self.base.idleMax }
    func connect() async throws -> any SQLConnection { RecordingConnection(base: try await self.base.connect(), log: self.log) }
    func takeLease() async throws -> any StorageLease { try await self.base.takeLease() }
}

private struct RecordingConnection: SQLConnection {
    let base: any SQLConnection
    let log: StatementLog

    var isUsable: Bool { self.base.isUsable }
    var dialect: SQLDialect { self.base.dialect }

    func query(_ sql: String, _ values: [SQLValue]) async throws -> SQLRows {
        self.log.note(sql)
        return try await self.base.query(sql, values)
    }

    func execute(_ sql: String, _ values: [SQLValue]) async throws -> Int {
        self.log.note(sql)
        return try await self.base.execute(sql, values)
    }

    func execute(_ batch: SQLBatch) async throws -> Int {
        self.log.note(batch.statement)
        return try await self.base.execute(batch)
    }

    func begin(_ access: Access) async throws { try await self.base.begin(access) }
    func commit() async throws { try await self.base.commit() }
    func rollback() async throws { try await self.base.rollback() }
    func close() async { await self.base.close() }
}

@Suite struct StatementRuleTests {
    /// The whole of the storage contract and a mapped aggregate, on storages that write down what they send.
    private func statements(_ kind: TestDatabase) async throws -> (statements: [String], bench: Bench) {
        let log = StatementLog()
        let makeStorage = { @Sendable () async throws -> SQLStorage in
            let storage = SQLStorage(RecordingDatabase(base: try await kind.make(), log: log), connectionsMax: 4, waitMax: .seconds(600))
            try await storage.migrate()
            return storage
        }
        for testCase in StorageContract<SQLStorage>.Case.allCases { try await StorageContract(makeStorage: makeStorage).run(testCase) }
        for testCase in PeopleContract<SQLStorage>.Case.allCases { try await PeopleContract(makeStorage: makeStorage).run(testCase) }
        let bench = try await Bench(kind, isMigrated: true)
        try await Shop.create(in: bench)
        let storage = SQLStorage(RecordingDatabase(base: bench.database, log: log), connectionsMax: 4, waitMax: .seconds(600))
        for (mapping, key, upsert) in [
            (Shop.memberMapping, "member:1", Shop.member(1)), (Shop.orderMapping, "order:1", Shop.order(1, lines: [Shop.line(1, 1)])),
        ] {
            for payload in [upsert, #"{"delete": {"id": 1}}"#] {
                try await storage.withTransaction { transaction in
                    let type = try await MappedType(mapping, in: transaction)
                    try await type.apply([try type.prepare(Bench.record(key, payload, type: mapping.definition.id), scope: 7)], in: transaction)
                    let id = EntityID(type: mapping.definition.id, scope: 7, key: EntityKey(key))
                    for locking in [false, true] { _ = try await type.payloads(of: [id], locking: locking, in: transaction) }
                }
            }
        }
        return (log.statements, bench)
    }

    /// The table behind `insert into`, and the columns of its `on conflict`, if it has one.
    private func upsert(_ statement: String) -> (table: String, isUpsert: Bool)? {
        guard statement.hasPrefix("insert into ") else { return nil }
        let table = statement.dropFirst(12).prefix { $0 != " " }.filter { $0 != "`" }
        return (table, statement.contains("on duplicate key update") || statement.contains("on conflict"))
    }

    /// `replace` and `insert ignore` change or drop rows that nobody meant, and `on duplicate key update` takes any unique
    /// key for the one that is meant.
    @Test(arguments: TestDatabase.available)
    func noStatementReplacesOrIgnoresARowThatItDoesNotMean(kind: TestDatabase) async throws {
        let (statements, bench) = try await self.statements(kind)
        #expect(statements.count > 60)
        var upserted: Set<String> = []
        for statement in statements {
            let lower = statement.lowercased()
            #expect(!lower.hasPrefix("replace"), Comment(rawValue: statement))
            #expect(!lower.contains("insert ignore"), Comment(rawValue: statement))
            #expect(!lower.contains("insert or "), Comment(rawValue: statement))
            #expect(!lower.contains("update ignore") && !lower.contains("update or "), Comment(rawValue: statement))
            if let (table, isUpsert) = self.upsert(lower), isUpsert { upserted.insert(table) }
        }
        #expect(upserted.isSuperset(of: ["sync_config", "sync_entity", "sync_send", "sync_log_tail", "sync_frontier", "sync_attempt", "member", "orders"]))
        for table in upserted {
            let shape = try await bench.storage.withTransaction(.snapshot) { try await $0.shape(of: table) }
            #expect(shape?.primaryKey.isEmpty == false, Comment(rawValue: table))
            #expect(shape?.otherUniqueKeys == [], Comment(rawValue: table))
        }
    }
}
