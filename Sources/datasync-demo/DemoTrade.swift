import Foundation
import RetailTrade

/// What happens in the demo, in its order.
struct DemoTrade {
    let company: Company
    let data: RetailData
    let story: Story

    /// - Returns: Whether both sides hold what they should.
    func run() async throws -> Bool {
        try self.company.open()
        self.story.tell("the cloud listens at 127.0.0.1:\(self.company.port); branches \(self.names) have joined and run")
        try await self.fillShelves()
        try await self.welcomeMembers()
        try await self.trade()
        let poison = try await self.sellPoison()
        try await self.company.settle(within: 120)
        self.story.tell("nothing is under way any more")
        return try await self.report(poison)
    }

    private var names: String { self.company.branches.map { "\($0.id)" }.joined(separator: " and ") }

    private func fillShelves() async throws {
        try await self.company.cloud.stock(self.data.products)
        try await self.company.settle(within: 120)
        self.story.tell("the cloud listed \(self.data.products.count) products; both branches have them")
    }

    private func welcomeMembers() async throws {
        for branch in self.company.branches { try await branch.welcome(self.data.members.filter { $0.home == branch.id }) }
        try await self.company.settle(within: 120)
        let shared = self.data.members.filter(\.isShared).count
        self.story.tell(
            "the branches welcomed \(self.data.members.count) members; the \(shared) shared ones are known to both, the others at home and in the cloud")
    }

    /// Sales at every branch; between them prices change, members change on both sides, products go, members leave, and the
    /// cloud is killed.
    private func trade() async throws {
        let rounds = 4
        for round in 0..<rounds {
            var sold = 0
            for branch in self.company.branches {
                let orders = self.data.orders.filter { $0.store == branch.id }
                for order in orders[orders.count * round / rounds..<orders.count * (round + 1) / rounds] {
                    try await branch.sell([order])
                    sold += 1
                }
            }
            self.story.tell("the branches sold \(sold) orders, with their lines")
            switch round {
            case 0: try await self.changePrices()
            case 1: try await self.changeMembers()
            case 2: try await self.killTheCloud()
            default: try await self.sayGoodbye()
            }
        }
    }

    private func changePrices() async throws {
        let products = self.data.products.prefix(40)
        for var product in products {
            product.price += 10
            try await self.company.cloud.reprice(product)
        }
        self.story.tell("the cloud changed the prices of \(products.count) products")
    }

    /// The same shared members are changed at two branches: one of the two changes prevails, everywhere the same.
    private func changeMembers() async throws {
        let shared = self.data.members.filter(\.isShared).prefix(6)
        for (index, branch) in self.company.branches.enumerated() {
            for var member in shared {
                member.income = "changed at \(branch.id)"
                try await branch.change(member)
            }
            guard var member = self.data.members.first(where: { $0.home == branch.id && !$0.isShared }) else { continue }
            member.householdSize = "\(index + 2)"
            try await branch.change(member)
        }
        for var member in self.data.members.filter(\.isShared).dropFirst(6).prefix(6) {
            member.income = "changed in the cloud"
            try await self.company.cloud.change(member)
        }
        self.story.tell("\(shared.count) shared members were changed at both branches at once, 6 others in the cloud")
    }

    private func killTheCloud() async throws {
        self.company.cloud.kill()
        for branch in self.company.branches {
            for var member in self.data.members.filter({ $0.home == branch.id }).suffix(5) {
                member.age = "told meanwhile"
                try await branch.change(member)
            }
        }
        try self.company.cloud.start()
        try self.company.cloud.program?.waitUntilReady()
        self.story.tell("the cloud was killed (SIGKILL) and started again; the branches went on meanwhile")
    }

    private func sayGoodbye() async throws {
        // What nobody has bought: an order's line names its product.
        let sold = Set(self.data.orders.flatMap { $0.lines.map(\.product) })
        let gone = self.data.products.filter { !sold.contains($0.id) }.prefix(10)
        for product in gone { try await self.company.cloud.delist(product) }
        var leaving = 0
        for branch in self.company.branches {
            let members = self.data.members.filter { $0.home == branch.id }
            for member in [members.first(where: \.isShared), members.first(where: { !$0.isShared })].compactMap({ $0 }) {
                try await branch.forget(member)
                leaving += 1
            }
        }
        self.story.tell("the cloud delisted \(gone.count) products; \(leaving) members left")
    }

    /// An order that the cloud's table refuses.
    private func sellPoison() async throws -> Order {
        var poison = self.data.orders[0]
        poison.id = 1
        poison.total = -100
        let branch = self.company.branches[0]
        try await branch.sell([poison])
        self.story.tell("branch \(branch.id) sold order 1 for -1.00: the cloud's table refuses that")
        return poison
    }

    // MARK: - The end

    private func report(_ poison: Order) async throws -> Bool {
        let comparison = try await self.company.compare(except: ["order:\(poison.id)"])
        let dead = try await self.company.cloud.count("select count(*) from sync_memo where disposition = 6")
        let traffic = try await self.company.traffic()
        for difference in (comparison.differences + comparison.doubled).prefix(20) { self.story.tell(difference) }
        self.story.tell("\(comparison.rows) rows compared with what the routes say, on every side")
        print("\nrefused, as the cloud shows it (datasync-cloud dead list):")
        print(try self.company.cloud.command(["dead", "list"]).output, terminator: "")
        let branch = self.company.branches[0]
        print("\nand as branch \(branch.id) shows it (datasync-local dead list):")
        print(try branch.command(["dead", "list"]).output, terminator: "")
        print("\n" + (try await self.table()) + "\n")
        let lost = comparison.differences.count
        let doubled = comparison.doubled.count
        print("demo: \(traffic.up) records up, \(traffic.down) down, \(dead) dead, \(lost) lost, \(doubled) doubled")
        return lost == 0 && doubled == 0 && dead == 1
    }

    private func table() async throws -> String {
        var lines = [["", "products", "members", "orders", "lines", "dead"]]
        for site in [self.company.cloud] + self.company.branches {
            var line = [site.isCloud ? "cloud" : "branch \(site.id)"]
            for table in ["product", "member", "orders", "order_lines"] { line.append("\(try await site.count("select count(*) from \(table)"))") }
            let question = site.isCloud ? "sync_memo where disposition = 6" : "sync_data where fail_num >= 3"
            line.append("\(try await site.count("select count(*) from \(question)"))")
            lines.append(line)
        }
        return lines.map { cells in
            cells.enumerated().map { index, cell in
                let space = String(repeating: " ", count: max(0, 12 - cell.count))
                return index == 0 ? cell + space : space + cell
            }.joined()
        }.joined(separator: "\n")
    }
}
