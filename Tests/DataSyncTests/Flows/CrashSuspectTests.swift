import DataSync
import Testing

/// A record that ends its receiver is found, and harms no other.
@Suite struct CrashSuspectTests {
    /// Cycles of branch 1 until one goes through: whoever ends is started again.
    private func persist(_ company: inout Company) async throws {
        for _ in 0..<40 {
            do {
                try await company.cycle(1)
                return
            } catch {
                if company.storage(1).isGone {
                    try company.start(1)
                } else {
                    #expect((error as? DataSyncError)?.code == .peerUnreachable)
                }
                for server in [.cloud, 1] as [ServerID] { company.storage(server).revive() }
                company.time.advance(by: .seconds(1))
            }
        }
        Issue.record("it never gets through")
    }

    @Test func theCloudFindsTheOneThatEndsIt() async throws {
        var company = try await Company(branches: [1])
        for id in 1...9 { try await company.write(Item(id: id, text: id == 5 ? "deadly" : "fine"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        try await self.persist(&company)
        #expect(company.conduct(.cloud).deaths == 6)
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 8)
        #expect(try await company.rows(.product, at: .cloud).count == 1)
        let memo = try #require(try await company.memos(at: .cloud).first)
        #expect(memo.disposition == .dead)
        #expect(memo.reason == .crashSuspect)
        #expect(memo.record.key.text == "order:5")
        let row = try #require(try await company.outbox(1).first { $0.reason == .crashSuspect })
        #expect(row.state == .settled)
        #expect(row.attempts == 3)
        // Whoever mends the handler has it applied.
        company.conduct(.cloud).cure("deadly")
        #expect(try await company.hub.retryMemo(memo.id, actor: "ada").disposition == .applied)
        #expect(try await company.rows(.order, at: .cloud).count == 9)
    }

    @Test func aBranchFindsTheOneThatEndsIt() async throws {
        var company = try await Company(branches: [1])
        for id in 1...9 { try await company.write(Item(id: id, text: id == 5 ? "deadly" : "fine"), .product, at: .cloud) }
        try await company.write(Item(id: 1, text: "fine"), .order, at: 1)
        try await self.persist(&company)
        #expect(company.conduct(1).deaths == 6)
        try await company.settle()
        #expect(try await company.rows(.product, at: 1).count == 8)
        #expect(try await company.rows(.order, at: .cloud).count == 1)
        let memo = try #require(try await company.memos(at: 1).first)
        #expect(memo.disposition == .dead)
        #expect(memo.reason == .crashSuspect)
        // The cloud shows it, too.
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.crashSuspect])
        company.conduct(1).cure("deadly")
        #expect(try await company.agents[1]!.retryMemo(memo.id, actor: "ada").disposition == .applied)
        #expect(try await company.rows(.product, at: 1).count == 9)
        // It comes up as usual again.
        try company.start(1)
        try await company.settle()
        #expect(try await company.storage(1).base.withTransaction(.snapshot) { try await $0.setting("starts") } == nil)
    }

    /// What waited and is released ends the cloud when it is tried again.
    @Test func whatIsTriedAgainIsFoundToo() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "after:order:3 deadly"), .order, at: 1)
        try await company.write(Item(id: 2, text: "after:order:4"), .order, at: 1)
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.waiting, .waiting])
        for id in [3, 4] { try await company.write(Item(id: id, text: "fine"), .order, at: 1) }
        try await company.cycle(1)
        var starts = 0
        var isDone = false
        while !isDone, starts < 40 {
            starts += 1
            var again = company
            try again.startAll()
            do {
                try await again.hub.retryDue()
                isDone = true
            } catch  where again.storage(.cloud).isGone { again.storage(.cloud).revive() }
        }
        #expect(company.conduct(.cloud).deaths == 6)
        #expect(try await company.rows(.order, at: .cloud).count == 3)
        #expect(try await company.memos(at: .cloud, [.dead]).map(\.reason) == [.crashSuspect])
        #expect(try await company.memos(at: .cloud, [.dead]).map(\.holdsPayload) == [true])
    }

    /// Where one after the other ends the cloud, the fault may be its own: the type rests, and others flow.
    @Test func whereAllEndTheCloudTheirTypeRests() async throws {
        var company = try await Company(branches: [1])
        for id in 1...3 { try await company.write(Item(id: id, text: "deadly"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        try await self.persist(&company)
        #expect(try await company.memos(at: .cloud, [.dead]).count == 1)
        #expect(try await company.rows(.product, at: .cloud).count == 1)
        let deaths = company.conduct(.cloud).deaths
        #expect(deaths <= 12)
        // It rests for minutes, and one of them is tried then.
        try await self.persist(&company)
        #expect(company.conduct(.cloud).deaths == deaths)
        company.time.advance(by: .seconds(301))
        company.conduct(.cloud).cure("deadly")
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 2)
        #expect(try await company.memos(at: .cloud, [.dead]).count == 1)
    }

    /// What fails without ending the cloud is not to blame for that, however often it is tried alone.
    @Test func anOrderlyFailureIsNoDeath() async throws {
        var company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "broken"), .order, at: 1)
        for _ in 0..<3 { company.link(1).once(.before(.push)) { throw DataSyncError(.peerUnreachable, operation: "test") } }
        try await self.persist(&company)
        for _ in 0..<10 {
            company.link(1).loseAnswer(to: .push)
            try await self.persist(&company)
            company.time.advance(by: .seconds(600))
        }
        #expect(company.conduct(.cloud).takes > 5)
        #expect(try await company.memos(at: .cloud) == [])
        company.conduct(.cloud).cure("broken")
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 1)
    }
}
