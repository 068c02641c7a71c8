import DataSync
import Testing

/// A record that waits goes on when what it waits for arrives, without the clock.
@Suite struct ReleaseTests {
    private static let orders = ["order:1": "first", "order:2": "after:order:1"]

    @Test func atTheCloudItIsTriedWhenWhatItWaitsForHasCome() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.waiting: 1])
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.tries) == [1])
        // Another record does not release it.
        try await company.write(Item(id: 3, text: "other"), .order, at: 1)
        try await company.cycle(1)
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.tries) == [1])
        try await company.write(Item(id: 1, text: "first"), .order, at: 1)
        try await company.cycle(1)
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
        #expect(try await company.memos(at: .cloud).map(\.needs) == [nil])
        #expect(try await company.rows(.order, at: .cloud)["order:2"] == "after:order:1")
    }

    @Test func whatComesInTheSameBatchReleasesItToo() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        try await company.write(Item(id: 1, text: "first"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.waiting: 1, .applied: 1])
        try await company.hub.retryDue()
        #expect(try await company.rows(.order, at: .cloud) == Self.orders)
    }

    @Test func whatAnotherBranchSendsReleasesItToo() async throws {
        let company = try await Company(branches: [1, 2], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:product:1"), .product, at: 1)
        #expect(try await company.cycle(1).pushed == [.waiting: 1])
        try await company.write(Item(id: 1, text: "first"), .product, at: 2)
        try await company.cycle(2)
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
    }

    @Test func whatNobodyAppliedHereIsFoundByTheClock() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        try await company.cycle(1)
        try await company.storage(.cloud).base.withTransaction { try $0.setRow("order", "order:1", "first") }
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.waiting])
        company.time.advance(by: .seconds(30))
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
    }

    @Test func whatAnApplicationOfTheCloudWritesReleasesItToo() async throws {
        for text in ["after:product:1", "fk:product:1"] {
            let company = try await Company(branches: [1], limits: SyncLimits())
            try await company.write(Item(id: 2, text: text), .product, at: 1)
            #expect(try await company.cycle(1).pushed == [.waiting: 1])
            try await company.write(Item(id: 1, text: "first"), .product, at: .cloud)
            try await company.hub.numberOwnRows()
            try await company.hub.retryDue()
            #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied], "\(text)")
        }
    }

    @Test func aDeletionReleasesNothingThatWaitsForItsEntity() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        try await company.cycle(1)
        try await company.delete(1, .order, at: 1)
        try await company.cycle(1)
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.tries) == [1])
    }

    @Test func aWholeChainFollows() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        for id in (2...9).reversed() { try await company.write(Item(id: id, text: "after:order:\(id - 1)"), .order, at: 1) }
        #expect(try await company.cycle(1).pushed == [.waiting: 8])
        try await company.write(Item(id: 1, text: "first"), .order, at: 1)
        try await company.cycle(1)
        // Each says itself that the next is due.
        var runs = 1
        while try await company.hub.retryDue() { runs += 1 }
        #expect(runs <= 9)
        #expect(try await company.rows(.order, at: .cloud).count == 9)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == Array(repeating: 0, count: 8))
    }

    @Test func atABranchItIsTriedInTheSameCycle() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:product:1"), .product, at: .cloud)
        #expect(try await company.cycle(1).pulled == [.waiting: 1])
        try await company.write(Item(id: 1, text: "first"), .product, at: .cloud)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        #expect(try await company.rows(.product, at: 1).count == 2)
        #expect(try await company.memos(at: 1).map(\.disposition) == [.applied])
    }

    @Test func atABranchAWholeChainFollowsWithoutTheClock() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        for id in [3, 2, 1] { try await company.write(Item(id: id, text: id > 1 ? "after:product:\(id - 1)" : "first"), .product, at: .cloud) }
        try await company.settle()
        #expect(try await company.rows(.product, at: 1).count == 3)
        #expect(company.time.running == .seconds(3_600))
    }

    // MARK: - What has no name

    @Test func whatWaitsForSomethingWithoutANameIsTriedOnAGuess() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "fk:order:1"), .order, at: 1)
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.needs) == [.unnamed])
        try await company.write(Item(id: 1, text: "first"), .order, at: 1)
        try await company.cycle(1)
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
    }

    @Test func guessesAreBoundedAndDoNotSlowTheClockDown() async throws {
        var limits = SyncLimits()
        limits.guessedMax = 2
        let company = try await Company(branches: [1], limits: limits)
        for id in 11...13 { try await company.write(Item(id: id, text: "fk:order:1"), .order, at: 1) }
        try await company.cycle(1)
        for id in 21...25 {
            try await company.write(Item(id: id, text: "other"), .order, at: 1)
            try await company.cycle(1)
            try await company.hub.retryDue()
            company.time.advance(by: .seconds(1))
        }
        // Two each time, and in turn.
        #expect(try await company.memos(at: .cloud).reduce(0) { $0 + $1.tries } == 3 + 2 * 5)
        #expect(try await company.memos(at: .cloud).allSatisfy { $0.tries >= 2 && $0.attempts == 0 })
        // 30 s after its last try each of them is as old again.
        company.time.advance(by: .seconds(35))
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).reduce(0) { $0 + $1.tries } == 3 + 2 * 5 + 3)
    }

    // MARK: - At the age limit

    @Test(arguments: [("order:3", "order:1 needs order:2 needs order:3"), ("order:1", "a cycle: order:1 needs order:2 needs order:1")])
    func atTheAgeLimitTheReasonNamesTheChain(last: String, detail: String) async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "after:order:2"), .order, at: 1)
        try await company.write(Item(id: 2, text: "after:\(last)"), .order, at: 1)
        try await company.cycle(1)
        company.time.advance(by: company.limits.waitingAgeMax + .seconds(1))
        try await company.hub.retryDue()
        let memo = try await company.memos(at: .cloud)[0]
        #expect(memo.outcome == Outcome(.parked, reason: .dependencyTooOld, detail: detail, attempts: 1))
    }

    @Test func theChainNamesNothingOfAnotherBranch() async throws {
        let company = try await Company(branches: [1, 2], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "after:order:2"), .order, at: 1)
        try await company.write(Item(id: 2, text: "after:order:7"), .order, at: 2)
        for branch in [1, 2] as [ServerID] { try await company.cycle(branch) }
        company.time.advance(by: company.limits.waitingAgeMax + .seconds(1))
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.detail) == ["order:1 needs order:2", "order:2 needs order:7"])
    }
}
