@testable import DataSync
import Synchronization
import Testing

/// What both sides hold is compared, and sent again where it differs.
@Suite struct ReconcileTests {
    /// A branch's own products and orders, the cloud's products, another branch's, and members of both kinds.
    private func company(branches: [ServerID] = [1, 2]) async throws -> Company {
        let company = try await Company(branches: branches)
        for id in 1...4 { try await company.write(Item(id: id, text: "of 1"), .product, at: 1) }
        for id in 5...7 { try await company.write(Item(id: id, text: "of the cloud"), .product, at: .cloud) }
        for id in 1...3 { try await company.write(Item(id: id, text: "order"), .order, at: 1) }
        try await company.write(Item(id: 8, text: "of 2"), .product, at: 2)
        try await company.write(Item(id: 101, text: "order of 2"), .order, at: 2)
        try await company.write(Member(id: 1, name: "shared", isShared: true), at: 2)
        try await company.write(Member(id: 2, name: "own", isShared: false), at: 2)
        try await company.write(Item(id: 1, text: "+1"), .points, at: 1)
        try await company.write(Item(id: 1, text: "visit"), .visit, at: 1)
        try await company.write(Item(id: 1, text: "parcel"), .parcel, at: 1, to: 2)
        try await company.write(Item(id: 2, text: "parcel"), .parcel, at: 2, to: .cloud)
        try await company.settle()
        try await company.delete(4, .product, at: 1)
        try await company.settle()
        return company
    }

    /// Changes a row past DataSync.
    private func set(_ text: String?, _ id: Int, _ type: ItemType, at server: ServerID, _ company: Company) async throws {
        try await company.storage(server).base.withTransaction { try $0.setRow(type.name, "\(type.name):\(id)", text) }
    }

    private func reconcile(
        _ branch: ServerID, _ company: Company, _ repair: ReconcileRepair? = nil, types: Set<BusinessTypeID> = []
    ) async throws -> ReconcileReport {
        try await company.agents[branch]!.reconcile(types, repair: repair, actor: "test")
    }

    private func kinds(_ report: ReconcileReport) -> [String: ReconcileReport.Kind] {
        Dictionary(report.differences.map { ($0.entity, $0.kind) }) { first, _ in first }
    }

    // MARK: - Comparing

    @Test func whatIsEqualIsSaidToBeAndNothingIsWritten() async throws {
        let company = try await self.company()
        let rows = try await (company.outbox(.cloud), company.outbox(1), company.log(2, .all), company.log(2, .server(1)))
        for branch in [1, 2] as [ServerID] {
            let report = try await self.reconcile(branch, company)
            #expect(report.isEqual, "\(report.summary)")
            #expect(report.differences == [])
            let byName = Dictionary(uniqueKeysWithValues: report.types.map { ($0.name, $0) })
            #expect(byName["product"]?.compared == 7)
            #expect(byName["order"]?.compared == (branch == 1 ? 3 : 1))
            #expect(byName["member"]?.compared == (branch == 1 ? 1 : 2))
            #expect(byName["parcel"]?.compared == (branch == 1 ? 1 : 2))
            #expect(byName["points"]?.notCompared?.contains("actions") == true)
            #expect(byName["visit"]?.notCompared?.contains("go up only") == true)
        }
        let after = try await (company.outbox(.cloud), company.outbox(1), company.log(2, .all), company.log(2, .server(1)))
        #expect(rows == after)
    }

    /// Six differences of all kinds, at both sides.
    private func disturb(_ company: Company) async throws {
        try await self.set("changed here", 1, .product, at: 1, company)
        try await self.set("changed at the cloud", 2, .product, at: .cloud, company)
        try await self.set(nil, 3, .product, at: 1, company)
        try await self.set(nil, 5, .product, at: .cloud, company)
        // It is deleted, and comes back on both sides past DataSync.
        try await self.set("again here", 4, .product, at: 1, company)
        try await self.set("again at the cloud", 4, .product, at: .cloud, company)
        try await self.set("another order", 2, .order, at: 1, company)
    }

    private static let disturbed: [String: ReconcileReport.Kind] = [
        "product:1": .differs, "product:2": .differs, "product:3": .onlyAtCloud, "product:4": .differs, "product:5": .onlyHere, "order:2": .differs,
    ]

    @Test func whatWasChangedPastDataSyncIsFoundAndLeftAsItIs() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        let before = try await (company.rows(.product, at: .cloud), company.rows(.product, at: 1))
        let report = try await self.reconcile(1, company)
        #expect(self.kinds(report) == Self.disturbed)
        #expect(report.unrepaired == 6)
        #expect(report.differences.allSatisfy { !$0.isRepaired && $0.held == nil })
        #expect(report.types.first { $0.name == "product" }?.different == 5)
        try await company.settle()
        let after = try await (company.rows(.product, at: .cloud), company.rows(.product, at: 1))
        #expect(before == after)
        // One that was never carried is not its matter.
        try await self.set("never carried", 99, .product, at: 1, company)
        #expect(self.kinds(try await self.reconcile(1, company)) == Self.disturbed)
        #expect(self.kinds(try await self.reconcile(1, company, types: [3])) == ["order:2": .differs])
    }

    @Test func aRepairFromTheCloudMakesTheBranchHoldWhatTheCloudHolds() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        let cloud = try await (company.rows(.product, at: .cloud), company.rows(.order, at: .cloud))
        let others = try await company.rows(.product, at: 2)
        let report = try await self.reconcile(1, company, .cloud)
        #expect(report.types.map(\.repaired).reduce(0, +) == 6)
        #expect(report.unrepaired == 0)
        #expect(report.differences.allSatisfy { $0.isRepaired })
        #expect(try await company.rows(.product, at: 1) == cloud.0)
        #expect(try await company.rows(.product, at: .cloud) == cloud.0)
        let orders = try await company.rows(.order, at: 1)
        #expect(orders["order:2"] == "order")
        // Nobody else hears of it.
        #expect(try await company.rows(.product, at: 2) == others)
        #expect(try await self.reconcile(1, company).isEqual)
        // What is changed after that is applied as ever.
        try await company.write(Item(id: 1, text: "later"), .product, at: 2)
        try await company.write(Item(id: 2, text: "later"), .product, at: 1)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            let rows = try await company.rows(.product, at: server)
            #expect(rows["product:1"] == "later" && rows["product:2"] == "later", "\(server)")
        }
    }

    @Test func aRepairFromTheBranchIsAChangeLikeAnyOther() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        let report = try await self.reconcile(1, company, .branch)
        #expect(report.unrepaired == 0)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            let rows = try await company.rows(.product, at: server)
            #expect(rows["product:1"] == "changed here", "\(server)")
            #expect(rows["product:2"] == "of 1", "\(server)")
            #expect(rows["product:3"] == nil, "\(server)")
            #expect(rows["product:4"] == "again here", "\(server)")
            #expect(rows["product:5"] == "of the cloud", "\(server)")
        }
        for branch in [1, 2] as [ServerID] { #expect(try await self.reconcile(branch, company).isEqual, "\(branch)") }
    }

    @Test func thePlaceOfAnEntityIsAsKnownOnBothSidesThoughItsVersionIsNot() async throws {
        // What was settled after a restore without its version is no row of the branch's, and yet the tables hold it.
        let company = try await self.company()
        try await company.storage(1).base.withTransaction { transaction in
            try transaction.write { state in
                for id in state.entities.keys where id.type == 2 { state.entities[id] = nil }
            }
        }
        let report = try await self.reconcile(1, company)
        #expect(report.isEqual, "\(report.summary)")
        try await self.set("changed", 1, .product, at: 1, company)
        #expect(self.kinds(try await self.reconcile(1, company)) == ["product:1": .differs])
    }

    // MARK: - What is on its way

    @Test func whatIsOnItsWayIsNoDifference() async throws {
        let company = try await self.company()
        let link = company.link(1)
        // Between the look at the tables and the answer, applications write on all sides, and other branches' records come.
        for round in 0..<6 {
            link.once(.before(.compare)) {
                try await company.write(Item(id: 1, text: "here \(round)"), .product, at: 1)
                try await company.write(Item(id: 5, text: "cloud \(round)"), .product, at: .cloud)
                try await company.write(Item(id: 8, text: "two \(round)"), .product, at: 2)
                try await company.delete(6, .product, at: 2)
                try await company.write(Item(id: 6, text: "two \(round)"), .product, at: 2)
                try await company.cycle(2)
            }
            link.once(.after(.compare)) {
                try await company.write(Item(id: 2, text: "here \(round)"), .product, at: 1)
                try await company.write(Item(id: 7, text: "cloud \(round)"), .product, at: .cloud)
            }
        }
        let report = try await self.reconcile(1, company)
        #expect(report.differences == [])
        #expect(report.types.allSatisfy { $0.different == 0 && $0.heldUp == 0 }, "\(report.summary)")
        try await company.settle()
        #expect(try await self.reconcile(1, company).isEqual)
    }

    @Test func whatChangesWheneverItIsLookedAtIsSaidToBeChanging() async throws {
        let company = try await self.company()
        for round in 0..<40 {
            company.link(1).once(.before(.compare)) { try await company.write(Item(id: 5, text: "cloud \(round)"), .product, at: .cloud) }
        }
        let report = try await self.reconcile(1, company, types: [2])
        #expect(report.types.map(\.moving) == [1])
        #expect(report.differences == [])
        #expect(!report.isEqual)
    }

    @Test func whatARecordHoldsUpIsListedWithTheRecord() async throws {
        let company = try await self.company()
        try await company.write(Item(id: 5, text: "after:product:999"), .product, at: .cloud)
        for _ in 0..<3 { try await company.settle() }
        try await company.write(Item(id: 1, text: "poison here"), .product, at: 1)
        for _ in 0..<4 {
            try await company.hub.retryDue()
            try await company.settle()
        }
        company.conduct(.cloud).cure("poison")
        try await company.write(Item(id: 2, text: "poison for branches"), .product, at: .cloud)
        for _ in 0..<4 { try await company.settle() }
        let report = try await self.reconcile(1, company, .cloud, types: [2])
        let listed = Dictionary(uniqueKeysWithValues: report.differences.map { ($0.entity, $0) })
        let dead = try #require(listed["product:2"])
        #expect(dead.kind == .heldUp && dead.held == "dead" && dead.heldAt == "here")
        let memo = try await company.memos(at: 1, [.dead]).first { $0.record.key.text == "product:2" }
        #expect(dead.memo == memo?.id)
        // Nothing of these is repaired: a person decides about the records.
        #expect(report.types.map(\.repaired) == [0])
        #expect(report.unrepaired == report.differences.count)
        try await company.agents[1]!.discardMemo(try #require(memo?.id), actor: "test")
        company.conduct(1).cure("poison")
        let after = try await self.reconcile(1, company, .cloud, types: [2])
        #expect(after.differences.first { $0.entity == "product:2" }?.isRepaired == true)
        #expect(try await company.rows(.product, at: 1)["product:2"] == "poison for branches")
    }

    @Test func aTypeThatDoesNotFlowIsLeftAndTheOthersAreCompared() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        try await company.write(Item(id: 70, text: "broken"), .product, at: .cloud)
        company.conduct(.cloud).cure("broken")
        let report = try await self.reconcile(1, company)
        let product = report.types.first { $0.name == "product" }
        #expect(product?.notCompared?.contains("does not flow") == true, "\(report.summary)")
        #expect(self.kinds(report) == ["order:2": .differs])
    }

    @Test func aTypeWhoseTablesCannotBeReadIsSaidToBeNotCompared() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        let broken = DataSyncError(.storageFailed, operation: "test", detail: "no such table")
        company.conduct(1).readingError = broken
        let here = try await self.reconcile(1, company)
        #expect(here.types.filter { $0.notCompared?.contains("here could not be read") == true }.count == 3, "\(here.summary)")
        company.conduct(1).readingError = nil
        company.conduct(.cloud).readingError = broken
        let there = try await self.reconcile(1, company, .branch)
        #expect(there.types.filter { $0.notCompared?.contains("the cloud cannot read") == true }.count == 3, "\(there.summary)")
        #expect(here.differences + there.differences == [])
    }

    // MARK: - Who may know what

    @Test func aBranchLearnsNothingOfWhatIsNotForIt() async throws {
        let company = try await self.company()
        let session = try await company.hub.open(OpenRequest(nonce: "0123456789abcdef", software: "x", types: []), from: 1).session
        func request(_ type: BusinessTypeID, _ names: [EntityPlace] = [], again: Bool = false) -> CompareRequest {
            CompareRequest(
                session: session, logEpoch: 1, type: type,
                ranges: names.isEmpty ? [ComparedRange(range: EntityRange(), count: 0, digest: StateDigest(of: []))] : [], names: names, sendsAgain: again)
        }
        func told(_ type: BusinessTypeID) async throws -> [String] {
            try await company.hub.compare(request(type), from: 1).ranges.flatMap { $0.entries ?? [] }.map { "\($0.place.scope):\($0.place.key)" }
        }
        #expect(try await told(1) == ["cloud:member:1"])
        #expect(try await told(3) == ["1:order:1", "1:order:2", "1:order:3"])
        #expect(try await told(5) == ["1:parcel:1"])
        // Nor by name; and what is sent again of it is that it is not there.
        let foreign = [EntityPlace(key: "member:2"), EntityPlace(scope: 2, key: "order:101"), EntityPlace(scope: 2, key: "parcel:2")]
        for (type, name) in zip([1, 3, 5] as [BusinessTypeID], foreign) {
            #expect(try await company.hub.compare(request(type, [name]), from: 1).entries == [])
            #expect(try await company.hub.compare(request(type, [name], again: true), from: 1).sentAgain == 1)
            let log = try await company.log(type, .server(1))
            #expect(log.last?.isDeletion == true)
            #expect(log.last?.record.payload == "{\"delete\":{}}")
        }
        try await company.settle()
        #expect(try await company.members(at: 2)["member:2"] == "own/false")
        #expect(try await company.rows(.order, at: 2)["order:101"] == "order of 2")
        #expect(try await company.rows(.order, at: 1)["order:1"] == "order")
    }

    @Test func aRequestThatIsNotInOrderIsRefusedAndSoIsAnOlderSession() async throws {
        let company = try await self.company()
        let old = try await company.hub.open(OpenRequest(nonce: "0123456789abcdef", software: "x", types: []), from: 1).session
        let session = try await company.hub.open(OpenRequest(nonce: "0123456789abcdeg", software: "x", types: []), from: 1).session
        func range(_ after: String?, _ upTo: String?) -> ComparedRange {
            ComparedRange(
                range: EntityRange(after: after.map { EntityPlace(key: EntityKey($0)) }, upTo: upTo.map { EntityPlace(key: EntityKey($0)) }), count: 0,
                digest: StateDigest(of: []))
        }
        let (a, b) = (EntityPlace(key: "a"), EntityPlace(key: "b"))
        let wrong: [(ranges: [ComparedRange], names: [EntityPlace])] = [
            ([range("b", "a")], []), ([range(nil, nil), range("a", nil)], []), ([range(nil, "b"), range("a", nil)], []),
            ([range("a", "b"), range(nil, "c")], []),
            (Array(repeating: range("a", "a"), count: 65), []), ([], [b, a]), ([], [a, a]),
        ]
        for (ranges, names) in wrong {
            let error = await #expect(throws: DataSyncError.self) {
                _ = try await company.hub.compare(CompareRequest(session: session, logEpoch: 1, type: 2, ranges: ranges, names: names), from: 1)
            }
            #expect(error?.code == .peerInvalid)
        }
        for (session, epoch, type) in [(old, 1, 2), (old, 1, 4), (session, 2, 2)] as [(SessionID, Int32, BusinessTypeID)] {
            for again in [false, true] {
                let error = await #expect(throws: DataSyncError.self) {
                    _ = try await company.hub.compare(CompareRequest(session: session, logEpoch: epoch, type: type, names: [a], sendsAgain: again), from: 1)
                }
                #expect(error?.code == .fenced)
            }
        }
        // Neither an unknown type nor one that only goes up says anything.
        for type in [4, 6, 99] as [BusinessTypeID] {
            let answer = try await company.hub.compare(CompareRequest(session: session, logEpoch: 1, type: type, ranges: [range(nil, nil)]), from: 1)
            #expect(answer == CompareAnswer(isComparable: false))
        }
    }

    // MARK: - Many

    @Test func manyEntitiesWithFewDifferencesCostFewRequests() async throws {
        let company = try await Company(branches: [1])
        let count = 5_000
        try await company.storage(.cloud).base.withTransaction { transaction in
            for id in 1...count { try await Company.write(Item(id: id, text: "x"), .product, in: transaction) }
        }
        try await company.settle()
        for id in [17, 2_500, 4_999] { try await self.set("changed", id, .product, at: 1, company) }
        try await self.set(nil, 5_000, .product, at: .cloud, company)
        let before = company.link(1).calls(.compare)
        let report = try await self.reconcile(1, company, types: [2])
        #expect(report.types.map(\.compared) == [count])
        #expect(report.types.map(\.different) == [4])
        #expect(company.link(1).calls(.compare) - before <= 5)
        // All of them: more than one step repairs, and more than the report lists.
        try await company.storage(1).base.withTransaction { transaction in
            for id in 1...2_300 { try transaction.setRow("product", "product:\(id)", "changed") }
        }
        let repaired = try await self.reconcile(1, company, .cloud, types: [2])
        #expect(repaired.types.map(\.repaired) == [2_303])
        #expect(repaired.differences.count == ReconcileReport.differencesMax)
        try await company.settle()
        #expect(try await company.rows(.product, at: 1) == company.rows(.product, at: .cloud))
    }

    @Test func aRangeOfWhichTheCloudKnowsMuchMoreIsComparedPieceByPiece() async throws {
        let company = try await Company(branches: [1])
        try await company.storage(.cloud).base.withTransaction { transaction in
            for id in 1...2_500 { try await Company.write(Item(id: id, text: "x"), .product, in: transaction) }
        }
        try await company.settle()
        try await company.storage(1).base.withTransaction { transaction in
            try transaction.write { state in
                state.tables["product"] = [:]
                state.entities = [:]
            }
        }
        let report = try await self.reconcile(1, company, .cloud, types: [2])
        #expect(report.types.map(\.different) == [2_500])
        #expect(report.differences.allSatisfy { $0.kind == .onlyAtCloud })
        try await company.settle()
        #expect(try await company.rows(.product, at: 1).count == 2_500)
    }

    // MARK: - Crashes and restores

    @Test(arguments: ReconcileRepair.allCases)
    func aRepairSurvivesACrashAtEveryStep(repair: ReconcileRepair) async throws {
        var step = 0
        var isThrough = false
        while !isThrough {
            step += 1
            var company = try await self.company()
            try await self.disturb(company)
            company.plan.arm(step: step)
            _ = try? await company.agents[1]!.reconcile(repair: repair, actor: "test")
            isThrough = company.plan.isArmed
            company.plan.disarm()
            try company.start(1)
            let report = try await self.reconcile(1, company, repair)
            #expect(report.unrepaired == 0, "step \(step)")
            try await company.settle()
            #expect(try await self.reconcile(1, company).isEqual, "step \(step)")
            #expect(try await company.rows(.product, at: 1)["product:1"] == (repair == .cloud ? "of 1" : "changed here"), "step \(step)")
        }
        #expect(step > 25)
    }

    @Test func aSessionThatIsFencedMeanwhileIsOpenedAnew() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        company.link(1).once(.before(.compare)) {
            _ = try await company.hub.open(OpenRequest(nonce: "a late copy of it", software: "x", types: []), from: 1)
        }
        let error = await #expect(throws: DataSyncError.self) { _ = try await self.reconcile(1, company) }
        #expect(error?.code == .fenced)
        #expect(self.kinds(try await self.reconcile(1, company)) == Self.disturbed)
    }

    @Test func whatNobodyKeptAfterBothSidesWereRestoredIsInTheReport() async throws {
        var company = try await self.company()
        let branch = company.storage(1).base.backUp()
        try await company.write(Item(id: 20, text: "after the branch's backup"), .product, at: 1)
        try await company.settle()
        let cloud = company.storage(.cloud).base.backUp()
        // Of the cloud's own, after its backup: branch 2 has read it, and the cloud does not know it any more.
        try await company.write(Item(id: 21, text: "after the cloud's backup"), .product, at: .cloud)
        try await company.write(Item(id: 5, text: "changed after the cloud's backup"), .product, at: .cloud)
        try await company.settle()
        company.storage(.cloud).base.restore(cloud)
        company.storage(1).base.restore(branch)
        try company.startAll()
        try await company.hub.declareRestored(by: "test")
        try await company.settle()
        #expect(try await self.reconcile(1, company).isEqual)
        let report = try await self.reconcile(2, company)
        #expect(self.kinds(report) == ["product:21": .onlyHere, "product:5": .differs])
        _ = try await self.reconcile(2, company, .branch)
        try await company.settle()
        for branch in [1, 2] as [ServerID] { #expect(try await self.reconcile(branch, company).isEqual, "\(branch)") }
        #expect(try await company.rows(.product, at: 1)["product:21"] == "after the cloud's backup")
    }

    // MARK: - The order of things

    @Test func anApplicationThatWritesWhileABranchSendsAgainIsNotOvertaken() async throws {
        let company = try await self.company()
        try await self.set("changed here", 1, .product, at: 1, company)
        company.link(1).once(.after(.compare)) {}
        // After the second look, and before the state is read for the outbox.
        company.link(1).once(.after(.compare)) { try await company.write(Item(id: 1, text: "newer"), .product, at: 1) }
        _ = try await self.reconcile(1, company, .branch, types: [2])
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server)["product:1"] == "newer", "\(server)") }
    }

    // MARK: - A running agent

    @Test func aRunningAgentComparesBetweenItsCycles() async throws {
        let company = try await self.company()
        try await self.disturb(company)
        let agent = company.agents[1]!
        let storage = company.storage(1).base
        func ask(_ id: String, _ request: AgentRequest) async throws { try await storage.withTransaction { try await request.post(id, in: $0) } }
        try await ask("a", AgentRequest(.reconcile, types: [3, 2], actor: "test"))
        try await ask("b", AgentRequest(.reconcile, types: [99], actor: "test"))
        try await ask("c", AgentRequest(.reconcile, repair: .cloud, actor: "test"))
        // The link fails now and then.
        company.link(1).loseAnswer(to: .compare)
        let replies = Mutex<[String: AgentReply]>([:])
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await agent.run() }
            while replies.withLock({ $0.count }) < 3 {
                for id in ["a", "b", "c"] {
                    let reply = try await storage.withTransaction { try await AgentRequest.takeReply(id, in: $0) }
                    if let reply { replies.withLock { $0[id] = reply } }
                }
                await Task.yield()
            }
            group.cancelAll()
        }
        let told = replies.withLock { $0 }
        #expect(told["a"]?.reconciled.map(self.kinds) == Self.disturbed)
        #expect(told["a"]?.reconciled?.types.count == 2)
        #expect(told["b"]?.succeeded == false)
        #expect(told["b"]?.code == "invalidInput")
        #expect(told["c"]?.reconciled?.unrepaired == 0)
    }

    @Test func aRunningAgentSaysWhatKeepsItFromComparing() async throws {
        let company = try await self.company()
        for _ in 0..<10 { company.link(1).once(.before(.compare)) { throw DataSyncError(.peerUnreachable, operation: "test") } }
        let (agent, storage) = (company.agents[1]!, company.storage(1).base)
        try await storage.withTransaction { try await AgentRequest(.reconcile, actor: "test").post("a", in: $0) }
        let told = Mutex<AgentReply?>(nil)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await agent.run() }
            while told.withLock({ $0 == nil }) {
                let reply = try await storage.withTransaction { try await AgentRequest.takeReply("a", in: $0) }
                told.withLock { $0 = reply }
                await Task.yield()
            }
            group.cancelAll()
        }
        #expect(told.withLock { $0?.code } == "peerUnreachable")
        #expect(company.link(1).calls(.compare) >= 3)
    }
}
