import DataSync
import DataSyncMySQL
public import DataSyncSQL
import DataSyncSQLite
public import Foundation

/// Where the sites of a company keep their tables.
public enum SiteDatabase: Sendable {
    /// A file for each site.
    case sqlite
    /// A database for each site, on the server behind this socket, which its program may reach through another one.
    case mariadb(socket: String, programsSocket: String? = nil)
    /// A database on a cluster whose nodes are behind these sockets. The program uses the first unless it is told otherwise, the
    /// applications one after the other.
    case cluster(sockets: [String])
}

/// One server of the company: a folder with a configuration and a key, a database with the business's tables and
/// DataSync's, and the program that carries between them and the rest of the company.
public final class Site: Sendable {
    public let id: Int32
    public let folder: URL
    /// What the site's own applications use.
    public let storage: SQLStorage
    private let executable: String
    /// `serve` or `run`.
    public let daemon: Daemon
    public var program: RunningProgram? { self.daemon.program }

    public var isCloud: Bool { self.id == 0 }

    /// Creates the folder, the database, the business's tables and the configuration, and runs `init`.
    /// - Parameters:
    ///   - programs: Where the two programs are.
    ///   - settings: More YAML, before the business types.
    ///   - types: The `types:` of the configuration.
    ///   - tables: What defines the business's tables; told whether the database is SQLite.
    public init(
        id: Int32, in parent: URL, programs: String, database: SiteDatabase, settings: String, types: String, tables: (Bool) -> [String]
    ) async throws {
        self.id = id
        let name = id == 0 ? "cloud" : "branch\(id)"
        self.folder = parent.appending(path: name)
        self.executable = "\(programs)/\(id == 0 ? "datasync-cloud" : "datasync-local")"
        self.daemon = Daemon(self.executable, [id == 0 ? "serve" : "run"], in: self.folder, name: "run")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        let url: String
        switch database {
        case .sqlite:
            url = "sqlite:\(self.folder.path)/site.sqlite"
            self.storage = SQLStorage(SQLiteDatabase(path: "\(self.folder.path)/site.sqlite"), connectionsMax: 4, waitMax: .seconds(10))
        case .mariadb(let socket, let programsSocket):
            let schema = try await Self.makeSchema(name, in: parent, socket: socket)
            url = Self.url(schema, socket: programsSocket ?? socket)
            self.storage = SQLStorage(
                MySQLDatabase(MySQLConfiguration(socket: socket, user: "retail", database: schema)), connectionsMax: 4, waitMax: .seconds(10))
        case .cluster(let sockets):
            let schema = try await Self.makeSchema(name, in: parent, socket: sockets[0])
            url = Self.url(schema, socket: sockets[0])
            let nodes = sockets.map { MySQLDatabase(MySQLConfiguration(socket: $0, user: "retail", database: schema)) }
            self.storage = SQLStorage(ClusterDatabase(nodes), connectionsMax: 8, waitMax: .seconds(10))
        }
        let isSQLite = if case .sqlite = database { true } else { false }
        try await self.define(tables(isSQLite))
        let text = "storage:\n  url: \(url)\nlog:\n  format: json\n\(settings)\n\(types)"
        try text.write(to: self.folder.appending(path: self.configuration), atomically: true, encoding: .utf8)
        try self.succeed(["init"])
    }

    /// Makes an empty database, and an account for it.
    private static func makeSchema(_ name: String, in parent: URL, socket: String) async throws -> String {
        let schema = "\(parent.lastPathComponent.filter { $0.isLetter || $0.isNumber })_\(name)"
        let server = try await MySQLDatabase(MySQLConfiguration(socket: socket, user: "root", database: "mysql")).connect()
        _ = try await server.execute("drop database if exists \(schema)", [])
        _ = try await server.execute("create database \(schema)", [])
        // Not root: who may do everything may write to a server that is read-only, and get in when it is full.
        _ = try await server.execute("create user if not exists retail@localhost", [])
        _ = try await server.execute("grant all on \(schema).* to retail@localhost", [])
        await server.close()
        return schema
    }

    /// Where a program finds the database.
    static func url(_ schema: String, socket: String) -> String { "mysql://retail@localhost/\(schema)?socket=\(socket)" }

    /// The applications' own account: the business's tables are theirs.
    public func define(_ statements: [String]) async throws {
        try await self.storage.withConnection { connection, _ in
            for statement in statements { _ = try await connection.execute(statement, []) }
        }
    }

    private var configuration: String { self.isCloud ? "datasync-cloud.yaml" : "datasync-local.yaml" }

    // MARK: - The program

    /// Runs a command of the site's program to its end.
    public func command(_ arguments: [String], input: String = "", environment: [String: String] = [:]) throws -> CommandResult {
        try CommandResult.of(self.executable, arguments, in: self.folder, environment: environment, input: input)
    }

    /// - Returns: The last line that it printed.
    @discardableResult
    public func succeed(_ arguments: [String], input: String = "") throws -> String {
        let result = try self.command(arguments, input: input)
        guard result.status == 0 else {
            throw TradeError("\(arguments.joined(separator: " ")) ended with \(result.status): \(result.complaints)")
        }
        return result.lastLine
    }

    /// What `status --json` says.
    public func status() throws -> [String: Any] {
        let result = try self.command(["status", "--json"])
        guard result.status == 0, let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any] else {
            throw TradeError("status ended with \(result.status): \(result.complaints)")
        }
        return object
    }

    /// Starts `serve` or `run`.
    public func start(_ arguments: [String] = [], environment: [String: String] = [:]) throws {
        try self.daemon.start(arguments, environment: environment)
    }

    /// Another replica of the cloud, over the same database, at a port of its own.
    /// - Parameter more: What else `serve` is told, such as another node of the database.
    public func replica(_ number: Int, port: Int, with more: [String] = []) -> Daemon {
        Daemon(self.executable, ["serve", "--port", "\(port)"] + more, in: self.folder, name: "replica\(number).")
    }

    @discardableResult
    public func stop() -> Int32 { self.daemon.stop() }

    /// Ends the program as a power cut would.
    public func kill() { self.daemon.kill() }
}
