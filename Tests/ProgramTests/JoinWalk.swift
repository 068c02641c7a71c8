import DataSync
import DataSyncMySQL
import DataSyncSQL
import Foundation
import RetailTrade

/// A cloud and a branch whose programs end at each labelled point on the way to the first record: while tables are created, while the
/// branch is introduced, and while it joins.
struct JoinWalk {
    private let desk: Desk
    private let round: Int
    private(set) var hits: [CrashPoint: Int] = [:]

    static let points: Set<CrashPoint> = [
        .initBetweenStatements, .initBeforeVersion, .initAfterVersion, .cloudKeyWritten, .inviteBeforeCommit, .inviteAfterCommit, .enrolBeforeCommit,
        .enrolAfterCommit, .joinKeyWritten, .joinEnrolled, .joinBeforeCommit, .joinAfterCommit,
    ]

    /// - Parameter server: For the branch; without one it is on SQLite, as the cloud is.
    init(round: Int, in folder: URL, server: MariaDBServer?) async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.round = round
        guard let server else {
            self.desk = try await Desk(in: folder)
            return
        }
        let connection = try await MySQLDatabase(MySQLConfiguration(socket: server.socket, user: "root", database: "mysql")).connect()
        _ = try await connection.execute("create database join\(round)", [])
        _ = try await connection.execute("create table join\(round).item (id bigint not null primary key, name varchar(20) not null)", [])
        await connection.close()
        self.desk = try await Desk(in: folder, branchURL: "mysql://root@localhost/join\(round)?socket=\(server.socket)")
    }

    mutating func run() async throws {
        for program in [Desk.Program.cloud, .local] {
            try self.end(program, ["init"], at: .initBetweenStatements, pass: self.round)
            try self.end(program, ["init"], at: .initBeforeVersion)
            try self.end(program, ["init"], at: .initAfterVersion)
        }
        try self.end(.cloud, ["init"], at: .cloudKeyWritten)
        try self.succeed(.cloud, ["init"])
        try self.succeed(.local, ["init"])

        try self.end(.cloud, ["branch", "add", "7", "Market Street"], at: .inviteBeforeCommit)
        try self.end(.cloud, ["branch", "add", "7", "Market Street"], at: .inviteAfterCommit)
        // It is there, and its token is not: another is printed.
        let token = try self.succeed(.cloud, ["branch", "token", "7"])

        try self.end(.local, ["join"], input: token, at: .joinKeyWritten)
        for point in [CrashPoint.enrolBeforeCommit, .enrolAfterCommit] {
            let cloud = try self.serve(environment: ["CRASH_AT": "\(point.rawValue):1"])
            let join = try self.command(.local, ["join"], input: token)
            guard join.status == 69 else { throw TradeError("a cloud that is gone lets a branch join: \(join.status) \(join.complaints)") }
            guard try await cloud.end(within: 30) == .signal(SIGKILL) else { throw TradeError("\(point.rawValue) was not reached") }
            self.hits[point, default: 0] += 1
        }
        let cloud = try self.serve(environment: [:])
        defer { cloud.stop() }
        for point in [CrashPoint.joinEnrolled, .joinBeforeCommit, .joinAfterCommit] { try self.end(.local, ["join"], input: token, at: point) }
        try self.succeed(.local, ["join"], input: token)
        try self.succeed(.local, ["put", "--type", "item", "--key", "item:1"], input: "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}")
        try self.succeed(.local, ["sync"])
        guard try await self.desk.count("cloud", "select count(*) from item where name = 'soap'") == 1 else {
            throw TradeError("the first record has not arrived")
        }
    }

    private func command(_ program: Desk.Program, _ arguments: [String], input: String = "", environment: [String: String] = [:]) throws -> CommandResult {
        try CommandResult.of("\(Programs.folder)/\(program.rawValue)", arguments, in: self.desk.folder, environment: environment, input: input)
    }

    @discardableResult
    private func succeed(_ program: Desk.Program, _ arguments: [String], input: String = "") throws -> String {
        let result = try self.command(program, arguments, input: input)
        guard result.status == 0 else { throw TradeError("\(arguments.joined(separator: " ")) ended with \(result.status): \(result.complaints)") }
        return result.lastLine
    }

    private mutating func end(_ program: Desk.Program, _ arguments: [String], input: String = "", at point: CrashPoint, pass: Int = 1) throws {
        let result = try self.command(program, arguments, input: input, environment: ["CRASH_AT": "\(point.rawValue):\(pass)"])
        guard result.end == .signal(SIGKILL) else { throw TradeError("\(point.rawValue):\(pass): the command ended by \(result.end): \(result.complaints)") }
        self.hits[point, default: 0] += 1
    }

    private func serve(environment: [String: String]) throws -> RunningProgram {
        let cloud = try RunningProgram(
            "\(Programs.folder)/datasync-cloud", ["serve"], in: self.desk.folder, log: "serve-\(UUID().uuidString.prefix(4)).log", environment: environment)
        try cloud.waitUntilReady()
        return cloud
    }
}
