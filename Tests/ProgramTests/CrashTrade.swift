import DataSync
import DataSyncSQL
import Foundation
import RetailTrade
import Synchronization

/// What the applications of a company do while its programs end one after the other: they trade as always, at the pace of the programs,
/// and they cause what a program needs to pass a certain point.
///
/// Nothing here waits. Whoever wants something to happen calls again and again, and each call does what the company is ready for.
final class CrashTrade: Sendable {
    private let company: Company

    private struct State {
        var number = 0
        /// Orders that the cloud refuses for good.
        var refused: Set<String> = []
        /// Of each branch, the member that was welcomed last and those before it.
        var members: [Int32: [Int]] = [:]
        /// Products that the cloud sells for a while.
        var temporary: [Int] = []
        /// A product that orders name and the cloud does not know yet, since when.
        var awaited: (product: Int, since: ContinuousClock.Instant)?
        /// Since when the closed part of a branch is closed.
        var closed: [Int32: ContinuousClock.Instant] = [:]
    }

    private let state = Mutex(State())

    /// Rows of `sync_data` below this id are left free, for those that commit late.
    static let firstRow = 1_000
    private static let range = 20

    var refused: Set<String> { self.state.withLock { $0.refused } }

    init(_ company: Company) { self.company = company }

    /// Prepares the branches' tables, and has the first records of each site end above the rows that are left free.
    func begin(isSQLite: Bool) async throws {
        for branch in self.company.branches {
            let condition = "new.brand = 'closed' and exists (select 1 from closed)"
            try await branch.define([
                "create table closed (id int not null primary key)",
                // While the shop is closed it takes in nothing that is sold in the closed part of it.
                isSQLite
                    ? "create trigger product_closed before insert on product when \(condition) begin select raise(abort, 'closed'); end"
                    : "create trigger product_closed before insert on product for each row "
                        + "begin if \(condition) then signal sqlstate '45000' set message_text = 'closed'; end if; end",
            ])
            try await branch.sell([self.order(self.nextNumber(), at: branch)], row: Self.firstRow)
        }
        try await self.company.cloud.stock((1...Self.range).map { self.product($0) }, row: Self.firstRow)
    }

    private func nextNumber() -> Int {
        self.state.withLock { state in
            state.number += 1
            return state.number
        }
    }

    /// Again where the database was busy with something else: then nothing has happened.
    private func again<Result>(_ work: () async throws -> Result) async throws -> Result {
        var attempt = 1
        while true {
            do { return try await work() } catch let error as DataSyncError where error.code == .storageBusy && attempt < 100 {
                attempt += 1
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    private func product(_ id: Int, brand: String = "own", price: Int = 100) -> Product {
        Product(id: id, department: "all", brand: brand, kind: "kind", packageSize: "1", price: price)
    }

    private func order(_ number: Int, at branch: Site, total: Int = 500, product: Int = 1) -> Order {
        let id = Int(branch.id) * 10_000_000 + number
        return Order(
            id: id, store: branch.id, member: 1, orderedAt: "2026-01-01 08:00:00", total: total,
            lines: [Order.Line(line: 1, product: product, quantity: 1, sales: 500, discount: 0)])
    }

    private func member(_ number: Int, of branch: Site, income: String = "none") -> Member {
        Member(
            id: Int(branch.id) * 10_000_000 + number, age: "30", income: income, householdSize: "2", home: branch.id, isShared: number.isMultiple(of: 2))
    }

    // MARK: - Trade

    /// A little of everything at `site` and at those that it hears from, where they keep pace.
    /// - Parameter times: How often something has to happen within one life of the program of `site`.
    func go(on site: Site, times: Int) async throws {
        for branch in site.isCloud ? self.company.branches : [site] where try await self.backlog(of: branch) < 4 { try await self.trade(at: branch) }
        if try await self.lag(of: site) == 0 { try await self.tradeAtTheCloud(times: times) }
    }

    /// What a branch wrote and the cloud has not settled.
    private func backlog(of branch: Site) async throws -> Int {
        try await branch.count("select (select count(*) from sync_data where state = 0) + (select coalesce(sum(n - settled), 0) from sync_batch)")
    }

    /// What the cloud wrote and `site` has not read.
    private func lag(of site: Site) async throws -> Int {
        let new = try await self.company.cloud.count("select count(*) from sync_data where state = 0")
        guard new == 0, !site.isCloud else { return new }
        let last = try await self.company.cloud.count("select coalesce(max(last), 0) from sync_log_tail where business_type = 1 and audience = 0")
        return last - (try await site.count("select coalesce(max(number), 0) from sync_position where peer = 0 and business_type = 1"))
    }

    /// More rows than two batches take.
    private func trade(at branch: Site) async throws {
        let orders = (0..<6).map { self.order(self.nextNumber(), at: branch, product: $0 + 1) }
        try await self.again { try await branch.sell(orders) }
        let number = self.nextNumber()
        let member = self.member(number, of: branch)
        try await self.again { try await branch.welcome([member]) }
        try await self.again { try await branch.change(self.member(number, of: branch, income: "a living")) }
        let leaving = self.state.withLock { state -> Int? in
            state.members[branch.id, default: []].append(number)
            return state.members[branch.id, default: []].count > 3 ? state.members[branch.id]?.removeFirst() : nil
        }
        if let leaving, leaving.isMultiple(of: 3) { try await self.again { try await branch.forget(self.member(leaving, of: branch)) } }
    }

    /// So many batches of changed prices, and two products, one of which goes again.
    private func tradeAtTheCloud(times: Int) async throws {
        let cloud = self.company.cloud
        let number = self.nextNumber()
        try await self.again { try await cloud.stock([self.product(1_000_000 + number), self.product(2_000_000 + number)]) }
        for offset in 0..<4 * times {
            try await self.again { try await cloud.reprice(self.product((number + offset) % Self.range + 1, price: 100 + number)) }
        }
        let old = self.state.withLock { state -> Int? in
            state.temporary.append(2_000_000 + number)
            return state.temporary.count > 3 ? state.temporary.removeFirst() : nil
        }
        if let old { try await self.again { try await cloud.delist(self.product(old)) } }
    }

    /// A row of `site` that commits late: everything above it has its number.
    func writeLate(at site: Site, row: Int) async throws {
        let number = self.nextNumber()
        try await self.again {
            if site.isCloud {
                try await site.stock([self.product(3_000_000 + number)], row: row)
            } else {
                try await site.sell([self.order(number, at: site)], row: row)
            }
        }
    }

    /// Somebody wants a cycle now, and has the answer to the last such wish.
    func ask(_ branch: Site) async throws {
        try await self.again {
            try await branch.storage.withTransaction { transaction in
                _ = try await AgentRequest.takeReply("walk", in: transaction)
                try await AgentRequest(.sync, actor: "the walk").post("walk", in: transaction)
            }
        }
    }

    // MARK: - What is refused, and tried again

    /// Parked, waiting and suspect records at `site`.
    private func held(at site: Site) async throws -> Int {
        try await site.count("select count(*) from sync_memo where receiver = \(site.id) and disposition in (3, 4, 5)")
    }

    /// Has the closed part of a branch refuse so many products, and take them when they are tried again.
    func refuseForAWhile(at branch: Site, times: Int) async throws {
        let held = try await self.held(at: branch)
        if let since = self.state.withLock({ $0.closed[branch.id] }) {
            if held >= times || since.seconds > 2 { try await self.open(branch) }
        } else if held == 0 {
            try await self.refuse(at: branch, count: times)
        }
    }

    /// Has the closed part of a branch refuse so many products, beside others that pass: else they would be suspects.
    func refuse(at branch: Site, count: Int) async throws {
        try await self.again {
            try await branch.storage.withTransaction { transaction in
                if try await transaction.query("select 1 from closed").isEmpty { try await transaction.execute("insert into closed (id) values (1)") }
            }
        }
        self.state.withLock { $0.closed[branch.id] = .now }
        for _ in 0..<count {
            let number = self.nextNumber()
            try await self.again { try await self.company.cloud.stock([self.product(4_000_000 + number, brand: "closed")]) }
            try await self.again { try await self.company.cloud.reprice(self.product(number % Self.range + 1, price: 100 + number)) }
        }
    }

    /// The closed part of a branch takes in what comes for it.
    func open(_ branch: Site) async throws {
        try await self.again { try await branch.storage.withTransaction { _ = try await $0.execute("delete from closed") } }
        self.state.withLock { $0.closed[branch.id] = nil }
    }

    /// Has so many orders wait at the cloud for a product, and stocks it when they are there.
    func waitForAProduct(times: Int) async throws {
        let waiting = try await self.company.cloud.count("select count(*) from sync_memo where receiver = 0 and disposition = 4")
        if let awaited = self.state.withLock({ $0.awaited }) {
            if waiting >= times || awaited.since.seconds > 3 { try await self.stockWhatIsAwaited() }
        } else if waiting == 0 {
            let product = 5_000_000 + self.nextNumber()
            let branch = self.company.branches[product % self.company.branches.count]
            let orders = (0..<times).map { _ in self.order(self.nextNumber(), at: branch, product: product) }
            self.state.withLock { $0.awaited = (product, .now) }
            try await self.again { try await branch.sell(orders) }
        }
    }

    /// Releases the orders that wait.
    func stockWhatIsAwaited() async throws {
        guard let awaited = self.state.withLock({ $0.awaited }) else { return }
        try await self.again { try await self.company.cloud.stock([self.product(awaited.product)]) }
        self.state.withLock { $0.awaited = nil }
    }

    /// Sells so many orders that the cloud refuses for good, beside others that pass.
    func makeMistakes(_ count: Int) async throws {
        guard try await self.held(at: self.company.cloud) == 0 else { return }
        let branch = self.company.branches[0]
        for _ in 0..<count {
            let mistake = self.order(self.nextNumber(), at: branch, total: -1)
            self.state.withLock { _ = $0.refused.insert("order:\(mistake.id)") }
            let order = self.order(self.nextNumber(), at: branch)
            try await self.again { try await branch.sell([mistake, order]) }
        }
    }

    /// Makes up for all that was caused: nothing waits any more, and what was refused at a closed shop for good is told once more.
    func end() async throws {
        for branch in self.company.branches { try await self.open(branch) }
        try await self.stockWhatIsAwaited()
        let cloud = self.company.cloud
        for id in try await cloud.read({ try await $0.query("select product_id from product where brand = 'closed'").map { try Int($0.int(0)) } }) {
            try await self.again { try await cloud.reprice(self.product(id, brand: "closed", price: 200)) }
        }
    }
}
