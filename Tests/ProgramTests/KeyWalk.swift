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
        var keys: Set<String> = [try self.desk.succeed(.local, "key", "show").lastLine]
        try self.desk.succeed(.local, "key", "rotate")
        keys.insert(try self.desk.succeed(.local, "key", "show").lastLine)
        guard keys.count == 2 else { throw TradeError("the key was not changed") }
        try await self.sync()

        for point in [CrashPoint.offerBeforeCommit, .offerAfterCommit, .keyChangeBeforeCommit, .keyChangeAfterCommit] {
            cloud.stop()
            let dying = try self.desk.serve(["CRASH_AT": "\(point.rawValue):1"])
            let rotation = try self.desk.run(.local, "key", "rotate")
            guard rotation.status == 69 else { throw TradeError("\(point.rawValue): the rotation ended with \(rotation.status): \(rotation.complaints)") }
            guard try await dying.end() == .signal(SIGKILL) else { throw TradeError("\(point.rawValue) was not reached") }
            self.hits[point, default: 0] += 1
            cloud = try self.desk.serve([:])
            try await self.sync()
            try self.desk.succeed(.local, "key", "rotate")
            try await self.sync()
        }

        let first = try self.desk.succeed(.cloud, "key", "show").lastLine
        for point in [CrashPoint.cloudNextKeyWritten, .cloudKeyBeforeCommit, .cloudKeyAfterCommit] {
            try self.end(.cloud, ["key", "rotate"], at: point)
            try await self.sync()
        }
        try await self.syncUntilTheNewerKeyIsKnown()
        try self.desk.succeed(.cloud, "key", "activate")
        try await self.sync()
        try self.end(.cloud, ["key", "retire"], at: .cloudKeyInPlace)
        try await self.sync()
        let last = try self.desk.succeed(.cloud, "key", "show").lastLine
        guard first != last, last.hasSuffix("signs") else { throw TradeError("the cloud's key was not changed: \(last)") }
        cloud.stop()
        cloud = try self.desk.serve([:])
        try await self.sync()

        try self.end(.cloud, ["branch", "replace", "7"], at: .replaceBeforeCommit)
        try await self.sync()
        try self.end(.cloud, ["branch", "replace", "7"], at: .replaceAfterCommit)
        let shutOut = try self.desk.run(.local, "sync")
        guard shutOut.status != 0 else { throw TradeError("a branch that was replaced goes on") }
        let token = try self.desk.succeed(.cloud, "branch", "token", "7").lastLine
        let again = try self.desk.run(.local, "join", input: token)
        guard again.status == 77 else { throw TradeError("the key that was shut out joins again: \(again.status) \(again.complaints)") }
        try FileManager.default.removeItem(at: self.desk.folder.appending(path: "datasync.key"))
        try self.desk.succeed(.local, "join", input: token)
        try await self.sync()
        for program in [Desk.Program.cloud, .local] { try self.desk.succeed(program, "audit", "verify") }
    }

    /// The cloud looks at its keys every few seconds, tells the branch with an answer, and hears of it with the request after that.
    private mutating func syncUntilTheNewerKeyIsKnown() async throws {
        let start = ContinuousClock.now
        while try !self.desk.run(.cloud, "key", "show").output.contains("every active branch knows the newer key") {
            guard start.seconds < 600 else { throw TradeError("the branch does not hear of the cloud's next key") }
            try await self.sync()
        }
    }

    /// One more record arrives.
    private mutating func sync() async throws {
        self.records += 1
        try await self.desk.carry(self.records)
    }

    private mutating func end(_ program: Desk.Program, _ arguments: [String], at point: CrashPoint) throws {
        try self.desk.end(program, arguments, at: point)
        self.hits[point, default: 0] += 1
    }
}
