import DataSync
import DataSyncSQL
import DataSyncSQLite
import Foundation
import RetailTrade

/// One branch and its cloud on SQLite, at an operator's desk: commands are typed, and their answers read.
///
/// `item` is carried to every branch, and has room for twenty characters.
struct Desk {
    let folder: URL
    let port: Int

    enum Program: String { case cloud = "datasync-cloud", local = "datasync-local" }

    static let types = """
        types:
          - id: 1
            name: item
            priority: 10
            route: all
            tables:
              - table: item
                key: [id]
                columns: [name]

        """

    /// - Parameters:
    ///   - local: More YAML for the branch.
    ///   - limits: The `limits:` of both, line by line.
    init(in folder: URL, local: String = "", limits: [String] = ["retry_delays: 1s, 1s"], branchURL: String = "sqlite:./branch.sqlite") async throws {
        self.folder = folder
        self.port = try freePort()
        let common = "log:\n  format: json\nlimits:\n" + limits.map { "  \($0)\n" }.joined() + Self.types
        try self.write(
            "storage:\n  url: sqlite:./cloud.sqlite\nidentity:\n  key_file: ./cloud.key\nhttp:\n  port: \(self.port)\n" + common, to: "datasync-cloud.yaml")
        try self.write(
            "storage:\n  url: \(branchURL)\ncloud:\n  url: http://127.0.0.1:\(self.port)\nschedule:\n  interval: 200ms\n\(local)" + common,
            to: "datasync-local.yaml")
        for name in ["cloud", "branch"] {
            try await self.database(name) { connection in
                _ = try await connection.execute("create table item (id bigint not null primary key, name varchar(20) not null)", [])
            }
        }
    }

    func write(_ text: String, to name: String) throws {
        try text.write(to: self.folder.appending(path: name), atomically: true, encoding: .utf8)
    }

    func run(_ program: Program, _ arguments: String..., input: String = "", environment: [String: String] = [:]) throws -> CommandResult {
        try self.run(program, arguments, input: input, environment: environment)
    }

    func run(_ program: Program, _ arguments: [String], input: String = "", environment: [String: String] = [:]) throws -> CommandResult {
        let result = try CommandResult.of("\(Programs.folder)/\(program.rawValue)", arguments, in: self.folder, environment: environment, input: input)
        // What commands answer is looked through for secrets, but for those whose answer is a token.
        if !Self.tellingTokens.contains(Array(arguments.prefix(2))) { try self.note(result.output) }
        return result
    }

    private static let tellingTokens = [["branch", "add"], ["branch", "token"], ["branch", "replace"], ["user", "setup"]]

    /// Keeps an answer where no secret may be found: see `Scripts/check-secrets`.
    private func note(_ answer: String) throws {
        try append(Data(answer.utf8), to: self.folder.appending(path: "answers.log"))
    }

    func start(_ program: Program, _ arguments: String..., log: String? = nil, environment: [String: String] = [:]) throws -> RunningProgram {
        try RunningProgram(
            "\(Programs.folder)/\(program.rawValue)", arguments, in: self.folder, log: log ?? "\(program.rawValue).log", environment: environment)
    }

    /// Runs a command that has to do its work.
    @discardableResult
    func succeed(_ program: Program, _ arguments: String..., input: String = "") throws -> CommandResult {
        try self.succeed(program, arguments, input: input)
    }

    @discardableResult
    func succeed(_ program: Program, _ arguments: [String], input: String = "") throws -> CommandResult {
        let result = try self.run(program, arguments, input: input)
        guard result.status == 0 else { throw TradeError("\(arguments.joined(separator: " ")) ended with \(result.status): \(result.complaints)") }
        return result
    }

    /// Runs a command that has to end at a labelled point, when it passes it for the time `pass`.
    func end(_ program: Program, _ arguments: [String], input: String = "", at point: CrashPoint, pass: Int = 1) throws {
        let result = try self.run(program, arguments, input: input, environment: ["CRASH_AT": "\(point.rawValue):\(pass)"])
        guard result.end == .signal(SIGKILL) else { throw TradeError("\(point.rawValue):\(pass): the command ended by \(result.end): \(result.complaints)") }
    }

    /// The cloud, ready, with a log of its own.
    func serve(_ environment: [String: String] = [:]) throws -> RunningProgram {
        let cloud = try self.start(.cloud, "serve", log: "serve-\(UUID().uuidString.prefix(4)).log", environment: environment)
        try cloud.waitUntilReady()
        return cloud
    }

    /// The branch's record of this number arrives, and all before it are there.
    func carry(_ number: Int) async throws {
        try self.succeed(.local, "put", "--type", "item", "--key", "item:\(number)", input: "{\"upsert\":{\"id\":\(number),\"name\":\"soap\"}}")
        try self.succeed(.local, "sync")
        let count = try await self.count("cloud", "select count(*) from item where name = 'soap'")
        guard count == number else { throw TradeError("\(count) of \(number) records have arrived") }
    }

    /// Both databases with their tables, the branch joined, the cloud serving.
    func open() throws -> RunningProgram {
        _ = try self.run(.cloud, "init")
        _ = try self.run(.local, "init")
        let cloud = try self.start(.cloud, "serve")
        try cloud.waitUntilReady()
        let token = try self.run(.cloud, "branch", "add", "7", "Market Street").lastLine
        let join = try self.run(.local, "join", input: token)
        guard join.status == 0 else { throw TradeError("join: \(join.complaints)") }
        return cloud
    }

    /// As an application that uses the database directly.
    func database<Result: Sendable>(_ name: String, _ body: (any SQLConnection) async throws -> Result) async throws -> Result {
        let connection = try await SQLiteDatabase(path: self.folder.appending(path: "\(name).sqlite").path).connect()
        do {
            let result = try await body(connection)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }

    func count(_ name: String, _ question: String) async throws -> Int {
        try await self.database(name) { try await Int($0.query(question, [])[0].int(0)) }
    }

    /// Inserts rows of `sync_data` at the branch, past all checks of `put`.
    func insert(_ rows: (type: Int, name: String, payload: String)...) async throws {
        try await self.database("branch") { connection in
            for row in rows {
                _ = try await connection.execute(
                    "insert into sync_data (business_type, data_from_detail, data_detail) values (?, ?, ?)",
                    [.int(row.type), .text(row.name), .text(row.payload)])
            }
        }
    }

    /// Asks again until the answer is there, or fails after a time that is only there to end a hang.
    func eventually(_ what: String, within seconds: Double = 600, _ condition: () async throws -> Bool) async throws {
        let start = ContinuousClock.now
        while !(try await condition()) {
            guard start.seconds < seconds else { throw TradeError("after \(Int(seconds)) s not yet: \(what)") }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}
