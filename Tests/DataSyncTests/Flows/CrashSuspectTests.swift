@testable import DataSync
import Testing

/// A record that ends its receiver is found, and harms no other.
@Suite struct CrashSuspectTests {
    /// Cycles of branch 1, one a second, until one goes through with all it has, or for so long: whoever ends is started again.
    /// - Returns: Whether one went through.
    @discardableResult
    private func persist(_ company: inout Company, for seconds: Int = 200) async throws -> Bool {
        for _ in 0..<seconds {
            do {
                let report = try await company.cycle(1)
                if report.stopped.isEmpty { return true }
            } catch {
                if company.storage(1).isGone {
                    try company.start(1)
                } else {
                    #expect((error as? DataSyncError)?.code == .peerUnreachable)
                }
                if company.storage(.cloud).isGone { try company.startCloud() }
                for server in [.cloud, 1] as [ServerID] { company.storage(server).revive() }
            }
            company.time.advance(by: .seconds(1))
        }
        return false
    }

    @Test func theCloudFindsTheOneThatEndsIt() async throws {
        var company = try await Company(branches: [1])
        for id in 1...9 { try await company.write(Item(id: id, text: id == 5 ? "deadly" : "fine"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        #expect(try await self.persist(&company))
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
        #expect(try await self.persist(&company))
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
        var hub = try company.replica()
        while try await !company.memos(at: .cloud, [.waiting, .parked]).isEmpty, company.conduct(.cloud).deaths < 40 {
            do { try await hub.retryDue() } catch  where company.storage(.cloud).isGone {
                company.storage(.cloud).revive()
                hub = try company.replica()
            }
            company.time.advance(by: .seconds(1))
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
        #expect(try await !self.persist(&company))
        #expect(try await company.memos(at: .cloud, [.dead]).count == 1)
        #expect(try await company.rows(.product, at: .cloud).count == 1)
        let deaths = company.conduct(.cloud).deaths
        #expect(deaths == 9)
        // It rests for minutes, and one of them is tried then.
        #expect(try await !self.persist(&company))
        #expect(company.conduct(.cloud).deaths == deaths)
        company.time.advance(by: .seconds(301))
        company.conduct(.cloud).cure("deadly")
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 2)
        #expect(try await company.memos(at: .cloud, [.dead]).count == 1)
    }

    /// Replicas come up careful and find the same record to be due: that others have begun with it says nothing about the record.
    @Test(arguments: [false, true]) func whatAnotherReplicaIsAtWorkOnIsLeftToIt(isGone: Bool) async throws {
        let company = try await Company(branches: [1])
        for id in 1...2 { try await company.write(Item(id: id, text: "after:order:3"), .order, at: 1) }
        try await company.cycle(1)
        try await company.write(Item(id: 3, text: "fine"), .order, at: 1)
        try await company.cycle(1)
        let memos = try await company.memos(at: .cloud)
        let (first, storage) = (try #require(memos.first { $0.number == 1 }), company.storage(.cloud).base)
        let line = SettingName.loneRetry(1, first.line.type)
        let other = LoneTry(epoch: first.line.epoch, number: 1, tries: 3, isAfterAnother: false, time: 0, owner: 42)
        try await storage.withTransaction { transaction in
            try await transaction.putSetting("starts", "3")
            try await transaction.putSetting(line, other.text)
        }
        let replica = try company.replica()
        for _ in 0..<29 {
            try await replica.retryDue()
            company.time.advance(by: .seconds(1))
        }
        // Nothing of the line is begun with, or what the other has written down would be lost.
        #expect(try await company.memos(at: .cloud, [.waiting, .parked]).count == 2)
        #expect(try await storage.withTransaction(.snapshot) { try await $0.setting(line) } == other.text)
        if isGone { company.time.advance(by: .seconds(1)) } else { try await storage.withTransaction { try await $0.removeSetting(line) } }
        try await replica.retryDue()
        #expect(try await company.memos(at: .cloud, [.dead]).map(\.reason) == (isGone ? [.crashSuspect] : []))
        #expect(try await company.rows(.order, at: .cloud).count == (isGone ? 2 : 3))
    }

    /// Whoever could not take back that it began with a record does so before it does anything else, and is not taken for dead meanwhile.
    @Test func whatCouldNotBeTakenBackIsTakenBackLater() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "after:order:3"), .order, at: 1)
        try await company.cycle(1)
        try await company.write(Item(id: 3, text: "fine"), .order, at: 1)
        try await company.cycle(1)
        let storage = company.storage(.cloud)
        try await storage.base.withTransaction { try await $0.putSetting("starts", "3") }
        let replica = try company.replica()
        company.points.once(.cloudRetryBeforeGuard) { storage.die() }
        await #expect(throws: (any Error).self) { try await replica.retryDue() }
        storage.revive()
        #expect(try await storage.base.withTransaction(.snapshot) { try await $0.settings(withPrefix: "lone.") }.count == 1)
        // Somebody else has it applied meanwhile, without being careful.
        let memo = try #require(try await company.memos(at: .cloud).first)
        #expect(try await company.hub.retryMemo(memo.id, actor: "ada").disposition == .applied)
        try await replica.retryDue()
        #expect(try await storage.base.withTransaction(.snapshot) { try await $0.settings(withPrefix: "lone.") } == [:])
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
