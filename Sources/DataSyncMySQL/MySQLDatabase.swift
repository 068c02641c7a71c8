import CMariaDB
public import DataSync
public import DataSyncSQL

/// A database of a MySQL (8.0.16 or newer) or MariaDB (10.6 or newer) server.
public struct MySQLDatabase: SQLDatabase {
    public let configuration: MySQLConfiguration
    /// What a server must at least take in one packet.
    private let packetBytesMin: Int

    /// - Parameter limits: A chunk must fit into the server's `max_allowed_packet`.
    public init(_ configuration: MySQLConfiguration, limits: SyncLimits = SyncLimits()) {
        self.configuration = configuration
        // A record of the largest size, escaped by nobody, with its neighbours in the row.
        self.packetBytesMin = max(2 * limits.recordBytesMax + (64 << 10), 1 << 20)
    }

    public var name: String { self.configuration.name }
    public var writersMax: Int { .max }
    public var idleMax: Duration { .seconds(10) }

    // MARK: - Connecting

    public func connect() async throws -> any SQLConnection {
        let session = MySQLSession(label: "datasync.mysql")
        let (configuration, packetBytesMin) = (self.configuration, self.packetBytesMin)
        do {
            let dialect = try await session.set(configuration: configuration, packetBytesMin: packetBytesMin)
            return MySQLConnection(session, socket: await session.socket(), dialect: dialect)
        } catch let error as SQLError {
            await session.close()
            throw self.explain(error)
        } catch {
            await session.close()
            throw error
        }
    }

    private func explain(_ error: SQLError) -> DataSyncError {
        let (code, hint): (DataSyncError.Code, String) =
            switch error.number {
            case 1045, 1698: (.storageFailed, "the server refuses user '\(self.configuration.user)': check the user and storage.password")
            case 1044: (.storageFailed, "user '\(self.configuration.user)' may not use the database: apply what `grants` prints")
            case 1049: (.storageFailed, "the database does not exist: create it")
            case 2002, 2003, 2005: (.storageUnavailable, "the server cannot be reached: is it running, and is the address right?")
            default: (error.fault == .connection ? .storageUnavailable : .storageFailed, "the connection failed")
            }
        return DataSyncError(
            code, operation: "connect", detail: "\(self.name): \(hint) (error \(error.number): \(error.message))")
    }

    // MARK: - Lease

    /// A named lock of the server, held by a connection of its own: it goes when that connection goes, however it went.
    ///
    /// Galera does not share such locks between nodes. There a second agent is stopped by the term alone.
    public func takeLease() async throws -> any StorageLease {
        let connection = try await self.connect()
        do {
            // It is idle between two cycles, for minutes while the cloud cannot be reached: the server must not take it for
            // an abandoned one, as it does the others.
            _ = try await connection.execute("set session wait_timeout = 604800", [])
            let rows = try await connection.query("select get_lock(?, 0)", [.text(Self.leaseName(self.configuration.database))])
            guard case .int(1)? = rows.first?[0] else {
                await connection.close()
                throw DataSyncError(.leaseHeld, operation: "lease", detail: "another agent works on \(self.name)")
            }
            return MySQLLease(connection: connection, name: Self.leaseName(self.configuration.database))
        } catch let error as SQLError {
            await connection.close()
            throw DataSyncError(.storageUnavailable, operation: "lease", detail: "error \(error.number): \(error.message)")
        }
    }

    /// Lock names have at most 64 characters, as names of databases have: of a long one the end goes in as a checksum.
    private static func leaseName(_ database: String) -> String {
        guard database.count > 48 else { return "datasync.agent.\(database)" }
        var checksum = CRC32()
        checksum.update(database)
        return "datasync.agent.\(database.prefix(39)).\(String(checksum.value, radix: 16))"
    }
}

private struct MySQLLease: StorageLease {
    let connection: any SQLConnection
    let name: String

    func isHeld() async -> Bool {
        let rows = try? await self.connection.query("select is_used_lock(?) = connection_id()", [.text(self.name)])
        return rows?.first?[0] == .int(1)
    }

    func release() async {
        // Closing lets go of the lock only when the server has noticed: whoever asks next must not find it held.
        _ = try? await self.connection.query("select release_lock(?)", [.text(self.name)])
        await self.connection.close()
    }
}

// MARK: - The contract of a connection

extension MySQLSession {
    /// Connects, sets the session up and checks that the server did as it was told (DESIGN section 7).
    func set(configuration: MySQLConfiguration, packetBytesMin: Int) throws -> SQLDialect {
        let handle = MySQLHandle(raw: try MySQLSession.connect(configuration))
        let version = try handle.query("select version()", [])[0].text(0)
        let dialect = try MySQLSession.dialect(version)
        for statement in MySQLSession.setup(dialect) { try handle.run(statement) }
        let isNode = try MySQLSession.joinCluster(handle)
        let row = try handle.query(MySQLSession.check(dialect), [])[0]
        let modes = Set(try row.text(0).split(separator: ",").map { String($0) })
        func refuse(_ what: String) -> DataSyncError {
            DataSyncError(.storageFailed, operation: "connect", detail: "\(configuration.name): \(what)")
        }
        guard modes.contains("STRICT_TRANS_TABLES"), modes.contains("STRICT_ALL_TABLES") else {
            throw refuse("the server does not keep a strict sql_mode: it would store damaged values silently")
        }
        guard try row.text(1) == "utf8mb4" else { throw refuse("the server does not speak utf8mb4 with this connection") }
        guard try row.text(2) == "+00:00" else { throw refuse("the server does not keep time_zone '+00:00'") }
        guard try row.text(3).uppercased() == "READ-COMMITTED" else { throw refuse("the server does not keep READ COMMITTED") }
        let packet = try row.int(4, as: Int.self)
        guard packet >= packetBytesMin else {
            throw refuse("max_allowed_packet is \(packet): set it to at least \(packetBytesMin), or lower limits.record_bytes")
        }
        handle.learn(packetBytesMax: min(packet, 16 << 20), hasBulk: dialect.product == .mariadb && !isNode)
        self.handle = handle
        return dialect
    }

    /// Sets a session up at a node of a Galera cluster.
    ///
    /// A node may be behind the others: every transaction begins with what they had committed. Without it a branch that went on at another
    /// node would find there that the cloud has lost what it had confirmed.
    ///
    /// Nor may a statement have arrays of parameters there. Where another node's transaction undoes this one in the midst of it, MariaDB
    /// (10.11.19) says that all went well, has undone what came before, and commits what comes after, row by row.
    /// - Returns: Whether the server is such a node.
    private static func joinCluster(_ handle: MySQLHandle) throws -> Bool {
        do { try handle.run("set session wsrep_sync_wait = @@session.wsrep_sync_wait | 1") } catch let error as SQLError {
            // There is no such setting: the server knows of no clusters.
            guard error.number == 1193 else { throw error }
            return false
        }
        return try handle.query("select @@session.wsrep_on", [])[0].int(0) != 0
    }

    private static func connect(_ configuration: MySQLConfiguration) throws -> UnsafeMutablePointer<MYSQL> {
        guard let raw = mysql_init(nil) else { throw SQLError(.system, number: 0, message: "libmariadb: no memory") }
        func seconds(_ duration: Duration) -> UInt32 { UInt32(clamping: max(1, duration.components.seconds)) }
        _ = datasync_mysql_set_uint(raw, MYSQL_OPT_CONNECT_TIMEOUT, seconds(configuration.connectTimeout))
        _ = datasync_mysql_set_uint(raw, MYSQL_OPT_READ_TIMEOUT, seconds(configuration.answerTimeout))
        _ = datasync_mysql_set_uint(raw, MYSQL_OPT_WRITE_TIMEOUT, seconds(configuration.answerTimeout))
        // The server may not ask for files of this machine, and a lost connection is never replaced silently: with it
        // went the transaction.
        _ = datasync_mysql_set_uint(raw, MYSQL_OPT_LOCAL_INFILE, 0)
        _ = datasync_mysql_set_bool(raw, MYSQL_OPT_RECONNECT, 0)
        _ = mysql_options(raw, MYSQL_SET_CHARSET_NAME, "utf8mb4")
        let tls = configuration.tls
        if tls.mode == .required || tls.mode == .verified { _ = datasync_mysql_set_bool(raw, MYSQL_OPT_SSL_ENFORCE, 1) }
        if tls.mode == .verified { _ = datasync_mysql_set_bool(raw, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, 1) }
        if let file = tls.ca { _ = mysql_options(raw, MYSQL_OPT_SSL_CA, file) }
        if let file = tls.certificate { _ = mysql_options(raw, MYSQL_OPT_SSL_CERT, file) }
        if let file = tls.key { _ = mysql_options(raw, MYSQL_OPT_SSL_KEY, file) }
        if let file = configuration.serverPublicKeyFile { _ = mysql_options(raw, MYSQL_SERVER_PUBLIC_KEY, file) }
        // Found rows, not changed ones: an update that finds its row has done its work.
        let connected = mysql_real_connect(
            raw, configuration.socket == nil ? configuration.host : nil, configuration.user, configuration.password?.revealed,
            configuration.database, UInt32(configuration.port), configuration.socket, UInt(CLIENT_FOUND_ROWS))
        guard connected != nil else {
            let (number, message) = (mysql_errno(raw), String(cString: mysql_error(raw)))
            mysql_close(raw)
            throw SQLError(MySQLErrorTable.fault(number, message: message, inCommit: false), number: Int(number), message: message)
        }
        // libmariadb goes on in the clear where the server offers no TLS, whatever MYSQL_OPT_SSL_ENFORCE says.
        guard tls.mode == .preferred || tls.mode == .disabled || mysql_get_ssl_cipher(raw) != nil else {
            mysql_close(raw)
            throw DataSyncError(
                .storageFailed, operation: "connect",
                detail: "\(configuration.name): the connection is not encrypted, and tls=\(tls.mode.rawValue) asks for it: the server offers no TLS")
        }
        return raw
    }

    private static func dialect(_ version: String) throws -> SQLDialect {
        // MariaDB puts its name behind its number, and before 11 sometimes "5.5.5-" before it.
        let isMariaDB = version.contains("MariaDB")
        let plain = version.hasPrefix("5.5.5-") ? String(version.dropFirst(6)) : version
        let numbers = plain.split { !("0"..."9").contains($0) }.prefix(3).compactMap { Int($0) }
        let minimum = isMariaDB ? [10, 6] : [8, 0, 16]
        guard !numbers.lexicographicallyPrecedes(minimum) else {
            throw DataSyncError(
                .storageFailed, operation: "connect",
                detail: "the server is too old (\(version)): MySQL 8.0.16 or MariaDB 10.6 is needed")
        }
        return SQLDialect(isMariaDB ? .mariadb : .mysql, version: numbers.map { String($0) }.joined(separator: "."))
    }

    private static func setup(_ dialect: SQLDialect) -> [String] {
        let modes = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
        let common = [
            "set session sql_mode = '\(modes)'",
            "set session time_zone = '+00:00'",
            "set session transaction isolation level read committed",
            // Short waits: whoever waits for an application gives up and begins again.
            "set session innodb_lock_wait_timeout = 5",
            "set session lock_wait_timeout = 10",
            "set session foreign_key_checks = 1",
            "set session unique_checks = 1",
        ]
        switch dialect.product {
        // A transaction whose client is gone or paused is ended by the server; so is a statement that takes too long.
        case .mariadb: return common + ["set session idle_transaction_timeout = 15", "set session max_statement_time = 10"]
        case .mysql: return common + ["set session wait_timeout = 15", "set session max_execution_time = 10000"]
        case .sqlite: preconditionFailure("a MySQL connection to SQLite")
        }
    }

    private static func check(_ dialect: SQLDialect) -> String {
        let isolation = dialect.product == .mariadb ? "@@session.tx_isolation" : "@@session.transaction_isolation"
        return "select @@session.sql_mode, @@session.character_set_connection, @@session.time_zone, \(isolation), @@session.max_allowed_packet"
    }
}
