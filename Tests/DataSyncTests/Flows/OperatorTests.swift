import DataSync
import Testing

@Suite struct OperatorTests {
    /// A product that every server has, of which branch 1 then makes something that the cloud refuses.
    private func refused(attempts: Int) async throws -> (company: Company, memo: Int64) {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "first"), .product, at: 1)
        try await company.settle()
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        for _ in 1..<attempts { try await company.hub.retryDue() }
        return (company, try await company.memos(at: .cloud)[0].id)
    }

    @Test func aDeadChangeIsCorrectedAtItsOrigin() async throws {
        let (company, _) = try await self.refused(attempts: 3)
        #expect(try await company.rows(.product, at: 1) == ["product:1": "poison"])
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server) == ["product:1": "first"], "\(server)") }
        #expect(try await company.log(2, .server(1)).map(\.isEcho) == [true])
        #expect(try await company.log(2, .server(2)) == [])
    }

    @Test func aDeadRecordThatAPersonMakesSucceedGoesToItsOriginToo() async throws {
        let (company, memo) = try await self.refused(attempts: 3)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { company.conduct(server).cure("poison") }
        #expect(try await company.hub.retryMemo(memo, actor: "ada").disposition == .applied)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server) == ["product:1": "poison"], "\(server)") }
    }

    @Test func aDeadActionThatAPersonMakesSucceedDoesNotComeBackToItsOrigin() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .points, at: 1)
        try await company.cycle(1)
        for _ in 0..<2 { try await company.hub.retryDue() }
        let memo = try #require(try await company.memos(at: .cloud, [.dead]).first).id
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { company.conduct(server).cure("poison") }
        #expect(try await company.hub.retryMemo(memo, actor: "ada").disposition == .applied)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.points, at: server) == ["points:1/poison": "1"], "\(server)")
        }
    }

    /// A decision and its line in the audit are one commit, however often the unit of it runs.
    @Test(arguments: [true, false], [FaultPlace.transaction, .commit])
    func aDecisionHasOneLineInTheAudit(isRetry: Bool, place: FaultPlace) async throws {
        for step in 1...4 {
            let (company, memo) = try await self.refused(attempts: 2)
            company.conduct(.cloud).cure("poison")
            company.plan.arm(
                step: step, at: [place],
                DataSyncError(place == .commit ? .commitUnknown : .storageBusy, operation: "test"))
            // Where it is the reading before that fails, nothing is decided, and nothing is written.
            let isDone: Bool
            do {
                if isRetry { _ = try await company.hub.retryMemo(memo, actor: "ada") } else { try await company.hub.discardMemo(memo, actor: "ada") }
                isDone = true
            } catch { isDone = false }
            company.plan.disarm()
            let storage = company.storage(.cloud)
            let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 10) }
            #expect(rows.map(\.entry.action) == (isDone ? [isRetry ? "memo.retry" : "memo.discard"] : []), "step \(step)")
            #expect(rows.allSatisfy { $0.entry.actor == "ada" && $0.entry.subject.hasPrefix("record 1/1/") })
            #expect(try await storage.verifyAudit().fault == nil)
            let disposition = try await company.memos(at: .cloud)[0].disposition
            #expect(disposition == (isDone ? isRetry ? .applied : .discarded : .parked), "step \(step)")
        }
    }

    @Test func whatWaitsBehindAnotherRecordIsNotDecidedFirst() async throws {
        let (company, _) = try await self.refused(attempts: 1)
        try await company.write(Item(id: 1, text: "next"), .product, at: 1)
        try await company.cycle(1)
        let behind = try #require(try await company.memos(at: .cloud).last)
        #expect(behind.reason == .behind)
        let error = await #expect(throws: DataSyncError.self) { try await company.hub.discardMemo(behind.id, actor: "ada") }
        #expect(error?.code == .invalidState)
    }

    @Test func aDeadRecordThatIsRefusedAgainStaysDead() async throws {
        let (company, memo) = try await self.refused(attempts: 3)
        let outcome = try await company.hub.retryMemo(memo, actor: "ada")
        #expect(outcome.disposition == .dead)
        #expect(outcome.attempts == 3)
        try await company.settle()
        #expect(try await company.log(2, .server(1)).count == 1)
    }

    @Test func aParkedRecordThatIsDiscardedIsCorrectedAndLetsItsEntityGo() async throws {
        let (company, memo) = try await self.refused(attempts: 1)
        try await company.write(Item(id: 1, text: "next"), .product, at: 1)
        try await company.cycle(1)
        try await company.hub.discardMemo(memo, actor: "ada")
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.discarded, .parked])
        // Its next try is due at once.
        try await company.hub.retryDue()
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server) == ["product:1": "next"], "\(server)") }
        #expect(try await company.outbox(1).map(\.reason) == [.applied, .discarded, .applied])
    }

    @Test func aDiscardedChangeAloneIsTakenBackAtItsOrigin() async throws {
        let (company, memo) = try await self.refused(attempts: 2)
        try await company.hub.discardMemo(memo, actor: "ada")
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == ["product:1": "first"])
        await #expect(throws: DataSyncError.self) { try await company.hub.retryMemo(memo, actor: "ada") }
        await #expect(throws: DataSyncError.self) { try await company.hub.discardMemo(memo, actor: "ada") }
    }

    @Test func aRefusedCreationIsNotDeletedAtItsOrigin() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        for _ in 0..<2 { try await company.hub.retryDue() }
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == ["product:1": "poison"])
        #expect(try await company.log(2, .server(1)) == [])
    }

    @Test func aCorrectionGivesWayToANewerChangeOfItsOrigin() async throws {
        let (company, _) = try await self.refused(attempts: 3)
        try await company.write(Item(id: 1, text: "newest"), .product, at: 1)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server) == ["product:1": "newest"], "\(server)") }
    }

    @Test func aBranchRetriesAndDiscardsWhatItRefusedItself() async throws {
        let company = try await Company(branches: [1])
        for (id, text) in [(1, "poison"), (2, "venom")] { try await company.write(Item(id: id, text: text), .product, at: .cloud) }
        for _ in 0..<4 { try await company.cycle(1) }
        let memos = try await company.memos(at: 1, [.dead])
        #expect(memos.count == 2)
        company.conduct(1).cure("poison")
        #expect(try await company.agents[1]!.retryMemo(memos[0].id, actor: "bob").disposition == .applied)
        try await company.agents[1]!.discardMemo(memos[1].id, actor: "bob")
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == ["product:1": "poison"])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.applied, .discarded])
        let audit = try await company.storage(1).withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 10) }
        #expect(audit.map(\.entry.action) == ["memo.retry", "memo.discard"])
        #expect(audit.map(\.entry.actor) == ["bob", "bob"])
        #expect(try await company.storage(1).verifyAudit().intact == 2)
    }

    @Test func whoDoesNotHoldARecordCannotDecideAboutIt() async throws {
        let (company, memo) = try await self.refused(attempts: 1)
        let atBranch = try await company.memos(at: 1)[0].id
        var error = await #expect(throws: DataSyncError.self) { try await company.agents[1]!.discardMemo(atBranch, actor: "bob") }
        #expect(error?.code == .invalidState)
        error = await #expect(throws: DataSyncError.self) { try await company.hub.retryMemo(memo + 100, actor: "ada") }
        #expect(error?.code == .notFound)
    }
}
