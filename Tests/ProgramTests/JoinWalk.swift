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
        try self.desk.succeed(.cloud, "init")
        try self.desk.succeed(.local, "init")

        try self.end(.cloud, ["branch", "add", "7", "Market Street"], at: .inviteBeforeCommit)
        try self.end(.cloud, ["branch", "add", "7", "Market Street"], at: .inviteAfterCommit)
        // It is there, and its token is not: another is printed.
        let token = try self.desk.succeed(.cloud, "branch", "token", "7").lastLine

        try self.end(.local, ["join"], input: token, at: .joinKeyWritten)
        for point in [CrashPoint.enrolBeforeCommit, .enrolAfterCommit] {
            let cloud = try self.desk.serve(["CRASH_AT": "\(point.rawValue):1"])
            let join = try self.desk.run(.local, "join", input: token)
            guard join.status == 69 else { throw TradeError("a cloud that is gone lets a branch join: \(join.status) \(join.complaints)") }
            guard try await cloud.end() == .signal(SIGKILL) else { throw TradeError("\(point.rawValue) was not reached") }
            self.hits[point, default: 0] += 1
        }
        let cloud = try self.desk.serve()
        defer { cloud.stop() }
        for point in [CrashPoint.joinEnrolled, .joinBeforeCommit, .joinAfterCommit] { try self.end(.local, ["join"], input: token, at: point) }
        try self.desk.succeed(.local, "join", input: token)
        try await self.desk.carry(1)
    }

    private mutating func end(_ program: Desk.Program, _ arguments: [String], input: String = "", at point: CrashPoint, pass: Int = 1) throws {
        try self.desk.end(program, arguments, input: input, at: point, pass: pass)
        self.hits[point, default: 0] += 1
    }
}
