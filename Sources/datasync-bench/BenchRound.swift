import DataSync
import DataSyncMySQL
import DataSyncSQL
import Foundation
import RetailTrade

/// One round: fresh databases, both programs, both directions.
struct BenchRound {
    let records: Int
    let samples: Int
    let branch: any SQLConnection
    let cloud: any SQLConnection
    let programs: String
    let folder: URL
    let branchURL: String
    let cloudURL: String
    private let only: String?

    init(
        number: Int, records: Int, samples: Int, branchSocket: String, cloudSocket: String, programs: String, work: String, only: String?
    ) async throws {
        self.only = only
        self.records = records
        self.samples = samples
        self.programs = programs
        self.folder = URL(filePath: work).appending(path: "round\(number)")
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
        self.branch = try await Self.fresh(branchSocket)
        self.cloud = try await Self.fresh(cloudSocket)
        self.branchURL = "mysql://root@localhost/bench?socket=\(branchSocket)"
        self.cloudURL = "mysql://root@localhost/bench?socket=\(cloudSocket)"
    }

    private static func fresh(_ socket: String) async throws -> any SQLConnection {
        let server = try await MySQLDatabase(MySQLConfiguration(socket: socket, user: "root", database: "mysql")).connect()
        _ = try await server.execute("drop database if exists bench", [])
        _ = try await server.execute("create database bench", [])
        await server.close()
        return try await MySQLDatabase(MySQLConfiguration(socket: socket, user: "root", database: "bench")).connect()
    }

    // MARK: - The rows

    private static let columns =
        "id bigint not null, customer varchar(40) not null, item varchar(60) not null, quantity int not null, price decimal(10,2) not null, sold_at datetime not null, note varchar(160) not null"

    private static func note(_ id: Int) -> String {
        "lot \(id % 977), shelf \(id % 53), hand \(id % 7): checked, packed and taken home by the customer; paid in cash, no bonus points were given"
    }

    private static func values(_ id: Int) -> String {
        "\(id), 'customer \(id % 4_000)', 'item \(id % 25_000) of the winter range', \(id % 9 + 1), \(id % 100).\(10 + id % 90), '2026-11-22 10:\(10 + id % 50):\(10 + id % 50)', '\(self.note(id))'"
    }

    /// 261 to 276 bytes.
    private static func payload(_ id: Int) -> String {
        "{\"upsert\":{\"id\":\(id),\"customer\":\"customer \(id % 4_000)\",\"item\":\"item \(id % 25_000) of the winter range\",\"quantity\":\(id % 9 + 1),\"price\":\"\(id % 100).\(10 + id % 90)\",\"sold_at\":\"2026-11-22 10:\(10 + id % 50):\(10 + id % 50)\",\"note\":\"\(self.note(id))\"}}"
    }

    /// Inserts of a thousand rows each.
    private static func inserts(into table: String, _ columns: String, count: Int, _ values: (Int) -> String) -> [String] {
        stride(from: 1, through: count, by: 1_000).map { start in
            "insert into \(table) (\(columns)) values " + (start..<min(start + 1_000, count + 1)).map { "(\(values($0)))" }.joined(separator: ",")
        }
    }

    private static func outboxInserts(type: Int, count: Int) -> [String] {
        self.inserts(into: "sync_data", "business_type, data_from_detail, data_detail", count: count) { id in
            "\(type), '\(type == 1 ? "sale" : "product"):\(id)', '\(self.payload(id))'"
        }
    }

    // MARK: - Measuring

    func measure() async throws -> Round {
        var round = Round()
        round.floor = try await self.measureFloor()
        try await self.prepare()
        if self.only != "pull" { try await self.measurePush(&round) }
        if self.only != "push" { try await self.measurePull(&round) }
        await self.branch.close()
        await self.cloud.close()
        return round
    }

    /// Records a second through both sides, one after the other: one connection, one commit for each statement.
    private func measureFloor() async throws -> Double {
        let statements = Self.inserts(
            into: "floor", "id, customer, item, quantity, price, sold_at, note", count: min(self.records, 100_000), Self.values)
        var seconds = 0.0
        for side in [self.branch, self.cloud] {
            _ = try await side.execute("create table floor (\(Self.columns), primary key (id)) engine = InnoDB", [])
            let start = ContinuousClock.now
            for statement in statements { _ = try await side.execute(statement, []) }
            seconds += start.seconds
            _ = try await side.execute("drop table floor", [])
        }
        return Double(min(self.records, 100_000)) / seconds
    }

    private func prepare() async throws {
        for (side, isCloud) in [(self.branch, false), (self.cloud, true)] {
            let (origin, key) = isCloud ? ("branch_id int not null, ", "branch_id, id") : ("", "id")
            _ = try await side.execute("create table sale (\(origin)\(Self.columns), primary key (\(key))) engine = InnoDB", [])
            _ = try await side.execute("create table product (\(Self.columns), primary key (id)) engine = InnoDB", [])
        }
        try self.configuration(isCloud: true).write(to: self.folder.appending(path: "cloud.yaml"), atomically: true, encoding: .utf8)
        try self.configuration(isCloud: false).write(to: self.folder.appending(path: "local.yaml"), atomically: true, encoding: .utf8)
        try self.command("datasync-cloud", ["init"])
        try self.command("datasync-local", ["init"])
        let token = try self.command("datasync-cloud", ["branch", "add", "7", "bench"])
        let cloud = try RunningProgram(self.path("datasync-cloud"), ["serve", "--config", "cloud.yaml"], in: self.folder, log: "cloud-join.log")
        defer { cloud.stop() }
        let port = try cloud.readyPort()
        try self.command("datasync-local", ["join", "--cloud", "http://127.0.0.1:\(port)", token])
    }

    private func configuration(isCloud: Bool) -> String {
        let columns = "[customer, item, quantity, price, sold_at, note]"
        return """
            storage:
              url: \(isCloud ? self.cloudURL : self.branchURL)
            identity:
              key_file: ./\(isCloud ? "cloud" : "local").key
            log:
              format: json
            \(isCloud ? "http:\n  port: 0" : "schedule:\n  interval: 0s")
            types:
              - id: 1
                name: sale
                priority: 10
                route: origin
                tables:
                  - table: sale
                    key: [id]
                    columns: \(columns)\(isCloud ? "\n        origin: branch_id" : "")
              - id: 2
                name: product
                priority: 20
                route: all
                tables:
                  - table: product
                    key: [id]
                    columns: \(columns)

            """
    }

    private func path(_ program: String) -> String { "\(self.programs)/\(program)" }

    @discardableResult
    private func command(_ program: String, _ arguments: [String]) throws -> String {
        let arguments = arguments + ["--config", program == "datasync-cloud" ? "cloud.yaml" : "local.yaml"]
        let result = try CommandResult.of(self.path(program), arguments, in: self.folder)
        guard result.status == 0 else { throw TradeError("\(program) \(arguments.joined(separator: " ")): \(result.complaints)") }
        return result.lastLine
    }

    private func measurePush(_ round: inout Round) async throws {
        for statement in Self.outboxInserts(type: 1, count: self.records) { _ = try await self.branch.execute(statement, []) }
        let cloud = try RunningProgram(self.path("datasync-cloud"), ["serve", "--config", "cloud.yaml"], in: self.folder, log: "cloud-push.log")
        defer { cloud.stop() }
        let port = try cloud.readyPort()
        let agent = try RunningProgram(
            self.path("datasync-local"), ["run", "--config", "local.yaml", "--set", "cloud.url=http://127.0.0.1:\(port)"],
            in: self.folder, log: "local-push.log")
        defer { agent.stop() }
        try agent.waitUntilReady()
        let start = ContinuousClock.now
        try await self.wait(self.cloud, "select coalesce(max(number), 0) from sync_position where business_type = 1", for: self.records)
        round.push = Double(self.records) / start.seconds
        // The rows, and their settling at the branch, are part of the job.
        try await self.wait(self.branch, "select \(self.records) - coalesce(sum(n - settled), 0) from sync_batch", for: self.records)
        try await self.expect(self.cloud, "select count(*) from sale", self.records)
        try await self.measureLatency(&round)
        round.agent = agent.figures
        round.cloud = cloud.figures
    }

    private func measureLatency(_ round: inout Round) async throws {
        var latencies: [Double] = []
        for index in 1...self.samples {
            let id = self.records + index
            _ = try await self.branch.execute(
                "insert into sync_data (business_type, data_from_detail, data_detail) values (1, 'sale:\(id)', '\(Self.payload(id))')", [])
            let start = ContinuousClock.now
            while try await self.cloud.query("select 1 from sale where branch_id = 7 and id = \(id)", []).isEmpty {}
            latencies.append(start.seconds * 1_000)
        }
        latencies.sort()
        round.latency50 = latencies[latencies.count / 2]
        round.latency99 = latencies[latencies.count * 99 / 100]
    }

    private func measurePull(_ round: inout Round) async throws {
        for statement in Self.outboxInserts(type: 2, count: self.records) { _ = try await self.cloud.execute(statement, []) }
        // The cloud begins to number its rows when it starts: that is part of the job too.
        let cloud = try RunningProgram(self.path("datasync-cloud"), ["serve", "--config", "cloud.yaml"], in: self.folder, log: "cloud-pull.log")
        defer { cloud.stop() }
        let port = try cloud.readyPort()
        let start = ContinuousClock.now
        let agent = try RunningProgram(
            self.path("datasync-local"), ["run", "--config", "local.yaml", "--set", "cloud.url=http://127.0.0.1:\(port)"],
            in: self.folder, log: "local-pull.log")
        defer { agent.stop() }
        try await self.wait(self.branch, "select coalesce(max(number), 0) from sync_position where business_type = 2", for: self.records)
        round.pull = Double(self.records) / start.seconds
        try await self.expect(self.branch, "select count(*) from product", self.records)
        round.agent.merge(agent.figures)
        round.cloud.merge(cloud.figures)
    }

    /// Asks a cheap question until the answer is there.
    private func wait(_ side: any SQLConnection, _ question: String, for count: Int) async throws {
        let end = ContinuousClock.now + .seconds(600)
        while try await side.query(question, [])[0].int(0) < Int64(count) {
            guard ContinuousClock.now < end else { throw TradeError("after ten minutes still not done: \(question)") }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    private func expect(_ side: any SQLConnection, _ question: String, _ count: Int) async throws {
        let found = try await side.query(question, [])[0].int(0)
        guard found == Int64(count) else { throw TradeError("\(question): \(found), not \(count)") }
    }
}

extension RunningProgram.Figures {
    /// The greater memory, the sum of the processor time, the slower start.
    mutating func merge(_ other: RunningProgram.Figures) {
        self.rssMiB = max(self.rssMiB, other.rssMiB)
        self.cpuSeconds += other.cpuSeconds
        self.startMilliseconds = max(self.startMilliseconds, other.startMilliseconds)
    }
}
