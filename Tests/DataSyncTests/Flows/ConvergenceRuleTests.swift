import DataSync
import Testing

/// The four rules that make state types converge. Each test plays the race that its rule closes, and fails without it.
@Suite struct ConvergenceRuleTests {
    private func converged(_ company: Company, on text: String, _ location: SourceLocation = #_sourceLocation) async throws {
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": text], "\(server)", sourceLocation: location)
        }
    }

    // MARK: - Rule 1: the cloud's own change is numbered before what is applied over it

    @Test func aChangeOfTheCloudThatWasNotNumberedComesBeforeThePushedOne() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "of the cloud"), .product, at: .cloud)
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.log(2, .all).map(\.record.origin) == [.cloud, 1])
        try await self.converged(company, on: "of 1")
    }

    @Test func aChangeOfTheCloudThatCommitsWhileThePushWaitsForItsLockComesFirst() async throws {
        let company = try await Company(branches: [1, 2])
        let cloud = company.storage(.cloud)
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        // Seen by the push's transaction, then rolled back with it; the application's commit stays.
        company.conduct(.cloud).beforeNext { try await Company.write(Item(id: 1, text: "of the cloud"), .product, in: $0) }
        cloud.afterRollback {
            try await cloud.base.withTransaction { try await Company.write(Item(id: 1, text: "of the cloud"), .product, in: $0) }
        }
        try await company.cycle(1)
        #expect(try await company.log(2, .all).map(\.record.origin) == [.cloud, 1])
        try await self.converged(company, on: "of 1")
    }

    @Test func aRetryToo() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        company.conduct(.cloud).cure("poison")
        company.conduct(2).cure("poison")
        try await company.write(Item(id: 1, text: "of the cloud"), .product, at: .cloud)
        try await company.hub.retryDue()
        #expect(try await company.log(2, .all).map(\.record.origin) == [.cloud, 1])
        try await self.converged(company, on: "poison")
    }

    @Test func applicationsThatNeverStopChangingAnEntityMakeTheCloudBusy() async throws {
        let company = try await Company(branches: [1])
        let cloud = company.storage(.cloud)
        let conduct = company.conduct(.cloud)
        @Sendable func again() {
            conduct.beforeNext { try await Company.write(Item(id: 1, text: "again"), .product, in: $0) }
            cloud.afterRollback {
                try await cloud.base.withTransaction { try await Company.write(Item(id: 1, text: "again"), .product, in: $0) }
                again()
            }
        }
        again()
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect([.storageBusy, .peerUnreachable].contains(error?.code))
        // Nothing is lost, nothing is counted.
        #expect(try await company.outbox(1).map(\.state) == [.new])
        #expect(try await company.memos(at: .cloud) == [])
    }

    // MARK: - Rule 2: the branch applies first, and gives way to a change of its own that is not settled

    @Test func aPulledRecordGivesWayToALocalChangeThatWasNotSent() async throws {
        let company = try await Company(branches: [1, 2])
        let branch = company.storage(1)
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        company.link(1).once(.after(.pull)) {
            try await branch.base.withTransaction { try await Company.write(Item(id: 1, text: "of 1"), .product, in: $0) }
        }
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "of 1"])
        try await self.converged(company, on: "of 1")
    }

    @Test func aPulledRecordGivesWayToALocalChangeThatCommitsWhileItWaitsForItsLock() async throws {
        let company = try await Company(branches: [1, 2])
        let branch = company.storage(1)
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        company.conduct(1).beforeNext { try await Company.write(Item(id: 1, text: "of 1"), .product, in: $0) }
        branch.afterRollback {
            try await branch.base.withTransaction { try await Company.write(Item(id: 1, text: "of 1"), .product, in: $0) }
        }
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: "of 1")
    }

    @Test func aChangeThatIsParkedAtTheCloudCountsAsUnsettled() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        for server in [.cloud, 2] as [ServerID] { company.conduct(server).cure("poison") }
        try await company.hub.retryDue()
        try await self.converged(company, on: "poison")
    }

    @Test func aParkedPulledRecordGivesWayToo() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        #expect(try await company.memos(at: 1, [.parked]).count == 1)
        company.conduct(1).cure("poison")
        let branch = company.storage(1)
        company.conduct(1).beforeNext { try await Company.write(Item(id: 1, text: "of 1"), .product, in: $0) }
        branch.afterRollback {
            try await branch.base.withTransaction { try await Company.write(Item(id: 1, text: "of 1"), .product, in: $0) }
        }
        try await company.cycle(1)
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        try await self.converged(company, on: "of 1")
    }

    @Test func anEntityOfAnotherHomeThatHasTheSameNameDoesNotGiveWay() async throws {
        let company = try await Company(branches: [1, 2])
        let branch = company.storage(2)
        try await company.write(Item(id: 1, text: "of 1"), .parcel, at: 1, to: 2)
        try await company.cycle(1)
        // The parcel of 2 that is called the same is another one.
        company.link(2).once(.after(.pull)) {
            try await branch.base.withTransaction { try await Company.write(Item(id: 1, text: "of 2"), .parcel, in: $0) }
        }
        #expect(try await company.cycle(2).pulled == [.applied: 1])
    }

    @Test func howOwnRecordsStandIsReadWithTheRecordsThatArePulled() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        for server in [.cloud, 2] as [ServerID] { company.conduct(server).cure("poison") }
        // While the pull of 1 is about to be read its own change is taken in, and then that of 2: 1 has to know of both.
        company.points.once(.cloudPullBeforeRead) {
            do {
                try await company.hub.retryDue()
                try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
                try await company.cycle(2)
            } catch { Issue.record(error) }
        }
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        try await self.converged(company, on: "of 2")
    }

    // MARK: - Rule 3: no pull of a type while nobody knows what became of a row

    @Test func noTypeIsPulledWhileARowOfItHasNoAnswer() async throws {
        let company = try await Company(branches: [1, 2])
        // The cloud accepts the change of 1, whose answer is lost, and then that of 2.
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        company.link(1).loseAnswer(to: .push)
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        // Then a fault stops the type there, so that the second copy of the change of 1 is not answered either.
        try await company.write(Item(id: 9, text: "broken"), .product, at: 2)
        #expect(try await company.cycle(2).stopped[2] != nil)
        let report = try await company.cycle(1)
        #expect(report.stopped[2] != nil)
        #expect(report.pulled == [:])
        #expect(try await company.rows(.product, at: 1) == ["product:1": "of 1"])
        for server in [.cloud, 1] as [ServerID] { company.conduct(server).cure("broken") }
        company.time.advance(by: .seconds(300))
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "of 2", "product:9": "broken"], "\(server)")
        }
    }

    @Test func afterAStartEveryRowThatTheCloudHasAndNobodyAnsweredIsUnknown() async throws {
        var company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        company.link(1).loseAnswer(to: .push)
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        try await company.write(Item(id: 9, text: "broken"), .product, at: 2)
        try await company.cycle(2)
        try company.start(1)
        #expect(try await company.cycle(1).pulled == [:])
        for server in [.cloud, 1] as [ServerID] { company.conduct(server).cure("broken") }
        company.time.advance(by: .seconds(300))
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == company.rows(.product, at: .cloud))
        #expect(try await company.rows(.product, at: 2)["product:1"] == "of 2")
    }

    @Test func aCopyOfAStoppedPushThatComesLaterIsKnownBeforeThePull() async throws {
        let company = try await Company(branches: [1, 2])
        let link = company.link(1)
        try await company.write(Item(id: 9, text: "broken"), .product, at: 1)
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        // The first copy finds a fault that stops the type. Before its answer is there the fault is gone, the other copy has all of it
        // taken in, and 2 changes the same product.
        link.once(.after(.push)) {
            for server in [.cloud, 1, 2] as [ServerID] { company.conduct(server).cure("broken") }
            company.time.advance(by: .seconds(300))
            let copy = try #require(link.lastPush)
            #expect(try await company.hub.push(copy, from: 1).runs.flatMap(\.outcomes).map(\.disposition) == [.applied, .applied])
            try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
            try await company.cycle(2)
        }
        // What 1 is told is still the first answer: to give way would be to lose what 2 changed.
        let report = try await company.cycle(1)
        #expect(report.stopped[2] != nil)
        #expect(report.pulled == [:])
        company.time.advance(by: .seconds(300))
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "of 2", "product:9": "broken"], "\(server)")
        }
    }

    @Test func aCopyOfAStoppedPushDoesNothingOnceTheTypeIsPulled() async throws {
        let company = try await Company(branches: [1, 2])
        let link = company.link(1)
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        try await company.write(Item(id: 9, text: "broken"), .product, at: 1)
        let report = try await company.cycle(1)
        #expect(report.stopped[2] != nil)
        #expect(report.pulled == [.applied: 1])
        #expect(link.calls(.open) == 2)
        company.conduct(.cloud).cure("broken")
        company.time.advance(by: .seconds(300))
        let copy = try #require(link.lastPush)
        let error = await #expect(throws: DataSyncError.self) { try await company.hub.push(copy, from: 1) }
        #expect(error?.code == .fenced)
        // That the type is left alone for a while was carried over into the new session, and ends.
        try await company.settle()
        #expect(try await company.rows(.product, at: .cloud) == ["product:1": "of 2", "product:9": "broken"])
        #expect(link.calls(.open) == 2)
    }

    @Test func otherTypesArePulledMeanwhile() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        company.link(1).loseAnswer(to: .push)
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        try await company.write(Item(id: 9, text: "broken"), .product, at: 2)
        try await company.write(Item(id: 1, text: "+5"), .points, at: 2)
        try await company.cycle(2)
        #expect(try await company.cycle(1).pulled == [.applied: 1])
        #expect(try await company.rows(.points, at: 1) == ["points:1/+5": "1"])
    }

    // MARK: - Rule 4: what was accepted or applied keeps its version

    @Test func anOlderRecordDoesNotOverwriteAChangeThatTheCloudAcceptedLater() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        // Branch 1 has not pulled it when its own change is accepted.
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: "of 1")
    }

    @Test func anOlderParkedRecordDoesNotOverwriteANewerOne() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        try await company.write(Item(id: 1, text: "newer"), .product, at: .cloud)
        try await company.cycle(1)
        company.conduct(1).cure("poison")
        try await company.cycle(1)
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        try await self.converged(company, on: "newer")
    }

    @Test func anOlderParkedRecordDoesNotBringBackWhatWasDeleted() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        try await company.delete(1, .product, at: .cloud)
        try await company.cycle(1)
        company.conduct(1).cure("poison")
        try await company.cycle(1)
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        #expect(try await company.rows(.product, at: 1) == [:])
    }

    @Test func anAcceptedChangeThatWasParkedKeepsItsVersionToo() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        for server in [.cloud, 2] as [ServerID] { company.conduct(server).cure("poison") }
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.cycle(2)
        // Place 2, after that of branch 2.
        try await company.hub.retryDue()
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: "poison")
    }

    @Test func anOwnUnsettledChangeSaysNothingAboutAnotherBranchsEntityOfTheSameName() async throws {
        let company = try await Company(branches: [1, 2])
        // Branch 2's own parcel:1 is parked at the cloud, and unsettled; branch 1's parcel:1 is another one, for branch 2.
        try await company.write(Item(id: 1, text: "poison"), .parcel, at: 2)
        try await company.cycle(2)
        try await company.write(Item(id: 1, text: "of 1"), .parcel, at: 1, to: 2)
        try await company.cycle(1)
        #expect(try await company.cycle(2).pulled == [.applied: 1])
    }
}
