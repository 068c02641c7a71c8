import DataSync
import DataSyncSQL
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// The programs as their users meet them.
    @Suite struct CommandTests {
        @Test func aSecondAgentSaysSoAndExits75() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                let agent = try desk.start(.local, "run")
                try agent.waitUntilReady()
                let second = try desk.run(.local, "run")
                #expect(second.status == 75)
                #expect(second.complaints.contains("another agent"), "\(second.complaints)")
                #expect(agent.isRunning)
                #expect(agent.stop() == 0)
                #expect(agent.logText.contains("\"message\":\"stopped\""))
            }
        }

        @Test func syncNudgesARunningAgentAndWaits() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                // An agent that would not move by itself for an hour.
                let agent = try desk.start(.local, "run", "--interval", "1h")
                defer { agent.stop() }
                try agent.waitUntilReady()
                // What waits in the cloud does not wake it.
                #expect(try desk.run(.cloud, "put", "--type", "item", "--key", "item:1", input: "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}").status == 0)
                let sync = try desk.run(.local, "sync", "--json")
                #expect(sync.status == 0, "\(sync.complaints)")
                #expect((try JSONSerialization.jsonObject(with: Data(sync.output.utf8)) as? [String: Any])?["succeeded"] as? Bool == true)
                #expect(try await desk.count("branch", "select count(*) from item") == 1)
            }
        }

        @Test func statusSpeaksToPeopleAndToPrograms() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await desk.insert((1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"))
                func local() throws -> [String: Any] {
                    let text = try desk.run(.local, "status", "--json").output
                    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
                }
                let before = try #require((try local()["types"] as? [[String: Any]])?.first)
                #expect(before["waiting"] as? Int == 1)
                #expect(before["oldest"] is Int)
                #expect(try desk.run(.local, "sync").status == 0)
                let after = try local()
                #expect(after["branch"] as? Int == 7)
                #expect(after["running"] as? Bool == false)
                let type = try #require((after["types"] as? [[String: Any]])?.first)
                #expect(type["name"] as? String == "item")
                #expect(type["waiting"] as? Int == 0)
                #expect(type["confirmed"] as? Int == 1)
                #expect(try desk.run(.local, "status").output.contains("Market Street"))
                let cloudStatus = try desk.run(.cloud, "status", "--json").output
                let branches = (try JSONSerialization.jsonObject(with: Data(cloudStatus.utf8)) as? [String: Any])?["branches"] as? [[String: Any]]
                #expect(branches?.first?["name"] as? String == "Market Street")
                #expect(try desk.run(.cloud, "branch", "list").output.contains("Market Street"))
                #expect(try desk.run(.local, "--version").output == DataSyncVersion.current + "\n")
            }
        }

        @Test func aDeadRecordIsRetriedAndDiscardedByAPerson() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder, limits: ["retry_delays: 0s, 0s"])
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await desk.insert(
                    (1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"), (1, "item:2", "{\"upsert\":{\"id\":2,\"name\":\"tea\"}}"),
                    (1, "item:3", "{\"upsert\":{\"id\":3,\"name\":\"more than twenty characters\"}}"))
                // Soap and tea are refused by the cloud's table, until a person takes the trigger away.
                try await desk.database("cloud") {
                    _ = try await $0.execute("create trigger no_sale before insert on item begin select raise(abort, 'closed'); end", [])
                }
                try await desk.eventually("all three are dead") {
                    _ = try desk.run(.local, "sync")
                    return try await desk.count("cloud", "select count(*) from sync_memo where disposition = 6") == 3
                }
                try await desk.database("cloud") { _ = try await $0.execute("drop trigger no_sale", []) }
                func id(of entity: String) throws -> String {
                    let lines = try desk.run(.cloud, "dead", "list", "--json").output.split(separator: "\n")
                    for line in lines {
                        let memo = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                        if memo?["entity"] as? String == entity { return "\(try #require(memo?["id"] as? Int))" }
                    }
                    throw TradeError("\(entity) is not among the dead")
                }
                let retry = try desk.run(.cloud, "dead", "retry", try id(of: "item:1"))
                #expect(retry.status == 0)
                #expect(retry.output.contains("applied"))
                let again = try desk.run(.cloud, "dead", "retry", try id(of: "item:3"))
                #expect(again.output.contains("dead"), "\(again.output)\(again.complaints)")
                #expect(try desk.run(.cloud, "dead", "discard", try id(of: "item:2")).status == 0)
                #expect(try await desk.count("cloud", "select count(*) from item") == 1)
                #expect(try desk.run(.cloud, "dead", "retry", "4711").status == 66)
                #expect(try await desk.count("cloud", "select count(*) from sync_audit") >= 3)
                // The branch hears of it: one came through after all, one is given up, one is still dead. A dead record is asked about
                // once a minute; the wait is taken away here.
                try await desk.eventually("the branch's list of the dead is that of the cloud") {
                    try await desk.database("branch") { _ = try await $0.execute("update sync_memo set next_try = 0", []) }
                    _ = try desk.run(.local, "sync")
                    let dead = try desk.run(.local, "dead", "list", "--json").output
                    return dead.contains("item:3") && !dead.contains("item:1") && !dead.contains("item:2")
                }
            }
        }

        @Test func theAuditIsListedAndSaysWhereItWasChanged() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.cloud, "init")
                _ = try desk.run(.local, "init")
                #expect(try desk.run(.local, "audit", "verify").output.contains("0 lines"))
                for id in 1...3 { #expect(try desk.run(.cloud, "branch", "add", "\(id)", "Market Street").status == 0) }
                let lines = try desk.run(.cloud, "audit", "list", "--json", "--limit", "2").output.split(separator: "\n")
                let last = try #require(lines.last)
                let line = try #require(try JSONSerialization.jsonObject(with: Data(last.utf8)) as? [String: Any])
                #expect(lines.count == 2)
                #expect(line["line"] as? Int == 3)
                #expect(line["action"] as? String == "branch.add")
                #expect(line["subject"] as? String == "branch 3")
                #expect(try desk.run(.cloud, "audit", "list", "--after", "1", "--limit", "1").output.contains("branch 2"))
                let whole = try desk.run(.cloud, "audit", "verify")
                #expect(whole.status == 0)
                let head = try #require(whole.lastLine.split(separator: " ").last).description
                #expect(try desk.run(.cloud, "audit", "verify", "--noted", head).status == 0)
                #expect(try desk.run(.cloud, "audit", "verify", "--noted", "17").status == 65)
                try await desk.database("cloud") { _ = try await $0.execute("update sync_audit set actor = 'nobody' where id = 2", []) }
                let changed = try desk.run(.cloud, "audit", "verify", "--noted", head)
                #expect(changed.status == 1)
                #expect(changed.complaints.contains("line 2 was changed"), "\(changed.complaints)")
            }
        }

        @Test func aSuspendedBranchHasNoEffectUntilItIsResumed() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await desk.insert((1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"))
                #expect(try desk.run(.cloud, "branch", "suspend", "7").status == 0)
                let refused = try desk.run(.local, "sync")
                #expect(refused.status == 77, "\(refused.status) \(refused.complaints)")
                #expect(refused.complaints.contains("suspended"))
                #expect(try await desk.count("cloud", "select count(*) from item") == 0)
                #expect(try desk.run(.cloud, "branch", "resume", "7").status == 0)
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try await desk.count("cloud", "select count(*) from item") == 1)
            }
        }

        @Test func aJoinTokenIsGoodOnceAndAgainForTheSameKey() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.cloud, "init")
                _ = try desk.run(.local, "init")
                let cloud = try desk.start(.cloud, "serve")
                defer { cloud.stop() }
                try cloud.waitUntilReady()
                let token = try desk.run(.cloud, "branch", "add", "7", "Market Street").lastLine
                #expect(try desk.run(.cloud, "branch", "add", "7", "Market Street").status != 0)
                // The answer was lost: the same branch asks again.
                #expect(try desk.run(.local, "join", input: token).status == 0)
                #expect(try desk.run(.local, "join", input: token).status == 0)
                try FileManager.default.removeItem(at: folder.appending(path: "datasync.key"))
                let thief = try desk.run(.local, "join", input: token)
                #expect(thief.status == 77, "\(thief.status) \(thief.complaints)")
                #expect(try desk.run(.local, "join", input: "dsj1.nonsense").status == 65)
            }
        }

        @Test func aRunningAgentGoesOnWithAnotherKey() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                let agent = try desk.start(.local, "run")
                defer { agent.stop() }
                try agent.waitUntilReady()
                let old = try desk.run(.local, "key", "show").lastLine
                let rotation = try desk.run(.local, "key", "rotate")
                #expect(rotation.status == 0, "\(rotation.complaints)")
                let new = try desk.run(.local, "key", "show").lastLine
                #expect(new != old)
                try await desk.insert((1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"))
                try await desk.eventually("what was written afterwards has arrived") { try await desk.count("cloud", "select count(*) from item") == 1 }
                #expect(agent.isRunning)
                let list = try desk.run(.cloud, "branch", "list").output
                #expect(list.contains(new) && !list.contains(old))
                #expect(try desk.run(.cloud, "audit", "list").output.contains("branch.key.change  branch 7, key \(new)"))
                #expect(try desk.run(.local, "audit", "list").output.contains("key.change  branch 7, key \(new)"))
                #expect(try FileManager.default.attributesOfItem(atPath: folder.appending(path: "datasync.key").path)[.posixPermissions] as? Int == 0o600)
            }
        }

        /// The machine is gone with its database and its key. The new one begins with empty tables.
        @Test func aLostBranchIsReplacedAndFetchesWhatItHad() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await desk.insert((1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"), (1, "item:2", "{\"upsert\":{\"id\":2,\"name\":\"tea\"}}"))
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try desk.run(.cloud, "put", "--type", "item", "--key", "item:3", input: "{\"upsert\":{\"id\":3,\"name\":\"salt\"}}").status == 0)
                #expect(try desk.run(.local, "sync").status == 0)
                // The thief has all of it, and a record that was not sent.
                for name in try FileManager.default.contentsOfDirectory(atPath: folder.path)
                where name.hasPrefix("branch.sqlite") || name == "datasync-local.yaml" {
                    try FileManager.default.copyItem(at: folder.appending(path: name), to: folder.appending(path: "stolen-\(name)"))
                    try FileManager.default.removeItem(at: folder.appending(path: name))
                }
                try FileManager.default.copyItem(at: folder.appending(path: "datasync.key"), to: folder.appending(path: "stolen.key"))
                try FileManager.default.removeItem(at: folder.appending(path: "datasync.key"))
                try FileManager.default.copyItem(at: folder.appending(path: "stolen-datasync-local.yaml"), to: folder.appending(path: "datasync-local.yaml"))
                let token = try desk.run(.cloud, "branch", "replace", "7").lastLine
                func steal(_ arguments: String...) throws -> CommandResult {
                    let options = ["--storage", "sqlite:./stolen-branch.sqlite", "--set", "identity.key_file=./stolen.key"]
                    return try CommandResult.of("\(Programs.folder)/datasync-local", arguments + options, in: folder)
                }
                #expect(try steal("sync").status != 0)

                try await desk.database("branch") { connection in
                    _ = try await connection.execute("create table item (id bigint not null primary key, name varchar(20) not null)", [])
                }
                #expect(try desk.run(.local, "init").status == 0)
                let join = try desk.run(.local, "join", input: token)
                #expect(join.status == 0, "\(join.complaints)")
                let first = try desk.run(.local, "sync")
                #expect(first.status == 0, "\(first.complaints)")
                #expect(try await desk.count("branch", "select count(*) from item where name in ('soap', 'tea', 'salt')") == 3)
                // It writes in a new epoch: what it has in common with the old one is changed, and what is new arrives.
                try await desk.insert((1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap 2\"}}"), (1, "item:4", "{\"upsert\":{\"id\":4,\"name\":\"rice\"}}"))
                #expect(try desk.run(.local, "sync").status == 0)
                // `put` gives the record to the branches; the cloud's own table is its applications' matter.
                #expect(try await desk.count("cloud", "select count(*) from item where name in ('soap 2', 'tea', 'rice')") == 3)
                #expect(try await desk.count("cloud", "select count(*) from sync_log where epoch = 1 and origin = 7") == 2)
                #expect(try await desk.count("cloud", "select count(*) from sync_log where epoch = 2 and origin = 7") == 2)
                #expect(try await desk.count("branch", "select count(*) from sync_data where state = 0") == 0)
                let late = try steal("sync")
                #expect(late.status == 69, "\(late.status) \(late.complaints)")
                #expect(try await desk.count("cloud", "select count(*) from item") == 3)
            }
        }

        @Test func typesAreDraftedSamplesWrittenAndGrantsPrinted() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let draft = try desk.run(.local, "types", "draft", "item")
                #expect(draft.status == 0)
                // What is drafted is a configuration that fits.
                _ = try desk.run(.local, "init")
                try desk.write("storage:\n  url: sqlite:./branch.sqlite\n" + draft.output, to: "drafted.yaml")
                let check = try desk.run(.local, "config", "check", "--config", "drafted.yaml")
                #expect(check.status == 0, "\(check.complaints)")
                // And so is the sample.
                let sample = try desk.run(.local, "init", "--config", "sample.yaml", "--storage", "sqlite:./sampled.sqlite")
                #expect(sample.status == 0)
                #expect(try desk.run(.local, "config", "check", "--config", "sample.yaml").status == 0)
                #expect(try desk.run(.cloud, "grants").status == 0)
            }
        }

        @Test func theEnvironmentComesBeforeTheFileAndFlagsBeforeBoth() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let environment = ["DATASYNC_STORAGE_URL": "sqlite:./environment.sqlite"]
                #expect(try desk.run(.local, "init", environment: environment).output.contains("environment.sqlite"))
                #expect(try desk.run(.local, "init", "--storage", "sqlite:./flag.sqlite", environment: environment).output.contains("flag.sqlite"))
            }
        }

        @Test func healthIsAnsweredAndTurns() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                let port = try freePort()
                let agent = try desk.start(.local, "run", "--set", "health.port=\(port)", "--set", "schedule.backoff_max=1s")
                defer { agent.stop() }
                try agent.waitUntilReady()
                func status(_ port: Int, _ path: String) throws -> String {
                    try CommandResult.of(
                        "/usr/bin/env", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:\(port)\(path)"], in: folder
                    )
                    .output
                }
                #expect(try status(desk.port, "/health") == "200")
                #expect(try status(desk.port, "/ready") == "200")
                try await desk.eventually("the agent is ready") { try status(port, "/ready") == "200" }
                cloud.kill()
                try await desk.eventually("the agent says that it cannot reach the cloud") { try status(port, "/ready") == "503" }
                #expect(try status(port, "/health") == "200")
            }
        }
    }
}
