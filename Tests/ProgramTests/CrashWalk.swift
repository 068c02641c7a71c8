import DataSync
import DataSyncSQL
import Foundation
import RetailTrade
import Synchronization

/// A company whose programs end at one labelled point after the other while its applications write: at most points when they pass
/// them for the first, the second, … the fifth time, and each time they are started again.
final class CrashWalk: Sendable {
    let company: Company
    private let passes: [Int]
    private let trade: CrashTrade
    private let isSQLite: Bool
    private let hits = Mutex<[CrashPoint: Int]>([:])
    /// What programs have begun with alone, and what says nothing any more since it was applied otherwise.
    private let outdated = Mutex<Set<String>>([])

    static let stores: [Int32] = [1, 2]

    /// Small batches and chunks, so that there are several of each, and short waits.
    private static let settings = """
        limits:
          batch_records: 4
          chunk_records: 2
          retry_delays: 200ms, 400ms
          waiting_delay: 150ms
          waiting_delay_max: 300ms

        """
    static let quickly = [
        "DATASYNC_SCHEDULE_WATCH": "20ms", "DATASYNC_SCHEDULE_INTERVAL": "50ms", "DATASYNC_SCHEDULE_BACKOFF_MAX": "200ms",
        "DATASYNC_LOG_LEVEL": "notice",
    ]

    /// - Parameters:
    ///   - server: For all sites; without one they are on SQLite.
    ///   - passes: At which pass the programs end: 3 when they pass a point for the third time. Each point is hit as often as there are passes.
    init(in folder: URL, server: MariaDBServer?, passes: [Int]) async throws {
        let database = server.map { SiteDatabase.mariadb(socket: $0.socket) } ?? .sqlite
        self.company = try await Company(
            stores: Self.stores, in: folder, programs: Programs.folder, database: database, settings: Self.settings)
        self.passes = passes
        self.trade = CrashTrade(self.company)
        self.isSQLite = server == nil
    }

    /// Walks through all points that the programs of a company pass while they run.
    /// - Returns: How often each was hit, and what was found when all had come to rest. What differs is printed with all that is known of it.
    func run() async throws -> (hits: [CrashPoint: Int], comparison: Comparison) {
        try await self.trade.begin(isSQLite: self.isSQLite)
        try await self.walk()
        try await self.comeToRest()
        let comparison = try await self.company.compare(except: self.trade.refused)
        for name in comparison.names.sorted().prefix(10) { print(try await self.company.story(of: name).joined(separator: "\n")) }
        return (self.hits.withLock { $0 }, comparison)
    }

    // MARK: - The walk

    /// What a branch passes while it runs, as often as there is something to do.
    static let ofBranches: [CrashPoint] = [
        .numberBefore, .numberAfterFrontier, .numberBeforeCommit, .numberAfterCommit, .pushBeforeSend, .pushUnderWay, .pushAfterReply,
        .settleBefore, .settleBetween, .settleMid, .settleBeforeCommit, .settleAfterCommit, .pullBeforeSend, .pullAfterReply, .pullAfterOutcomes,
        .pullMid, .pullBeforeCommit, .pullAfterCommit, .pullBetweenChunks, .acknowledgeBeforeSend, .acknowledgeAfterReply,
        .acknowledgeBeforeCommit,
    ]
    static let retries: [CrashPoint] = [.retryBeforeGuard, .retryAfterGuard, .retryAfterApply, .retryBeforeCommit, .retryAfterCommit]
    /// Once in a process, or nearly.
    static let ofBranchesOnce: [CrashPoint] = [
        .leaseTaken, .termBeforeCommit, .termAfterCommit, .openBeforeSend, .openAfterReply, .openAfter, .requestPerformed,
    ]
    static let lateAtBranches: [CrashPoint] = [.lateBefore, .lateBeforeCommit, .lateAfterCommit]
    static let decisionsAtBranches: [CrashPoint] = [.decisionRetried, .decisionBeforeCommit, .decisionAfterCommit]
    static let ofTheCloud: [CrashPoint] = [
        .applyBeforeTransaction, .applyAfterFence, .applyAfterLocks, .applyMid, .applyAfterLog, .applyAfterPositions, .applyAfterCommit,
        .applyBetweenChunks, .cloudPushBeforeReply, .cloudAcknowledgeBeforeCommit, .cloudAcknowledgeAfterCommit, .cloudPullBeforeRead,
        .cloudPullBeforeReply, .ownBefore, .ownAfterFrontier, .ownAfterLog, .ownBeforeCommit, .ownAfterCommit,
    ]
    static let retriesAtTheCloud: [CrashPoint] = [
        .cloudRetryBeforeGuard, .cloudRetryAfterGuard, .cloudRetryAfterApply, .cloudRetryBeforeCommit, .cloudRetryAfterCommit,
    ]
    static let ofTheCloudOnce: [CrashPoint] = [.cloudOpenBeforeCommit, .cloudOpenAfterCommit]
    static let decisionsAtTheCloud: [CrashPoint] = [.cloudDecisionRetried, .cloudDecisionBeforeCommit, .cloudDecisionAfterCommit]
    /// All of these.
    static let points = Set(ofBranches + retries + ofBranchesOnce + lateAtBranches + decisionsAtBranches)
        .union(ofTheCloud + retriesAtTheCloud + ofTheCloudOnce + decisionsAtTheCloud).union([.shutdown, .cloudShutdown, .ownLate])

    /// The branches first, each the passes that the other leaves out, while the cloud stays; then the cloud.
    private func walk() async throws {
        let cloud = self.company.cloud
        try cloud.start(environment: Self.quickly)
        try cloud.program?.waitUntilReady()
        for branch in self.company.branches {
            let token = try cloud.succeed(["branch", "add", "\(branch.id)", "store \(branch.id)"])
            try branch.succeed(["join"], input: token + "\n")
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, branch) in self.company.branches.enumerated() {
                let passes = self.passes.enumerated().filter { $0.offset % self.company.branches.count == index }.map(\.element)
                group.addTask { try await self.walk(branch, passes: passes) }
            }
            try await group.waitForAll()
        }
        try await self.walkTheCloud()
    }

    private func walk(_ branch: Site, passes: [Int]) async throws {
        for pass in passes {
            for point in Self.ofBranches + Self.retries { try await self.end(branch, at: point, pass: pass) }
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
        for pass in self.passes {
            for point in Self.ofTheCloud + Self.retriesAtTheCloud { try await self.end(cloud, at: point, pass: pass) }
            for point in Self.ofTheCloudOnce { try await self.end(cloud, at: point, pass: 1) }
            try await self.end(cloud, at: .cloudShutdown, pass: 1, environment: ["TERM_AT": "\(CrashPoint.applyMid.rawValue):\(pass)"])
        }
        try await self.walkLateRows(of: cloud, rounds: self.passes.count)
        try cloud.start(environment: Self.quickly)
        try await self.decide(at: cloud, rounds: self.passes.count)
    }

    /// Starts the program of `site` so that it ends when it passes `point` for the `pass`-th time, and causes what it needs for that.
    private func end(_ site: Site, at point: CrashPoint, pass: Int, environment: [String: String] = [:]) async throws {
        try await self.letLive(site)
        let plan = ["CRASH_AT": "\(point.rawValue):\(pass)"]
        try site.start(environment: Self.quickly.merging(plan) { $1 }.merging(environment) { $1 })
        guard let program = site.program else { return }
        let start = ContinuousClock.now
        var restart = start
        while program.isRunning {
            guard start.seconds < 600 else {
                throw TradeError(
                    "\(point.rawValue):\(pass) was not passed at site \(site.id) within ten minutes; \(try await self.company.unrest() ?? "all is at rest"); "
                        + "its log ends: \(program.logText.suffix(2_000))")
            }
            // A session is opened when an agent begins.
            let isTooLong = restart.seconds > (Self.ofTheCloudOnce.contains(point) ? 1 : 20)
            if isTooLong { restart = .now }
            for other in site.isCloud ? self.company.branches : [self.company.cloud] where isTooLong || other.program?.isRunning != true {
                other.kill()
                try other.start(environment: Self.quickly)
            }
            try await self.cause(point, at: site, times: pass)
            try await Task.sleep(for: .milliseconds(5))
        }
        let end = try await program.end()
        guard end == .signal(SIGKILL) else {
            throw TradeError("\(point.rawValue):\(pass): the program of site \(site.id) ended by \(end): \(program.logText.suffix(2_000))")
        }
        self.hits.withLock { $0[point, default: 0] += 1 }
        // What is held passes when the next program tries it.
        if Self.retries.contains(point) { try await self.trade.open(site) }
        if Self.retriesAtTheCloud.contains(point) { try await self.trade.stockWhatIsAwaited() }
    }

    /// Lets the program of `site` get through a record with which it has begun alone twice and ended: with the third end that would be taken for
    /// the reason.
    private func letLive(_ site: Site) async throws {
        func suspects() async throws -> Set<String> {
            let notes = try await site.read { transaction in
                try await transaction.query("select name, value from sync_config where name like 'lone.%'").map { (try $0.text(0), try $0.text(1)) }
            }
            let suspects = notes.filter { Int($0.1.split(separator: " ")[2]) ?? 0 >= 2 }.map { "\(site.id) \($0.0) \($0.1)" }
            return self.outdated.withLock { Set(suspects).subtracting($0) }
        }
        guard try await !suspects().isEmpty else { return }
        try site.start(environment: Self.quickly)
        let start = ContinuousClock.now
        while try await !suspects().isEmpty, start.seconds < 20 { try await Task.sleep(for: .milliseconds(10)) }
        site.kill()
        let left = try await suspects()
        self.outdated.withLock { $0.formUnion(left) }
    }

    /// Does what makes the program of `site` pass `point`, as far as the company is ready for it.
    private func cause(_ point: CrashPoint, at site: Site, times: Int) async throws {
        switch point {
        case _ where Self.retries.contains(point): try await self.trade.refuseForAWhile(at: site, times: times)
        case _ where Self.retriesAtTheCloud.contains(point): try await self.trade.waitForAProduct(times: times)
        case .requestPerformed: try await self.trade.ask(site)
        default: break
        }
        try await self.trade.go(on: site, times: times)
    }

    /// Runs a command that ends at `point`.
    private func end(_ command: [String], of site: Site, at point: CrashPoint) throws {
        let result = try site.command(command, environment: ["CRASH_AT": "\(point.rawValue):1"])
        guard result.end == .signal(SIGKILL) else { throw TradeError("\(point.rawValue): the command ended by \(result.end): \(result.complaints)") }
        self.hits.withLock { $0[point, default: 0] += 1 }
    }

    /// Causes something until it has happened.
    private func eventually(_ what: String, by cause: (() async throws -> Void)? = nil, _ condition: () async throws -> Bool) async throws {
        let start = ContinuousClock.now
        while !(try await condition()) {
            guard start.seconds < 600 else { throw TradeError("after ten minutes not yet: \(what)") }
            try await cause?()
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Rows that commit late, where everything above them has its number already: a step that numbers what is new would find them, too.
    private func walkLateRows(of site: Site, rounds: Int) async throws {
        try site.start(environment: Self.quickly)
        try await self.eventually("site \(site.id) has numbered everything") {
            try await site.count("select count(*) from sync_data where id > (select frontier from sync_frontier)") == 0
        }
        site.kill()
        for round in 0..<rounds {
            for (index, point) in (site.isCloud ? [.ownLate] : Self.lateAtBranches).enumerated() {
                try await self.trade.writeLate(at: site, row: 1 + round * 3 + index)
                try await self.end(site, at: point, pass: 1)
            }
        }
    }

    /// What people decide about dead records, by commands that end before they are done.
    private func decide(at site: Site, rounds: Int) async throws {
        let points = site.isCloud ? Self.decisionsAtTheCloud : Self.decisionsAtBranches
        let question = "select id from sync_memo where receiver = \(site.id) and disposition = 6 order by id"
        func dead() async throws -> [Int64] { try await site.storage.withTransaction(.snapshot) { try await $0.query(question).map { try $0.int(0) } } }
        if !site.isCloud {
            try await self.trade.refuse(at: site, count: 2 + rounds)
            try site.start(environment: Self.quickly)
        }
        let cause = { if site.isCloud { try await self.trade.makeMistakes(2 + rounds) } }
        try await self.eventually("enough dead records at site \(site.id)", by: cause) { try await dead().count >= 2 + rounds }
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

    // MARK: - The end

    private func comeToRest() async throws {
        let sites = self.company.branches + [self.company.cloud]
        for site in sites where site.program?.isRunning != true { try site.start(environment: Self.quickly) }
        try await self.trade.end()
        try await self.company.settle(within: 1_200)
        // That asks for what is above the frontier only.
        for site in sites {
            try await self.eventually("site \(site.id) has settled its late rows") {
                try await site.count("select count(*) from sync_data where state = 0") == 0
            }
        }
        try await self.company.settle(within: 1_200)
    }
}
