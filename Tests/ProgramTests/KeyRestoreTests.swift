import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// Databases that are put back to a time before a key was changed: who is locked out, and how it gets in again.
    @Suite struct KeyRestoreTests {
        @Test func aCloudThatHasForgottenTheKeysTakesTheBranchBack() async throws {
            try await Programs.withFolder { folder in
                let office = try await Office(in: folder)
                var cloud = try office.desk.open()
                defer { cloud.stop() }
                try await office.sync(1)
                cloud.stop()
                try office.keepCopy(of: "cloud")
                cloud = try office.desk.start(.cloud, "serve", log: "second.log")
                try cloud.waitUntilReady()
                try office.succeed(.local, "key", "rotate")
                for step in [["rotate"], ["activate"], ["retire", "--force"]] {
                    if step == ["activate"] { try await office.syncUntilTheNewerKeyIsKnown() }
                    try office.succeed(.cloud, ["key"] + step)
                }
                try await office.sync(2)
                cloud.stop()
                try office.putBack("cloud")
                let restored = try office.succeed(.cloud, "restored")
                let key = try office.succeed(.cloud, "key", "show")
                #expect(restored.contains("the backup is older than the cloud's key"))
                #expect(key.contains("signs"))
                cloud = try office.desk.start(.cloud, "serve", log: "third.log")
                try cloud.waitUntilReady()
                // The cloud knows the branch by a key that is gone, and a token that is for that key is no help.
                #expect(try office.desk.run(.local, "sync").status == 69)
                let useless = try office.succeed(.cloud, "branch", "token", "7")
                #expect(try office.desk.run(.local, "join", input: useless).status == 77)
                let token = try office.succeed(.cloud, "branch", "replace", "7")
                try office.succeed(.local, "join", input: token)
                try await office.sync(3)
                #expect(try await office.desk.count("cloud", "select count(*) from item") == 3)
                for program in [Desk.Program.cloud, .local] { try office.succeed(program, "audit", "verify") }
            }
        }

        @Test func aBranchThatHasForgottenTheCloudsKeyJoinsAgainWithItsOwn() async throws {
            try await Programs.withFolder { folder in
                let office = try await Office(in: folder)
                var cloud = try office.desk.open()
                defer { cloud.stop() }
                try await office.sync(1)
                try office.keepCopy(of: "branch")
                try office.succeed(.cloud, "key", "rotate")
                try await office.syncUntilTheNewerKeyIsKnown()
                try office.succeed(.cloud, "key", "activate")
                try office.succeed(.cloud, "key", "retire", "--force")
                // It looks at its keys every few seconds, and at once when it is started.
                cloud.stop()
                cloud = try office.desk.start(.cloud, "serve", log: "second.log")
                try cloud.waitUntilReady()
                try office.putBack("branch")
                let lockedOut = try office.desk.run(.local, "sync")
                #expect(lockedOut.status == 69)
                #expect(lockedOut.complaints.contains("not signed by the cloud that this branch joined"))
                try office.succeed(.local, "join", input: try office.succeed(.cloud, "branch", "token", "7"))
                try await office.sync(2)
            }
        }
    }
}

private struct Office {
    let desk: Desk

    init(in folder: URL) async throws { self.desk = try await Desk(in: folder) }

    @discardableResult
    func succeed(_ program: Desk.Program, _ arguments: String..., input: String = "") throws -> String {
        try self.succeed(program, arguments, input: input)
    }

    @discardableResult
    func succeed(_ program: Desk.Program, _ arguments: [String], input: String = "") throws -> String {
        let result = try CommandResult.of("\(Programs.folder)/\(program.rawValue)", arguments, in: self.desk.folder, environment: [:], input: input)
        guard result.status == 0 else { throw TradeError("\(arguments.joined(separator: " ")) ended with \(result.status): \(result.complaints)") }
        return result.output
    }

    /// A record of the branch arrives, and all before it are there.
    func sync(_ number: Int) async throws {
        try self.succeed(.local, "put", "--type", "item", "--key", "item:\(number)", input: "{\"upsert\":{\"id\":\(number),\"name\":\"soap\"}}")
        try self.succeed(.local, "sync")
        let count = try await self.desk.count("cloud", "select count(*) from item")
        guard count == number else { throw TradeError("\(count) of \(number) records have arrived") }
    }

    func syncUntilTheNewerKeyIsKnown() async throws {
        try await self.desk.eventually("the branch knows the cloud's next key", within: 60) {
            try self.succeed(.local, "sync")
            return try self.succeed(.cloud, "key", "show").contains("every active branch knows the newer key")
        }
    }

    func keepCopy(of name: String) throws {
        try FileManager.default.copyItem(at: self.file(name), to: self.file("\(name)-copy"))
    }

    func putBack(_ name: String) throws {
        for beside in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: self.file(name).path + beside) }
        try FileManager.default.removeItem(at: self.file(name))
        try FileManager.default.copyItem(at: self.file("\(name)-copy"), to: self.file(name))
    }

    private func file(_ name: String) -> URL { self.desk.folder.appending(path: "\(name).sqlite") }
}
