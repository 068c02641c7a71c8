import DataSync
import Testing

@Suite struct SessionTests {
    private func request(_ nonce: String) -> OpenRequest { OpenRequest(nonce: nonce, software: "test", types: []) }

    private func push(_ session: SessionID, first: Int64, _ records: [SyncRecord]) -> PushRequest {
        PushRequest(
            session: session,
            runs: [PushRun(type: records[0].type, firstSynID: first, run: Fingerprint(rawValue: 1), records: records.map { .record($0) })])
    }

    // MARK: - Duplicates and gaps

    @Test func aLostAnswerIsMadeUpForAndTheEffectIsOne() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "+5"), .points, at: 1)
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        company.link(1).loseAnswer(to: .push)
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(try await company.outbox(1).map(\.state) == [.new, .new])
        // The second copy is answered with what became of the first.
        #expect(try await company.cycle(1).pushed == [.applied: 1, .parked: 1])
        #expect(try await company.outbox(1).map(\.state) == [.settled, .open])
        #expect(try await company.outbox(1).map(\.attempts) == [0, 1])
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.points, at: server) == ["points:1/+5": "1"], "\(server)") }
    }

    /// A cycle that sends as much as it can before it fetches would never fetch where each tenth push is lost and more is written all the time.
    @Test func aLinkThatFailsAgainAndAgainDoesNotKeepABranchFromFetching() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 1
        let company = try await Company(branches: [1], limits: limits)
        try await company.write(Item(id: 1, text: "of the cloud"), .product, at: .cloud)
        for id in 1...100 { try await company.write(Item(id: id, text: "\(id)"), .order, at: 1) }
        @Sendable func failEachTenthPush() {
            company.link(1).once(.before(.push)) {
                failEachTenthPush()
                let calls = company.link(1).calls(.push)
                try await company.write(Item(id: 100 + calls, text: "more"), .order, at: 1)
                if calls.isMultiple(of: 10) { throw DataSyncError(.peerUnreachable, operation: "test") }
            }
        }
        failEachTenthPush()
        for _ in 0..<10 { _ = try? await company.cycle(1) }
        #expect(try await company.rows(.product, at: 1) == ["product:1": "of the cloud"])
    }

    @Test func aBatchOnItsWayIsSentAgainWhenReadingTheNextOneFails() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 1
        let company = try await Company(branches: [1], limits: limits)
        for id in 1...3 { try await company.write(Item(id: id, text: "\(id)"), .order, at: 1) }
        // While the first batch is on its way, the branch's own database is away.
        for step in 1...12 {
            company.plan.arm(step: step, at: [.transaction], DataSyncError(.storageUnavailable, operation: "test"))
            _ = try? await company.cycle(1)
            company.plan.disarm()
        }
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 3)
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled })
    }

    /// What was written is there, and whoever wrote it thinks that it is not.
    @Test func anAgentThatBelievesItsCommitToHaveFailedGoesOn() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 2
        limits.manifestRowsMax = 1
        let company = try await Company(branches: [1], limits: limits)
        try await company.settle()
        for step in 1...20 {
            for id in 1...3 { try await company.write(Item(id: 10 * step + id, text: "x"), .order, at: 1) }
            company.plan.arm(step: step, at: [.commit], DataSyncError(.storageUnavailable, operation: "test"))
            _ = try? await company.cycle(1)
            company.plan.disarm()
            for id in 4...5 { try await company.write(Item(id: 10 * step + id, text: "x"), .order, at: 1) }
            try await company.settle()
        }
        #expect(try await company.rows(.order, at: .cloud).count == 100)
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled })
    }

    @Test func aBatchThatOvertakesTheOneBeforeItIsSentAgainInTheSameSession() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 1
        let company = try await Company(branches: [1], limits: limits)
        for id in 1...6 { try await company.write(Item(id: id, text: "\(id)"), .order, at: 1) }
        let (overtaken, link) = (AsyncSemaphore(0), company.link(1))
        // The first push is held back until the second one has been answered.
        link.once(.before(.push)) { try await overtaken.wait() }
        link.once(.after(.push)) { overtaken.signal() }
        #expect(try await company.cycle(1).pushed == [.applied: 6])
        #expect(link.calls(.open) == 1)
        #expect(try await company.rows(.order, at: .cloud).count == 6)
    }

    @Test func aDuplicateIsAnsweredWithHowTheFirstCopyStandsNow() async throws {
        let company = try await Company(branches: [1])
        let session = try await company.hub.open(self.request("0123456789abcdef"), from: 1).session
        let request = self.push(session, first: 1, [try Sample.record(.order, 1, "poison"), try Sample.record(.order, 2, "fine")])
        let first = try await company.hub.push(request, from: 1).runs[0].outcomes
        #expect(first.map(\.disposition) == [.parked, .applied])
        #expect(first.map(\.isDuplicate) == [false, false])
        for _ in 0..<2 { try await company.hub.retryDue() }
        let second = try await company.hub.push(request, from: 1).runs[0].outcomes
        #expect(second.map(\.disposition) == [.dead, .applied])
        #expect(second.map(\.isDuplicate) == [true, true])
        #expect(second[0].attempts == 3)
        #expect(second[1].version == first[1].version)
        #expect(company.conduct(.cloud).applied == ["fine"])
    }

    @Test func aGapIsRefusedAndNothingOfItIsApplied() async throws {
        let company = try await Company(branches: [1])
        let session = try await company.hub.open(self.request("0123456789abcdef"), from: 1).session
        let records = try (1...3).map { try Sample.record(.order, $0, "\($0)") }
        _ = try await company.hub.push(self.push(session, first: 1, [records[0]]), from: 1)
        let answer = try await company.hub.push(self.push(session, first: 3, [records[2]]), from: 1)
        #expect(answer.runs == [PushRunAnswer(stop: .gap(position: 1))])
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "1"])
        // Of a run that overlaps, the known part is answered and the rest received.
        let whole = try await company.hub.push(self.push(session, first: 1, records), from: 1)
        #expect(whole.runs[0].outcomes.map(\.isDuplicate) == [true, false, false])
    }

    @Test func whoSentARecordIsNotTheRecordsToSay() async throws {
        let company = try await Company(branches: [1, 2])
        let session = try await company.hub.open(self.request("0123456789abcdef"), from: 1).session
        _ = try await company.hub.push(self.push(session, first: 1, [try Sample.record(.order, 1, from: 2)]), from: 1)
        #expect(try await company.log(3, .server(1)).map(\.record.origin) == [1])
        #expect(try await company.log(3, .server(2)) == [])
    }

    // MARK: - Fences

    @Test func anOldSessionIsFencedInEveryRequest() async throws {
        let company = try await Company(branches: [1])
        let old = try await company.hub.open(self.request("0123456789abcdef"), from: 1).session
        let new = try await company.hub.open(self.request("fedcba9876543210"), from: 1).session
        #expect(new.number == old.number + 1)
        let requests: [() async throws -> Void] = [
            { _ = try await company.hub.push(self.push(old, first: 1, [try Sample.record(.order, 1)]), from: 1) },
            {
                _ = try await company.hub.pull(
                    PullRequest(session: old, logEpoch: 1, cursors: [:], recordsMax: 1, bytesMax: 1, recordBytesMax: 1), from: 1)
            }, { _ = try await company.hub.acknowledge(AcknowledgeRequest(session: old, logEpoch: 1, positions: [:], outcomes: []), from: 1) },
        ]
        for request in requests {
            let error = await #expect(throws: DataSyncError.self) { try await request() }
            #expect(error?.code == .fenced)
        }
        #expect(try await company.rows(.order, at: .cloud) == [:])
    }

    @Test func aLateCopyOfAnOpeningGetsTheSameAnswer() async throws {
        let company = try await Company(branches: [1])
        let first = try await company.hub.open(self.request("0123456789abcdef"), from: 1)
        let copy = try await company.hub.open(self.request("0123456789abcdef"), from: 1)
        #expect(copy.session == first.session)
    }

    @Test func anAgentWhoseSessionWasFencedOpensAnotherAndGoesOn() async throws {
        let company = try await Company(branches: [1])
        try await company.cycle(1)
        _ = try await company.hub.open(self.request("0123456789abcdef"), from: 1)
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(company.link(1).calls(.open) == 2)
    }

    @Test func aSecondAgentOnTheDatabaseEndsTheFirst() async throws {
        let company = try await Company(branches: [1])
        try await company.cycle(1)
        let second = try company.agent(of: 1)
        _ = try await second.cycle()
        try await company.write(Item(id: 1, text: "+5"), .points, at: 1)
        let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(error?.code == .leaseLost)
        _ = try await second.cycle()
        #expect(try await company.rows(.points, at: .cloud) == ["points:1/+5": "1"])
    }

    @Test func onlyOneAgentHoldsTheLease() async throws {
        let storage = InMemoryStorage()
        let lease = try await storage.takeLease()
        let error = await #expect(throws: DataSyncError.self) { try await storage.takeLease() }
        #expect(error?.code == .leaseHeld)
        await lease.release()
        #expect(await (try storage.takeLease()).isHeld())
    }

    @Test func twoCyclesOfOneAgentDoNotMeet() async throws {
        let company = try await Company(branches: [1])
        let agent = company.agents[1]!
        company.link(1).once(.before(.open)) {
            let error = await #expect(throws: DataSyncError.self) { try await agent.cycle() }
            #expect(error?.code == .invalidState)
        }
        try await company.cycle(1)
    }

    // MARK: - Who may open

    @Test func aSuspendedBranchIsRefusedAtOnceAndGoesOnWhenItIsResumed() async throws {
        let company = try await Company(branches: [1])
        try await company.cycle(1)
        func set(_ status: ServerRow.Status) async throws {
            try await company.storage(.cloud).base.withTransaction { transaction in
                var row = try #require(try await transaction.server(1))
                row.status = status
                _ = try await transaction.replaceServer(row)
            }
        }
        try await set(.suspended)
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        for _ in 0..<2 {
            let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
            #expect(error?.code == .suspended)
        }
        #expect(try await company.rows(.order, at: .cloud) == [:])
        try await set(.active)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
    }

    @Test func strangersAndOtherVersionsAreRefused() async throws {
        let company = try await Company(branches: [1])
        func code(_ request: OpenRequest, from branch: ServerID) async throws -> DataSyncError.Code? {
            await #expect(throws: DataSyncError.self) { try await company.hub.open(request, from: branch) }?.code
        }
        #expect(try await code(self.request("0123456789abcdef"), from: 9) == .unauthorized)
        #expect(try await code(self.request("short"), from: 1) == .peerInvalid)
        #expect(try await code(self.request(String(repeating: "n", count: 65)), from: 1) == .peerInvalid)
        var future = self.request("0123456789abcdef")
        future.protocolVersion = 99
        #expect(try await code(future, from: 1) == .unsupportedProtocol)
    }

    @Test func aBatchAboveTheLimitIsRefused() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 2
        let company = try await Company(branches: [1], limits: limits)
        let session = try await company.hub.open(self.request("0123456789abcdef"), from: 1).session
        let error = await #expect(throws: DataSyncError.self) {
            try await company.hub.push(self.push(session, first: 1, try (1...3).map { try Sample.record(.order, $0) }), from: 1)
        }
        #expect(error?.code == .tooLarge)
    }
}
