import DataSync
import Testing

@Suite struct UnknownTypeTests {
    @Test func theRowsOfATypeThatTheCloudDoesNotKnowStayWithTheirSender() async throws {
        var company = try await Company(branches: [1], types: { $0.isCloud ? [.product] : ItemType.all })
        for text in ["first", "second"] { try await company.write(Item(id: 1, text: text), .order, at: 1) }
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        for _ in 0..<3 {
            let report = try await company.cycle(1)
            #expect(report.stopped[3] != nil)
        }
        #expect(try await company.rows(.product, at: .cloud) == ["product:1": "fine"])
        #expect(try await company.outbox(1).map(\.state) == [.new, .new, .settled])
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0])
        #expect(try await company.memos(at: .cloud) == [])
        try company.startAll()
        try await company.settle()
        #expect(company.conduct(.cloud).applied == ["fine", "first", "second"])
    }

    @Test func aTypeThatTheCloudLearnsFlowsWithoutARestartOfTheBranch() async throws {
        let company = try await Company(branches: [1], types: { $0.isCloud ? [.product] : ItemType.all })
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        try await company.cycle(1)
        // Another replica of the cloud, of a newer version, takes over the branch's link.
        let newer = try Hub(
            storage: company.storage(.cloud), types: [ItemType.order, .product].map { $0.with(company.conduct(.cloud)) },
            limits: company.limits, environment: company.time.environment, logger: .silent)
        let agent = try Agent(
            server: 1, storage: company.storage(1),
            transport: FaultyTransport(base: InMemoryTransport(hub: newer, branch: 1), link: company.link(1), plan: company.plan),
            types: [ItemType.order, .product], limits: company.limits, environment: company.time.environment, logger: .silent)
        #expect(try await agent.cycle().pushed == [.applied: 1])
    }

    @Test func aTypeThatOneReplicaDoesNotKnowIsAnsweredUnsupported() async throws {
        let company = try await Company(branches: [1])
        try await company.cycle(1)
        let older = try Hub(
            storage: company.storage(.cloud), types: [ItemType.product], limits: company.limits, environment: company.time.environment,
            logger: .silent)
        let session = try await older.open(OpenRequest(nonce: "0123456789abcdef", software: "test", types: []), from: 1).session
        let answer = try await older.push(
            PushRequest(
                session: session,
                runs: [
                    PushRun(type: 3, firstSynID: 1, run: .none, records: [.record(try Sample.record(.order, 1))]),
                    PushRun(type: 2, firstSynID: 1, run: .none, records: [.record(try Sample.record(.product, 1))]),
                ]), from: 1)
        #expect(answer.runs.map(\.stop) == [.unsupported, nil])
        #expect(answer.runs.map(\.outcomes.count) == [0, 1])
    }

    @Test func theCloudsOwnRowsOfATypeThatItDoesNotKnowWaitAndFlowInOrderLater() async throws {
        var company = try await Company(branches: [1], types: { $0.isCloud ? [.points] : ItemType.all })
        for text in ["first", "second"] { try await company.write(Item(id: 1, text: text), .product, at: .cloud) }
        try await company.write(Item(id: 1, text: "+5"), .points, at: .cloud)
        for _ in 0..<2 { try await company.cycle(1) }
        #expect(try await company.rows(.points, at: 1) == ["points:1/+5": "1"])
        #expect(try await company.outbox(.cloud).map(\.state) == [.new, .new, .settled])
        try company.startAll()
        try await company.write(Item(id: 1, text: "third"), .product, at: .cloud)
        try await company.hub.numberOwnRows()
        #expect(try await company.log(2, .all).map(\.record.synID) == [1, 2, 3])
        try await company.settle()
        #expect(company.conduct(1).applied == ["+5", "first", "second", "third"])
    }

    @Test func aTypeThatTheBranchDoesNotKnowIsNotPulled() async throws {
        var company = try await Company(branches: [1], types: { $0.isCloud ? ItemType.all : [.points] })
        try await company.write(Item(id: 1, text: "x"), .product, at: .cloud)
        try await company.write(Item(id: 1, text: "+5"), .points, at: .cloud)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        try company.start(1)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "x"])
    }
}
