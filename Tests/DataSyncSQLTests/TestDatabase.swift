import DataSync
@testable import DataSyncMySQL
import DataSyncSQL
import DataSyncSQLite
import Foundation
import Synchronization
import Testing

/// What the tests of this folder run against.
enum TestDatabase: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case sqlite
    case mariadb
    /// The same server, spoken to as MySQL is: rows are inserted by statements of many rows instead of arrays.
    case mysqlStatements

    static let socket = ProcessInfo.processInfo.environment["DATASYNC_TEST_MYSQL_SOCKET"]
    static let hasServer = Self.socket != nil
    static let hint: Comment = "DATASYNC_TEST_MYSQL_SOCKET is not set: Scripts/test starts a private MariaDB and sets it"

    static var available: [TestDatabase] { Self.hasServer ? Self.allCases : [.sqlite] }

    var isSQLite: Bool { self == .sqlite }
    var testDescription: String { self.rawValue }

    static func configuration(database: String) -> MySQLConfiguration {
        var configuration = MySQLConfiguration(socket: Self.socket, user: "root", database: database)
        // That the machine is busy is not what these tests are about.
        (configuration.connectTimeout, configuration.answerTimeout) = (.seconds(600), .seconds(600))
        return configuration
    }

    /// A fresh, empty database of this kind.
    func make() async throws -> any SQLDatabase {
        if self.isSQLite {
            let folder = FileManager.default.temporaryDirectory.appending(path: "datasync-sql-tests")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            return SQLiteDatabase(path: folder.appending(path: "\(UUID()).sqlite").path)
        }
        let name = "q_\(UUID().uuidString.replacingOccurrences(of: "-", with: ""))"
        let server = try await MySQLDatabase(Self.configuration(database: "mysql")).connect()
        _ = try await server.execute(Bench.mark("create database \(name) character set utf8mb4 collate utf8mb4_bin"), [])
        await server.close()
        let database = MySQLDatabase(Self.configuration(database: name))
        return self == .mariadb ? database : MySQLStatementsDatabase(base: database)
    }
}

/// Asks until it is so, where there is nothing to be told by. The time is only there to end a hang.
/// - Returns: Whether it came to that.
func asking(_ condition: () async throws -> Bool) async throws -> Bool {
    let start = ContinuousClock.now
    while start.duration(to: .now) < .seconds(600) {
        if try await condition() { return true }
        await Task.yield()
    }
    return false
}

/// Without a server two thirds of this folder's arguments are missing; this line says so in the list of tests.
@Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
func theServerIsPartOfThisRun() async throws {
    #expect(TestDatabase.available.count == 3)
}

/// A MariaDB server that is spoken to as if it were MySQL.
struct MySQLStatementsDatabase: SQLDatabase {
    let base: MySQLDatabase

    var name: String { self.base.name }
    var writersMax: Int { self.base.writersMax }
    var idleMax: Duration { self.base.idleMax }

    func connect() async throws -> any SQLConnection {
        let session = MySQLSession(label: "datasync.tests")
        _ = try await session.set(configuration: self.base.configuration, packetBytesMin: 1 << 20)
        // Small packets, so that a batch is cut into pieces.
        try await session.perform { $0.learn(packetBytesMax: 64 << 10, hasBulk: false) }
        return MySQLConnection(session, socket: await session.socket(), dialect: SQLDialect(.mysql, version: "8.0.36"))
    }

    func takeLease() async throws -> any StorageLease { try await self.base.takeLease() }
}

/// A server that never gives up a session that waits, or lets others wait: for tests in which one does until the test has seen it.
private struct PatientDatabase: SQLDatabase {
    let base: any SQLDatabase

    var name: String { self.base.name }
    var writersMax: Int { self.base.writersMax }
    var idleMax: Duration { self.base.idleMax }

    func connect() async throws -> any SQLConnection {
        let connection = try await self.base.connect()
        for assignment in ["idle_transaction_timeout = 0", "max_statement_time = 0", "innodb_lock_wait_timeout = 600"] {
            _ = try await connection.execute(Bench.mark("set session \(assignment)"), [])
        }
        return connection
    }

    func takeLease() async throws -> any StorageLease { try await self.base.takeLease() }
}

/// A storage on a database of its own, with what tests ask of it.
struct Bench: Sendable {
    let kind: TestDatabase
    let database: any SQLDatabase
    let storage: SQLStorage

    /// - Parameters:
    ///   - isMigrated: Whether it has DataSync's tables.
    ///   - isPatient: Whether sessions wait for locks, and idle in transactions, for as long as it takes. Not on SQLite.
    init(_ kind: TestDatabase, isMigrated: Bool = false, isPatient: Bool = false) async throws {
        self.kind = kind
        let database = try await kind.make()
        self.database = isPatient ? PatientDatabase(base: database) : database
        self.storage = SQLStorage(self.database, connectionsMax: 4, waitMax: .seconds(600))
        if isMigrated { try await self.storage.migrate() }
    }

    /// `Scripts/check-sql` looks at the statements of the product, and knows those of tests by this.
    static func mark(_ sql: String) -> String { "/* test */ " + sql }

    /// Runs statements of the application, one after the other.
    func run(_ statements: String...) async throws {
        try await self.storage.withConnection { connection, _ in
            for statement in statements { _ = try await connection.execute(Self.mark(statement), []) }
        }
    }

    /// Runs the statement of the dialect.
    func run(sqlite: String, mysql: String) async throws { try await self.run(self.kind.isSQLite ? sqlite : mysql) }

    func query(_ sql: String, _ values: [SQLValue] = []) async throws -> SQLRows {
        try await self.storage.withConnection { connection, _ in try await connection.query(Self.mark(sql), values) }
    }

    /// Rows as text, NULL as nil.
    func texts(_ sql: String) async throws -> [[String?]] {
        try await self.query(sql).map { row in try (0..<row.count).map { try row.optionalText($0) } }
    }

    // MARK: - Mapped types

    func type(_ mapping: TypeMapping) async throws -> MappedType {
        try await self.storage.withTransaction(.snapshot) { try await MappedType(mapping, in: $0) }
    }

    /// Why a mapping is refused, for the operator.
    func refusal(of mapping: TypeMapping) async throws -> String? {
        do {
            _ = try await self.type(mapping)
            return nil
        } catch let error as DataSyncError {
            #expect(error.code == .invalidConfiguration)
            return error.detail
        }
    }

    /// Prepares and applies records as one chunk.
    func apply(_ type: MappedType, _ records: [(key: String, payload: String)], scope: ServerID? = 7) async throws {
        let prepared = try records.enumerated().map { index, record in
            try type.prepare(Self.record(record.key, record.payload, type: type.definition.id, number: index + 1), scope: scope)
        }
        try await self.storage.withTransaction { try await type.apply(prepared, in: $0) }
    }

    func apply(_ type: MappedType, _ key: String, _ payload: String, scope: ServerID? = 7) async throws {
        try await self.apply(type, [(key, payload)], scope: scope)
    }

    /// What is held against a record, wherever it is found.
    func fault(_ type: MappedType, _ key: String, _ payload: String, scope: ServerID? = 7) async throws -> RecordFault? {
        do {
            try await self.apply(type, key, payload, scope: scope)
            return nil
        } catch let fault as RecordFault { return fault }
    }

    static func record(_ key: String, _ payload: String, type: BusinessTypeID, number: Int = 1) -> SyncRecord {
        SyncRecord(
            stream: StreamID(origin: 7, epoch: 1, type: type), synID: Int64(number), uid: RecordUID(high: 1, low: UInt64(number)),
            key: EntityKey(key), target: .cloud, createTime: 1, client: nil, payload: payload)
    }
}
