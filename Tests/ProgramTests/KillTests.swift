import DataSync
import DataSyncSQL
import DataSyncTesting
import Foundation
import RetailTrade
import Testing

/// The same trade, while the programs and the databases are killed (SIGKILL) again and again, at moments that a seed decides.
@Suite(.serialized) struct KillTests {
    static let seed = ProcessInfo.processInfo.environment["DATASYNC_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1...1_000_000)

    @Test(.enabled(if: Programs.hasYearData, Programs.yearHint), .enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
    func nothingIsLostAndNothingComesTwiceWhateverIsKilled() async throws {
        try await Programs.withFolder { folder in
            let data = try RetailData(folder: Programs.yearData)
            try await self.tradeUnderFire(data, stores: data.stores, kills: 36, in: folder)
        }
    }

    /// Where there is no year of trade, the small set still shows it.
    @Test(.enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
    func twoStoresSurviveKillsToo() async throws {
        try await Programs.withFolder { folder in
            let data = try RetailData(folder: Programs.demoData)
            try await self.tradeUnderFire(data, stores: data.stores, kills: 12, in: folder)
        }
    }

    private func tradeUnderFire(_ data: RetailData, stores: [Int32], kills: Int, in folder: URL) async throws {
        print("kills: seed \(Self.seed) (DATASYNC_TEST_SEED=\(Self.seed) plays it again)")
        let servers = (
            cloud: try MariaDBServer(folder: folder.appending(path: "dbc")), branches: try MariaDBServer(folder: folder.appending(path: "dbb"))
        )
        defer {
            servers.cloud.stop()
            servers.branches.stop()
        }
        let company = try await Company(
            stores: stores, in: folder.appending(path: "kills"), programs: Programs.folder,
            database: .mariadb(socket: servers.branches.socket), cloudDatabase: .mariadb(socket: servers.cloud.socket))
        do {
            try company.open()
            let killed = try await withThrowingTaskGroup(of: Int.self) { group in
                let isDone = Flag()
                group.addTask {
                    defer { isDone.raise() }
                    try await Applications(company: company, data: data).trade()
                    return 0
                }
                group.addTask {
                    try await Killer(company: company, servers: servers, seed: Self.seed, kills: kills).run(whileNot: isDone)
                }
                return try await group.reduce(0, +)
            }
            try await company.settle(within: 600)
            let comparison = try await company.compare()
            #expect(comparison.differences == [])
            #expect(comparison.doubled == [])
            #expect(killed >= kills)
            let dead = try await company.cloud.count("select count(*) from sync_memo where disposition = 6")
            #expect(dead == 0)
            let traffic = try await company.traffic()
            print("kills: \(killed) kills, \(traffic.up) records up, \(traffic.down) down, \(comparison.rows) rows compared")
        } catch {
            await company.close()
            throw error
        }
        await company.close()
    }
}

/// Raised once.
final class Flag: @unchecked Sendable {  // guarded by its lock
    private let lock = NSLock()
    private var value = false

    func raise() { self.lock.withLock { self.value = true } }
    var isRaised: Bool { self.lock.withLock { self.value } }
}

/// Kills one thing after the other, and starts it again a little later.
private struct Killer {
    let company: Company
    let servers: (cloud: MariaDBServer, branches: MariaDBServer)
    let seed: UInt64
    let kills: Int

    /// - Returns: How often something was killed: at least `kills`, and on as long as the applications trade.
    func run(whileNot isDone: Flag) async throws -> Int {
        var generator = SeededGenerator(seed: self.seed)
        var count = 0
        while count < self.kills || !isDone.isRaised {
            // Waiting is what is tested here: a moment anywhere in the work of the others.
            try await Task.sleep(for: .milliseconds(Int.random(in: 50...900, using: &generator)))
            let pause = Int.random(in: 0...300, using: &generator)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...2: try await self.restart(self.company.cloud, pause)
            case 3: try await self.restart(self.servers.cloud, pause)
            case 4: try await self.restart(self.servers.branches, pause)
            default: try await self.restart(self.company.branches.randomElement(using: &generator)!, pause)
            }
            count += 1
        }
        return count
    }

    private func restart(_ site: Site, _ pause: Int) async throws {
        site.kill()
        try await Task.sleep(for: .milliseconds(pause))
        try site.start()
        // A program that starts while its database is away may give up: it is started again, as systemd does.
        while true {
            do {
                try site.program?.waitUntilReady()
                return
            } catch  where site.program?.isRunning != true { try site.start() }
        }
    }

    private func restart(_ server: MariaDBServer, _ pause: Int) async throws {
        server.kill()
        try await Task.sleep(for: .milliseconds(pause))
        try server.start()
    }
}

/// Applications that trade, and look what became of a transaction when their database went away under it.
private struct Applications {
    let company: Company
    let data: RetailData

    func trade() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for start in stride(from: 0, to: self.data.products.count, by: 200) {
                    let products = Array(self.data.products[start..<min(start + 200, self.data.products.count)])
                    try await self.persist(at: self.company.cloud, unless: "select 1 from product where product_id = \(products[0].id)") {
                        try await self.company.cloud.stock(products)
                    }
                }
                for (index, product) in self.data.products.enumerated() where index.isMultiple(of: 50) {
                    var product = product
                    product.price += 1
                    try await self.persist(
                        at: self.company.cloud, unless: "select 1 from product where product_id = \(product.id) and price = \(Cents.text(product.price))"
                    ) { [product] in
                        try await self.company.cloud.reprice(product)
                    }
                }
            }
            for branch in self.company.branches { group.addTask { try await self.trade(at: branch) } }
            try await group.waitForAll()
        }
    }

    private func trade(at branch: Site) async throws {
        let members = self.data.members.filter { $0.home == branch.id }
        if let first = members.first {
            try await self.persist(at: branch, unless: "select 1 from member where household_id = \(first.id)") { try await branch.welcome(members) }
        }
        let orders = self.data.orders.filter { $0.store == branch.id }
        for start in stride(from: 0, to: orders.count, by: 10) {
            let orders = Array(orders[start..<min(start + 10, orders.count)])
            try await self.persist(at: branch, unless: "select 1 from orders where basket_id = \(orders[0].id)") { try await branch.sell(orders) }
            guard var member = members.isEmpty ? nil : members[start / 10 % members.count] else { continue }
            member.income = "after order \(start)"
            try await self.persist(at: branch, unless: "select 1 from member where household_id = \(member.id) and income = '\(member.income)'") { [member] in
                try await branch.change(member)
            }
        }
    }

    /// Does `work` until it is there: a commit whose answer was lost may have happened.
    private func persist(at site: Site, unless done: String, _ work: () async throws -> Void) async throws {
        let start = ContinuousClock.now
        while true {
            do {
                guard try await site.storage.withTransaction(.snapshot, { try await $0.query(done).isEmpty }) else { return }
                try await work()
                return
            } catch {
                guard start.seconds < 60 else { throw error }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}
