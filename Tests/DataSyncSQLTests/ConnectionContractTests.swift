import DataSync
import DataSyncMySQL
import DataSyncSQL
import DataSyncSQLite
import DataSyncTesting
import Synchronization
import Testing

/// What every connection to a server promises (DESIGN section 7), against a real one.
@Suite(.enabled(if: TestDatabase.hasServer, TestDatabase.hint), .serialized)
struct ConnectionContractTests {
    private static func makeBench() async throws -> Bench {
        let bench = try await Bench(.mariadb, isMigrated: true)
        try await bench.run("create table stock (id int not null primary key, pieces int not null)", "insert into stock values (1, 10), (2, 20)")
        return bench
    }

    private static func watcher() async throws -> any SQLConnection {
        try await MySQLDatabase(TestDatabase.configuration(database: "mysql")).connect()
    }

    /// Asks the server until it is so.
    private static func until(_ connection: any SQLConnection, _ sql: String) async throws {
        let isSo = try await asking { try await !connection.query(Bench.mark(sql), []).isEmpty }
        #expect(isSo, "never: \(sql)")
    }

    @Test func whateverTheServerIsSetToEveryConnectionIsStrict() async throws {
        let server = try await Self.watcher()
        let names = ["sql_mode", "time_zone", "tx_isolation", "innodb_lock_wait_timeout", "foreign_key_checks"]
        let before = try await server.query(Bench.mark("select \(names.map { "@@global.\($0)" }.joined(separator: ", "))"), [])[0]
        let values = try names.indices.map { "global \(names[$0]) = " + (try before.optionalText($0).map { Int($0) == nil ? "'\($0)'" : $0 } ?? "null") }
        for assignment in [
            "sql_mode = ''", "time_zone = '-05:00'", "tx_isolation = 'SERIALIZABLE'", "innodb_lock_wait_timeout = 50", "foreign_key_checks = 0",
        ] { _ = try await server.execute(Bench.mark("set global \(assignment)"), []) }
        do {
            let connection = try await MySQLDatabase(TestDatabase.configuration(database: "mysql")).connect()
            let row = try await connection.query(
                Bench.mark(
                    """
                    select @@sql_mode, @@time_zone, @@tx_isolation, @@innodb_lock_wait_timeout, @@foreign_key_checks, @@character_set_client,
                      @@character_set_connection, @@character_set_results, @@idle_transaction_timeout, @@max_statement_time, @@lock_wait_timeout
                    """), [])[0]
            let modes = Set(try row.text(0).split(separator: ","))
            #expect(modes.isSuperset(of: ["STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "NO_ZERO_IN_DATE", "NO_ZERO_DATE", "ERROR_FOR_DIVISION_BY_ZERO"]))
            #expect(try row.text(1) == "+00:00")
            #expect(try row.text(2) == "READ-COMMITTED")
            #expect(try row.int(3) <= 10)
            #expect(try row.int(4) == 1)
            #expect(try [row.text(5), row.text(6), row.text(7)] == ["utf8mb4", "utf8mb4", "utf8mb4"])
            #expect(try row.int(8) == 15)
            #expect(try Double(row.text(9)) == 10)
            #expect(try row.int(10) <= 30)
            await connection.close()
        } catch { Issue.record(error) }
        // Others use this server too.
        for value in values { _ = try await server.execute(Bench.mark("set \(value)"), []) }
        await server.close()
    }

    /// That it does so on a cluster is shown by `Scripts/torture --galera`; any MariaDB with the library compiled in knows the setting.
    @Test func atANodeOfAClusterEveryTransactionBeginsWithWhatTheOthersHaveCommitted() async throws {
        let connection = try await Self.watcher()
        let rows = try await connection.query(Bench.mark("show session variables like 'wsrep_sync_wait'"), [])
        if let row = rows.first { #expect(try Int(row.text(1)).map { $0 & 1 } == 1) }
        await connection.close()
    }

    @Test func aDamagedValueIsRefusedNotStored() async throws {
        let bench = try await Self.makeBench()
        for statement in [
            "update stock set pieces = 99999999999", "update stock set pieces = 'many'", "insert into stock (id) values (3)", "update stock set pieces = 1 / 0",
        ] {
            await #expect(throws: (any Error).self) { try await bench.storage.withTransaction { try await $0.execute(Bench.mark(statement)) } }
        }
        #expect(try await bench.texts("select pieces from stock order by id") == [["10"], ["20"]])
    }

    @Test func anUpdateThatChangesNothingHasFoundItsRow() async throws {
        let bench = try await Self.makeBench()
        let found = try await bench.storage.withTransaction { transaction in
            [
                try await transaction.execute(Bench.mark("update stock set pieces = 10 where id = 1")),
                try await transaction.execute(Bench.mark("update stock set pieces = ? where id = ?"), [.int(10), .int(9)]),
            ]
        }
        #expect(found == [1, 0])
    }

    @Test func aServerThatTakesTooLittleInOnePacketIsRefused() async throws {
        var limits = SyncLimits()
        limits.recordBytesMax = 512 << 20
        let error = await #expect(throws: DataSyncError.self) {
            try await MySQLDatabase(TestDatabase.configuration(database: "mysql"), limits: limits).connect()
        }
        #expect(error?.code == .storageFailed)
        #expect(error?.detail?.contains("max_allowed_packet") == true)
    }

    @Test func aServerThatCannotBeUsedIsExplained() async throws {
        func refusal(_ change: (inout MySQLConfiguration) -> Void) async -> DataSyncError? {
            var configuration = TestDatabase.configuration(database: "mysql")
            configuration.password = "hunter2"
            var dumped = ""
            dump(configuration, to: &dumped)
            #expect(!dumped.contains("hunter2") && !"\(configuration)".contains("hunter2"))
            change(&configuration)
            do {
                _ = try await MySQLDatabase(configuration).connect()
                return nil
            } catch { return error as? DataSyncError }
        }
        let absent = await refusal { $0.socket = "/nowhere/socket" }
        #expect(absent?.code == .storageUnavailable)
        let database = await refusal { ($0.password, $0.database) = (nil, "no_such_database") }
        #expect(database?.code == .storageFailed)
        #expect(database?.detail?.contains("create it") == true)
        let user = await refusal { $0.user = "nobody_at_all" }
        #expect(user?.code == .storageFailed)
        #expect(user?.detail?.contains("'nobody_at_all'") == true)
        for error in [absent, database, user] {
            #expect(error.map { String(reflecting: $0).contains("hunter2") } == false)
        }
    }

    @Test func aKilledConnectionIsReplaced() async throws {
        let bench = try await Self.makeBench()
        let server = try await Self.watcher()
        let id = try await bench.storage.withTransaction { try await $0.query(Bench.mark("select connection_id()"))[0].int(0) }
        // Idle in the pool: whoever gets it next is told that the storage was unavailable, and nothing was done.
        _ = try await server.execute(Bench.mark("kill \(id)"), [])
        try await Self.until(server, "select 1 from dual where not exists (select 1 from information_schema.processlist where id = \(id))")
        do {
            _ = try await bench.storage.withTransaction { try await $0.execute(Bench.mark("update stock set pieces = 1 where id = 1")) }
        } catch let error as DataSyncError { #expect(error.code == .storageUnavailable) }
        _ = try await bench.storage.withTransaction { try await $0.execute(Bench.mark("update stock set pieces = 2 where id = 1")) }
        #expect(try await bench.texts("select pieces from stock where id = 1") == [["2"]])
        await server.close()
    }

    @Test func aKilledConnectionIsNeverUsedAgain() async throws {
        let server = try await Self.watcher()
        let connection = try await Self.watcher()
        let id = try await connection.query(Bench.mark("select connection_id()"), [])[0].int(0)
        _ = try await server.execute(Bench.mark("kill \(id)"), [])
        try await Self.until(server, "select 1 from dual where not exists (select 1 from information_schema.processlist where id = \(id))")
        for _ in 1...2 {
            let error = await #expect(throws: SQLError.self) { try await connection.query(Bench.mark("select 1"), []) }
            #expect(error?.fault == .connection)
            #expect(!connection.isUsable)
        }
        await connection.close()
        await server.close()
    }

    @Test func aConnectionThatIsKilledInATransactionLeavesNothing() async throws {
        let bench = try await Self.makeBench()
        let server = try await Self.watcher()
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark("update stock set pieces = 0 where id = 1"))
                let id = try await transaction.query(Bench.mark("select connection_id()"))[0].int(0)
                _ = try await server.execute(Bench.mark("kill \(id)"), [])
                try await Self.until(server, "select 1 from dual where not exists (select 1 from information_schema.processlist where id = \(id))")
                try await transaction.execute(Bench.mark("update stock set pieces = 0 where id = 2"))
            }
        }
        #expect(error?.code == .storageUnavailable)
        #expect(try await bench.texts("select pieces from stock order by id") == [["10"], ["20"]])
        await server.close()
    }

    @Test func aConnectionThatIsLostAtTheCommitLeavesItsOutcomeOpen() async throws {
        let bench = try await Self.makeBench()
        let server = try await Self.watcher()
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark("update stock set pieces = 0 where id = 1"))
                let id = try await transaction.query(Bench.mark("select connection_id()"))[0].int(0)
                _ = try await server.execute(Bench.mark("kill \(id)"), [])
                try await Self.until(server, "select 1 from dual where not exists (select 1 from information_schema.processlist where id = \(id))")
            }
        }
        #expect(error?.code == .commitUnknown)
        #expect(error?.code.isWorthRunningAgain == true)
        await server.close()
    }

    @Test func waitingForAConnectionIsBounded() async throws {
        let database = try await TestDatabase.mariadb.make()
        let storage = SQLStorage(database, connectionsMax: 1, waitMax: .milliseconds(50))
        let error = await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { _ in
                try await storage.withTransaction(.snapshot) { _ in }
            }
        }
        #expect(error?.code == .storageUnavailable)
        #expect(error?.detail?.contains("no database connection became free") == true)
        #expect(error?.retryAfter != nil)
        // It was given back.
        #expect(try await storage.withTransaction { try await $0.query(Bench.mark("select 1"))[0].int(0) } == 1)
    }

    @Test func aStorageThatWasClosedSaysSo() async throws {
        let bench = try await Self.makeBench()
        await bench.storage.close()
        let error = await #expect(throws: DataSyncError.self) { try await bench.storage.withTransaction { _ in } }
        #expect(error?.code == .storageUnavailable)
    }

    @Test func aCancelledCallClosesItsConnection() async throws {
        let bench = try await Self.makeBench()
        let server = try await Self.watcher()
        let connection = try await bench.database.connect()
        let id = try await connection.query(Bench.mark("select connection_id()"), [])[0].int(0)
        _ = try await connection.execute(Bench.mark("set session max_statement_time = 0"), [])
        let call = Task { try await connection.query(Bench.mark("select sleep(600)"), []) }
        try await Self.until(server, "select id from information_schema.processlist where id = \(id) and state = 'User sleep'")
        let clock = ContinuousClock()
        let start = clock.now
        call.cancel()
        await #expect(throws: CancellationError.self) { try await call.value }
        // Long before the server would have answered.
        #expect(clock.now - start < .seconds(300))
        #expect(!connection.isUsable)
        await #expect(throws: (any Error).self) { try await connection.query(Bench.mark("select 1"), []) }
        await connection.close()
        await server.close()
    }

    @Test func aCancelledTransactionLeavesNothingAndItsConnectionIsNotUsedAgain() async throws {
        let bench = try await Self.makeBench()
        let server = try await Self.watcher()
        let (ids, started) = AsyncStream.makeStream(of: Int64.self)
        let unit = Task {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark("update stock set pieces = 0 where id = 1"))
                started.yield(try await transaction.query(Bench.mark("select connection_id()"))[0].int(0))
                try await transaction.execute(Bench.mark("set session max_statement_time = 0"))
                _ = try await transaction.query(Bench.mark("select sleep(600)"))
            }
        }
        let id = try #require(await ids.first { _ in true })
        try await Self.until(server, "select id from information_schema.processlist where id = \(id) and state = 'User sleep'")
        unit.cancel()
        await #expect(throws: CancellationError.self) { try await unit.value }
        let next = try await bench.storage.withTransaction { try await $0.query(Bench.mark("select connection_id()"))[0].int(0) }
        #expect(next != id)
        #expect(try await bench.texts("select pieces from stock where id = 1") == [["10"]])
        await server.close()
    }

    /// Two units that lock the same rows in opposite orders: one is rolled back by the server, run again, and passes.
    @Test func aDeadlockIsRunAgain() async throws {
        let bench = try await Self.makeBench()
        let victims = Counter()
        let both = Barrier(parties: 2)
        let attempts = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (first, second) in [(1, 2), (2, 1)] {
                group.addTask {
                    for attempt in 1...20 {
                        attempts.raise()
                        do {
                            try await bench.storage.withTransaction { transaction in
                                try await transaction.execute(Bench.mark("update stock set pieces = pieces + 1 where id = ?"), [.int(first)])
                                if attempt == 1 { await both.arrive() }
                                try await transaction.execute(Bench.mark("update stock set pieces = pieces + 1 where id = ?"), [.int(second)])
                            }
                            return
                        } catch let error as DataSyncError where error.code == .storageBusy && attempt < 20 {
                            victims.raise()
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        // Each unit took effect once, and one of them was a victim.
        #expect(try await bench.texts("select pieces from stock order by id") == [["12"], ["22"]])
        #expect(victims.count >= 1)
        #expect(attempts.count >= 3)
    }

    @Test func whatIsNotCommittedIsNotSeen() async throws {
        let bench = try await Self.makeBench()
        let other = try await bench.database.connect()
        try await other.begin(.write)
        _ = try await other.execute(Bench.mark("update stock set pieces = 0 where id = 2"), [])
        let seen = try await bench.storage.withTransaction { transaction in
            try await transaction.query(Bench.mark("select pieces from stock where id = 2"))[0].int(0)
        }
        #expect(seen == 20)
        try await other.rollback()
        await other.close()
    }

    @Test func rowsThatSomebodyLocksAreNumberedInTheirOrder() async throws {
        let bench = try await Bench(.mariadb, isMigrated: true)
        try await bench.storage.withTransaction { transaction in
            try await transaction.appendOutbox((1...2).map { NewOutboxRow(type: 1, key: EntityKey("a:\($0)"), payload: "{}") })
        }
        let other = try await bench.database.connect()
        try await other.begin(.write)
        _ = try await other.query(Bench.mark("select id from sync_data order by id limit 1 for update"), [])
        let heads = try await bench.storage.withTransaction { try await $0.outboxHeads(in: 1...Int64.max, newOnly: false, limit: 10) }
        #expect(heads.map(\.id) == [1, 2])
        try await other.rollback()
        await other.close()
    }

    @Test func aLockThatIsNotGivenInTimeIsNobodysFault() async throws {
        let bench = try await Self.makeBench()
        let other = try await bench.database.connect()
        try await other.begin(.write)
        _ = try await other.execute(Bench.mark("update stock set pieces = 0 where id = 2"), [])
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark("set session innodb_lock_wait_timeout = 1"))
                try await transaction.execute(Bench.mark("update stock set pieces = 5 where id = 1"))
                try await transaction.execute(Bench.mark("update stock set pieces = 5 where id = 2"))
            }
        }
        #expect(error?.code == .storageBusy)
        try await other.rollback()
        await other.close()
        // The server rolls back the statement alone; the unit must not keep its first half.
        #expect(try await bench.texts("select pieces from stock order by id") == [["10"], ["20"]])
        _ = try await bench.storage.withTransaction { try await $0.execute(Bench.mark("update stock set pieces = 5 where id = 2")) }
    }

    /// What follows in it would be committed one by one.
    @Test(arguments: ["create table more (id int)", "rollback", "commit"])
    func aTransactionThatTheServerHasEndedGoesNoFurther(statement: String) async throws {
        let bench = try await Self.makeBench()
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark(statement))
                try await transaction.execute(Bench.mark("update stock set pieces = 5 where id = 2"))
            }
        }
        #expect(error?.code == .storageBusy)
        #expect(try await bench.texts("select pieces from stock order by id") == [["10"], ["20"]])
    }

    @Test func aStatementThatTakesTooLongIsTheSystemsFault() async throws {
        let bench = try await Self.makeBench()
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { transaction in
                try await transaction.execute(Bench.mark("set session max_statement_time = 0.2"))
                _ = try await transaction.query(
                    Bench.mark(
                        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 900) select count(*) from n a, n b, n c where a.i + b.i + c.i = 0"
                    ))
            }
        }
        #expect(error?.code == .storageFailed)
    }

    /// What goes into a statement comes out of the table: as single values, and as columns of a batch.
    @Test(arguments: [TestDatabase.mariadb, .mysqlStatements], UInt64(1)...10)
    func valuesSurviveTheDriver(kind: TestDatabase, seed: UInt64) async throws {
        let bench = try await Bench(kind)
        try await bench.run(
            "create table cell (id int not null primary key, i bigint, u bigint unsigned, d double, t mediumtext character set utf8mb4, b mediumblob)")
        var generator = SeededGenerator(seed: seed)
        let texts = [
            "", "a", "价格 😀", "\u{0}nul\u{0}", "'`\"\\", String(repeating: "é", count: 700), String(repeating: "x", count: 1_024),
            String(repeating: "😀y", count: 9_000),
        ]
        func maybe(_ value: SQLValue) -> SQLValue { Int.random(in: 0..<4, using: &generator) == 0 ? .null : value }
        let rows: [[SQLValue]] = (0..<Int.random(in: 1...300, using: &generator)).map { id in
            [
                .int(id), maybe(.int(Int64.random(in: .min ... .max, using: &generator))),
                maybe(Bool.random(using: &generator) ? .int(5) : .text("18446744073709551615")),
                maybe(.double(Double.random(in: -1e300...1e300, using: &generator))), maybe(.text(texts.randomElement(using: &generator)!)),
                maybe(.bytes((0..<[0, 1, 40, 3_000].randomElement(using: &generator)!).map { _ in UInt8.random(in: 0...255, using: &generator) })),
            ]
        }
        var batch = SQLBatch(insertInto: "cell", columns: ["id", "i", "u", "d", "t", "b"])
        for row in rows.dropFirst(rows.count / 2) { batch.append(row) }
        let inserted = batch
        try await bench.storage.withTransaction { transaction in
            for row in rows.prefix(rows.count / 2) { try await transaction.execute("insert into cell values (?, ?, ?, ?, ?, ?)", row) }
            #expect(try await transaction.execute(inserted) == rows.count - rows.count / 2)
        }
        let found = try await bench.query("select id, i, u, d, t, b from cell order by id")
        #expect(found.count == rows.count)
        for (row, expected) in zip(found, rows) { #expect((0..<6).map { row[$0] } == expected) }
    }
}

@Suite struct SQLitePoolTests {
    @Test func aSecondWriterWaitsForABoundedTime() async throws {
        let storage = SQLStorage(try await TestDatabase.sqlite.make(), connectionsMax: 4, waitMax: .milliseconds(50))
        let error = await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { _ in try await storage.withTransaction { _ in } }
        }
        #expect(error?.code == .storageUnavailable)
        // Readers are not in the way of a writer.
        #expect(try await storage.withTransaction { _ in try await storage.withTransaction(.snapshot) { try await $0.query("select 1")[0].int(0) } } == 1)
    }

    @Test func aFolderThatIsNotThereIsExplained() async throws {
        let storage = SQLStorage(SQLiteDatabase(path: "/nowhere/at/all.sqlite"))
        let error = await #expect(throws: DataSyncError.self) { try await storage.migrate() }
        #expect(error?.code == .storageFailed)
        #expect(error?.detail?.contains("cannot be opened") == true)
    }
}

/// Lets tasks go on when all of them have come.
private actor Barrier {
    private let parties: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(parties: Int) { self.parties = parties }

    func arrive() async {
        if self.waiting.count + 1 == self.parties {
            for continuation in self.waiting { continuation.resume() }
            self.waiting = []
        } else {
            await withCheckedContinuation { self.waiting.append($0) }
        }
    }
}

private final class Counter: Sendable {
    private let value = Mutex(0)

    func raise() { self.value.withLock { $0 += 1 } }
    var count: Int { self.value.withLock { $0 } }
}
