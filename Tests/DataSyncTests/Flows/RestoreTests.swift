@testable import DataSync
import Testing

/// Databases that are put back to an older state, and machines that are copied.
@Suite struct RestoreTests {
    private static let everybody: [ServerID] = [.cloud, 1, 2]

    private func check(_ company: Company, products: [String], points: [String], _ comment: Comment? = nil) async throws {
        for server in Self.everybody {
            #expect(try await company.rows(.product, at: server).keys.sorted() == products.map { "product:\($0)" }, comment)
            let counts = try await company.rows(.points, at: server)
            #expect(counts == Dictionary(uniqueKeysWithValues: points.map { ("points:\($0)", "1") }), "\(server)")
        }
        for branch in [1, 2] as [ServerID] {
            #expect(try await company.outbox(branch).allSatisfy { $0.state == .settled }, "\(branch)")
        }
    }

    /// A company whose branch 1 is backed up with rows that it has numbered, and rows that it has not, sends them, and writes more.
    private func companyBeforeRestore() async throws -> (company: Company, backup: InMemoryStorage.Backup) {
        var limits = Company.eagerLimits
        limits.manifestRowsMax = 2
        limits.batchRecordsMax = 3
        let company = try await Company(branches: [1, 2], limits: limits)
        try await company.write(Item(id: 1, text: "settled"), .product, at: 1)
        try await company.write(Item(id: 1, text: "+1"), .points, at: 1)
        try await company.settle()
        // Numbered and never sent: the cloud cannot be reached.
        company.link(1).once(.before(.push)) { throw DataSyncError(.peerUnreachable, operation: "test") }
        try await company.write(Item(id: 2, text: "numbered"), .product, at: 1)
        try await company.write(Item(id: 1, text: "+2"), .points, at: 1)
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        try await company.write(Item(id: 3, text: "new"), .product, at: 1)
        try await company.write(Item(id: 1, text: "+3"), .points, at: 1)
        let backup = company.storage(1).base.backUp()
        try await company.settle()
        for id in 4...7 { try await company.write(Item(id: id, text: "after"), .product, at: 1) }
        try await company.write(Item(id: 1, text: "+4"), .points, at: 1)
        try await company.write(Item(id: 2, text: "changed after"), .product, at: 1)
        try await company.write(Item(id: 8, text: "of 2"), .product, at: 2)
        try await company.settle()
        return (company, backup)
    }

    @Test func aRestoredBranchLosesNothingThatItHadSentAndSendsNothingTwice() async throws {
        var (company, backup) = try await self.companyBeforeRestore()
        company.storage(1).base.restore(backup)
        try company.start(1)
        try await company.write(Item(id: 9, text: "after the restore"), .product, at: 1)
        try await company.write(Item(id: 1, text: "+5"), .points, at: 1)
        try await company.settle()
        try await self.check(company, products: (1...9).map { "\($0)" }, points: (1...5).map { "1/+\($0)" })
        for server in Self.everybody { #expect(try await company.rows(.product, at: server)["product:2"] == "changed after", "\(server)") }
        let row = try await company.storage(.cloud).base.withTransaction { try await $0.server(1) }
        #expect(row?.epoch == 2)
        // What nobody had sent has numbers of the new epoch.
        let last = try await company.storage(1).base.withTransaction { try await $0.lastNumbers(origin: 1, epoch: 2) }
        #expect(last == [2: 1, 6: 1])
    }

    @Test func aDatabaseThatIsRestoredUnderARunningAgentIsNoticedBeforeItsNumbersCount() async throws {
        let (company, backup) = try await self.companyBeforeRestore()
        company.storage(1).base.restore(backup)
        // The agent goes on in its session; its numbers grow back over those that the cloud has.
        for id in 10...15 {
            try await company.write(Item(id: id, text: "after the restore"), .product, at: 1)
            try await company.write(Item(id: 1, text: "+\(id)"), .points, at: 1)
        }
        var failures = 0
        for _ in 0..<3 { do { try await company.cycle(1) } catch let error as DataSyncError where error.code == .diverged { failures += 1 } }
        #expect(failures == 1)
        try await company.settle()
        try await self.check(
            company, products: (Array(1...8) + Array(10...15)).map { "\($0)" }.sorted(), points: (Array(1...4) + Array(10...15)).map { "1/+\($0)" })
    }

    @Test func aBranchThatIsRestoredTwiceFromTheSameBackupLosesNothing() async throws {
        var (company, backup) = try await self.companyBeforeRestore()
        for round in 0..<2 {
            company.storage(1).base.restore(backup)
            try company.start(1)
            try await company.write(Item(id: 10 + round, text: "round \(round)"), .product, at: 1)
            try await company.settle()
        }
        try await self.check(company, products: (Array(1...8) + [10, 11]).map { "\($0)" }.sorted(), points: (1...4).map { "1/+\($0)" })
    }

    @Test func theRepairOfARestoredBranchSurvivesACrashAtEveryStep() async throws {
        var step = 0
        var isThrough = false
        while !isThrough {
            step += 1
            var (company, backup) = try await self.companyBeforeRestore()
            company.storage(1).base.restore(backup)
            try company.start(1)
            company.plan.arm(step: step)
            for _ in 0..<4 { _ = try? await company.cycle(1) }
            isThrough = company.plan.isArmed
            company.plan.disarm()
            try company.start(1)
            try await company.settle()
            try await self.check(company, products: (1...8).map { "\($0)" }, points: (1...4).map { "1/+\($0)" }, "step \(step)")
        }
        #expect(step > 30)
    }

    /// Each commit in turn is carried out, and nobody knows: what it did is run again.
    @Test func theRepairOfARestoredBranchSurvivesACommitOfUnknownOutcomeAtEveryStep() async throws {
        var step = 0
        var isThrough = false
        while !isThrough {
            step += 1
            var (company, backup) = try await self.companyBeforeRestore()
            company.storage(1).base.restore(backup)
            try company.start(1)
            company.plan.arm(step: step, at: [.commit], DataSyncError(.commitUnknown, operation: "test"))
            for _ in 0..<4 { _ = try? await company.cycle(1) }
            isThrough = company.plan.isArmed
            company.plan.disarm()
            do { try await company.settle() } catch let error as DataSyncError where error.code == .leaseLost {
                // It raised its epoch and does not know: its own row is another agent's for it. It ends, and is started again.
                try company.start(1)
                try await company.settle()
            }
            try await self.check(company, products: (1...8).map { "\($0)" }, points: (1...4).map { "1/+\($0)" }, "step \(step)")
        }
        #expect(step > 8)
    }

    /// Another epoch comes while rows get their numbers in the one before.
    @Test func rowsKeepTheirOrderHoweverOftenTheyGetNewNumbers() async throws {
        var limits = Company.eagerLimits
        limits.manifestRowsMax = 1
        var step = 0
        var isThrough = false
        while !isThrough {
            step += 1
            var company = try await Company(branches: [1, 2], limits: limits)
            let cloud = company.storage(.cloud).base
            @Sendable func raiseEpoch() async throws {
                try await cloud.withTransaction { transaction in
                    var row = try #require(try await transaction.server(1))
                    row.epoch += 1
                    _ = try await transaction.replaceServer(row)
                }
            }
            try await company.cycle(1)
            company.link(1).once(.before(.push)) { throw DataSyncError(.peerUnreachable, operation: "test") }
            for text in ["one", "two", "three", "four"] { try await company.write(Item(id: 1, text: text), .product, at: 1) }
            await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
            // As if another copy of this database had been repaired, twice.
            try await raiseEpoch()
            try company.start(1)
            company.plan.arm(step: step)
            _ = try? await company.cycle(1)
            isThrough = company.plan.isArmed
            company.plan.disarm()
            try await raiseEpoch()
            try company.start(1)
            try await company.settle()
            for server in Self.everybody { #expect(try await company.rows(.product, at: server) == ["product:1": "four"], "step \(step) at \(server)") }
        }
        #expect(step > 20)
    }

    @Test(arguments: 1...4)
    func aDatabaseThatIsPutBackWhileAnAnswerIsOnItsWayIsNotSettledByIt(push: Int) async throws {
        let (company, backup) = try await self.companyBeforeRestore()
        let storage = company.storage(1).base
        for id in 10...18 { try await company.write(Item(id: id, text: "and more"), .product, at: 1) }
        // The cloud has taken it in, and the branch does not know yet.
        for number in 1...push { company.link(1).once(.after(.push)) { if number == push { storage.restore(backup) } } }
        _ = try? await company.cycle(1)
        try await company.settle()
        for server in Self.everybody {
            #expect(try await company.rows(.product, at: server) == company.rows(.product, at: .cloud), "\(server)")
        }
        let counts = try await company.rows(.points, at: .cloud)
        #expect(counts == Dictionary(uniqueKeysWithValues: (1...4).map { ("points:1/+\($0)", "1") }))
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled })
    }

    @Test(arguments: [ItemType.product, .points], [0, 2])
    func recordsAreNotTakenInAboveAGapThatARestoreMade(type: ItemType, own: Int) async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "a"), type, at: 2)
        try await company.settle()
        let storage = company.storage(1).base
        let backup = storage.backUp()
        for id in 2...4 { try await company.write(Item(id: id, text: "b"), type, at: 2) }
        try await company.settle()
        // What comes next is of others, or the branch's own alone.
        if own == 0 { try await company.write(Item(id: 5, text: "c"), type, at: 2) }
        try await company.cycle(2)
        for id in 5..<5 + own { try await company.write(Item(id: id, text: "d"), type, at: 1) }
        company.link(1).once(.after(.pull)) { storage.restore(backup) }
        _ = try? await company.cycle(1)
        try await company.settle()
        #expect(try await company.rows(type, at: 1) == company.rows(type, at: .cloud))
        #expect(try await company.rows(type, at: .cloud).count == 4 + max(own, 1))
    }

    @Test func whatARestoredBranchIsToldFitsIntoMessagesHoweverManyTypesThereAre() async throws {
        let company = try await Company(branches: [1])
        var expected: [Receipt] = []
        for type in 1...4 as ClosedRange<Int32> {
            for index in 0..<7 as Range<Int64> {
                expected.append(
                    Receipt(
                        epoch: 1, type: BusinessTypeID(rawValue: type), firstSynID: index * 1_000 + 1, run: Fingerprint(rawValue: UInt64(index + 1)),
                        uids: (1...1_000).map { RecordUID(high: UInt64(type), low: UInt64(index) * 1_000 + $0) }, time: 0))
            }
        }
        let receipts = expected
        try await company.storage(.cloud).base.withTransaction { try await $0.insertReceipts(receipts, from: 1) }
        let session = try await company.hub.open(OpenRequest(nonce: "0123456789abcdef", software: "test", types: []), from: 1).session
        var after: [BusinessTypeID: Int64] = [1: 0, 2: 0, 3: 0, 4: 0]
        var told: [Receipt] = []
        var answers = 0
        while true {
            let answer = try await company.hub.recover(RecoverRequest(session: session, epoch: 1, after: after), from: 1)
            told += try RecoverAnswer(body: answer.body).receipts
            for receipt in answer.receipts { after[receipt.type] = receipt.lastSynID }
            answers += 1
            try #require(answers < 20)
            guard answer.hasMore else { break }
        }
        #expect(told == receipts)
    }

    // MARK: - The cloud

    /// A company whose cloud is backed up, and goes on.
    private func companyBeforeCloudRestore() async throws -> (company: Company, backup: InMemoryStorage.Backup) {
        var limits = Company.eagerLimits
        limits.manifestRowsMax = 2
        limits.batchRecordsMax = 3
        let company = try await Company(branches: [1, 2], limits: limits)
        for id in 1...3 { try await company.write(Item(id: id, text: "before"), .product, at: 1) }
        try await company.write(Item(id: 1, text: "+1"), .points, at: 1)
        try await company.settle()
        let backup = company.storage(.cloud).base.backUp()
        for id in 3...6 { try await company.write(Item(id: id, text: "after"), .product, at: 1) }
        try await company.write(Item(id: 1, text: "+2"), .points, at: 1)
        try await company.settle()
        try await company.write(Item(id: 6, text: "and again"), .product, at: 2)
        try await company.write(Item(id: 1, text: "+3"), .points, at: 2)
        try await company.write(Item(id: 1, text: "visit"), .visit, at: 2)
        try await company.settle()
        return (company, backup)
    }

    @Test func aRestoredCloudGetsBackWhatItHadConfirmed() async throws {
        var (company, backup) = try await self.companyBeforeCloudRestore()
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        try await company.write(Item(id: 7, text: "of the cloud"), .product, at: .cloud)
        try await company.settle()
        try await self.check(company, products: (1...7).map { "\($0)" }, points: (1...3).map { "1/+\($0)" })
        let reference = try await company.rows(.product, at: .cloud)
        for branch in [1, 2] as [ServerID] { #expect(try await company.rows(.product, at: branch) == reference, "\(branch)") }
        #expect(try await company.rows(.visit, at: .cloud).count == 1)
    }

    @Test func aRestoredCloudBeginsNewStreamsOfItsOwn() async throws {
        var (company, backup) = try await self.companyBeforeCloudRestore()
        try await company.write(Item(id: 7, text: "lost with the cloud"), .product, at: .cloud)
        try await company.settle()
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        try await company.write(Item(id: 8, text: "of the cloud"), .product, at: .cloud)
        try await company.settle()
        // The lost record was number 1 of the first epoch, and branches know it as such.
        let own = try await company.log(2, .all).map(\.record).filter { $0.origin.isCloud }
        #expect(own.map(\.stream.epoch) == [2])
    }

    @Test func whatComesInAnotherOrderTheSecondTimeIsTheSameEverywhere() async throws {
        var (company, backup) = try await self.companyBeforeCloudRestore()
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        // Product 6 was changed by 1, and then by 2; now 2 comes first.
        try await company.cycle(2)
        try await company.settle()
        for server in Self.everybody { #expect(try await company.rows(.product, at: server)["product:6"] == "after", "\(server)") }
    }

    @Test func whatWasParkedInTheBackupOfTheCloudAndEndedLaterComesBackToItsOrigin() async throws {
        var company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "first"), .product, at: 2)
        try await company.settle()
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        let backup = company.storage(.cloud).base.backUp()
        for server in Self.everybody { company.conduct(server).cure("poison") }
        try await company.hub.retryDue()
        try await company.settle()
        try await company.write(Item(id: 1, text: "lost with the cloud"), .product, at: .cloud)
        try await company.settle()
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        // Branch 1 has heard of its end, and gone on.
        try await company.hub.retryDue()
        try await company.settle()
        for server in Self.everybody { #expect(try await company.rows(.product, at: server) == ["product:1": "poison"], "\(server)") }
    }

    @Test func aRestoredCloudThatNobodyDeclaredServesNobodyWhoHasReadMore() async throws {
        var (company, backup) = try await self.companyBeforeCloudRestore()
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.write(Item(id: 8, text: "waits"), .product, at: 2)
        let error = await #expect(throws: DataSyncError.self) { try await company.cycle(2) }
        #expect(error?.code == .diverged)
        #expect(try await company.rows(.product, at: .cloud).count == 3)
        try await company.hub.declareRestored(by: "test")
        try await company.settle()
        try await self.check(company, products: ["1", "2", "3", "4", "5", "6", "8"], points: (1...3).map { "1/+\($0)" })
    }

    @Test func theRepairOfARestoredCloudSurvivesACrashAtEveryStep() async throws {
        var step = 0
        var isThrough = false
        while !isThrough {
            step += 1
            var (company, backup) = try await self.companyBeforeCloudRestore()
            company.storage(.cloud).base.restore(backup)
            try company.startAll()
            try await company.hub.declareRestored(by: "test")
            company.plan.arm(step: step)
            for _ in 0..<4 { for branch in [1, 2] as [ServerID] { _ = try? await company.cycle(branch) } }
            isThrough = company.plan.isArmed
            company.plan.disarm()
            try company.startAll()
            try await company.settle()
            try await self.check(company, products: (1...6).map { "\($0)" }, points: (1...3).map { "1/+\($0)" }, "step \(step)")
            let reference = try await company.rows(.product, at: .cloud)
            for branch in [1, 2] as [ServerID] { #expect(try await company.rows(.product, at: branch) == reference, "step \(step) at \(branch)") }
        }
        #expect(step > 30)
    }

    @Test func commitsThatTheCloudLostAreSentAgainWithoutADeclarationWhereNobodyHasReadThem() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "kept"), .visit, at: 1)
        try await company.settle()
        let backup = company.storage(.cloud).base.backUp()
        try await company.write(Item(id: 2, text: "lost"), .visit, at: 1)
        try await company.settle()
        company.storage(.cloud).base.restore(backup)
        company.agents[1]!.closeSession()
        try await company.settle()
        #expect(try await company.rows(.visit, at: .cloud).count == 2)
    }

    @Test func whatIsDeadAtABranchStaysDeadWhenARestoredCloudRelaysItAgain() async throws {
        var company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        try await company.settle()
        let backup = company.storage(.cloud).base.backUp()
        company.conduct(.cloud).cure("poison")
        try await company.write(Item(id: 2, text: "poison for 2"), .product, at: 1)
        for _ in 0..<3 { try await company.settle() }
        #expect(try await company.memos(at: 2, [.dead]).count == 1)
        #expect(company.conduct(2).refusals == 3)
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        try await company.settle()
        #expect(company.conduct(2).refusals == 3)
        #expect(try await company.memos(at: 2, [.dead]).allSatisfy { $0.attempts == 3 })
    }

    // MARK: - Backups that are too old

    @Test func aBackupOfABranchThatIsOlderThanTheReceiptsIsRefused() async throws {
        var (company, backup) = try await self.companyBeforeRestore()
        company.storage(1).base.restore(backup)
        try company.start(1)
        _ = try await company.storage(.cloud).base.withTransaction { try await $0.removeReceipts(before: .max, limit: .max) }
        let pushes = company.link(1).calls(.push)
        let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(error?.code == .diverged)
        #expect(company.link(1).calls(.push) == pushes)
        let row = try await company.storage(.cloud).base.withTransaction { try await $0.server(1) }
        #expect(row?.epoch == 1)
    }

    @Test func aBackupOfTheCloudThatIsOlderThanWhatABranchKeepsIsRefusedByIt() async throws {
        var (company, backup) = try await self.companyBeforeCloudRestore()
        _ = try await company.storage(1).base.withTransaction { transaction in
            // The newest stays.
            for manifest in try await transaction.sentManifests(of: StreamID(origin: 1, epoch: 1, type: 2), after: 0, limit: 9).dropLast() {
                try await transaction.putBackManifest(manifest)
                try await transaction.removeManifest(manifest.key)
            }
        }
        company.storage(.cloud).base.restore(backup)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(error?.code == .diverged)
        // The other branch goes on.
        _ = try await company.cycle(2)
    }

    @Test func aWallClockThatJumpsEndsNoRetention() async throws {
        var (company, backup) = try await self.companyBeforeRestore()
        company.time.setWall(forth: 10 * 365 * 86_400_000)
        try await company.agents[1]!.removeOld()
        try await company.hub.removeOld()
        company.storage(1).base.restore(backup)
        try company.start(1)
        try await company.settle()
        try await self.check(company, products: (1...8).map { "\($0)" }, points: (1...4).map { "1/+\($0)" })
    }

    // MARK: - Clones

    /// The ten minutes in which turns are counted begin with the first of them, however long the cloud has run.
    @Test func turnsAreCountedFromTheFirst() {
        var row = ServerRow(id: 1, name: "b", status: .active)
        let turns = [0, 1, 7, 8, 9, 15, 28].enumerated().map { row.takesOver($0.isMultiple(of: 2) ? "here" : "there", at: $1 * 60_000) }
        #expect(turns == [false, false, false, false, false, true, false])
    }

    @Test func machinesThatTakeTurnsAsOneBranchAreLockedAsAClone() async throws {
        let company = try await Company(branches: [1, 2])
        let agents = [try company.agent(of: 1, host: "here"), try company.agent(of: 1, host: "there")]
        _ = try await agents[0].cycle()
        // One that comes back once may have been moved back.
        for turn in 1...4 {
            agents[turn % 2].closeSession()
            try await agents[turn % 2].takeOver()
            _ = try await agents[turn % 2].cycle()
        }
        agents[1].closeSession()
        try await agents[1].takeOver()
        let error = await #expect(throws: DataSyncError.self) { try await agents[1].cycle() }
        #expect(error?.code == .suspended)
        let row = try await company.storage(.cloud).base.withTransaction { try await $0.server(1) }
        #expect(row?.status == .suspended)
        _ = try await company.cycle(2)
    }
}
