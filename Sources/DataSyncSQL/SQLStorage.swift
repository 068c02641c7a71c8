public import DataSync

/// The storage on an SQL database: DataSync's tables next to the business tables, in one database and one transaction.
public final class SQLStorage: SyncStorage, LeasingStorage {
    public let database: any SQLDatabase
    private let pool: SQLPool

    /// - Parameters:
    ///   - connectionsMax: Most connections at a time.
    ///   - waitMax: How long a transaction waits for one of them before the storage is called busy.
    public init(_ database: any SQLDatabase, connectionsMax: Int = 16, waitMax: Duration = .seconds(2)) {
        self.database = database
        self.pool = SQLPool(database, connectionsMax: connectionsMax, waitMax: waitMax)
    }

    public func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (SQLTransaction) async throws -> Result
    ) async throws -> Result {
        do {
            return try await self.pool.withConnection(access) { connection in
                let transaction = SQLTransaction(connection, dialect: connection.dialect)
                try await Self.orClose(connection) { try await connection.begin(access) }
                let result: Result
                do { result = try await body(transaction) } catch {
                    if PlantedBug.isOn(.commitAfterLockTimeout), connection.isUsable { try? await connection.commit() }
                    // After any error everything goes: a commit after a lock wait would keep half of the unit.
                    if connection.isUsable { try? await Self.orClose(connection) { try await connection.rollback() } }
                    throw error
                }
                try await Self.orClose(connection) {
                    if access == .write { try await connection.commit() } else { try await connection.rollback() }
                }
                return result
            }
        } catch let error as SQLError { throw error.inStorage("transaction") }
    }

    /// Begins or ends a transaction. A connection on which that failed may be inside of one still, as SQLite is after a
    /// commit that a deferred constraint refused: nobody gets it again.
    private static func orClose(_ connection: any SQLConnection, _ step: () async throws -> Void) async throws {
        do { try await step() } catch {
            if connection.isUsable { try? await connection.rollback() }
            await connection.close()
            throw error
        }
    }

    public func takeLease() async throws -> any StorageLease { try await self.database.takeLease() }

    /// Closes the connections that are not in use, and the others as they come back.
    public func close() async { await self.pool.close() }

    // MARK: - Schema

    /// Checks that the tables are those of this version.
    /// - Throws: `storageNotReady` or `storageTooNew`, saying what to do.
    public func checkSchema() async throws {
        let version = try await self.schemaVersion()
        guard version != Migration.latest else { return }
        if version > Migration.latest { throw self.tooNew(version) }
        throw DataSyncError(
            .storageNotReady, operation: "schema",
            detail: version == 0
                ? "\(self.database.name) has no tables of DataSync yet: run init"
                : "the tables in \(self.database.name) are of version \(version), this program needs \(Migration.latest): run init")
    }

    /// Creates the tables, or brings them to this version. Changes nothing where they are of this version already.
    /// - Parameters:
    ///   - limits: Its `recordBytesMax` is what an insert into `sync_data` may hold.
    ///   - environment: What is told how far this has got.
    /// - Returns: The version that the tables had before, 0 for none.
    @discardableResult
    public func migrate(limits: SyncLimits = SyncLimits(), environment: SyncEnvironment = .system) async throws -> Int {
        let version = try await self.schemaVersion()
        if version > Migration.latest { throw self.tooNew(version) }
        try await self.withConnection { connection, dialect in
            for migration in Migration.all where migration.number > version {
                for statement in migration.sql(for: dialect) {
                    _ = try await connection.execute(statement, [])
                    await environment.passes(.initBetweenStatements)
                }
                await environment.passes(.initBeforeVersion)
                // After the step: where it breaks off, it is run again.
                let tail = dialect.upsertTail(key: ["name"], replacing: ["value"])
                _ = try await connection.execute(
                    "insert into sync_config (name, value) values (?, ?)" + tail,
                    [.text(Migration.settingName), .text(String(migration.number))])
                await environment.passes(.initAfterVersion)
            }
        }
        try await self.withTransaction(.write) { transaction in
            try await transaction.prepareTables()
        }
        try await self.limitRecords(to: limits.recordBytesMax)
        return version
    }

    private func tooNew(_ version: Int) -> DataSyncError {
        DataSyncError(
            .storageTooNew, operation: "schema",
            detail: "the tables in \(self.database.name) are of version \(version), written by a newer DataSync; this program "
                + "knows versions up to \(Migration.latest): install the newer one")
    }

    private func schemaVersion() async throws -> Int {
        try await self.withConnection { connection, dialect in
            let lookup =
                dialect.isSQLite
                ? "select count(*) from sqlite_master where type = 'table' and name = 'sync_config'"
                : "select count(*) from information_schema.tables where table_schema = database() and table_name = 'sync_config'"
            guard try await connection.query(lookup, [])[0].int(0) > 0 else { return 0 }
            let rows = try await connection.query(
                "select value from sync_config where name = ?", [.text(Migration.settingName)])
            guard let row = rows.first else { return 0 }
            return try Int(row.int(0))
        }
    }

    /// Refuses larger payloads where they are inserted, whatever program inserts them.
    private func limitRecords(to bytes: Int) async throws {
        try await self.withConnection { connection, dialect in
            if dialect.isSQLite {
                _ = try await connection.execute("drop trigger if exists sync_data_size", [])
                _ = try await connection.execute(
                    """
                    create trigger sync_data_size before insert on sync_data
                    when length(cast(new.data_detail as blob)) > \(bytes)
                    begin select raise(abort, 'data_detail is larger than limits.record_bytes (\(bytes) bytes)'); end
                    """, [])
                return
            }
            let name = "record_bytes"
            let known = try await connection.query("select value from sync_config where name = ?", [.text(name)])
            // Asked of the catalogue: MySQL commits around each of these, and the last time may have ended between two.
            let constraints = try await connection.query(
                """
                select count(*) from information_schema.table_constraints
                where constraint_schema = database() and table_name = 'sync_data' and constraint_name = 'sync_data_size'
                """, [])
            let isConstrained = try constraints[0].int(0) > 0
            if try isConstrained && known.first?.text(0) == String(bytes) { return }
            if isConstrained {
                _ = try await connection.execute("alter table sync_data drop constraint sync_data_size", [])
            }
            _ = try await connection.execute(
                "alter table sync_data add constraint sync_data_size check (length(data_detail) <= \(bytes))", [])
            _ = try await connection.execute(
                "insert into sync_config (name, value) values (?, ?)" + dialect.upsertTail(key: ["name"], replacing: ["value"]),
                [.text(name), .text(String(bytes))])
        }
    }

    /// Lends a connection outside of a transaction: for definitions of tables, which no transaction takes back on MySQL,
    /// and for reading the catalogue.
    public func withConnection<Result: Sendable>(
        _ body: (any SQLConnection, SQLDialect) async throws -> Result
    ) async throws -> Result {
        do {
            return try await self.pool.withConnection(.write) { connection in
                try await body(connection, connection.dialect)
            }
        } catch let error as SQLError { throw error.inStorage("connection") }
    }
}
