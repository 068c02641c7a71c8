import DataSync
import Testing

@Suite struct ParkedRecordTests {
    @Test func itsEntityWaitsBehindItAndOthersFlow() async throws {
        let company = try await Company(branches: [1, 2])
        for text in ["poison", "better"] { try await company.write(Item(id: 1, text: text), .product, at: 1) }
        try await company.write(Item(id: 2, text: "fine"), .product, at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1, .parked: 2])
        // A later one of the same entity waits too; the same entity of another branch does not.
        try await company.write(Item(id: 1, text: "best"), .product, at: 1)
        #expect(try await company.cycle(1).pushed == [.parked: 1])
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.refused, .behind, .behind])
        #expect(try await company.rows(.product, at: .cloud) == ["product:2": "fine"])
        try await company.cycle(2)
        #expect(try await company.rows(.product, at: 2) == ["product:2": "fine"])
        // When it is dead, what waited is tried in order.
        for _ in 0..<2 { try await company.hub.retryDue() }
        company.time.advance(by: .seconds(30))
        for _ in 0..<2 { try await company.hub.retryDue() }
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.dead, .applied, .applied])
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "best", "product:2": "fine"], "\(server)")
        }
    }

    @Test func itsSenderSeesHowOftenItWasRefusedAndWhy() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        var seen: [String] = []
        func look() async throws {
            let row = try await company.outbox(1)[0]
            seen.append("\(row.attempts) \(row.reason) \(row.state)")
        }
        try await company.cycle(1)
        try await look()
        for _ in 0..<2 {
            try await company.hub.retryDue()
            try await company.cycle(1)
            try await look()
        }
        #expect(seen == ["1 refused open", "2 refused open", "3 refused settled"])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.dead])
        #expect(try await company.memos(at: 1).map(\.detail) == ["no poison"])
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [3])
    }

    @Test func itIsTriedAgainWhenItsTimeHasCome() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.cycle(1)
        func attempts(after seconds: Int) async throws -> Int {
            company.time.advance(by: .seconds(seconds))
            try await company.hub.retryDue()
            return try await company.memos(at: .cloud)[0].attempts
        }
        #expect(try await attempts(after: 29) == 1)
        #expect(try await attempts(after: 1) == 2)
        #expect(try await attempts(after: 299) == 2)
        #expect(try await attempts(after: 1) == 3)
        #expect(try await attempts(after: 9_999) == 3)
    }

    @Test func aTryWhoseCommitIsUnknownIsCountedOnce() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.cycle(1)
        // By a person, who may try at any time.
        let id = try await company.memos(at: .cloud)[0].id
        company.plan.arm(step: 1, at: [.commit], DataSyncError(.commitUnknown, operation: "test"))
        #expect(try await company.hub.retryMemo(id, actor: "ada").attempts == 2)
        #expect(!company.plan.isArmed)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [2])
        // By the clock.
        company.time.advance(by: .seconds(301))
        company.plan.arm(step: 1, at: [.commit], DataSyncError(.commitUnknown, operation: "test"))
        try await company.hub.retryDue()
        #expect(!company.plan.isArmed)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [3])
        #expect(try await company.memos(at: .cloud).map(\.tries) == [3])
    }

    @Test func aTryAtABranchWhoseCommitIsUnknownIsCountedOnce() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        let id = try await company.memos(at: 1)[0].id
        company.plan.arm(step: 1, at: [.commit], DataSyncError(.commitUnknown, operation: "test"))
        #expect(try await company.agents[1]!.retryMemo(id, actor: "ada").attempts == 2)
        #expect(try await company.memos(at: 1).map(\.attempts) == [2])
    }

    @Test func twoReplicasThatFindItDueTryItOnce() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.cycle(1)
        company.time.advance(by: .seconds(30))
        let replica = try Hub(
            storage: company.storage(.cloud), types: [ItemType.order.with(company.conduct(.cloud))], limits: company.limits,
            environment: company.time.environment, logger: .silent)
        async let first = company.hub.retryDue()
        async let second = replica.retryDue()
        _ = try await (first, second)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [2])
    }

    @Test func aBadPayloadIsTheRecordsFault() async throws {
        let company = try await Company(branches: [1])
        try await company.storage(1).base.withTransaction { transaction in
            try await transaction.appendOutbox([
                NewOutboxRow(type: 3, key: "order:1", payload: "not JSON"), NewOutboxRow(type: 3, key: "order:2", payload: #"{"upsert":{"id":2}}"#),
                NewOutboxRow(type: 3, key: "order:3", payload: #"{"act":{"id":3,"text":"x"}}"#),
                // It claims to be about another entity than it is.
                NewOutboxRow(type: 3, key: "order:4", payload: #"{"upsert":{"id":5,"text":"x"}}"#),
                NewOutboxRow(type: 3, key: "order:6", payload: #"{"upsert":{"id":6,"text":"x"}}"#),
            ])
        }
        #expect(try await company.cycle(1).pushed == [.parked: 4, .applied: 1])
        #expect(try await company.memos(at: .cloud).sorted { $0.number < $1.number }.map(\.reason) == [.malformed, .malformed, .malformed, .forbidden])
        let details = try await company.memos(at: .cloud).compactMap(\.detail)
        #expect(details.contains("text is missing"))
        #expect(details.allSatisfy { !$0.contains("not JSON") })
    }

    // MARK: - At a branch

    @Test func aRecordThatABranchRefusesIsDeadThereAndSeenAtTheCloud() async throws {
        let company = try await Company(branches: [1, 2])
        company.conduct(1).cure("poison")
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.write(Item(id: 2, text: "fine"), .product, at: .cloud)
        #expect(try await company.cycle(2).pulled == [.applied: 1, .parked: 1])
        try await company.cycle(1)
        // The cloud keeps a row for the branch that refused it, and its own row shows the worst.
        #expect(try await company.memos(at: .cloud).map(\.line.receiver) == [2])
        #expect(try await company.outbox(.cloud).map(\.attempts) == [1, 0])
        for _ in 0..<3 { try await company.cycle(2) }
        #expect(try await company.memos(at: 2).map(\.disposition) == [.dead])
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.dead])
        #expect(try await company.outbox(.cloud).map(\.attempts) == [3, 0])
        #expect(try await company.outbox(.cloud).map(\.reason) == [.refused, .applied])
        #expect(try await company.rows(.product, at: 2) == ["product:2": "fine"])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "poison", "product:2": "fine"])
    }

    @Test func aCopyOfAnAcknowledgementThatComesLateIsMadeGood() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        let copy = try #require(company.link(1).lastAcknowledgement)
        company.conduct(1).cure("poison")
        try await company.settle()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
        // Now the cloud takes what the branch said first for how the record stands.
        _ = try await company.hub.acknowledge(copy, from: 1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.parked])
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
    }

    @Test func aNewSessionTellsAgainHowOpenRecordsStand() async throws {
        var limits = SyncLimits()
        limits.retryDelays = [.zero, .seconds(3_600)]
        let company = try await Company(branches: [1], limits: limits)
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        let copy = try #require(company.link(1).lastAcknowledgement)
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [2])
        // As a cloud that was put back, or that got an older acknowledgement last, knows it.
        _ = try await company.hub.acknowledge(copy, from: 1)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [1])
        _ = try await company.agents[1]!.transport.base.open(OpenRequest(nonce: "0123456789abcdef", software: "test", types: []))
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.attempts) == [2])
    }

    @Test func aNewerStateSupersedesAnOlderOneThatIsParkedAtABranch() async throws {
        let company = try await Company(branches: [1], limits: SyncLimits())
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        try await company.write(Item(id: 1, text: "better"), .product, at: .cloud)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        company.time.advance(by: .seconds(30))
        try await company.cycle(1)
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.superseded])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "better"])
    }
}
