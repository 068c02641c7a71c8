import DataSyncSQL
import Foundation

/// Puts a database server back to a copy of its data that was taken some time before, again and again, while everything else fails too: that of
/// all branches, and less often that of the cloud.
///
/// One at a time: the next copy is taken when what was lost has come back. What the applications of a branch had written after the copy
/// and had not been told to have arrived, and the cloud does not have, is gone, and is noted as gone; all the rest must come back. A cloud that
/// is put back costs no order: the branches have them all.
struct Restorer: Sendable {
    let company: Company
    let ledger: Ledger
    let gates: [Int32: Gate]
    let cloud: Side
    let branches: Side
    let tally: SiegeTally
    /// Where the copy lies.
    let folder: URL

    /// A server with the sites and the programs that work on it.
    struct Side: Sendable {
        let database: DatabaseTarget
        let programs: [ProgramTarget]
        let sites: [Site]
    }

    func run(until isEnough: Flag, using seeded: Dice) async throws {
        var dice = seeded
        // What is written once, at the beginning, must be in each copy: nobody writes it again.
        while self.ledger.begunCount <= self.company.branches.count { try await Task.sleep(for: .milliseconds(50)) }
        while true {
            guard try await self.rest(2...6, until: isEnough, &dice) else { return }
            let side = Int.random(in: 0..<3, using: &dice) == 0 ? self.cloud : self.branches
            let sold = try await self.copy(side, &dice)
            guard try await self.rest(3...10, until: isEnough, &dice) else { return }
            let lost = try await self.restore(side, sold: sold, &dice)
            self.ledger.lost(lost.values.reduce(0) { $0 + $1.count })
            try await self.waitForWhatComesBack(lost, until: isEnough)
        }
    }

    /// - Returns: Whether it goes on then.
    private func rest(_ seconds: ClosedRange<Double>, until isEnough: Flag, _ dice: inout Dice) async throws -> Bool {
        let end = ContinuousClock.now + .milliseconds(Int(1_000 * Double.random(in: seconds, using: &dice)))
        while ContinuousClock.now < end, !isEnough.isRaised { try await Task.sleep(for: .milliseconds(50)) }
        return !isEnough.isRaised
    }

    /// Does `work` while nobody strikes the servers and no application writes on that of `side`.
    /// - Parameter isStopping: Whether the programs are not running meanwhile.
    private func hold<Result: Sendable>(_ side: Side, isStopping: Bool, _ work: () async throws -> Result) async throws -> Result {
        // Both servers: each is asked what it has.
        let turns = (isStopping ? side.programs.map(\.turn) : []) + [self.cloud.database.turn, self.branches.database.turn]
        for turn in turns { try await turn.take() }
        defer { for turn in turns { turn.give() } }
        for site in side.sites { try await self.gates[site.id]?.close() }
        defer { for site in side.sites { self.gates[site.id]?.open() } }
        guard isStopping else { return try await work() }
        try await blocking { for program in side.programs { program.daemon.kill() } }
        let result = try await work()
        try await blocking { for program in side.programs { try program.start() } }
        return result
    }

    /// - Returns: How many orders each branch had sold by then.
    private func copy(_ side: Side, _ dice: inout Dice) async throws -> [Int32: Int] {
        let (isStopping, isKilling) = (Bool.random(using: &dice), Bool.random(using: &dice))
        return try await self.hold(side, isStopping: isStopping) {
            let server = side.database.server
            try await blocking {
                if isKilling { server.kill() } else { server.stop() }
                try server.copyData(to: self.folder)
                try server.start()
            }
            return Dictionary(uniqueKeysWithValues: self.company.branches.map { ($0.id, self.ledger.count(of: $0.id)) })
        }
    }

    /// - Returns: The orders that the server had, and does not have now, and must get back.
    private func restore(_ side: Side, sold: [Int32: Int], _ dice: inout Dice) async throws -> [Int32: Set<Int>] {
        let isCloud = side.sites.contains { $0.isCloud }
        // Whoever puts the cloud back stops every replica and says so before they start again: Docs/operations.md, section 15.
        let isStopping = Bool.random(using: &dice) || isCloud
        return try await self.hold(side, isStopping: isStopping) {
            // What a branch had sold before the copy it has still; what the cloud has of that may not have arrived by then.
            let orders = self.company.branches.reduce(into: [:]) { orders, branch in
                orders[branch.id] = Set(self.ledger.orders(of: branch.id, after: isCloud ? 0 : sold[branch.id] ?? 0))
            }
            var confirmed: [Int32: Set<Int>] = [:]
            for branch in self.company.branches { confirmed[branch.id] = try await self.confirmed(orders[branch.id] ?? [], at: branch) }
            try await blocking {
                side.database.server.kill()
                try side.database.server.putBackData(from: self.folder)
                try side.database.server.start()
                if isCloud { try self.declareRestored() }
            }
            if isCloud { for branch in self.company.branches { self.ledger.mayRepeat(try await self.unconfirmed(by: branch), at: branch.id) } }
            self.tally.count(isCloud ? .cloudRestores : .branchRestores)
            var lost: [Int32: Set<Int>] = [:]
            for branch in self.company.branches {
                let (orders, confirmed) = (orders[branch.id] ?? [], confirmed[branch.id] ?? [])
                let arrived = try await self.orders(orders, at: self.company.cloud)
                if isCloud {
                    lost[branch.id] = confirmed.subtracting(arrived)
                } else {
                    let there = try await self.orders(orders, at: branch)
                    lost[branch.id] = arrived.union(confirmed).subtracting(there)
                    self.ledger.lose(orders.subtracting(there).subtracting(arrived).subtracting(confirmed))
                }
            }
            return lost
        }
    }

    /// How many states about a product are in the cloud's log of which the cloud's database does not know that a branch has them, or
    /// are not in its log yet and were in that which it lost.
    private func unconfirmed(by branch: Site) async throws -> [String: Int] {
        let confirmed = "select number from sync_send where peer = \(branch.id) and business_type = 1"
        let question = """
            select data_from_detail from sync_log where business_type = 1 and audience in (0, \(branch.id)) \
            and log_seq > coalesce((\(confirmed)), 0) union all select data_from_detail from sync_data where business_type = 1 and state = 0
            """
        return try await self.company.cloud.read { transaction in
            try await transaction.query(question).reduce(into: [:]) { $0[try $1.text(0), default: 0] += 1 }
        }
    }

    private func declareRestored() throws {
        let start = ContinuousClock.now
        while true {
            // The command's connection may be cut as any other. To say it twice does no harm.
            let result = try self.company.cloud.command(["restored"])
            if result.status == 0 { return }
            guard start.seconds < 1_200 else { throw TradeError("restored ended with \(result.status): \(result.complaints)") }
        }
    }

    /// Those of `orders` that are in a site's table.
    private func orders(_ orders: Set<Int>, at site: Site) async throws -> Set<Int> {
        try await self.those(of: orders, at: site, "select basket_id from orders where basket_id in", name: { "\($0)" }, read: { try Int($0.int(0)) })
    }

    /// Those of `orders` of which the applications of a branch can see that they have arrived.
    private func confirmed(_ orders: Set<Int>, at branch: Site) async throws -> Set<Int> {
        try await self.those(
            of: orders, at: branch, "select data_from_detail from sync_data where business_type = 3 and state = 2 and data_from_detail in",
            name: { "'order:\($0)'" }, read: { Int(try $0.text(0).dropFirst("order:".count)) ?? 0 })
    }

    private func those(
        of orders: Set<Int>, at site: Site, _ question: String, name: (Int) -> String, read: @Sendable (SQLRow) throws -> Int
    ) async throws -> Set<Int> {
        let sorted = orders.sorted()
        var found: Set<Int> = []
        for start in stride(from: 0, to: sorted.count, by: 1_000) {
            let names = sorted[start..<min(start + 1_000, sorted.count)].map(name).joined(separator: ", ")
            found.formUnion(try await site.read { try await $0.query("\(question) (\(names))").map(read) })
        }
        return found
    }

    /// A server that is put back before the other side has what it lost takes that with it. What does not come back under fire must do so
    /// when all has healed.
    private func waitForWhatComesBack(_ lost: [Int32: Set<Int>], until isEnough: Flag) async throws {
        var left = lost
        while !left.values.allSatisfy({ $0.isEmpty }), !isEnough.isRaised {
            try await Task.sleep(for: .seconds(1))
            for branch in self.company.branches {
                // A server may be struck just now.
                guard let there = try? await self.orders(left[branch.id] ?? [], at: branch),
                    let both = try? await self.orders(there, at: self.company.cloud)
                else { continue }
                left[branch.id]?.subtract(both)
            }
        }
    }
}

/// Runs `work` on a thread of its own, since it blocks.
func blocking<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Swift.Result { try work() }) }
    }
}
