import DataSync
import DataSyncMySQL
import DataSyncSQL
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// What else befalls a process: it is killed as soon as it starts, asked to end while it works, stopped for a while, or waits for ever.
    @Suite struct ProcessFaultTests {
        private func sell(_ count: Int, from first: Int = 1, at desk: Desk) async throws {
            try await desk.database("branch") { connection in
                for id in first..<first + count {
                    _ = try await connection.execute(
                        "insert into sync_data (business_type, data_from_detail, data_detail) values (1, ?, ?)",
                        [.text("item:\(id)"), .text("{\"upsert\":{\"id\":\(id),\"name\":\"soap\"}}")])
                }
            }
        }

        private func arrived(_ desk: Desk) async throws -> Int { try await desk.count("cloud", "select count(*) from item") }

        @Test func anAgentThatIsKilledTwentyTimesInARowHarmsNothing() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder, limits: ["batch_records: 10", "chunk_records: 10", "retry_delays: 1s, 1s"])
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await self.sell(400, at: desk)
                for life in 1...20 {
                    let agent = try desk.start(.local, "run")
                    // From before it has read its configuration to far into its work.
                    try await Task.sleep(for: .milliseconds(Int.random(in: 0...400)))
                    agent.kill()
                    try await self.sell(10, from: 1_000 * life, at: desk)
                }
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try await self.arrived(desk) == 600)
                #expect(try await desk.count("cloud", "select count(*) from sync_log") == 600)
                #expect(try await desk.count("cloud", "select count(*) from sync_memo") == 0)
                #expect(try await desk.count("branch", "select count(*) from sync_data where state <> 2") == 0)
            }
        }

        /// Killed while it works and started at once, as a service manager does: from the kill to the next record's arrival.
        @Test(arguments: [Desk.Program.local, .cloud]) func aKilledProgramIsBackSoon(program: Desk.Program) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                var cloud = try desk.open()
                defer { cloud.stop() }
                var agent = try desk.start(.local, "run")
                defer { agent.stop() }
                try agent.waitUntilReady()
                var seconds: [Double] = []
                for life in 1...5 {
                    try await self.sell(50, from: 100 * life, at: desk)
                    let killed = ContinuousClock.now
                    if program == .local {
                        agent.kill()
                        try await self.sell(1, from: 100 * life + 99, at: desk)
                        agent = try desk.start(.local, "run")
                    } else {
                        cloud.kill()
                        try await self.sell(1, from: 100 * life + 99, at: desk)
                        cloud = try desk.start(.cloud, "serve")
                    }
                    try await desk.eventually("the record after the kill arrives") { try await self.arrived(desk) == 51 * life }
                    seconds.append(killed.seconds)
                }
                print("back after SIGKILL: \(program.rawValue), seconds to the next record's arrival: \(seconds.map { String(format: "%.2f", $0) })")
                #expect(seconds.sorted()[2] < 5)
            }
        }

        @Test func anAgentThatIsAskedToEndWhileABatchIsOnItsWayEndsWell() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder, limits: ["batch_records: 10", "chunk_records: 10", "retry_delays: 1s, 1s"])
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await self.sell(500, at: desk)
                let agent = try desk.start(.local, "run", environment: ["TERM_AT": "\(CrashPoint.pushUnderWay.rawValue):3"])
                #expect(try await agent.end() == .exit(0))
                #expect(agent.logText.contains("\"message\":\"stopped\""))
                // What was on its way is settled, and nothing new was sent.
                let arrived = try await self.arrived(desk)
                #expect((30..<500).contains(arrived), "\(arrived)")
                #expect(try await desk.count("branch", "select count(*) from sync_data where state = 2") == arrived)
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try await self.arrived(desk) == 500)
            }
        }

        @Test func aCloudThatIsAskedToEndInATransactionAnswersFirst() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                try desk.open().stop()
                let cloud = try desk.start(.cloud, "serve", environment: ["TERM_AT": "\(CrashPoint.applyMid.rawValue):1"])
                try cloud.waitUntilReady()
                try await self.sell(20, at: desk)
                _ = try desk.run(.local, "sync")
                #expect(try await cloud.end() == .exit(0))
                #expect(try await self.arrived(desk) == 20)
                #expect(try await desk.count("branch", "select count(*) from sync_data where state = 2") == 20)
            }
        }

        @Test func anAgentThatStoodStillGoesOnWhereNobodyTookItsPlace() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await self.sell(20, at: desk)
                let agent = try desk.start(.local, "run", environment: ["STOP_AT": "\(CrashPoint.settleMid.rawValue):1"])
                try await desk.eventually("the agent stands still") { agent.isStopped }
                let second = try desk.run(.local, "run")
                #expect(second.status == 75, "\(second.complaints)")
                agent.send(SIGCONT)
                try await desk.eventually("the agent goes on") {
                    try await desk.count("branch", "select count(*) from sync_data where state = 2") == 20
                }
                #expect(try await desk.count("cloud", "select count(*) from sync_log") == 20)
                #expect(agent.stop() == 0)
            }
        }

        /// The database gave the lease of the agent that stands still to another one.
        @Test(.enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
        func anAgentThatStoodStillHasNoEffectWhereAnotherTookItsPlace() async throws {
            try await Programs.withFolder { folder in
                let server = try MariaDBServer(folder: folder.appending(path: "db"))
                defer { server.stop() }
                let root = try await MySQLDatabase(MySQLConfiguration(socket: server.socket, user: "root", database: "mysql")).connect()
                _ = try await root.execute("create database shop", [])
                _ = try await root.execute("create table shop.item (id bigint not null primary key, name varchar(20) not null)", [])
                func sell(_ ids: ClosedRange<Int>) async throws {
                    for id in ids {
                        _ = try await root.execute(
                            "insert into shop.sync_data (business_type, data_from_detail, data_detail) values (1, ?, ?)",
                            [.text("item:\(id)"), .text("{\"upsert\":{\"id\":\(id),\"name\":\"soap\"}}")])
                    }
                }
                let desk = try await Desk(in: folder, branchURL: "mysql://root@localhost/shop?socket=\(server.socket)")
                let cloud = try desk.open()
                defer { cloud.stop() }
                try await sell(1...20)
                let first = try desk.start(.local, "run", log: "first.log", environment: ["STOP_AT": "\(CrashPoint.pushBeforeSend.rawValue):1"])
                try await desk.eventually("the agent stands still") { first.isStopped }
                let holder = try await root.query("select is_used_lock('datasync.agent.shop')", [])[0].int(0)
                _ = try await root.execute("kill \(holder)", [])
                let second = try desk.start(.local, "run", log: "second.log")
                try second.waitUntilReady()
                try await desk.eventually("the second agent carries what the first one could not") { try await self.arrived(desk) == 20 }
                // Its request is on its way now, with the numbers that the cloud has already.
                first.send(SIGCONT)
                try await desk.eventually("the first agent knows") { first.logText.contains("held by somebody else") || !first.isRunning }
                try await sell(21...40)
                try await desk.eventually("the second agent goes on") {
                    try await root.query("select count(*) from shop.sync_data where state = 2", [])[0].int(0) == 40
                }
                #expect(second.isRunning)
                #expect(try await self.arrived(desk) == 40)
                #expect(try await desk.count("cloud", "select count(*) from sync_log") == 40)
                first.kill()
                #expect(second.stop() == 0)
                await root.close()
            }
        }

        /// The test is the service manager: it starts the program, hears how it gets on, and starts it again when it hears nothing.
        @Test(arguments: [(Desk.Program.local, CrashPoint.pushBeforeSend), (.cloud, .ownBefore)])
        func aProgramThatWaitsForEverIsStartedAgain(program: Desk.Program, point: CrashPoint) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let socket = try NotifySocket(folder.appending(path: "notify").path)
                let environment = ["NOTIFY_SOCKET": socket.path, "WATCHDOG_USEC": "1000000"]
                let peer = try desk.open()
                defer { peer.stop() }
                if program == .cloud { peer.stop() }
                func start(_ more: [String: String]) throws -> RunningProgram {
                    let (command, all) = (program == .cloud ? "serve" : "run", environment.merging(more) { $1 })
                    return try desk.start(program, command, log: "watched.log", environment: all)
                }
                let hanging = try start(["HANG_AT": "\(point.rawValue):1"])
                #expect(try socket.next() == ["READY=1", "WATCHDOG=1"])
                for _ in 0..<3 { #expect(try socket.next() == ["WATCHDOG=1"]) }
                let side = program == .cloud ? "cloud" : "branch"
                try await desk.database(side) { connection in
                    _ = try await connection.execute(
                        "insert into sync_data (business_type, data_from_detail, data_detail) values (1, 'item:1', ?)",
                        [.text("{\"upsert\":{\"id\":1,\"name\":\"soap\"}}")])
                }
                // Twice the time that it promised to need.
                while try socket.next(within: 2) != nil {}
                #expect(hanging.isRunning)
                hanging.kill()
                let again = try start([:])
                #expect(try socket.next() == ["READY=1", "WATCHDOG=1"])
                try await desk.eventually("what waited is carried") { try await desk.count("cloud", "select count(*) from sync_log") == 1 }
                #expect(again.stop() == 0)
                var last: [String]?
                while let message = try socket.next(within: 0) { last = message }
                #expect(last == ["STOPPING=1"])
            }
        }
    }
}

/// Where a service manager listens.
private final class NotifySocket {
    let path: String
    private let descriptor: Int32

    init(_ path: String) throws {
        self.path = path
        self.descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(self.descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard bound == 0 else { throw TradeError("\(path): \(String(cString: strerror(errno)))") }
    }

    deinit { close(self.descriptor) }

    /// The next message, line by line; nil if none comes in time.
    func next(within seconds: Int32 = 600) throws -> [String]? {
        var request = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&request, 1, seconds * 1_000) == 1 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 1_024)
        let count = recv(self.descriptor, &bytes, bytes.count, 0)
        guard count >= 0 else { throw TradeError("the notify socket cannot be read") }
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").map { String($0) }
    }
}
