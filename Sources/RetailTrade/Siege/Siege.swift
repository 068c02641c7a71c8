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
    /// At least so many kills, and at least so long.
    public var killsMin: Int
    public var duration: Duration
    public var means: Means

    public init(data: RetailData, folder: URL, programs: String, seed: UInt64, killsMin: Int, duration: Duration = .zero, means: Means) {
        self.data = data
        self.folder = folder
        self.programs = programs
        self.seed = seed
        self.killsMin = killsMin
        self.duration = duration
        self.means = means
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
        do {
            try company.open()
            if self.means == .everything {
                try replica.start()
                try replica.program?.waitUntilReady()
            }
            obstacles?.disturb()
            var outcome = Outcome()
            let targets = self.targets(company, replica, [cloudServer, branchServer], tally)
            try await self.besiege(company, targets.programs, targets.databases, obstacles, tally)
            outcome.counts = tally.counts.merging(obstacles?.connections ?? [:]) { $1 }
            outcome.mishaps = tally.mishaps
            outcome.exchanges = obstacles?.exchanges ?? [:]
            outcome.comparison = try await company.compare()
            (outcome.up, outcome.down) = try await company.traffic()
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

    private func targets(
        _ company: Company, _ replica: Daemon, _ servers: [MariaDBServer], _ tally: SiegeTally
    ) -> (programs: [any SiegeTarget], databases: [any SiegeTarget]) {
        let isVaried = self.means == .everything
        var programs = (company.branches + [company.cloud]).map { site in
            ProgramTarget(
                name: site.isCloud ? "the cloud" : "branch \(site.id)", daemon: site.daemon, kill: site.isCloud ? .replicaKills : .agentKills,
                isFreezing: isVaried, tally: tally)
        }
        if isVaried { programs.append(ProgramTarget(name: "replica 2", daemon: replica, kill: .replicaKills, isFreezing: true, tally: tally)) }
        return (programs, servers.map { DatabaseTarget(server: $0, isVaried: isVaried, tally: tally) })
    }

    /// Lets the company trade under fire, and come to rest afterwards.
    private func besiege(
        _ company: Company, _ programs: [any SiegeTarget], _ databases: [any SiegeTarget], _ obstacles: SiegeObstacles?, _ tally: SiegeTally
    ) async throws {
        let isEnough = Flag()
        let isCrowded = Flag()
        let isCeased = Flag()
        let isOver = Flag()
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { isOver.raise() }
            // However many there are, something is struck every second or two.
            let strikes = programs.map { ($0, 1.8 * Double(programs.count)) } + databases.map { ($0, 5 * Double(databases.count)) }
            for (index, (target, seconds)) in strikes.enumerated() {
                let dice = Dice(seed: self.seed &+ UInt64(index) &* 1_000)
                group.addTask { try await Self.strike(target, every: seconds, dice, ceasing: isCeased, until: isOver) }
            }
            // What piles up must be carried before it can be compared: who is far ahead of the programs rests.
            group.addTask {
                while !isEnough.isRaised {
                    if let backlog = try? await company.backlog() { isCrowded.raise(backlog > 12_000) }
                    try await Task.sleep(for: .milliseconds(200))
                }
            }
            group.addTask {
                while start.duration(to: .now) < self.duration || tally.kills < self.killsMin { try await Task.sleep(for: .milliseconds(100)) }
                isEnough.raise()
            }
            group.addTask {
                defer { isOver.raise() }
                let pace: Duration = self.duration > .zero ? .milliseconds(5 * company.branches.count) : .zero
                let applications = Applications(company: company, data: self.data, pace: pace) { isCrowded.isRaised && !isEnough.isRaised }
                try await applications.trade(until: { isEnough.isRaised })
                while !isEnough.isRaised { try await Task.sleep(for: .milliseconds(100)) }
                isCeased.raise()
                obstacles?.heal()
                try await company.settle(within: 900)
            }
            for try await _ in group {}
        }
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
                            if !isCeased.isRaised, ContinuousClock.now >= next {
                                try target.strike(using: &dice)
                                next = .now + .milliseconds(Int.random(in: 0...Int(2_000 * seconds), using: &dice))
                            }
                            try target.tend()
                            Thread.sleep(forTimeInterval: 0.02)
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
