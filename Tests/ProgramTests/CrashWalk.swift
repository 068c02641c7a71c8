import DataSync
import DataSyncSQL
import Foundation
import RetailTrade
import Synchronization

/// A company whose programs end at one labelled point after the other while its applications write: at most points when they pass
/// them for the first, the second, … the fifth time, and each time they are started again.
final class CrashWalk: Sendable {
    let company: Company
    private let hits = Mutex<[CrashPoint: Int]>([:])
    /// Taken by a site's application for each of its steps, and by whoever needs it to be quiet.
    private let turns: [Int32: AsyncSemaphore]
    private let isOver = Mutex(false)
    /// How often the cloud's application has stocked something: what is ordered may come later.
    private let deliveries = Mutex(0)
    /// Orders that the cloud refuses for good.
    private let refused = Mutex<Set<String>>([])
    /// Rows of `sync_data` below these ids are left free, for those that commit late.
    private static let firstRow = 1_000

    /// An application rests while so many of its records are on their way. At a branch while any is: an agent sends before it fetches, and
    /// would go on sending.
    private static func backlogMax(of site: Site) -> Int { site.isCloud ? 30 : 1 }

    static let stores: [Int32] = [1, 2]

    /// Small batches and chunks, so that there are several of each, and short waits.
    private static let settings = """
        limits:
          batch_records: 4
          chunk_records: 2
          retry_delays: 100ms, 200ms
          waiting_delay: 150ms
          waiting_delay_max: 300ms

        """
    static let quickly = [
        "DATASYNC_SCHEDULE_WATCH": "20ms", "DATASYNC_SCHEDULE_INTERVAL": "50ms", "DATASYNC_SCHEDULE_BACKOFF_MAX": "200ms",
        "DATASYNC_LOG_LEVEL": "notice",
    ]

    /// - Parameter server: For all sites; without one they are on SQLite.
    init(in folder: URL, server: MariaDBServer?) async throws {
        let database = server.map { SiteDatabase.mariadb(socket: $0.socket) } ?? .sqlite
        self.company = try await Company(
            stores: Self.stores, in: folder, programs: Programs.folder, database: database, settings: Self.settings)
        self.turns = Dictionary(uniqueKeysWithValues: ([0] + Self.stores).map { ($0, AsyncSemaphore(1)) })
        for branch in self.company.branches {
            let isSQLite = server == nil
            let condition = "new.brand = 'closed' and exists (select 1 from closed)"
            try await branch.define([
                "create table closed (id int not null primary key)",
                // While the shop is closed it takes in nothing that is sold in the closed part of it.
                isSQLite
                    ? "create trigger product_closed before insert on product when \(condition) begin select raise(abort, 'closed'); end"
                    : "create trigger product_closed before insert on product for each row "
                        + "begin if \(condition) then signal sqlstate '45000' set message_text = 'closed'; end if; end",
            ])
        }
    }

    /// Walks through all points that the programs of a company pass while they run.
    /// - Returns: How often each was hit, and what was found when all had come to rest.
    func run() async throws -> (hits: [CrashPoint: Int], comparison: Comparison) {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.tradeAtTheCloud() }
            for branch in self.company.branches { group.addTask { try await self.trade(at: branch) } }
            group.addTask {
                defer { self.isOver.withLock { $0 = true } }
                try await self.walk()
            }
            try await group.waitForAll()
        }
        try await self.comeToRest()
        return (self.hits.withLock { $0 }, try await self.company.compare(except: self.refused.withLock { $0 }))
    }

    // MARK: - The applications

    private func product(_ id: Int, brand: String = "own", price: Int = 100) -> Product {
        Product(id: id, department: "all", brand: brand, kind: "kind", packageSize: "1", price: price)
    }

    /// One step after the other until the walk is over, each when it is this application's turn and the programs keep up.
    private func steps(at site: Site, _ step: (Int) async throws -> Void) async throws {
        let turn = self.turns[site.id]!
        var number = 0
        while !self.isOver.withLock({ $0 }) {
            try await turn.wait()
            do {
                if try await self.backlog(of: site) < Self.backlogMax(of: site) {
                    try await step(number)
                    number += 1
                }
            } catch {
                turn.signal()
                throw error
            }
            turn.signal()
            // A pace that leaves the machine to the programs.
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// What this site wrote and somebody does not have yet.
    private func backlog(of site: Site) async throws -> Int {
        guard site.isCloud else { return try await site.count("select count(*) from sync_data where state = 0") }
        let last = try await site.count("select coalesce(max(last), 0) from sync_log_tail where business_type = 1 and audience = 0")
        var lag = try await site.count("select count(*) from sync_data where state = 0")
        for branch in self.company.branches {
            let cursor = try await branch.count("select coalesce(max(number), 0) from sync_position where peer = 0 and business_type = 1")
            lag = max(lag, last - cursor)
        }
        return lag
    }

    /// Again where the database was busy with something else: then nothing has happened.
    private func again(_ work: () async throws -> Void) async throws {
        var attempt = 1
        while true {
            do { return try await work() } catch let error as DataSyncError where error.code == .storageBusy && attempt < 100 {
                attempt += 1
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    private func tradeAtTheCloud() async throws {
        let cloud = self.company.cloud
        let range = (1...20).map { self.product($0) }
        try await cloud.stock(range, row: Self.firstRow)
        try await self.steps(at: cloud) { step in
            try await self.again { try await cloud.stock([self.product(1_000 + step), self.product(200_000 + step)]) }
            self.deliveries.withLock { $0 = step + 1 }
            try await self.again { try await cloud.stock([self.product(400_000 + step, brand: "closed")]) }
            for offset in 0..<4 {
                let product = self.product((step * 4 + offset) % 20 + 1, price: 100 + step)
                try await self.again { try await cloud.reprice(product) }
            }
            if step >= 3 { try await self.again { try await cloud.delist(self.product(200_000 + step - 3)) } }
        }
    }

    private func order(_ id: Int, at branch: Site, total: Int = 500, product: Int) -> Order {
        Order(
            id: id, store: branch.id, member: 1, orderedAt: "2026-01-01 08:00:00", total: total,
            lines: [Order.Line(line: 1, product: product, quantity: 1, sales: 500, discount: 0)])
    }

    private func member(_ number: Int, of branch: Site, income: String = "none") -> Member {
        Member(
            id: Int(branch.id) * 1_000_000 + number, age: "30", income: income, householdSize: "2", home: branch.id, isShared: number.isMultiple(of: 2))
    }

    private func trade(at branch: Site) async throws {
        let base = Int(branch.id) * 10_000_000
        try await self.again { try await branch.sell([self.order(base + 9_000_000, at: branch, product: 1)], row: Self.firstRow) }
        try await self.steps(at: branch) { step in
            // The last of them names a product that the cloud does not know yet: the order waits for it.
            let orders = (0..<5).map { index in
                self.order(
                    base + step * 10 + index, at: branch,
                    product: index < 4 ? (step + index) % 20 + 1 : 1_003 + self.deliveries.withLock { $0 })
            }
            try await self.again { try await branch.sell(orders) }
            try await self.again { try await branch.welcome([self.member(step, of: branch)]) }
            try await self.again { try await branch.change(self.member(step, of: branch, income: "step \(step)")) }
            if step >= 7, step.isMultiple(of: 7) { try await self.again { try await branch.forget(self.member(step - 7, of: branch)) } }
            if step.isMultiple(of: 8) {
                let mistake = self.order(base + step * 10 + 9, at: branch, total: -1, product: 1)
                self.refused.withLock { _ = $0.insert("order:\(mistake.id)") }
                try await self.again { try await branch.sell([mistake]) }
            }
            if step.isMultiple(of: 4) { try await self.ask(branch) }
            switch step % 6 {
            case 0: try await self.close(branch)
            case 3: try await self.open(branch)
            default: break
            }
        }
    }

    /// The part of the shop that is closed refuses what comes for it.
    private func close(_ branch: Site) async throws {
        try await self.again {
            try await branch.storage.withTransaction { transaction in
                if try await transaction.query("select 1 from closed").isEmpty { try await transaction.execute("insert into closed (id) values (1)") }
            }
        }
    }

    private func open(_ branch: Site) async throws {
        try await self.again { try await branch.storage.withTransaction { _ = try await $0.execute("delete from closed") } }
    }

    /// Somebody wants a cycle now, and has the answer to the last such wish.
    private func ask(_ branch: Site) async throws {
        try await self.again {
            try await branch.storage.withTransaction { transaction in
                _ = try await AgentRequest.takeReply("walk", in: transaction)
                try await AgentRequest(.sync, actor: "the walk").post("walk", in: transaction)
            }
        }
    }

    // MARK: - The walk

    /// What a branch passes while it runs, as often as there is something to do.
    static let ofBranches: [CrashPoint] = [
        .numberBefore, .numberAfterFrontier, .numberBeforeCommit, .numberAfterCommit, .pushBeforeSend, .pushUnderWay, .pushAfterReply,
        .settleBefore, .settleBetween, .settleMid, .settleBeforeCommit, .settleAfterCommit, .pullBeforeSend, .pullAfterReply, .pullAfterOutcomes,
        .pullMid, .pullBeforeCommit, .pullAfterCommit, .pullBetweenChunks, .acknowledgeBeforeSend, .acknowledgeAfterReply,
        .acknowledgeBeforeCommit, .retryBeforeGuard, .retryAfterGuard, .retryAfterApply, .retryBeforeCommit, .retryAfterCommit,
    ]
    /// Once in a process, or nearly.
    static let ofBranchesOnce: [CrashPoint] = [
        .leaseTaken, .termBeforeCommit, .termAfterCommit, .openBeforeSend, .openAfterReply, .openAfter, .requestPerformed,
    ]
    static let lateAtBranches: [CrashPoint] = [.lateBefore, .lateBeforeCommit, .lateAfterCommit]
    static let decisionsAtBranches: [CrashPoint] = [.decisionRetried, .decisionBeforeCommit, .decisionAfterCommit]
    static let ofTheCloud: [CrashPoint] = [
        .applyBeforeTransaction, .applyAfterFence, .applyAfterLocks, .applyMid, .applyAfterLog, .applyAfterPositions, .applyAfterCommit,
        .applyBetweenChunks, .cloudPushBeforeReply, .cloudAcknowledgeBeforeCommit, .cloudAcknowledgeAfterCommit, .cloudPullBeforeRead,
        .cloudPullBeforeReply, .ownBefore, .ownAfterFrontier, .ownAfterLog, .ownBeforeCommit, .ownAfterCommit, .cloudRetryBeforeGuard,
        .cloudRetryAfterGuard, .cloudRetryAfterApply, .cloudRetryBeforeCommit, .cloudRetryAfterCommit,
    ]
    static let ofTheCloudOnce: [CrashPoint] = [.cloudOpenBeforeCommit, .cloudOpenAfterCommit]
    static let decisionsAtTheCloud: [CrashPoint] = [.cloudDecisionRetried, .cloudDecisionBeforeCommit, .cloudDecisionAfterCommit]
    /// All of these.
    static let points = Set(ofBranches + ofBranchesOnce + lateAtBranches + decisionsAtBranches + ofTheCloud + ofTheCloudOnce + decisionsAtTheCloud)
        .union([.shutdown, .cloudShutdown, .ownLate])

    /// The branches first, each the passes that the other leaves out, while the cloud stays; then the cloud.
    private func walk() async throws {
        try self.company.cloud.start(environment: Self.quickly)
        try self.company.cloud.program?.waitUntilReady()
        for branch in self.company.branches {
            let token = try self.company.cloud.succeed(["branch", "add", "\(branch.id)", "store \(branch.id)"])
            try branch.succeed(["join"], input: token + "\n")
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (branch, passes) in zip(self.company.branches, [[1, 3, 5], [2, 4]]) {
                group.addTask { try await self.walk(branch, passes: passes) }
            }
            try await group.waitForAll()
        }
        try await self.walkTheCloud()
    }

    private func walk(_ branch: Site, passes: [Int]) async throws {
        for pass in passes {
            for point in Self.ofBranches { try await self.end(branch, at: point, pass: pass) }
            for point in Self.ofBranchesOnce { try await self.end(branch, at: point, pass: 1) }
            try await self.end(branch, at: .shutdown, pass: 1, environment: ["TERM_AT": "\(CrashPoint.pushUnderWay.rawValue):\(pass)"])
        }
        try await self.walkLateRows(of: branch, rounds: passes.count)
        try await self.decide(at: branch, rounds: passes.count)
        try branch.start(environment: Self.quickly)
    }

    private func walkTheCloud() async throws {
        let cloud = self.company.cloud
        cloud.kill()
        for pass in 1...5 {
            for point in Self.ofTheCloud { try await self.end(cloud, at: point, pass: pass) }
            for point in Self.ofTheCloudOnce {
                // A session is opened when an agent begins.
                self.company.branches[0].kill()
                try self.company.branches[0].start(environment: Self.quickly)
                try await self.end(cloud, at: point, pass: 1)
            }
            try await self.end(cloud, at: .cloudShutdown, pass: 1, environment: ["TERM_AT": "\(CrashPoint.applyMid.rawValue):\(pass)"])
        }
        try await self.walkLateRows(of: cloud, rounds: 5)
        try cloud.start(environment: Self.quickly)
        try await self.decide(at: cloud, rounds: 5)
    }

    /// Starts the program of `site` so that it ends when it passes `point` for the `pass`-th time, and waits for that.
    private func end(_ site: Site, at point: CrashPoint, pass: Int, environment: [String: String] = [:]) async throws {
        let plan = ["CRASH_AT": "\(point.rawValue):\(pass)"]
        try site.start(environment: Self.quickly.merging(plan) { $1 }.merging(environment) { $1 })
        guard let program = site.program else { return }
        let end: ProgramEnd
        do { end = try await program.end(within: 60) } catch { throw TradeError("\(point.rawValue):\(pass) was not reached: \(error)") }
        guard end == .signal(SIGKILL) else {
            throw TradeError("\(point.rawValue):\(pass): the program of site \(site.id) ended by \(end): \(program.logText.suffix(2_000))")
        }
        self.hits.withLock { $0[point, default: 0] += 1 }
    }

    /// Runs a command that ends at `point`.
    private func end(_ command: [String], of site: Site, at point: CrashPoint) throws {
        let result = try site.command(command, environment: ["CRASH_AT": "\(point.rawValue):1"])
        guard result.end == .signal(SIGKILL) else { throw TradeError("\(point.rawValue): the command ended by \(result.end): \(result.complaints)") }
        self.hits.withLock { $0[point, default: 0] += 1 }
    }

    private func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
        let start = ContinuousClock.now
        while !(try await condition()) {
            guard start.seconds < 60 else { throw TradeError("after a minute not yet: \(what)") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Rows that commit late, where everything above them has its number already: a step that numbers what is new would find them, too.
    private func walkLateRows(of site: Site, rounds: Int) async throws {
        let turn = self.turns[site.id]!
        try await turn.wait()
        defer { turn.signal() }
        try site.start(environment: Self.quickly)
        try await self.eventually("site \(site.id) has numbered everything") {
            try await site.count("select count(*) from sync_data where id > (select frontier from sync_frontier)") == 0
        }
        site.kill()
        for round in 0..<rounds {
            for (index, point) in (site.isCloud ? [.ownLate] : Self.lateAtBranches).enumerated() {
                let row = 1 + round * 3 + index
                try await self.again {
                    if site.isCloud {
                        try await site.stock([self.product(300_000 + row)], row: row)
                    } else {
                        try await site.sell([self.order(Int(site.id) * 10_000_000 + 9_000_000 + row, at: site, product: 1)], row: row)
                    }
                }
                try await self.end(site, at: point, pass: 1)
            }
        }
    }

    /// What people decide about dead records, by commands that end before they are done.
    private func decide(at site: Site, rounds: Int) async throws {
        let points = site.isCloud ? Self.decisionsAtTheCloud : Self.decisionsAtBranches
        if !site.isCloud { try await self.makeDead(at: site) }
        let question = "select id from sync_memo where receiver = \(site.id) and disposition = 6 order by id"
        func dead() async throws -> [Int64] { try await site.storage.withTransaction(.snapshot) { try await $0.query(question).map { try $0.int(0) } } }
        try await self.eventually("enough dead records at site \(site.id)") { try await dead().count >= 2 + rounds }
        // At a branch the commands do it themselves, where no agent runs.
        if !site.isCloud { site.kill() }
        let ids = try await dead()
        for round in 0..<rounds {
            // It is refused again, and stays dead.
            try self.end(["dead", "retry", "\(ids[0])"], of: site, at: points[0])
            try self.end(["dead", "discard", "\(ids[1])"], of: site, at: points[1])
            try self.end(["dead", "discard", "\(ids[2 + round])"], of: site, at: points[2])
            let again = try site.command(["dead", "discard", "\(ids[2 + round])"])
            guard again.status == 1 else { throw TradeError("a record is discarded twice at site \(site.id): \(again.output)\(again.complaints)") }
        }
        try site.succeed(["dead", "discard", "\(ids[1])"])
    }

    /// Keeps the branch closed until enough has been refused for good.
    private func makeDead(at branch: Site) async throws {
        let turn = self.turns[branch.id]!
        try await turn.wait()
        defer { turn.signal() }
        try await self.close(branch)
        try branch.start(environment: Self.quickly)
        try await self.eventually("dead records at branch \(branch.id)") {
            try await branch.count("select count(*) from sync_memo where receiver = \(branch.id) and disposition = 6") >= 8
        }
    }

    // MARK: - The end

    private func comeToRest() async throws {
        let cloud = self.company.cloud
        for site in self.company.branches + [cloud] where site.program?.isRunning != true { try site.start(environment: Self.quickly) }
        for branch in self.company.branches { try await self.open(branch) }
        let delivered = self.deliveries.withLock { $0 }
        try await self.again { try await cloud.stock((delivered...delivered + 3).map { self.product(1_000 + $0) }) }
        // What was refused at a closed shop for good is told once more.
        for id in try await cloud.read({ try await $0.query("select product_id from product where brand = 'closed'").map { try Int($0.int(0)) } }) {
            try await self.again { try await cloud.reprice(self.product(id, brand: "closed", price: 200)) }
        }
        try await self.company.settle(within: 120)
        // That asks for what is above the frontier only.
        for site in self.company.branches + [cloud] {
            try await self.eventually("site \(site.id) has settled its late rows") {
                try await site.count("select count(*) from sync_data where state = 0") == 0
            }
        }
        try await self.company.settle(within: 120)
    }
}
