import DataSync
import Foundation
import RetailTrade

/// A branch and a cloud whose programs end at each labelled point on the way to another key, and to another machine. After each of them
/// the branch can sync, or the next command makes it so.
struct KeyWalk {
    private let desk: Desk
    private(set) var hits: [CrashPoint: Int] = [:]
    private var records = 0

    static let points: Set<CrashPoint> = [
        .keyWritten, .keyOffered, .keyInPlace, .keyUsed, .offerBeforeCommit, .offerAfterCommit, .keyChangeBeforeCommit, .keyChangeAfterCommit,
        .cloudNextKeyWritten, .cloudKeyBeforeCommit, .cloudKeyAfterCommit, .cloudKeyInPlace, .replaceBeforeCommit, .replaceAfterCommit,
    ]

    init(in folder: URL) async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.desk = try await Desk(in: folder)
    }

    mutating func run() async throws {
        var cloud = try self.desk.open()
        defer { cloud.stop() }
        try await self.sync()
        for point in [CrashPoint.keyWritten, .keyOffered, .keyInPlace, .keyUsed] {
            try self.end(.local, ["key", "rotate"], at: point)
            try await self.sync()
        }
        // What the last one has left is finished, or begun anew.
        var keys: Set<String> = [try self.succeed(.local, ["key", "show"])]
        try self.succeed(.local, ["key", "rotate"])
        keys.insert(try self.succeed(.local, ["key", "show"]))
        guard keys.count == 2 else { throw TradeError("the key was not changed") }
        try await self.sync()

        for point in [CrashPoint.offerBeforeCommit, .offerAfterCommit, .keyChangeBeforeCommit, .keyChangeAfterCommit] {
            cloud.stop()
            let dying = try self.serve(["CRASH_AT": "\(point.rawValue):1"])
            let rotation = try self.command(.local, ["key", "rotate"])
            guard rotation.status == 69 else { throw TradeError("\(point.rawValue): the rotation ended with \(rotation.status): \(rotation.complaints)") }
            guard try await dying.end(within: 30) == .signal(SIGKILL) else { throw TradeError("\(point.rawValue) was not reached") }
            self.hits[point, default: 0] += 1
            cloud = try self.serve([:])
            try await self.sync()
            try self.succeed(.local, ["key", "rotate"])
            try await self.sync()
        }

        let first = try self.succeed(.cloud, ["key", "show"])
        for point in [CrashPoint.cloudNextKeyWritten, .cloudKeyBeforeCommit, .cloudKeyAfterCommit] {
            try self.end(.cloud, ["key", "rotate"], at: point)
            try await self.sync()
        }
        try await self.syncUntilTheNewerKeyIsKnown()
        try self.succeed(.cloud, ["key", "activate"])
        try await self.sync()
        try self.end(.cloud, ["key", "retire"], at: .cloudKeyInPlace)
        try await self.sync()
        let last = try self.succeed(.cloud, ["key", "show"])
        guard first != last, last.hasSuffix("signs") else { throw TradeError("the cloud's key was not changed: \(last)") }
        cloud.stop()
        cloud = try self.serve([:])
        try await self.sync()

        try self.end(.cloud, ["branch", "replace", "7"], at: .replaceBeforeCommit)
        try await self.sync()
        try self.end(.cloud, ["branch", "replace", "7"], at: .replaceAfterCommit)
        let shutOut = try self.command(.local, ["sync"])
        guard shutOut.status != 0 else { throw TradeError("a branch that was replaced goes on") }
        let token = try self.succeed(.cloud, ["branch", "token", "7"])
        let again = try self.command(.local, ["join"], input: token)
        guard again.status == 77 else { throw TradeError("the key that was shut out joins again: \(again.status) \(again.complaints)") }
        try FileManager.default.removeItem(at: self.desk.folder.appending(path: "datasync.key"))
        try self.succeed(.local, ["join"], input: token)
        try await self.sync()
        for program in [Desk.Program.cloud, .local] { try self.succeed(program, ["audit", "verify"]) }
    }

    /// The cloud looks at its keys every few seconds, tells the branch with an answer, and hears of it with the request after that.
    private mutating func syncUntilTheNewerKeyIsKnown() async throws {
        let start = ContinuousClock.now
        while try !self.command(.cloud, ["key", "show"]).output.contains("every active branch knows the newer key") {
            guard start.seconds < 60 else { throw TradeError("the branch does not hear of the cloud's next key") }
            try await self.sync()
        }
    }

    /// One more record arrives.
    private mutating func sync() async throws {
        self.records += 1
        try self.succeed(
            .local, ["put", "--type", "item", "--key", "item:\(self.records)"], input: "{\"upsert\":{\"id\":\(self.records),\"name\":\"soap\"}}")
        try self.succeed(.local, ["sync"])
        guard try await self.desk.count("cloud", "select count(*) from item") == self.records else {
            throw TradeError("record \(self.records) has not arrived")
        }
    }

    private func command(_ program: Desk.Program, _ arguments: [String], input: String = "", environment: [String: String] = [:]) throws -> CommandResult {
        try CommandResult.of("\(Programs.folder)/\(program.rawValue)", arguments, in: self.desk.folder, environment: environment, input: input)
    }

    @discardableResult
    private func succeed(_ program: Desk.Program, _ arguments: [String], input: String = "") throws -> String {
        let result = try self.command(program, arguments, input: input)
        guard result.status == 0 else { throw TradeError("\(arguments.joined(separator: " ")) ended with \(result.status): \(result.complaints)") }
        return result.output.isEmpty ? "" : result.lastLine
    }

    private mutating func end(_ program: Desk.Program, _ arguments: [String], at point: CrashPoint) throws {
        let result = try self.command(program, arguments, environment: ["CRASH_AT": "\(point.rawValue):1"])
        guard result.end == .signal(SIGKILL) else { throw TradeError("\(point.rawValue): the command ended by \(result.end): \(result.complaints)") }
        self.hits[point, default: 0] += 1
    }

    private func serve(_ environment: [String: String]) throws -> RunningProgram {
        let cloud = try RunningProgram(
            "\(Programs.folder)/datasync-cloud", ["serve"], in: self.desk.folder, log: "serve-\(UUID().uuidString.prefix(4)).log", environment: environment)
        try cloud.waitUntilReady()
        return cloud
    }
}
