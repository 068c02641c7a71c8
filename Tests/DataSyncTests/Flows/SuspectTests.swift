@testable import DataSync
import Testing

@Suite struct SuspectTests {
    private static var limits: SyncLimits {
        var limits = SyncLimits()
        limits.suspectsMax = 4
        return limits
    }

    private func write(_ texts: [String], from id: Int = 1, _ type: ItemType = .order, at server: ServerID = 1, in company: Company) async throws {
        for (offset, text) in texts.enumerated() { try await company.write(Item(id: id + offset, text: text), type, at: server) }
    }

    private func poison(_ count: Int) -> [String] { Array(repeating: "poison", count: count) }

    // MARK: - At the cloud

    @Test func severalThatAreRefusedAlikeAreNotCounted() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(3), in: company)
        #expect(try await company.cycle(1).pushed == [.suspect: 3])
        let memos = try await company.memos(at: .cloud)
        #expect(memos.map(\.attempts) == [0, 0, 0])
        #expect(memos.map(\.reason) == [.refused, .refused, .refused])
        // Their sender sees it so.
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0])
        #expect(try await company.outbox(1).map(\.state) == [.open, .open, .open])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.suspect, .suspect, .suspect])
        // Tried again and again, they are still not counted.
        for _ in 0..<10 {
            company.time.advance(by: .seconds(3_601))
            try await company.hub.retryDue()
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.suspect, .suspect, .suspect])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [0, 0, 0])
        // One at a time, in turn.
        #expect(try await company.memos(at: .cloud).map(\.tries) == [5, 4, 4])
    }

    @Test func aSingleOneIsCounted() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(1), in: company)
        #expect(try await company.cycle(1).pushed == [.parked: 1])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1])
    }

    @Test func wherePartPassesTheOthersAreAtFault() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(2) + ["fine"] + self.poison(3), in: company)
        #expect(try await company.cycle(1).pushed == [.parked: 5, .applied: 1])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 1, 1, 1, 1])
    }

    @Test func wherePartIsRefusedForAnotherReasonTheyAreAtFault() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(["poison", "venom"], in: company)
        #expect(try await company.cycle(1).pushed == [.parked: 2])
    }

    @Test func aLaterOneThatPassesShowsThatTheFaultWasTheirs() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(3), in: company)
        try await company.cycle(1)
        try await self.write(["fine"], from: 10, in: company)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.parked, .parked, .parked])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 1, 1])
        // Their sender asks, and learns it.
        try await company.cycle(1)
        #expect(try await company.outbox(1).map(\.attempts) == [1, 1, 1, 0])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.parked, .parked, .parked])
        for delay in [30, 300] {
            company.time.advance(by: .seconds(delay))
            try await company.hub.retryDue()
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.dead, .dead, .dead])
        try await company.settle()
        #expect(try await company.outbox(1).map(\.attempts) == [3, 3, 3, 0])
    }

    @Test func whenTheSystemIsCuredAllOfThemPass() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(3), in: company)
        try await company.cycle(1)
        company.conduct(.cloud).cure("poison")
        company.time.advance(by: .seconds(31))
        while try await company.hub.retryDue() {}
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied, .applied, .applied])
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 3)
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0])
    }

    @Test func whenOneOfThemPassesTheOthersAreTriedAndCounted() async throws {
        for server in [.cloud, 1] as [ServerID] {
            let company = try await Company(branches: [1], limits: Self.limits)
            let type: ItemType = server.isCloud ? .order : .product
            try await self.write(["poison a", "poison b", "poison c"], type, at: server.isCloud ? 1 : .cloud, in: company)
            try await company.cycle(1)
            company.conduct(server).cure("poison b")
            for _ in 0..<3 {
                company.time.advance(by: .seconds(200))
                try await company.hub.retryDue()
                try await company.cycle(1)
            }
            #expect(try await company.memos(at: server).map(\.disposition) == [.parked, .applied, .parked], "\(server)")
            #expect(try await company.memos(at: server).map(\.attempts) == [1, 0, 1], "\(server)")
        }
    }

    @Test func whenTooManyAreSuspectsTheTypeStopsAndIsProbed() async throws {
        let company = try await Company(branches: [1, 2], limits: Self.limits)
        try await self.write(self.poison(7), in: company)
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        let report = try await company.cycle(1)
        #expect(report.pushed == [.suspect: 4, .applied: 1])
        #expect(report.stopped[3] == "a fault at the cloud")
        // Another branch's records of the type flow.
        try await company.write(Item(id: 21, text: "fine"), .order, at: 2)
        #expect(try await company.cycle(2).pushed == [.applied: 1])
        // However long it lasts, nothing is counted, lost, or received beyond the bound.
        for _ in 0..<40 {
            company.time.advance(by: .seconds(3_600))
            try await company.hub.retryDue()
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == Array(repeating: .suspect, count: 4))
        #expect(try await company.outbox(1).map(\.attempts) == Array(repeating: 0, count: 8))
        #expect(try await company.memos(at: .cloud).allSatisfy { $0.tries > 5 })
        company.conduct(.cloud).cure("poison")
        company.time.advance(by: .seconds(3_600))
        while try await company.hub.retryDue() {}
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 8)
        #expect(try await company.outbox(1).map(\.reason) == Array(repeating: .applied, count: 8))
    }

    @Test func aTypeThatAFullQuotaStoppedIsNotCountedHoweverLong() async throws {
        var limits = SyncLimits()
        (limits.openRecordsMax, limits.chunkRecordsMax) = (3, 1)
        let company = try await Company(branches: [1], limits: limits)
        try await self.write(self.poison(6), in: company)
        #expect(try await company.cycle(1).stopped[3] == "too many refused records wait at the cloud")
        for _ in 0..<72 {
            company.time.advance(by: .seconds(3_600))
            try await company.hub.retryDue()
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.suspect, .suspect, .suspect])
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0, 0, 0, 0])
    }

    @Test func whereAllAreRefusedFewOfThemAreTried() async throws {
        for server in [.cloud, 1] as [ServerID] {
            let company = try await Company(branches: [1], limits: Self.limits)
            try await self.write(self.poison(300), server.isCloud ? .order : .product, at: server.isCloud ? 1 : .cloud, in: company)
            let report = try await company.cycle(1)
            #expect((server.isCloud ? report.pushed : report.pulled) == [.suspect: 4], "\(server)")
            // And not each of the three hundred.
            #expect(company.conduct(server).takes < 150, "\(server): \(company.conduct(server).takes)")
        }
    }

    @Test func aNewRecordThatPassesOpensAStoppedTypeToo() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(4), in: company)
        #expect(try await company.cycle(1).pushed == [.suspect: 4])
        try await self.write(["fine"], from: 10, in: company)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 1, 1, 1])
    }

    @Test func recordsThatComeOneByOneAreSuspectsFromTheSecondOn() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        for id in 1...4 {
            try await self.write(["poison"], from: id, in: company)
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.parked, .suspect, .suspect, .suspect])
        // The first is tried as often as it may be, and not counted again while the others are suspects.
        for _ in 0..<10 {
            company.time.advance(by: .seconds(300))
            try await company.hub.retryDue()
        }
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 0, 0, 0])
    }

    @Test func whatIsBehindASuspectWaitsAndKeepsItsOrder() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.write(Item(id: 2, text: "poison"), .order, at: 1)
        try await company.write(Item(id: 1, text: "poison, better"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.suspect: 2, .parked: 1])
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.refused, .refused, .behind])
        company.conduct(.cloud).cure("poison")
        company.time.advance(by: .seconds(60))
        while try await company.hub.retryDue() {}
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "poison, better", "order:2": "poison"])
        #expect(company.conduct(.cloud).applied.filter { $0.hasSuffix("better") }.count == 1)
    }

    @Test func aPairThatNothingFollowsIsCountedAtTheAgeLimit() async throws {
        var limits = Self.limits
        limits.suspectAgeMax = .seconds(7_200)
        let company = try await Company(branches: [1], limits: limits)
        try await self.write(self.poison(2), in: company)
        try await company.cycle(1)
        for _ in 0..<200 where try await company.memos(at: .cloud, [.dead]).count < 2 {
            company.time.advance(by: .seconds(300))
            try await company.hub.retryDue()
        }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.dead, .dead])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [3, 3])
    }

    @Test func aRepeatedRequestIsAnsweredThatTheyAreSuspects() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(2), in: company)
        company.link(1).loseAnswer(to: .push)
        _ = try? await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.suspect, .suspect])
        #expect(try await company.cycle(1).pushed == [.suspect: 2])
        #expect(try await company.memos(at: .cloud).map(\.tries) == [1, 1])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.suspect, .suspect])
    }

    @Test func aPersonMayDiscardASuspectAndTheOtherIsThenAlone() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(2), in: company)
        try await company.cycle(1)
        let id = try await company.memos(at: .cloud)[0].id
        #expect(try await company.hub.retryMemo(id, actor: "ada").disposition == .suspect)
        try await company.hub.discardMemo(id, actor: "ada")
        company.time.advance(by: .seconds(61))
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.discarded, .parked])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [0, 1])
    }

    @Test func aHandlerThatCannotSayWhichIsAtFaultGetsTheSameAnswers() async throws {
        for texts in [self.poison(3), self.poison(3) + ["fine"], ["fine"] + self.poison(3), ["poison", "fine", "poison"]] {
            let company = try await Company(branches: [1], limits: Self.limits)
            company.conduct(.cloud).isVague = true
            try await self.write(texts, in: company)
            let report = try await company.cycle(1)
            let passes = texts.contains("fine")
            #expect(report.pushed[.suspect] == (passes ? nil : 3), "\(texts)")
            #expect(report.pushed[.parked] == (passes ? texts.count - 1 : nil), "\(texts)")
            #expect(try await company.memos(at: .cloud).allSatisfy { $0.attempts == (passes ? 1 : 0) }, "\(texts)")
        }
    }

    // MARK: - At a branch

    @Test func atABranchTooTheTypeStopsAndIsProbed() async throws {
        let company = try await Company(branches: [1, 2], limits: Self.limits)
        company.conduct(2).cure("poison")
        try await self.write(self.poison(7), .product, at: .cloud, in: company)
        let report = try await company.cycle(1)
        #expect(report.pulled == [.suspect: 4])
        #expect(report.stopped[2] != nil)
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == Array(repeating: .suspect, count: 4))
        for _ in 0..<30 {
            company.time.advance(by: .seconds(3_600))
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: 1).map(\.attempts) == [0, 0, 0, 0])
        company.conduct(1).cure("poison")
        company.time.advance(by: .seconds(3_600))
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == company.rows(.product, at: .cloud))
        #expect(try await company.memos(at: 1).map(\.disposition) == Array(repeating: .applied, count: 4))
        #expect(try await company.memos(at: .cloud).map(\.disposition) == Array(repeating: .applied, count: 4))
    }

    @Test func atABranchAStoppedTypeIsProbedInEveryCycleInWhichItMayBeTried() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(7), .product, at: .cloud, in: company)
        try await company.cycle(1)
        func state() async throws -> (due: Int64, tries: Int) {
            let memos = try await company.memos(at: 1)
            return (memos.map(\.nextTry).min() ?? 0, memos.reduce(0) { $0 + $1.tries })
        }
        let clock = DatabaseClock(company.time.environment)
        func age() async throws -> Int64 { try await company.storage(1).base.withTransaction { try await clock.age(in: $0) } }
        var (last, probes) = (try await state(), 0)
        _ = try await age()
        for _ in 0..<1_000 {
            company.time.advance(by: .seconds(10))
            // Stopped again, and not still.
            let isOpening = try await company.cycle(1).stopped[2] != "a fault of this branch's system"
            let now = try await state()
            if isOpening, try await age() >= last.due { #expect(now.tries > last.tries) }
            if now.tries > last.tries { (last, probes) = (now, probes + 1) }
        }
        #expect(probes > 4)
    }

    @Test func atABranchALaterOneThatPassesShowsThatTheFaultWasTheirs() async throws {
        let company = try await Company(branches: [1], limits: Self.limits)
        try await self.write(self.poison(3), .product, at: .cloud, in: company)
        #expect(try await company.cycle(1).pulled == [.suspect: 3])
        try await self.write(["fine"], from: 10, .product, at: .cloud, in: company)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        #expect(try await company.memos(at: 1).map(\.attempts) == [1, 1, 1])
        try await company.settle()
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 1, 1])
    }

    @Test func aFaultAtAnyStepCountsNothingTwice() async throws {
        for step in 1...40 {
            let company = try await Company(branches: [1], limits: Self.limits)
            try await self.write(self.poison(3) + ["fine"], in: company)
            company.conduct(.cloud).isVague = true
            company.plan.arm(step: step, at: [.commit, .answer], DataSyncError(.peerUnreachable, operation: "test"))
            _ = try? await company.cycle(1)
            let wasHit = !company.plan.isArmed
            company.plan.disarm()
            try await company.settle()
            #expect(try await company.memos(at: .cloud).map(\.attempts) == [1, 1, 1], "step \(step)")
            #expect(try await company.outbox(1).map(\.attempts) == [1, 1, 1, 0], "step \(step)")
            if !wasHit { return }
        }
    }
}
