import DataSyncSQL
public import Foundation
import Synchronization

/// A company that trades while its programs and databases are killed and its connections cut, at moments that chance decides.
///
/// The programs reach each other and their databases through ``FaultProxy``s; the applications reach their databases directly, as
/// on the machine where both are.
public struct Siege: Sendable {
    public struct Outcome: Sendable {
        /// Of programs, and of databases.
        public var programKills = 0
        public var databaseKills = 0
        /// Connections cut, held, half closed or slowed down.
        public var cuts = 0
        public var up = 0
        public var down = 0
        public var dead = 0
        public var comparison = Comparison()
    }

    public var data: RetailData
    /// An empty folder with a short path: sockets lie in it.
    public var folder: URL
    public var programs: String
    public var seed: UInt64
    /// At least so many kills, and at least so long.
    public var killsMin: Int
    public var duration: Duration
    /// Whether connections are cut too.
    public var isCutting: Bool

    public init(data: RetailData, folder: URL, programs: String, seed: UInt64, killsMin: Int, duration: Duration = .zero, isCutting: Bool) {
        self.data = data
        self.folder = folder
        self.programs = programs
        self.seed = seed
        self.killsMin = killsMin
        self.duration = duration
        self.isCutting = isCutting
    }

    public func run() async throws -> Outcome {
        let cloudServer = try MariaDBServer(folder: self.folder.appending(path: "dbc"))
        let branchServer = try MariaDBServer(folder: self.folder.appending(path: "dbb"))
        defer {
            cloudServer.stop()
            branchServer.stop()
        }
        var proxies: [FaultProxy] = []
        defer { for proxy in proxies { proxy.stop() } }
        var (cloudSocket, branchSocket): (String?, String?) = (nil, nil)
        var proxyPort: Int?
        let port = try freePort()
        if self.isCutting {
            let paths = (cloud: self.folder.appending(path: "pc").path, branches: self.folder.appending(path: "pb").path)
            let visible = try freePort()
            proxies = [
                try FaultProxy(at: .port(visible), to: .port(port), using: Dice(seed: self.seed &+ 1)),
                try FaultProxy(at: .socket(paths.cloud), to: .socket(cloudServer.socket), using: Dice(seed: self.seed &+ 2)),
                try FaultProxy(at: .socket(paths.branches), to: .socket(branchServer.socket), using: Dice(seed: self.seed &+ 3)),
            ]
            (cloudSocket, branchSocket, proxyPort) = (paths.cloud, paths.branches, visible)
        }
        let company = try await Company(
            stores: self.data.stores, in: self.folder.appending(path: "siege"), programs: self.programs,
            database: .mariadb(socket: branchServer.socket, programsSocket: branchSocket),
            cloudDatabase: .mariadb(socket: cloudServer.socket, programsSocket: cloudSocket), port: port, visiblePort: proxyPort)
        do {
            try company.open()
            for proxy in proxies { proxy.disturb() }
            var outcome = try await self.trade(company, (cloudServer, branchServer))
            for proxy in proxies { proxy.heal() }
            outcome.cuts = proxies.reduce(0) { $0 + $1.cuts }
            for site in company.branches + [company.cloud] where site.program?.isRunning != true { try site.start() }
            try await company.settle(within: 900)
            outcome.comparison = try await company.compare()
            (outcome.up, outcome.down) = try await company.traffic()
            outcome.dead = try await company.cloud.count("select count(*) from sync_memo where disposition = 6")
            await company.close()
            return outcome
        } catch {
            await company.close()
            throw error
        }
    }

    private func trade(_ company: Company, _ servers: (cloud: MariaDBServer, branches: MariaDBServer)) async throws -> Outcome {
        let isDone = Flag()
        let isOver = Flag()
        return try await withThrowingTaskGroup(of: Outcome.self) { group in
            group.addTask {
                defer { isDone.raise() }
                // About a thousand orders a second, all branches together: what piles up must be carried before it can be compared.
                let pace: Duration = self.duration > .zero ? .milliseconds(10 * company.branches.count) : .zero
                try await Applications(company: company, data: self.data, pace: pace).trade(until: { isOver.isRaised })
                return Outcome()
            }
            group.addTask { try await self.kill(company, servers, isOver: isOver, until: isDone) }
            return try await group.reduce(into: Outcome()) { sum, part in
                sum.programKills += part.programKills
                sum.databaseKills += part.databaseKills
            }
        }
    }

    /// Kills one thing after the other and starts it again a little later, at least ``killsMin`` times, as long as ``duration``, and on
    /// until the applications have ended.
    private func kill(
        _ company: Company, _ servers: (cloud: MariaDBServer, branches: MariaDBServer), isOver: Flag, until isDone: Flag
    ) async throws -> Outcome {
        var dice = Dice(seed: self.seed)
        var outcome = Outcome()
        let end = ContinuousClock.now + self.duration
        while true {
            if ContinuousClock.now >= end, outcome.programKills + outcome.databaseKills >= self.killsMin { isOver.raise() }
            if isOver.isRaised, isDone.isRaised { return outcome }
            // A moment anywhere in the work of the others: waiting is what this is made of.
            try await Task.sleep(for: .milliseconds(Int.random(in: 50...900, using: &dice)))
            let pause = Duration.milliseconds(Int.random(in: 0...300, using: &dice))
            switch Int.random(in: 0..<10, using: &dice) {
            case 0...2: try await self.restart(company.cloud, pause, &outcome)
            case 3: try await self.restart(servers.cloud, pause, &outcome)
            case 4: try await self.restart(servers.branches, pause, &outcome)
            default: try await self.restart(company.branches.randomElement(using: &dice)!, pause, &outcome)
            }
        }
    }

    private func restart(_ site: Site, _ pause: Duration, _ outcome: inout Outcome) async throws {
        site.kill()
        outcome.programKills += 1
        try await Task.sleep(for: pause)
        // A program that starts while its database cannot be reached may give up: it is started again, as systemd does.
        let start = ContinuousClock.now
        while true {
            try site.start()
            do {
                try site.program?.waitUntilReady()
                return
            } catch {
                guard start.seconds < 120 else { throw error }
                site.kill()
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func restart(_ server: MariaDBServer, _ pause: Duration, _ outcome: inout Outcome) async throws {
        server.kill()
        outcome.databaseKills += 1
        try await Task.sleep(for: pause)
        try server.start()
    }
}

/// Raised once.
private final class Flag: Sendable {
    private let value = Mutex(false)

    func raise() { self.value.withLock { $0 = true } }
    var isRaised: Bool { self.value.withLock { $0 } }
}

/// SplitMix64 (https://prng.di.unimi.it/splitmix64.c).
private struct Dice: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
