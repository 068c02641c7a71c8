import DataSync
import Testing

@Suite struct EntitlementTests {
    @Test func aBranchCannotChangeOrDeleteWhatItDoesNotSee() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Member(id: 1, name: "ada", isShared: false), at: 1)
        try await company.settle()
        try await company.write(Member(id: 1, name: "mallory", isShared: true), at: 2)
        #expect(try await company.cycle(2).pushed == [.parked: 1])
        try await company.delete(1, at: 2)
        try await company.cycle(2)
        for _ in 0..<3 {
            try await company.hub.retryDue()
            company.time.advance(by: .seconds(60))
        }
        for _ in 0..<3 { try await company.hub.retryDue() }
        try await company.settle()
        // Counted, dead, never explained, never corrected.
        let memos = try await company.memos(at: .cloud)
        #expect(memos.map(\.disposition) == [.dead, .dead])
        #expect(memos.map(\.reason) == [.forbidden, .forbidden])
        #expect(memos.map(\.attempts) == [3, 3])
        #expect(memos.map(\.detail) == [nil, nil])
        #expect(try await company.log(1, .server(2)) == [])
        #expect(try await company.members(at: .cloud) == ["member:1": "ada/false"])
        #expect(try await company.members(at: 1) == ["member:1": "ada/false"])
    }

    @Test func whatIsSharedMayBeChangedByEverybody() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
        try await company.settle()
        try await company.write(Member(id: 1, name: "ada of 2", isShared: true), at: 2)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.members(at: server) == ["member:1": "ada of 2/true"], "\(server)") }
    }

    @Test func aBranchReadsOnlyWhatIsRoutedToIt() async throws {
        let company = try await Company(branches: [1, 2, 3])
        try await company.write(Item(id: 1, text: "secret"), .order, at: 1)
        try await company.write(Item(id: 1, text: "secret"), .parcel, at: 1, to: 2)
        try await company.settle()
        let session = try await company.hub.open(OpenRequest(nonce: "0123456789abcdef", software: "x", types: []), from: 3).session
        let answer = try await company.hub.pull(
            PullRequest(
                session: session, logEpoch: 1, cursors: Dictionary(uniqueKeysWithValues: (1...6).map { (BusinessTypeID(rawValue: $0), Position.start) }),
                asked: [RecordNumber(type: 3, epoch: 1, number: 1)], recordsMax: 100, bytesMax: 1_000_000, recordBytesMax: 1_000), from: 3)
        #expect(answer == PullAnswer())
    }

    @Test func aBranchCannotSayHowAnothersRecordsStand() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "x"), .parcel, at: .cloud, to: 1)
        try await company.hub.numberOwnRows()
        let session = try await company.hub.open(OpenRequest(nonce: "0123456789abcdef", software: "x", types: []), from: 2).session
        _ = try await company.hub.acknowledge(
            AcknowledgeRequest(
                session: session, logEpoch: 1, positions: [:],
                outcomes: [NumberedOutcome(record: RecordNumber(type: 5, epoch: 1, number: 1), outcome: Outcome(.dead, reason: .refused, attempts: 3))]),
            from: 2)
        #expect(try await company.memos(at: .cloud) == [])
        #expect(try await company.outbox(.cloud).map(\.attempts) == [0])
    }
}

@Suite struct QuotaTests {
    private func company() async throws -> Company {
        var limits = SyncLimits()
        limits.openRecordsMax = 2
        limits.chunkRecordsMax = 1
        return try await Company(branches: [1, 2], limits: limits)
    }

    @Test func aFullQuotaStopsThatTypeOfThatOriginVisiblyAndDropsNothing() async throws {
        let company = try await self.company()
        for id in 1...4 { try await company.write(Item(id: id, text: "poison"), .order, at: 1) }
        try await company.write(Item(id: 1, text: "fine"), .product, at: 1)
        try await company.write(Item(id: 9, text: "fine"), .order, at: 2)
        let report = try await company.cycle(1)
        #expect(report.pushed == [.suspect: 2, .applied: 1])
        #expect(report.stopped == [3: "too many refused records wait at the cloud"])
        #expect(try await company.outbox(1).map(\.state) == [.open, .open, .new, .new, .settled])
        #expect(try await company.cycle(2).pushed == [.applied: 1])
        // It still stands still, and says so.
        #expect(try await company.cycle(1).stopped[3] != nil)
        #expect(try await company.memos(at: .cloud).count == 2)
        // A person makes room.
        for memo in try await company.memos(at: .cloud) { try await company.hub.discardMemo(memo.id, actor: "ada") }
        company.conduct(.cloud).cure("poison")
        company.time.advance(by: .seconds(61))
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud) == ["order:3": "poison", "order:4": "poison", "order:9": "fine"])
    }

    @Test func aFullQuotaOfABranchStopsThatTypeThere() async throws {
        let company = try await self.company()
        for id in 1...4 { try await company.write(Item(id: id, text: "poison"), .product, at: .cloud) }
        try await company.write(Item(id: 1, text: "+5"), .points, at: .cloud)
        var report = CycleReport()
        for _ in 0..<5 { report.add(try await company.cycle(1)) }
        // They come one by one: the first proves nothing, the second is like it.
        #expect(report.pulled == [.parked: 1, .suspect: 1, .applied: 1])
        #expect(try await company.rows(.points, at: 1) == ["points:1/+5": "1"])
        #expect(try await company.memos(at: 1).count == 2)
        company.conduct(1).cure("poison")
        for _ in 0..<3 {
            company.time.advance(by: .seconds(400))
            try await company.settle()
        }
        #expect(try await company.rows(.product, at: 1).count == 4)
    }

    /// A branch that sends nothing but rubbish fills nobody's disk: what is too much of it stays with it.
    @Test func tooManyDeadRecordsStopThatTypeOfThatOriginAndDropNothing() async throws {
        var limits = SyncLimits()
        limits.deadRecordsMax = 3
        limits.chunkRecordsMax = 1
        limits.recordBytesMax = 100
        let company = try await Company(branches: [1, 2], limits: limits)
        // Too big for the cloud, which is dead at once.
        for id in 1...6 { try await company.write(Item(id: id, text: String(repeating: "x", count: 200)), .order, at: 1) }
        try await company.write(Item(id: 1, text: "ok"), .product, at: 1)
        let report = try await company.cycle(1)
        #expect(report.pushed == [.dead: 3, .applied: 1])
        #expect(report.stopped == [3: "too many refused records wait at the cloud"])
        #expect(try await company.memos(at: .cloud, [.dead]).count == 3)
        #expect(try await company.outbox(1).map(\.state) == [.settled, .settled, .settled, .new, .new, .new, .settled])
        // Nor does it go on by itself.
        company.time.advance(by: .seconds(61))
        #expect(try await company.cycle(1).stopped[3] != nil)
        #expect(try await company.memos(at: .cloud, [.dead]).count == 3)
        // Others of the type are not held up, and a person makes room.
        try await company.write(Item(id: 9, text: "ok"), .order, at: 2)
        #expect(try await company.cycle(2).pushed == [.applied: 1])
        for memo in try await company.memos(at: .cloud, [.dead]) { try await company.hub.discardMemo(memo.id, actor: "ada") }
        company.time.advance(by: .seconds(61))
        #expect(try await company.cycle(1).pushed == [.dead: 3])
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled })
    }

    /// What was refused three times is kept with its payload.
    @Test(arguments: [true, false])
    func whatADeadRecordKeepsOfItsPayloadCountsToo(isOver: Bool) async throws {
        var limits = Company.eagerLimits
        limits.chunkRecordsMax = 1
        (limits.recordBytesMax, limits.chunkBytesMax) = (100, 100)
        limits.deadBytesMax = isOver ? 100 : 200
        let company = try await Company(branches: [1], limits: limits)
        // One after the other, and of one entity: that several are refused would be the system's fault.
        for number in 1...2 {
            try await company.write(Item(id: 1, text: "poison \(number)" + String(repeating: "x", count: 40)), .order, at: 1)
            try await company.cycle(1)
            for _ in 0..<3 { try await company.hub.retryDue() }
        }
        let count = try await company.memos(at: .cloud, [.dead]).count
        #expect(count == (isOver ? 1 : 2))
        #expect(try await company.outbox(1).map(\.state).last == (isOver ? .new : .open))
    }

    @Test func whatFillsTheQuotaOfABranchIsTriedAllTheSame() async throws {
        var limits = SyncLimits()
        limits.openRecordsMax = 2
        limits.chunkRecordsMax = 1
        limits.retryDelays = [.seconds(30), .seconds(30)]
        let company = try await Company(branches: [1], limits: limits)
        // Of one entity: that several are refused would be the system's fault.
        for number in 1...4 { try await company.write(Item(id: 1, text: "poison \(number)"), .product, at: .cloud) }
        let report = try await company.cycle(1)
        #expect(report.pulled == [.parked: 2])
        #expect(report.stopped == [2: "too many refused records wait at this branch"])
        for _ in 0..<40 {
            company.time.advance(by: .seconds(10))
            try await company.cycle(1)
        }
        #expect(try await company.memos(at: 1, [.dead]).count == 4)
    }
}

@Suite struct BranchQuotaFlowTests {
    /// The cloud takes no more of a branch for now: nothing of that is any record's fault, and the next batch is as large as this one was.
    @Test func aBranchThatIsOverItsQuotaComesBackWithAllThatItHas() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 4
        let company = try await Company(branches: [1], limits: limits)
        for id in 1...4 { try await company.write(Item(id: id, text: "x"), .order, at: 1) }
        for _ in 0..<5 {
            company.link(1).once(.before(.push)) {
                throw ErrorAnswer(DataSyncError(.overQuota, operation: "x", retryAfter: .seconds(90))).error(operation: "push")
            }
            let error = await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
            #expect(error?.code == .overQuota)
            #expect(error?.retryAfter == .seconds(90))
            #expect(error?.summary.contains("quota") == true)
        }
        #expect(try await company.outbox(1).map(\.attempts) == [0, 0, 0, 0])
        #expect(try await company.outbox(1).map(\.state) == [.new, .new, .new, .new])
        #expect(try await company.cycle(1).pushed == [.applied: 4])
        #expect(company.link(1).lastPush?.runs.map(\.records.count) == [4])
        #expect(company.link(1).lastPush?.isCareful == false)
    }
}

@Suite struct LaterOutcomeTests {
    @Test func aBranchAsksHowItsParkedRecordEnded() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .product, at: 1)
        try await company.cycle(1)
        for server in [.cloud, 2] as [ServerID] { company.conduct(server).cure("poison") }
        try await company.hub.retryDue()
        #expect(try await company.outbox(1).map(\.state) == [.open])
        try await company.cycle(1)
        #expect(try await company.outbox(1).map(\.state) == [.settled])
        #expect(try await company.outbox(1).map(\.reason) == [.applied])
        #expect(try await company.memos(at: 1).map(\.disposition) == [.applied])
    }

    @Test func theAnswersOfAPushTellToo() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.cycle(1)
        company.conduct(.cloud).cure("poison")
        try await company.hub.retryDue()
        try await company.write(Item(id: 2, text: "x"), .order, at: 1)
        let outbox = company.storage(1)
        company.link(1).once(.before(.pull)) {
            let rows = try await outbox.base.withTransaction(.snapshot) { try await $0.outboxRows([1]) }
            #expect(rows.map(\.state) == [.settled])
        }
        try await company.cycle(1)
    }

    @Test func theCloudAsksHowABranchsRefusedRecordEnded() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.parked])
        company.conduct(1).cure("poison")
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied])
    }

    @Test func aLostAcknowledgementIsMadeUpFor() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .product, at: .cloud)
        company.link(1).once(.before(.acknowledge)) { throw DataSyncError(.peerUnreachable, operation: "test") }
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(try await company.memos(at: .cloud) == [])
        try await company.cycle(1)
        #expect(try await company.memos(at: .cloud).count == 1)
        let confirmed = try await company.storage(.cloud).base.withTransaction(.snapshot) { try await $0.confirmations() }
        #expect(confirmed.map(\.position.number) == [1])
    }

    @Test func anIdleCycleWritesNothing() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.write(Item(id: 1, text: "x"), .product, at: .cloud)
        for _ in 0..<3 { try await company.cycle(1) }
        company.plan.arm(step: 1, at: [.commit])
        for _ in 0..<3 { #expect(try await company.cycle(1).isIdle) }
        #expect(company.plan.isArmed)
    }
}
