import DataSync
import Testing

@Suite struct SystemFaultTests {
    @Test func aFaultOfTheCloudsSystemStopsTheTypeAndCountsNothing() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "broken"), .order, at: 1)
        try await company.write(Item(id: 2, text: "fine"), .order, at: 1)
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        for _ in 0..<5 {
            let report = try await company.cycle(1)
            #expect(report.stopped[3] == "a fault at the cloud")
            #expect(report.stopped[2] == nil)
            company.time.advance(by: .seconds(600))
        }
        #expect(company.hub.stoppedTypes == [3: "DiskFull"])
        #expect(try await company.rows(.product, at: .cloud) == ["product:1": "fine"])
        #expect(try await company.memos(at: .cloud) == [])
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0])
        company.conduct(.cloud).cure("broken")
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "broken", "order:2": "fine"])
        #expect(company.hub.stoppedTypes == [:])
    }

    @Test func aWallClockThatIsSetBackHoldsNoTypeBack() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "broken"), .order, at: 1)
        #expect(try await company.cycle(1).stopped[3] == "a fault at the cloud")
        company.conduct(.cloud).cure("broken")
        company.time.setWall(forth: -10 * 365 * 86_400_000)
        company.time.advance(by: .seconds(600))
        #expect(try await company.cycle(1).pushed == [.applied: 1])
    }

    @Test(arguments: [ServerID.cloud, 2])
    func aWallClockThatJumpsNeitherBringsATryEarlyNorHoldsItBack(server: ServerID) async throws {
        let company = try await Company(branches: [1, 2], limits: SyncLimits())
        if server.isBranch { company.conduct(.cloud).cure("poison") }
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        func attempts(years: Int64) async throws -> [Int] {
            company.time.setWall(forth: years * 365 * 86_400_000)
            try await company.hub.retryDue()
            try await company.cycle(2)
            return try await company.memos(at: server).filter { $0.line.receiver == server }.map(\.attempts)
        }
        #expect(try await attempts(years: 0) == [1])
        #expect(try await attempts(years: 10) == [1])
        company.time.advance(by: .seconds(29))
        #expect(try await attempts(years: -20) == [1])
        company.time.advance(by: .seconds(1))
        #expect(try await attempts(years: 0) == [2])
        company.time.advance(by: .seconds(299))
        #expect(try await attempts(years: 20) == [2])
        company.time.advance(by: .seconds(1))
        #expect(try await attempts(years: -5) == [3])
    }

    @Test func whatNeverRunsForLongTriesAgainToo() async throws {
        var company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        // One cycle every five minutes, each in a process of its own: each counts for a minute.
        var starts = 0
        while try await company.memos(at: 1, [.dead]).isEmpty {
            company.time.advance(by: .seconds(300))
            try company.start(1)
            try await company.cycle(1)
            starts += 1
            try #require(starts < 10)
        }
        #expect(starts == 6)
    }

    @Test func aStoppedTypeIsProbedEverMoreRarely() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "broken"), .order, at: 1)
        for _ in 0..<600 {
            try await company.cycle(1)
            company.time.advance(by: .seconds(1))
        }
        // Ten minutes, a request each second would be 600.
        #expect((2...40).contains(company.link(1).calls(.push)), "\(company.link(1).calls(.push)) pushes")
    }

    @Test func aFaultOfTheBranchsSystemStopsTheTypeThere() async throws {
        let company = try await Company(branches: [1, 2])
        company.conduct(2).cure("broken")
        try await company.write(Item(id: 1, text: "broken"), .product, at: .cloud)
        try await company.write(Item(id: 2, text: "fine"), .product, at: .cloud)
        try await company.write(Item(id: 1, text: "+5"), .points, at: .cloud)
        let report = try await company.cycle(1)
        #expect(report.stopped[2] == "DiskFull")
        #expect(report.pulled == [.applied: 1])
        #expect(try await company.rows(.points, at: 1) == ["points:1/+5": "1"])
        try await company.cycle(2)
        #expect(try await company.rows(.product, at: 2) == ["product:1": "broken", "product:2": "fine"])
        for _ in 0..<4 {
            company.time.advance(by: .seconds(600))
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: 1) == [])
        company.conduct(1).cure("broken")
        company.time.advance(by: .seconds(600))
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == company.rows(.product, at: 2))
    }

    /// An application that keeps a row locked harms the type of that row and no other.
    @Test func aRowThatIsLockedForLongStopsItsTypeAlone() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        try await company.write(Item(id: 1, text: "x"), .visit, at: 1)
        // The first that is applied is the order; whoever tried again would find the row free.
        let lockWait: Conduct.Hook = { [time = company.time] _ in
            time.advance(by: .seconds(5))
            throw DataSyncError(.storageBusy, operation: "test")
        }
        company.conduct(.cloud).beforeNext(lockWait)
        let report = try await company.cycle(1)
        #expect(report.stopped == [3: "a fault at the cloud"])
        #expect(try await company.rows(.visit, at: .cloud) == ["visit:1": "x"])
        #expect(try await company.memos(at: .cloud) == [])
        try await company.write(Item(id: 1, text: "x"), .product, at: .cloud)
        try await company.write(Item(id: 1, text: "+5"), .points, at: .cloud)
        company.conduct(1).beforeNext(lockWait)
        company.time.advance(by: .seconds(600))
        let pulled = try await company.cycle(1)
        #expect(pulled.stopped.keys.sorted() == [2])
        #expect(try await company.rows(.points, at: 1) == ["points:1/+5": "1"])
        #expect(try await company.memos(at: 1) == [])
        company.time.advance(by: .seconds(600))
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "x"])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "x"])
    }

    @Test func aDeadlockStopsATypeOnlyWhereItNeverEnds() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        company.conduct(.cloud).beforeNext { _ in throw DataSyncError(.storageBusy, operation: "test") }
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        try await company.write(Item(id: 2, text: "deadlock"), .order, at: 1)
        try await company.write(Item(id: 2, text: "x"), .visit, at: 1)
        #expect(try await company.cycle(1).stopped == [3: "a fault at the cloud"])
        #expect(try await company.rows(.visit, at: .cloud) == ["visit:2": "x"])
        company.conduct(.cloud).cure("deadlock")
        company.time.advance(by: .seconds(600))
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 2)
    }

    @Test func aFaultOfTheSystemDuringARetryCountsNothing() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.cycle(1)
        company.conduct(.cloud).beforeNext { _ in throw Conduct.DiskFull() }
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1])
        // While the type is stopped, it is not tried.
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1])
    }

    @Test(arguments: [DataSyncError.Code.storageBusy, .commitUnknown])
    func aUnitThatMayRunAgainDoes(code: DataSyncError.Code) async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "+5"), .points, at: 1)
        for step in 1...4 {
            company.plan.arm(step: step, at: [code == .storageBusy ? .transaction : .commit], DataSyncError(code, operation: "test"))
            _ = try? await company.cycle(1)
        }
        company.plan.disarm()
        try await company.settle()
        #expect(try await company.rows(.points, at: .cloud) == ["points:1/+5": "1"])
    }

    // MARK: - Missing dependencies

    @Test func aRecordWhoseDependencyIsMissingWaitsUncounted() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.waiting: 1])
        for _ in 0..<20 {
            company.time.advance(by: .seconds(3_600))
            try await company.hub.retryDue()
        }
        let waiting = try await company.memos(at: .cloud)
        #expect(waiting.map(\.disposition) == [.waiting])
        #expect(waiting.map(\.attempts) == [0])
        #expect(waiting.map(\.detail) == ["order:1"])
        #expect(try await company.outbox(1).map(\.reason) == [.missingDependency])
        try await company.write(Item(id: 1, text: "first"), .order, at: 1)
        try await company.cycle(1)
        company.time.advance(by: .seconds(3_600))
        try await company.hub.retryDue()
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "first", "order:2": "after:order:1"])
        #expect(try await company.outbox(1).map(\.reason) == [.applied, .applied])
    }

    @Test func atTheAgeLimitAMissingDependencyIsAnOrdinaryFailure() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:order:1"), .order, at: 1)
        try await company.cycle(1)
        company.time.advance(by: company.limits.waitingAgeMax + .seconds(1))
        for _ in 0..<3 {
            try await company.hub.retryDue()
            company.time.advance(by: .seconds(300))
        }
        let dead = try await company.memos(at: .cloud)
        #expect(dead.map(\.disposition) == [.dead])
        #expect(dead.map(\.reason) == [.dependencyTooOld])
    }

    @Test func aBranchWaitsForADependencyToo() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 2, text: "after:product:1"), .product, at: .cloud)
        #expect(try await company.cycle(1).pulled == [.waiting: 1])
        try await company.write(Item(id: 1, text: "first"), .product, at: .cloud)
        try await company.cycle(1)
        company.time.advance(by: .seconds(30))
        try await company.cycle(1)
        #expect(try await company.rows(.product, at: 1).count == 2)
        #expect(try await company.memos(at: 1).map(\.attempts) == [0])
    }

    @Test func recordsOfATypeThatStandsStillAreNotInTheWayOfOthers() async throws {
        var company = try await Company(branches: [1])
        for id in 1...3 { try await company.write(Item(id: id, text: "poison"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "poison"), .visit, at: 1)
        try await company.cycle(1)
        // Orders are not configured any more; their records are due first, and at most two are looked at in a round.
        try company.startAll(cloudTypes: ItemType.all.filter { $0.id != 3 })
        for _ in 0..<3 { try await company.hub.retryDue(limit: 2) }
        #expect(try await company.memos(at: .cloud).map(\.tries) == [1, 1, 1, 3])
    }

    @Test func aLongBacklogDoesNotKeepABranchFromPulling() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 1
        let company = try await Company(branches: [1], limits: limits)
        for id in 1...70 { try await company.write(Item(id: id, text: "x"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "news"), .product, at: .cloud)
        let report = try await company.cycle(1)
        #expect((1...50).contains(report.pushed[.applied] ?? 0))
        #expect(report.pulled == [.applied: 1])
        #expect(report.hasMore)
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 70)
    }
}
