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
                try await office.desk.carry(1)
                cloud.stop()
                try office.keepCopy(of: "cloud")
                cloud = try office.desk.start(.cloud, "serve", log: "second.log")
                try cloud.waitUntilReady()
                try office.desk.succeed(.local, "key", "rotate")
                for step in [["rotate"], ["activate"], ["retire", "--force"]] {
                    if step == ["activate"] { try await office.syncUntilTheNewerKeyIsKnown() }
                    try office.desk.succeed(.cloud, ["key"] + step)
                }
                try await office.desk.carry(2)
                cloud.stop()
                try office.putBack("cloud")
                let restored = try office.desk.succeed(.cloud, "restored").output
                let key = try office.desk.succeed(.cloud, "key", "show").output
                #expect(restored.contains("the backup is older than the cloud's key"))
                #expect(key.contains("signs"))
                cloud = try office.desk.start(.cloud, "serve", log: "third.log")
                try cloud.waitUntilReady()
                // The cloud knows the branch by a key that is gone, and a token that is for that key is no help.
                #expect(try office.desk.run(.local, "sync").status == 69)
                let useless = try office.desk.succeed(.cloud, "branch", "token", "7").output
                #expect(try office.desk.run(.local, "join", input: useless).status == 77)
                let token = try office.desk.succeed(.cloud, "branch", "replace", "7").output
                try office.desk.succeed(.local, "join", input: token)
                try await office.desk.carry(3)
                #expect(try await office.desk.count("cloud", "select count(*) from item") == 3)
                for program in [Desk.Program.cloud, .local] { try office.desk.succeed(program, "audit", "verify") }
            }
        }

        @Test func aBranchThatHasForgottenTheCloudsKeyJoinsAgainWithItsOwn() async throws {
            try await Programs.withFolder { folder in
                let office = try await Office(in: folder)
                var cloud = try office.desk.open()
                defer { cloud.stop() }
                try await office.desk.carry(1)
                try office.keepCopy(of: "branch")
                try office.desk.succeed(.cloud, "key", "rotate")
                try await office.syncUntilTheNewerKeyIsKnown()
                try office.desk.succeed(.cloud, "key", "activate")
                try office.desk.succeed(.cloud, "key", "retire", "--force")
                // It looks at its keys every few seconds, and at once when it is started.
                cloud.stop()
                cloud = try office.desk.start(.cloud, "serve", log: "second.log")
                try cloud.waitUntilReady()
                try office.putBack("branch")
                let lockedOut = try office.desk.run(.local, "sync")
                #expect(lockedOut.status == 69)
                #expect(lockedOut.complaints.contains("not signed by the cloud that this branch joined"))
                try office.desk.succeed(.local, "join", input: try office.desk.succeed(.cloud, "branch", "token", "7").output)
                try await office.desk.carry(2)
            }
        }
    }
}

private struct Office {
    let desk: Desk

    init(in folder: URL) async throws { self.desk = try await Desk(in: folder) }

    func syncUntilTheNewerKeyIsKnown() async throws {
        try await self.desk.eventually("the branch knows the cloud's next key") {
            try self.desk.succeed(.local, "sync")
            return try self.desk.succeed(.cloud, "key", "show").output.contains("every active branch knows the newer key")
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
