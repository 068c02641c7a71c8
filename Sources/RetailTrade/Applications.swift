import DataSync
import DataSyncSQL
import Synchronization

/// Applications that trade on every side, and look what became of a transaction when their database went away under it.
struct Applications: Sendable {
    private let company: Company
    private let data: RetailData
    private let pace: Duration
    private let isPausing: @Sendable () -> Bool
    /// Where they note what they have written.
    private let ledger: Ledger
    private let gates: [Int32: Gate]

    /// - Parameters:
    ///   - pace: How long an application rests between two transactions.
    ///   - isPausing: Whether it rests for longer, asked between two transactions.
    ///   - gates: What keeps the applications of a site out for a while.
    init(
        company: Company, data: RetailData, ledger: Ledger, pace: Duration = .zero, gates: [Int32: Gate] = [:],
        isPausing: @escaping @Sendable () -> Bool = { false }
    ) {
        self.company = company
        self.data = data
        self.ledger = ledger
        self.pace = pace
        self.gates = gates
        self.isPausing = isPausing
    }

    /// Plays the data once, or again and again with new orders.
    /// - Parameter isOver: Asked between two transactions, once the data has been played.
    func trade(until isOver: @escaping @Sendable () -> Bool = { true }) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.tradeAtTheCloud(isOver) }
            for branch in self.company.branches { group.addTask { try await self.trade(at: branch, isOver) } }
            try await group.waitForAll()
        }
    }

    private func tradeAtTheCloud(_ isOver: () -> Bool) async throws {
        let cloud = self.company.cloud
        for start in stride(from: 0, to: self.data.products.count, by: 200) {
            let products = Array(self.data.products[start..<min(start + 200, self.data.products.count)])
            try await self.persist(at: cloud, unless: "select 1 from product where product_id = \(products[0].id)") {
                try await cloud.stock(products)
            } note: {
                self.ledger.told(products)
            }
        }
        self.ledger.begun()
        var round = 0
        repeat {
            round += 1
            try await self.reprice(round: round) { round > 1 && isOver() }
        } while !isOver()
    }

    /// Has the cloud say again what some products cost, as somebody has to whose database has lost what it had said.
    func repriceOnceMore() async throws { try await self.reprice(round: -1) { false } }

    private func reprice(round: Int, unless isOver: () -> Bool) async throws {
        let cloud = self.company.cloud
        for (index, product) in self.data.products.enumerated() where index.isMultiple(of: 50) {
            if isOver() { return }
            var product = product
            product.price += round
            let isDone = "select 1 from product where product_id = \(product.id) and price = \(Cents.text(product.price))"
            try await self.persist(at: cloud, unless: isDone) { [product] in
                try await cloud.reprice(product)
            } note: { [product] in
                self.ledger.told([product])
            }
        }
    }

    private func trade(at branch: Site, _ isOver: () -> Bool) async throws {
        let members = self.data.members.filter { $0.home == branch.id }
        if let first = members.first {
            try await self.persist(at: branch, unless: "select 1 from member where household_id = \(first.id)") { try await branch.welcome(members) }
        }
        self.ledger.begun()
        let sales = self.data.orders.filter { $0.store == branch.id }
        var round = 0
        repeat {
            for start in stride(from: 0, to: sales.count, by: 10) {
                if round > 0, isOver() { return }
                // The same baskets are bought again, by other numbers.
                let orders = sales[start..<min(start + 10, sales.count)].map { order in
                    var order = order
                    order.id += round * 1_000_000_000_000
                    return order
                }
                try await self.persist(at: branch, unless: "select 1 from orders where basket_id = \(orders[0].id)") {
                    try await branch.sell(orders)
                } note: {
                    self.ledger.sold(orders, at: branch.id)
                }
                guard var member = members.isEmpty ? nil : members[start / 10 % members.count] else { continue }
                member.income = "after \(round)/\(start)"
                let isDone = "select 1 from member where household_id = \(member.id) and income = '\(member.income)'"
                try await self.persist(at: branch, unless: isDone) { [member] in try await branch.change(member) }
            }
            round += 1
        } while !isOver()
    }

    /// Does `work` until it is there: a commit whose answer was lost may have happened. Notes it before anybody can put the database back.
    private func persist(at site: Site, unless done: String, _ work: () async throws -> Void, note: () -> Void = {}) async throws {
        try await self.gates[site.id]?.enter()
        do {
            try await self.tryUntilDone(at: site, unless: done, work)
            note()
        } catch {
            self.gates[site.id]?.leave()
            throw error
        }
        self.gates[site.id]?.leave()
        if self.pace > .zero { try await Task.sleep(for: self.pace) }
        while self.isPausing() { try await Task.sleep(for: .milliseconds(50)) }
    }

    private func tryUntilDone(at site: Site, unless done: String, _ work: () async throws -> Void) async throws {
        let start = ContinuousClock.now
        while true {
            do {
                guard try await site.storage.withTransaction(.snapshot, { try await $0.query(done).isEmpty }) else { return }
                return try await work()
            } catch {
                guard start.seconds < 1_800 else { throw error }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}
