import DataSync
import DataSyncSQL
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// `datasync-local reconcile` with a real branch and a real cloud.
    @Suite struct ReconcileCommandTests {
        private func report(_ result: CommandResult) throws -> ReconcileReport {
            try JSONDecoder().decode(ReconcileReport.self, from: Data(result.output.utf8))
        }

        /// Both sides have three items, and then differ in all of them.
        private func differ(_ desk: Desk) async throws {
            for id in 1...3 {
                let payload = "{\"upsert\":{\"id\":\(id),\"name\":\"soap\"}}"
                #expect(try desk.run(.cloud, "put", "--type", "item", "--key", "item:\(id)", input: payload).status == 0)
            }
            // The cloud's application has changed its rows first.
            try await desk.database("cloud") { _ = try await $0.execute("insert into item (id, name) values (1, 'soap'), (2, 'soap'), (3, 'soap')", []) }
            #expect(try desk.run(.local, "sync").status == 0)
            #expect(try await desk.count("branch", "select count(*) from item where name = 'soap'") == 3)
            let equal = try desk.run(.local, "reconcile")
            #expect(equal.status == 0, "\(equal.complaints)")
            #expect(equal.output == "item: 3 compared, all equal\n")
            try await desk.database("branch") { connection in
                _ = try await connection.execute("update item set name = 'tea' where id = 1", [])
                _ = try await connection.execute("delete from item where id = 2", [])
            }
            try await desk.database("cloud") { _ = try await $0.execute("delete from item where id = 3", []) }
        }

        @Test func theCommandComparesAndRepairsWhereNoAgentRuns() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await self.differ(desk)
                let shown = try desk.run(.local, "reconcile", "item")
                #expect(shown.status == 1)
                for line in ["item  item:1  differs", "item  item:2  only at the cloud", "item  item:3  only here", "3 different"] {
                    #expect(shown.output.contains(line), "\(shown.output)")
                }
                let told = try desk.run(.local, "reconcile", "--json")
                #expect(told.status == 1)
                #expect(try self.report(told).differences.map(\.kind) == [.differs, .onlyAtCloud, .onlyHere])
                // Nothing was changed by that.
                #expect(try await desk.count("branch", "select count(*) from item") == 2)
                let repaired = try desk.run(.local, "reconcile", "--from", "cloud", "--json")
                #expect(repaired.status == 0, "\(repaired.complaints)")
                #expect(try self.report(repaired).differences.allSatisfy { $0.isRepaired })
                #expect(try await desk.count("branch", "select count(*) from item where name = 'soap' and id in (1, 2)") == 2)
                #expect(try await desk.count("branch", "select count(*) from item") == 2)
                #expect(try desk.run(.local, "reconcile", "1").status == 0)
                #expect(try desk.run(.local, "reconcile", "nothing").status == 66)
                #expect(try desk.run(.local, "reconcile", "--from", "elsewhere").status == 64)
                cloud.stop()
                #expect(try desk.run(.local, "reconcile").status == 69)
            }
        }

        @Test func theRunningAgentComparesAndRepairs() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await self.differ(desk)
                let agent = try desk.start(.local, "run", "--interval", "1h")
                defer { agent.stop() }
                try agent.waitUntilReady()
                #expect(try desk.run(.local, "reconcile").status == 1)
                let repaired = try desk.run(.local, "reconcile", "--from", "branch")
                #expect(repaired.status == 0, "\(repaired.output)\(repaired.complaints)")
                #expect(repaired.output.contains("item:1  differs: sent again"), "\(repaired.output)")
                try await desk.eventually("the branch's state is the cloud's") {
                    let right = try await desk.count(
                        "cloud", "select count(*) from item where (id = 1 and name = 'tea') or (id = 3 and name = 'soap')")
                    let all = try await desk.count("cloud", "select count(*) from item")
                    return right == 2 && all == 2
                }
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try desk.run(.local, "reconcile").status == 0)
                #expect(try await desk.count("branch", "select count(*) from sync_audit where action = 'reconcile.branch'") == 1)
                #expect(agent.isRunning)
            }
        }
    }
}
