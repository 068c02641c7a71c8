public import Foundation

/// A company that trades while all that it stands on fails: its programs and databases are killed, stopped and started, its
/// connections cut, its exchanges doubled, held and swapped, its disks filled, at moments that chance decides.
///
/// The programs reach each other and their databases through proxies; the applications reach their databases directly, as on the
/// machine where both are.
public struct Siege: Sendable {
    public enum Means: Sendable {
        /// Programs and databases are killed.
        case kills
        /// And everything else that is listed in ``SiegeEvent`` and ``HTTPFaultProxy/Fault``, with two replicas of the cloud.
        case everything
    }

    public struct Outcome: Sendable {
        public var counts: [SiegeEvent: Int] = [:]
        /// Exchanges of HTTP that were tampered with, by kind.
        public var exchanges: [String: Int] = [:]
        /// Programs that ended as no fault from outside explains.
        public var mishaps: [String] = []
        /// Orders that a database lost when it was put back, and that nobody else had: they are left out of everything else.
        public var gone = 0
        /// Orders that a database lost so, and that had to come back.
        public var lostAndBack = 0
        public var up = 0
        public var down = 0
        public var dead = 0
        public var comparison = Comparison()

        public var programKills: Int { self.counts[.agentKills, default: 0] + self.counts[.replicaKills, default: 0] }
        public var databaseKills: Int { self.counts[.databaseKills, default: 0] }
        public var cuts: Int {
            self.counts[.cutConnections, default: 0] + self.counts[.cutCommits, default: 0] + self.exchanges["halves", default: 0]
        }

        /// Each kind with its number.
        public var kinds: String {
            (SiegeEvent.allCases.map { "\($0.rawValue)=\(self.counts[$0, default: 0])" } + self.exchanges.sorted { $0.key < $1.key }.map { "\($0)=\($1)" })
                .joined(separator: " ")
        }
    }

    public var data: RetailData
    /// An empty folder with a short path: sockets lie in it.
    public var folder: URL
    public var programs: String
    public var seed: UInt64
    /// At least so many kills, and at least so long; and one restore, if there are any.
    public var killsMin: Int
    public var duration: Duration
    public var means: Means
    /// Whether database servers are put back to copies of their data, too.
    public var isRestoring: Bool

    public init(
        data: RetailData, folder: URL, programs: String, seed: UInt64, killsMin: Int, duration: Duration = .zero, means: Means, isRestoring: Bool = false
    ) {
        self.data = data
        self.folder = folder
        self.programs = programs
        self.seed = seed
        self.killsMin = killsMin
        self.duration = duration
        self.means = means
        self.isRestoring = isRestoring
    }

    public func run() async throws -> Outcome {
        // Room for what is written in that time, and then some.
        let mebibytes = self.means == .everything ? 1_024 + 128 * Int(self.duration.components.seconds / 60) : nil
        let cloudServer = try MariaDBServer(folder: self.folder.appending(path: "dbc"), diskMebibytes: mebibytes)
        let branchServer = try MariaDBServer(folder: self.folder.appending(path: "dbb"), diskMebibytes: mebibytes)
        defer {
            for server in [cloudServer, branchServer] {
                server.stop()
                server.disk?.unmount()
            }
        }
        let ports = (first: try freePort(), second: try freePort())
        let obstacles = self.means == .everything ? try SiegeObstacles(self, cloudServer, branchServer, ports: [ports.first, ports.second]) : nil
        defer { obstacles?.stop() }
        let company = try await Company(
            stores: self.data.stores, in: self.folder.appending(path: "siege"), programs: self.programs,
            database: .mariadb(socket: branchServer.socket, programsSocket: obstacles?.branchSocket),
            cloudDatabase: .mariadb(socket: cloudServer.socket, programsSocket: obstacles?.cloudSocket), port: ports.first,
            visiblePort: obstacles?.port, branchSettings: "http:\n  deadline: 5s\n")
        let replica = company.cloud.replica(2, port: ports.second)
        let tally = SiegeTally()
        let ledger = Ledger()
        do {
            try company.open()
            if self.means == .everything {
                try replica.start()
                try replica.program?.waitUntilReady()
            }
            obstacles?.disturb()
            var outcome = Outcome()
            let targets = Targets(
                self, company, replica, tally, cloud: DatabaseTarget(server: cloudServer, isVaried: self.means == .everything, tally: tally),
                branches: DatabaseTarget(server: branchServer, isVaried: self.means == .everything, tally: tally))
            try await self.besiege(company, targets, obstacles, ledger, tally)
            outcome.counts = tally.counts.merging(obstacles?.connections ?? [:]) { $1 }
            outcome.mishaps = tally.mishaps
            outcome.exchanges = obstacles?.exchanges ?? [:]
            outcome.comparison = try await company.compare(records: ledger.records, repeats: ledger.repeats)
            try await self.compare(company, with: ledger, &outcome)
            for name in outcome.comparison.names.sorted().prefix(5) { print(try await company.story(of: name).joined(separator: "\n")) }
            (outcome.up, outcome.down) = try await company.traffic()
            if self.isRestoring { outcome.up = try await self.arrived(company, ledger) }
            outcome.dead = try await company.cloud.count("select count(*) from sync_memo where disposition = 6")
            replica.stop()
            await company.close()
            return outcome
        } catch {
            replica.kill()
            await company.close()
            throw error
        }
    }

    /// What was sold must be at its branch and at the cloud, but for what is gone.
    private func compare(_ company: Company, with ledger: Ledger, _ outcome: inout Outcome) async throws {
        outcome.gone = ledger.goneCount
        outcome.lostAndBack = ledger.lostCount
        let arrived = try await company.cloud.orders()
        for branch in company.branches {
            let there = try await branch.orders()
            for order in ledger.orders(of: branch.id) where !there.contains(order) || !arrived.contains(order) {
                // One that is missing on one side is in the list already.
                guard outcome.comparison.names.insert("order:\(order)").inserted else { continue }
                outcome.comparison.differences.append("order \(order) is missing at branch \(branch.id) and at the cloud, and was sold")
            }
        }
    }

    /// Records that went up. What was sent and then lost with a branch's outbox is not in it any more.
    private func arrived(_ company: Company, _ ledger: Ledger) async throws -> Int {
        let orders = company.branches.reduce(0) { $0 + ledger.orders(of: $1.id).count }
        return orders + (try await company.cloud.count("select count(*) from sync_log where business_type = 2 and origin <> 0"))
    }

    /// Everything that is struck.
    private struct Targets {
        var agents: [ProgramTarget]
        var replicas: [ProgramTarget]
        var cloud: DatabaseTarget
        var branches: DatabaseTarget

        init(_ siege: Siege, _ company: Company, _ replica: Daemon, _ tally: SiegeTally, cloud: DatabaseTarget, branches: DatabaseTarget) {
            let isVaried = siege.means == .everything
            self.agents = company.branches.map { site in
                ProgramTarget(name: "branch \(site.id)", daemon: site.daemon, kill: .agentKills, isFreezing: isVaried, tally: tally)
            }
            self.replicas = [ProgramTarget(name: "the cloud", daemon: company.cloud.daemon, kill: .replicaKills, isFreezing: isVaried, tally: tally)]
            if isVaried { self.replicas.append(ProgramTarget(name: "replica 2", daemon: replica, kill: .replicaKills, isFreezing: true, tally: tally)) }
            self.cloud = cloud
            self.branches = branches
        }

        /// Each with the time after which it is struck again: however many there are, something is struck every second or two.
        var strikes: [(target: any SiegeTarget, seconds: Double)] {
            let programs = self.agents + self.replicas
            var strikes: [(target: any SiegeTarget, seconds: Double)] = [(self.cloud, 10), (self.branches, 10)]
            for program in programs { strikes.append((program, 1.8 * Double(programs.count))) }
            return strikes
        }
    }

    /// Lets the company trade under fire, and come to rest afterwards.
    private func besiege(
        _ company: Company, _ targets: Targets, _ obstacles: SiegeObstacles?, _ ledger: Ledger, _ tally: SiegeTally
    ) async throws {
        let isEnough = Flag()
        let isCrowded = Flag()
        let isCeased = Flag()
        let isOver = Flag()
        let gates = Dictionary(uniqueKeysWithValues: (company.branches + [company.cloud]).map { ($0.id, Gate()) })
        let pace: Duration = self.duration > .zero ? .milliseconds(5 * company.branches.count) : .zero
        let applications = Applications(company: company, data: self.data, ledger: ledger, pace: pace, gates: gates) {
            isCrowded.isRaised && !isEnough.isRaised
        }
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { isOver.raise() }
            for (index, (target, seconds)) in targets.strikes.enumerated() {
                let dice = Dice(seed: self.seed &+ UInt64(index) &* 1_000)
                group.addTask { try await Self.strike(target, every: seconds, dice, ceasing: isCeased, until: isOver) }
            }
            // What piles up must be carried before it can be compared, and before a restored database is whole again: who is far ahead of
            // the programs rests.
            let backlogMax = self.isRestoring ? 3_000 : 12_000
            group.addTask {
                while !isEnough.isRaised {
                    if let backlog = try? await company.backlog() { isCrowded.raise(backlog > backlogMax) }
                    try await Task.sleep(for: .milliseconds(200))
                }
            }
            group.addTask {
                while start.duration(to: .now) < self.duration || tally.kills < self.killsMin || self.isRestoring && tally.restores == 0 {
                    try await Task.sleep(for: .milliseconds(100))
                }
                isEnough.raise()
            }
            group.addTask {
                defer { isOver.raise() }
                async let restoring: Void = self.restore(company, targets, gates, ledger, tally, until: isEnough)
                try await applications.trade(until: { isEnough.isRaised })
                while !isEnough.isRaised { try await Task.sleep(for: .milliseconds(100)) }
                try await restoring
                isCeased.raise()
                obstacles?.heal()
                if tally.counts[.cloudRestores] != nil { try await applications.repriceOnceMore() }
                try await company.settle(within: 3_600)
            }
            for try await _ in group {}
        }
    }

    private func restore(
        _ company: Company, _ targets: Targets, _ gates: [Int32: Gate], _ ledger: Ledger, _ tally: SiegeTally, until isEnough: Flag
    ) async throws {
        guard self.isRestoring else { return }
        let restorer = Restorer(
            company: company, ledger: ledger, gates: gates,
            cloud: Restorer.Side(database: targets.cloud, programs: targets.replicas, sites: [company.cloud]),
            branches: Restorer.Side(database: targets.branches, programs: targets.agents, sites: company.branches), tally: tally,
            folder: self.folder.appending(path: "copy"))
        try await restorer.run(until: isEnough, using: Dice(seed: self.seed &+ 9_000))
    }

    /// Strikes one target, on a thread of its own since that blocks, and tends it to the end.
    private static func strike(
        _ target: any SiegeTarget, every seconds: Double, _ seeded: Dice, ceasing isCeased: Flag, until isOver: Flag
    ) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread {
                var dice = seeded
                var next = ContinuousClock.now
                continuation.resume(
                    with: Result {
                        while !isOver.isRaised {
                            Thread.sleep(forTimeInterval: 0.02)
                            guard target.turn.tryTake() else { continue }
                            defer { target.turn.give() }
                            if !isCeased.isRaised, ContinuousClock.now >= next {
                                try target.strike(using: &dice)
                                next = .now + .milliseconds(Int.random(in: 0...Int(2_000 * seconds), using: &dice))
                            }
                            try target.tend()
                        }
                    })
            }
        }
    }
}

/// Everything that stands between the programs, and between them and their databases.
private struct SiegeObstacles: Sendable {
    /// Where the branches find the cloud.
    let port: Int
    let cloudSocket: String
    let branchSocket: String
    private let balancer: HTTPFaultProxy
    private let links: [FaultProxy]

    init(_ siege: Siege, _ cloudServer: MariaDBServer, _ branchServer: MariaDBServer, ports: [Int]) throws {
        let balancerPort = try freePort()
        self.port = try freePort()
        self.cloudSocket = siege.folder.appending(path: "pc").path
        self.branchSocket = siege.folder.appending(path: "pb").path
        self.balancer = try HTTPFaultProxy(at: .port(balancerPort), to: ports.map { .port($0) }, seed: siege.seed &+ 1) { dice in
            .random(0.15, using: &dice)
        }
        // Silence lasts until somebody's patience ends, which is long compared with a life here.
        let faults: [FaultProxy.Fault] = [.cut, .cut, .cut, .reset, .reset, .reset, .halfClose, .halfClose, .throttle, .blackhole]
        func link(_ number: UInt64, at address: ProxyAddress, to target: ProxyAddress, bytesMax: Int, commitCutChance: Double) throws -> FaultProxy {
            try FaultProxy(
                at: address, to: target, using: Dice(seed: siege.seed &+ number), bytesMax: bytesMax, faults: faults, commitCutChance: commitCutChance)
        }
        self.links = [
            try link(2, at: .port(self.port), to: .port(balancerPort), bytesMax: 10_000_000, commitCutChance: 0),
            try link(3, at: .socket(self.cloudSocket), to: .socket(cloudServer.socket), bytesMax: 100_000_000, commitCutChance: 0.05),
            try link(4, at: .socket(self.branchSocket), to: .socket(branchServer.socket), bytesMax: 100_000_000, commitCutChance: 0.05),
        ]
    }

    /// What was done to connections.
    var connections: [SiegeEvent: Int] {
        func count(_ faults: FaultProxy.Fault...) -> Int {
            self.links.reduce(0) { sum, link in faults.reduce(sum) { $0 + link.counts[$1, default: 0] } }
        }
        return [
            .cutConnections: count(.cut, .reset, .halfClose), .blackholes: count(.blackhole), .slowConnections: count(.throttle),
            .cutCommits: self.links.reduce(0) { $0 + $1.commitCuts },
        ]
    }
    var exchanges: [String: Int] { self.balancer.counts }

    func disturb() {
        self.balancer.disturb()
        for link in self.links { link.disturb() }
    }

    func heal() {
        self.balancer.heal()
        for link in self.links { link.heal() }
    }

    func stop() {
        for link in self.links { link.stop() }
        self.balancer.stop()
    }
}
