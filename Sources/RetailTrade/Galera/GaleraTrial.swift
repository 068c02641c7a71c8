import DataSync
import DataSyncMySQL
import DataSyncSQL
public import Foundation
import Synchronization

/// A company whose cloud is on a Galera cluster of three nodes, with a replica of the cloud at each, and that trades while nodes are killed and
/// paused, quorum is lost, and in the end the whole cluster is, with commits that it had acknowledged.
public struct GaleraTrial: Sendable {
    public struct Outcome: Sendable {
        public var kills = 0
        public var pauses = 0
        public var quorumLosses = 0
        public var crashes = 0
        public var records = 0
        /// Rounds in which two nodes raised the fence of one branch at the same time, and in which one of them had to give way.
        public var fences = (rounds: 0, held: 0)
        /// Of 300 reads at one node of what another had committed, those that did not see it.
        public var staleReads = 0
        /// Requests of which two copies arrived at the same instant, at two replicas.
        public var doubledRequests = 0
        /// Records that somebody had been told were safe, and that the most advanced node did not have when all had been killed.
        public var acknowledgedLost = 0
        /// Records of branches that the older copy had forgotten.
        public var forgotten = 0
        /// Records of the cloud's own applications that the older copy had forgotten, and the products that they were about: gone by nature.
        public var ownForgotten = (records: 0, products: 0)
        /// Programs that ended as no fault from outside explains.
        public var mishaps: [String] = []
        /// What was compared at rest after the repair, and in the end.
        public var comparison = Comparison()
        public var dead = 0

        public var missing: Int { self.comparison.differences.count { $0.contains(" is missing ") } }
        public var isGood: Bool {
            self.comparison.isEqual && self.dead == 0 && self.mishaps.isEmpty && self.acknowledgedLost == 0 && self.staleReads == 0
                && self.fences.rounds == self.fences.held
        }
    }

    public var data: RetailData
    /// An empty folder with a short path: sockets lie in it.
    public var folder: URL
    public var programs: String
    public var seed: UInt64
    /// It trades at least until so many records were carried.
    public var recordsMin: Int

    public init(data: RetailData, folder: URL, programs: String, seed: UInt64, recordsMin: Int) {
        self.data = data
        self.folder = folder
        self.programs = programs
        self.seed = seed
        self.recordsMin = recordsMin
    }

    public func run() async throws -> Outcome {
        let cluster = try GaleraCluster(folder: self.folder.appending(path: "db"))
        defer { cluster.stop() }
        let ports = try cluster.nodes.map { _ in try freePort() }
        let balancerPort = try freePort()
        let balancer = try HTTPFaultProxy(at: .port(balancerPort), to: ports.map { .port($0) }, seed: self.seed) { dice in
            Int.random(in: 0..<10, using: &dice) == 0 ? .duplicate : .none
        }
        defer { balancer.stop() }
        let company = try await Company(
            stores: self.data.stores, in: self.folder.appending(path: "galera"), programs: self.programs, database: .sqlite,
            cloudDatabase: .cluster(sockets: cluster.nodes.map(\.socket)), port: ports[0], visiblePort: balancerPort,
            branchSettings: "http:\n  deadline: 10s\n")
        guard let database = company.cloud.storage.database as? ClusterDatabase else { throw TradeError("the cloud is on no cluster") }
        let replicas = cluster.nodes.indices.dropFirst().map { index in
            let configuration = database.nodes[index].configuration
            let url = Site.url(configuration.database, socket: cluster.nodes[index].socket)
            return company.cloud.replica(index + 1, port: ports[index], with: ["--storage", url])
        }
        let trial = RunningTrial(self, company, cluster, database, balancer, [company.cloud.daemon] + replicas)
        do {
            try await trial.run()
            for replica in replicas { replica.stop() }
            await company.close()
            return trial.outcome
        } catch {
            for replica in replicas { replica.kill() }
            await company.close()
            throw error
        }
    }
}

/// What is done to one node, or to all but one.
private enum Strike: Sendable {
    case kill, pause, loseQuorum
}

private final class RunningTrial: @unchecked Sendable {  // what changes is used by one task: the one that strikes
    private let trial: GaleraTrial
    private let company: Company
    private let cluster: GaleraCluster
    private let database: ClusterDatabase
    private let balancer: HTTPFaultProxy
    /// Of the cloud, one at each node.
    private let replicas: [Daemon]
    private let programs: [ProgramTarget]
    private let tally = SiegeTally()
    /// Of the branches' orders: what must be at the cloud in the end, whatever their databases say.
    private let ledger = Ledger()
    private var dice: Dice
    private(set) var outcome = GaleraTrial.Outcome()
    /// Whether the applications are to rest: for what is compared, and because too much is under way.
    private let isHalted = Flag()
    private let isCrowded = Flag()
    private let isEnough = Flag()
    private var backup: URL { self.trial.folder.appending(path: "backup") }

    init(_ trial: GaleraTrial, _ company: Company, _ cluster: GaleraCluster, _ database: ClusterDatabase, _ balancer: HTTPFaultProxy, _ replicas: [Daemon]) {
        self.trial = trial
        self.company = company
        self.cluster = cluster
        self.database = database
        self.balancer = balancer
        self.replicas = replicas
        self.dice = Dice(seed: trial.seed)
        let tally = self.tally
        self.programs =
            company.branches.map { ProgramTarget(name: "branch \($0.id)", daemon: $0.daemon, kill: .agentKills, isFreezing: false, tally: tally) }
            + replicas.enumerated().map {
                ProgramTarget(name: "replica \($0 + 1)", daemon: $1, kill: .replicaKills, isFreezing: false, tally: tally)
            }
    }

    func run() async throws {
        let nodes = self.database.nodes.map { SQLStorage($0) }
        self.outcome.fences = try await Self.fences(at: nodes)
        self.outcome.staleReads = try await Self.staleReads(at: nodes)
        for node in nodes { await node.close() }
        self.say("two nodes fence each other in \(self.outcome.fences.held) of \(self.outcome.fences.rounds) rounds, \(self.outcome.staleReads) stale reads")
        try self.company.open()
        for replica in self.replicas.dropFirst() {
            try replica.start()
            try replica.program?.waitUntilReady()
        }
        self.balancer.disturb()
        try await withThrowingTaskGroup(of: Void.self) { group in
            let applications = Applications(company: self.company, data: self.trial.data, ledger: self.ledger, pace: .milliseconds(5)) {
                [isHalted, isCrowded, isEnough] in
                isHalted.isRaised || (isCrowded.isRaised && !isEnough.isRaised)
            }
            group.addTask { [isEnough] in try await applications.trade { isEnough.isRaised } }
            // Two more at the cloud, that change what everybody changes there, at other nodes at the same time.
            for number in 1...2 { group.addTask { await self.haggle(number) } }
            group.addTask { [company, isCrowded, isEnough] in
                while !isEnough.isRaised {
                    if let backlog = try? await company.backlog() { isCrowded.raise(backlog > 8_000) }
                    try await Task.sleep(for: .milliseconds(300))
                }
            }
            group.addTask {
                defer { self.isEnough.raise() }
                try await self.besiege()
            }
            for try await _ in group {}
        }
        try await self.finish()
    }

    // MARK: - What is asserted of a cluster

    /// Two transactions at two nodes raise the fence of one row before either has committed: one of them must fail.
    private static func fences(at nodes: [SQLStorage]) async throws -> (rounds: Int, held: Int) {
        var held = 0
        let rounds = 20
        for round in 0..<rounds {
            let (first, second) = (nodes[round % nodes.count], nodes[(round + 1) % nodes.count])
            let committed = Mutex(0)
            let hasFailed = try await self.failed {
                try await first.withTransaction(.write) { transaction in
                    try await Self.raise(round, in: transaction)
                    let hasFailed = try await self.failed {
                        try await second.withTransaction(.write) { try await Self.raise(round + 1_000, in: $0) }
                    }
                    if !hasFailed { committed.withLock { $0 += 1 } }
                }
            }
            if !hasFailed { committed.withLock { $0 += 1 } }
            if committed.withLock({ $0 }) == 1 { held += 1 }
        }
        return (rounds, held)
    }

    private static func raise(_ time: Int, in transaction: SQLTransaction) async throws {
        guard try await transaction.raiseFence(.cloud, session: 0, epoch: 1, time: Int64(time)) else { throw TradeError("the cloud's own row is not there") }
    }

    private static func failed(_ body: () async throws -> Void) async throws -> Bool {
        do {
            try await body()
            return false
        } catch let error as DataSyncError {
            guard error.code == .storageBusy else { throw error }
            return true
        }
    }

    private static func staleReads(at nodes: [SQLStorage]) async throws -> Int {
        var stale = 0
        for round in 0..<300 {
            try await nodes[round % nodes.count].withTransaction(.write) { try await $0.putSetting("trial", "\(round)") }
            let read = try await nodes[(round + 1) % nodes.count].withTransaction(.snapshot) { try await $0.setting("trial") }
            if read != "\(round)" { stale += 1 }
        }
        try await nodes[0].withTransaction(.write) { try await $0.removeSetting("trial") }
        return stale
    }

    // MARK: - Trade

    /// Changes prices of a few products again and again.
    private func haggle(_ number: Int) async {
        var dice = Dice(seed: self.trial.seed &+ UInt64(number))
        while !self.isEnough.isRaised {
            try? await Task.sleep(for: .milliseconds(60))
            guard !self.isHalted.isRaised, !self.isCrowded.isRaised, var product = self.trial.data.products.prefix(20).randomElement(using: &dice) else {
                continue
            }
            product.price = Int.random(in: 1...9_999, using: &dice)
            // Whether it happened is told by the tables: nobody asks for it again.
            do { try await self.company.cloud.reprice(product) } catch { try? await Task.sleep(for: .milliseconds(200)) }
        }
    }

    // MARK: - Strikes

    private func besiege() async throws {
        let products = self.trial.data.products.count
        while try await self.company.cloud.count("select count(*) from product") < products { try await self.breathe(seconds: 0.5) }
        var strikes = Array(repeating: Strike.kill, count: 7) + Array(repeating: .pause, count: 4) + Array(repeating: .loseQuorum, count: 2)
        strikes.shuffle(using: &self.dice)
        for strike in strikes {
            try await self.breathe(seconds: Double.random(in: 2...4, using: &self.dice))
            try await self.strike(strike)
        }
        try await self.breathe(seconds: 3)
        try await self.crash()
        while try await self.records() < self.trial.recordsMin { try await self.breathe(seconds: 1) }
        try await self.strike(.kill)
        try await self.breathe(seconds: 5)
    }

    private func strike(_ strike: Strike) async throws {
        guard let node = self.cluster.nodes.randomElement(using: &self.dice) else { return }
        let seconds = Double.random(in: 1...3, using: &self.dice)
        let start = ContinuousClock.now
        switch strike {
        case .kill:
            self.outcome.kills += 1
            let isCopied = self.outcome.kills == 4
            try await self.blocking { [cluster, backup] in
                cluster.kill(node)
                Thread.sleep(forTimeInterval: seconds)
                // As good as any backup: all of a database at one moment.
                if isCopied { try cluster.keep(node, at: backup) }
                try cluster.rejoin(node)
            }
        case .pause:
            self.outcome.pauses += 1
            try await self.blocking { [cluster] in try cluster.pause(node, seconds: 6 + seconds) }
        case .loseQuorum:
            self.outcome.quorumLosses += 1
            try await self.blocking { [cluster] in try cluster.loseQuorum(leaving: node, seconds: seconds) }
        }
        self.say("\(strike) at node \(node.number): in step again after \(Int(start.seconds)) s, \(try await self.records()) records so far")
    }

    /// All nodes are killed. The most advanced one has all that was acknowledged; but they are put back to an older copy, and that is declared.
    private func crash() async throws {
        self.outcome.crashes += 1
        let before = try await self.effects()
        try await self.blocking { [cluster] in cluster.killAll() }
        self.isHalted.raise()
        self.database.close()
        for replica in self.replicas { replica.stop() }
        let (best, positions) = try await self.blocking { [cluster] in try cluster.mostAdvanced() }
        try await self.blocking { [cluster] in try cluster.begin(with: best, at: positions[best.number]) }
        let node = SQLStorage(self.database.nodes[best.number - 1])
        self.outcome.acknowledgedLost = try await self.acknowledgedAndMissing(at: node)
        let (own, received) = (try await Self.ownRecords(at: node), try await Self.received(at: node))
        self.note(try await Self.repeated(at: node).map { "order \($0) took effect more than once at the cloud before the crash" })
        // The branches had got no more than what the cloud's applications wrote. Counted before the crash, which is less.
        let told = Dictionary(grouping: own.values) { $0 }.mapValues(\.count)
        self.note(before.filter { $0.value > told[$0.key.name] ?? 0 }.map { "\($0.key.name) took effect too often at branch \($0.key.branch)" })
        await node.close()

        try await self.blocking { [cluster, backup] in try cluster.restore(backup) }
        let restored = SQLStorage(self.database.nodes[0])
        let kept = try await Self.ownRecords(at: restored)
        self.outcome.forgotten = received - (try await Self.received(at: restored))
        await restored.close()
        let lost = own.filter { kept[$0.key] == nil }
        let names = Set(lost.values)
        self.outcome.ownForgotten = (lost.count, names.count)
        try self.company.cloud.succeed(["restored"])
        for replica in self.replicas {
            try replica.start()
            try replica.program?.waitUntilReady()
        }
        self.database.close(false)
        self.say("all nodes killed, an older copy put back: \(self.outcome.forgotten) records of branches and \(lost.count) own ones forgotten")
        try await self.breathe(seconds: 2)
        try await self.rest()
        // What only the cloud had written is gone, and branches hold what they had got of it: until somebody changes it again.
        self.outcome.comparison.add(try await self.compare(except: names))
        self.say("repaired; \(self.outcome.comparison.differences.count) differences besides")
        self.effectsBefore = try await self.effects()
        self.toldBefore = try await self.told()
        self.lostProducts = names
        self.isHalted.raise(false)
    }

    private var effectsBefore: [Effect: Int] = [:]
    private var toldBefore: [String: Int] = [:]
    private var lostProducts: Set<String> = []

    private func finish() async throws {
        for product in self.trial.data.products where self.lostProducts.contains("product:\(product.id)") {
            try await self.patiently { try await self.company.cloud.reprice(product) }
        }
        try await self.rest()
        self.outcome.comparison.add(try await self.compare(except: []))
        let orders = try await self.company.cloud.orders()
        for branch in self.company.branches {
            for order in self.ledger.orders(of: branch.id) where !orders.contains(order) {
                self.outcome.comparison.differences.append("order \(order) is missing at the cloud, and branch \(branch.id) had sold it")
            }
        }
        let told = try await self.told()
        for (effect, count) in try await self.effects() {
            let times = count - (self.effectsBefore[effect] ?? 0)
            if times > (told[effect.name] ?? 0) - (self.toldBefore[effect.name] ?? 0) {
                self.note(["\(effect.name) took effect too often at branch \(effect.branch) after the repair"])
            }
        }
        self.outcome.records = try await self.records()
        self.outcome.doubledRequests = self.balancer.counts["doubled"] ?? 0
        self.outcome.mishaps = self.tally.mishaps
        self.outcome.dead = try await self.company.cloud.count("select count(*) from sync_memo where disposition = 6")
    }

    /// Lets all sides come to rest; the programs are started again where they end.
    private func rest() async throws {
        let start = ContinuousClock.now
        while let reason = try await self.company.unrest() {
            guard start.seconds < 600 else { throw TradeError("after 600 s still under way: \(reason)") }
            try await self.breathe(seconds: 0.2)
        }
    }

    /// Products apart: of a cloud that was restored, its own list of what it told is shorter than what was heard. They are counted here.
    private func compare(except names: Set<String>) async throws -> Comparison {
        var comparison = try await self.company.compare(except: names)
        comparison.doubled.removeAll { $0.hasPrefix("product:") }
        return comparison
    }

    private func note(_ doubled: [String]) { self.outcome.comparison.doubled += doubled }

    private func records() async throws -> Int {
        let traffic = try await self.company.traffic()
        return traffic.up + traffic.down
    }

    // MARK: - Counting

    private struct Effect: Hashable {
        var branch: Int32
        var name: String
    }

    /// How often each product was written at each branch.
    private func effects() async throws -> [Effect: Int] {
        var effects: [Effect: Int] = [:]
        for branch in self.company.branches {
            let rows = try await branch.read {
                try await $0.query("select row_key, count(*) from effects where table_name = 'product' group by row_key")
            }
            for row in rows { effects[Effect(branch: branch.id, name: "product:\(try row.text(0))")] = try Int(row.int(1)) }
        }
        return effects
    }

    /// How often the cloud's applications told of each product.
    private func told() async throws -> [String: Int] {
        let rows = try await self.company.cloud.read {
            try await $0.query("select data_from_detail, count(*) from sync_data where business_type = 1 group by data_from_detail")
        }
        return try rows.reduce(into: [:]) { $0[try $1.text(0)] = try Int($1.int(1)) }
    }

    /// What the cloud's applications wrote: the entity of each record.
    private static func ownRecords(at node: SQLStorage) async throws -> [String: String] {
        let rows = try await node.withTransaction(.snapshot) { try await $0.query("select hex(uid), data_from_detail from sync_data") }
        return try rows.reduce(into: [:]) { $0[try $1.text(0)] = try $1.text(1) }
    }

    /// How many records of branches were received.
    private static func received(at node: SQLStorage) async throws -> Int {
        try await node.withTransaction(.snapshot) { try await Int($0.query("select coalesce(sum(n), 0) from sync_receipt")[0].int(0)) }
    }

    /// Orders that took effect more than once.
    private static func repeated(at node: SQLStorage) async throws -> [String] {
        try await node.withTransaction(.snapshot) { transaction in
            try await transaction.query("select row_key from effects where table_name = 'orders' group by row_key having count(*) > 1")
                .map { try $0.text(0) }
        }
    }

    /// What a branch was told is in the cloud's tables, or has from there, and the cloud does not have.
    private func acknowledgedAndMissing(at node: SQLStorage) async throws -> Int {
        var missing: Int64 = 0
        for branch in self.company.branches {
            let confirmed = try await branch.read { try await $0.query("select number, epoch, business_type from sync_send where peer = 0") }
            let read = try await branch.read {
                try await $0.query("select max(number), business_type from sync_position where peer = 0 group by business_type")
            }
            missing += try await node.withTransaction(.snapshot) { transaction in
                var missing: Int64 = 0
                for row in confirmed {
                    let held = try await transaction.query(
                        "select coalesce(max(number), 0) from sync_position where peer = ? and epoch = ? and business_type = ?",
                        [.int(branch.id), .int(try row.int(1)), .int(try row.int(2))])[0].int(0)
                    missing += max(0, try row.int(0) - held)
                }
                for row in read {
                    let held = try await transaction.query(
                        "select coalesce(max(last), 0) from sync_log_tail where audience in (0, ?) and business_type = ?",
                        [.int(branch.id), .int(try row.int(1))])[0].int(0)
                    missing += max(0, try row.int(0) - held)
                }
                return missing
            }
        }
        return Int(missing)
    }

    // MARK: - Waiting

    /// Lets the company trade for so long, and starts again what has ended, as a service manager does.
    private func breathe(seconds: Double) async throws {
        try await self.blocking { [programs] in
            let start = ContinuousClock.now
            repeat {
                for program in programs { try program.tend() }
                Thread.sleep(forTimeInterval: 0.05)
            } while start.seconds < seconds
        }
    }

    private func patiently(_ work: () async throws -> Void) async throws {
        let start = ContinuousClock.now
        while true {
            do { return try await work() } catch {
                guard start.seconds < 60 else { throw error }
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    /// Runs what blocks on a thread of its own.
    private func blocking<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Swift.Result { try body() }) }
        }
    }

    private func say(_ line: String) { print("galera: \(line)") }
}
