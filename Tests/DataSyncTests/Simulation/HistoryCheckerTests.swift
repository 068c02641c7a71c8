import DataSync
import DataSyncTesting
import Testing

/// Histories that violate a promise each, and one that does not.
@Suite struct HistoryCheckerTests {
    private typealias Invariant = HistoryChecker.Invariant

    private let product = EntityID(type: 2, scope: .cloud, key: "product:1")
    private let points = EntityID(type: 6, scope: .cloud, key: "points:1")
    private let states = StreamID(origin: 1, epoch: 1, type: 2)
    private let actions = StreamID(origin: 1, epoch: 1, type: 6)

    private var definitions: [BusinessTypeDefinition] {
        [
            BusinessTypeDefinition(id: 2, name: "product", priority: 5, route: .all),
            BusinessTypeDefinition(id: 4, name: "visit", priority: 40, route: .up),
            BusinessTypeDefinition(id: 6, name: "points", kind: .action, priority: 15, route: .all),
        ]
    }

    /// A product and an action of branch 1, applied at the cloud and at branch 2.
    private var good: [SimulationEvent] {
        [
            .written(at: 1, row: 1, change: SimulatedChange(type: 2, scope: .cloud, key: "product:1", token: 1)),
            .written(at: 1, row: 2, change: SimulatedChange(type: 6, scope: .cloud, key: "points:1", token: 2)),
            .opened(branch: 1, session: 1),
            .numbered(stream: self.states, first: 1, count: 1),
            .numbered(stream: self.actions, first: 1, count: 1),
            .applied(at: .cloud, stream: self.states, synID: 1, entity: self.product, token: 1),
            .appended(type: 2, place: 1, audience: .all, entity: self.product, token: 1, isDeletion: false, isEcho: false),
            .raised(at: .cloud, entity: self.product, version: 1),
            .moved(at: .cloud, from: 1, epoch: 1, type: 2, number: 0, to: 1, session: 1),
            .applied(at: .cloud, stream: self.actions, synID: 1, entity: self.points, token: 2),
            .appended(type: 6, place: 1, audience: .all, entity: self.points, token: 2, isDeletion: false, isEcho: false),
            .moved(at: .cloud, from: 1, epoch: 1, type: 6, number: 0, to: 1, session: 1),
            .applied(at: 2, stream: self.states, synID: 1, entity: self.product, token: 1),
            .raised(at: 2, entity: self.product, version: 1),
            .applied(at: 2, stream: self.actions, synID: 1, entity: self.points, token: 2),
        ]
    }

    private var rest: SimulatedRest {
        let tables = ["product": ["cloud/product:1": "1"], "points": ["cloud/points:1/2": "1"]]
        return SimulatedRest(
            branches: [1, 2], tables: [.cloud: tables, 1: tables, 2: tables],
            outbox: [
                1: [
                    SimulatedRest.Row(id: 1, type: 2, synID: 1, state: .settled), SimulatedRest.Row(id: 2, type: 6, synID: 1, state: .settled),
                ]
            ])
    }

    private func violated(_ events: [SimulationEvent], _ rest: SimulatedRest? = nil, limits: SyncLimits = SyncLimits()) -> Set<HistoryChecker.Invariant> {
        var checker = HistoryChecker(self.definitions, limits)
        for event in events { checker.take(event) }
        if let rest { checker.finish(rest) }
        return Set(checker.violations.map(\.invariant))
    }

    private func memo(_ disposition: Disposition, attempts: Int, reason: ReasonCode = .refused) -> SimulationEvent {
        .memo(
            SimulatedMemo(
                at: .cloud, line: MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: 6), number: 1, stream: self.actions, synID: 1,
                entity: self.points, disposition: disposition, reason: reason, attempts: attempts))
    }

    @Test func aGoodHistoryIsGood() { #expect(self.violated(self.good, self.rest) == []) }

    @Test func anActionThatCountsTwiceIsFound() {
        var rest = self.rest
        rest.tables[2]?["points"] = ["cloud/points:1/2": "2"]
        #expect(self.violated(self.good, rest) == [.effectOnce])
        let twice = SimulationEvent.applied(at: 2, stream: self.actions, synID: 1, entity: self.points, token: 2)
        #expect(self.violated(self.good + [twice]) == [.effectOnce])
    }

    @Test func anActionThatDoesNotCountIsFound() {
        var rest = self.rest
        rest.tables[2]?["points"] = [:]
        #expect(self.violated(self.good, rest) == [.noLoss])
    }

    @Test func aRowThatIsNotSettledIsFound() {
        var rest = self.rest
        rest.outbox[1]?[0].state = .open
        #expect(self.violated(self.good, rest) == [.noLoss])
    }

    @Test func aStateThatDiffersIsFound() {
        var rest = self.rest
        rest.tables[1]?["product"] = [:]
        #expect(self.violated(self.good, rest) == [.convergence])
    }

    @Test func whatNobodyWroteIsFound() {
        let phantom = SimulationEvent.applied(at: 2, stream: self.states, synID: 2, entity: self.product, token: 9)
        #expect(self.violated(self.good + [phantom]).contains(.noPhantom))
    }

    @Test func anOlderStateOverANewerOneIsFound() {
        let newer = SimulationEvent.raised(at: 2, entity: self.product, version: 7)
        let older = SimulationEvent.applied(at: 2, stream: self.states, synID: 1, entity: self.product, token: 1)
        #expect(self.violated(self.good + [newer, older]) == [.entityOrder])
    }

    /// A product of branch 2 after branch 1's, at place 2.
    private var another: [SimulationEvent] {
        [
            .written(at: 2, row: 1, change: SimulatedChange(type: 2, scope: .cloud, key: "product:1", token: 5)),
            .applied(at: .cloud, stream: StreamID(origin: 2, epoch: 1, type: 2), synID: 1, entity: self.product, token: 5),
            .appended(type: 2, place: 2, audience: .all, entity: self.product, token: 5, isDeletion: false, isEcho: false),
        ]
    }

    private var settled: SimulationEvent {
        .settled(at: 1, row: 1, type: 2, synID: 1, state: .settled, attempts: 0, reason: .applied)
    }

    @Test func aRecordThatIsAppliedOverAnUndecidedOwnChangeIsFound() {
        let pulled = SimulationEvent.applied(at: 1, stream: StreamID(origin: 2, epoch: 1, type: 2), synID: 1, entity: self.product, token: 5)
        #expect(self.violated(self.good + self.another + [self.settled, pulled]) == [])
        #expect(self.violated(self.good + self.another + [pulled]) == [.entityOrder])
    }

    /// Branch 1's application has made the row meanwhile: a deletion that had found none does it no harm, and one that finds it does.
    @Test(arguments: [false, true]) func aDeletionThatFindsAnUndecidedOwnRowIsFound(isThereBefore: Bool) {
        let stream = StreamID(origin: 2, epoch: 1, type: 2)
        func change(_ token: Int, isDeletion: Bool) -> SimulatedChange {
            SimulatedChange(type: 2, scope: .cloud, key: "product:1", token: token, isDeletion: isDeletion)
        }
        let before: [SimulationEvent] = [
            .written(at: 2, row: 1, change: change(5, isDeletion: false)), .applied(at: 1, stream: stream, synID: 1, entity: self.product, token: 5),
        ]
        let events: [SimulationEvent] = [
            .written(at: 2, row: 2, change: change(6, isDeletion: true)),
            .written(at: 1, row: 1, change: change(7, isDeletion: false)),
            .applied(at: 1, stream: stream, synID: 2, entity: self.product, token: 6),
        ]
        #expect(self.violated((isThereBefore ? before : []) + events) == (isThereBefore ? [.entityOrder] : []))
    }

    @Test func aRecordThatGivesWayToAnEarlierOneIsFound() {
        let passed = SimulationEvent.moved(at: 1, from: .cloud, epoch: 1, type: 2, number: 0, to: 2, session: nil)
        // Branch 1's own change has place 1: it does not prevail over place 2, whether or not the branch knows.
        #expect(self.violated(self.good + self.another + [passed]) == [.position])
        #expect(self.violated(self.good + self.another + [self.settled, passed]) == [.position])
        // A newer one that the cloud has not decided about does.
        let newer = SimulationEvent.written(at: 1, row: 9, change: SimulatedChange(type: 2, scope: .cloud, key: "product:1", token: 9))
        #expect(self.violated(self.good + self.another + [self.settled, newer, passed]) == [])
    }

    @Test func anEntityWhoseNumbersGoBackIsFound() {
        let stream = self.states
        let events = [2, 1].map { SimulationEvent.applied(at: .cloud, stream: stream, synID: $0, entity: self.product, token: 1) }
        #expect(self.violated([self.good[0]] + events) == [.entityOrder])
    }

    @Test func aNumberThatIsLeftOutIsFound() {
        #expect(self.violated([.numbered(stream: self.states, first: 2, count: 1)]) == [.dense])
    }

    @Test func aPlaceThatIsTakenTwiceIsFound() { #expect(self.violated(self.good + [self.good[6]]).contains(.logOrder)) }

    @Test func aPositionThatGoesBackOrPassesSomethingIsFound() {
        let back = SimulationEvent.moved(at: .cloud, from: 1, epoch: 1, type: 2, number: 0, to: 1, session: 1)
        #expect(self.violated(self.good + [back]) == [.position])
        let events = [
            SimulationEvent.numbered(stream: self.states, first: 2, count: 1), .moved(at: .cloud, from: 1, epoch: 1, type: 2, number: 1, to: 2, session: 1),
        ]
        #expect(self.violated(self.good + events, self.rest) == [.position])
    }

    @Test func aWriteUnderAnOldSessionIsFound() {
        let events = [SimulationEvent.opened(branch: 1, session: 2), .moved(at: .cloud, from: 1, epoch: 1, type: 2, number: 1, to: 2, session: 1)]
        #expect(self.violated(self.good + events) == [.oneSession])
    }

    @Test func twoAgentsOfOneBranchAreFound() {
        #expect(self.violated([.tookOver(branch: 1, process: 1), .tookOver(branch: 1, process: 2), .wroteAsAgent(branch: 1, process: 1)]) == [.oneSession])
    }

    @Test func deadAfterTwoIsFound() { #expect(self.violated([self.memo(.parked, attempts: 1), self.memo(.dead, attempts: 2)]) == [.deadMeansThree]) }

    @Test func twoCountsAtOnceAreFound() { #expect(self.violated([self.memo(.parked, attempts: 1), self.memo(.dead, attempts: 3)]) == [.deadMeansThree]) }

    private func begun(_ tries: Int, by process: Int, at server: ServerID = .cloud) -> SimulationEvent {
        let sender: ServerID = server.isCloud ? 1 : .cloud
        return .begunAlone(at: server, line: "lone.\(sender).6", epoch: 1, number: 1, tries: tries, process: process)
    }

    @Test func aRecordThatIsGivenUpWhereNobodyEndedIsFound() {
        let givenUp = self.memo(.dead, attempts: 3, reason: .crashSuspect)
        let ends = (1...3).flatMap { [self.begun($0, by: $0), .gone(process: $0)] }
        #expect(self.violated(ends + [givenUp]) == [])
        #expect(self.violated(ends.dropLast() + [givenUp]) == [.deadMeansThree])
        #expect(self.violated(ends.dropLast(2) + [givenUp]) == [.deadMeansThree])
        #expect(self.violated([givenUp]) == [.deadMeansThree])
    }

    @Test func aTryThatCountsThoughItsProcessIsThereIsFound() {
        #expect(self.violated([self.begun(1, by: 1), self.begun(1, by: 2), .gone(process: 2), self.begun(2, by: 1)]) == [])
        #expect(self.violated([self.begun(1, by: 1), self.begun(2, by: 2)]) == [.notCounted])
        // Who came back has begun anew.
        #expect(self.violated([.gone(process: 1), self.begun(1, by: 1), self.begun(2, by: 2)]) == [.notCounted])
        // A branch has one agent at a time.
        #expect(self.violated([self.begun(1, by: 1, at: 1), self.begun(2, by: 2, at: 1)]) == [])
        #expect(self.violated([self.begun(1, by: 1, at: 1), self.begun(2, by: 1, at: 1)]) == [.notCounted])
    }

    @Test func aliveAfterThreeIsFound() {
        let events = (1...3).map { self.memo(.parked, attempts: $0) }
        #expect(self.violated(events) == [.deadMeansThree])
    }

    @Test func aSuspectThatIsCountedIsFound() {
        #expect(self.violated([self.memo(.suspect, attempts: 0), self.memo(.parked, attempts: 1)]) == [])
        #expect(self.violated([self.memo(.suspect, attempts: 1)]) == [.notCounted])
    }

    @Test func aCountWithoutARefusalIsFound() {
        var rest = self.rest
        for server in [.cloud, 2] as [ServerID] { rest.tables[server]?["points"] = [:] }
        let refusal = SimulationEvent.refused(at: .cloud, token: 2)
        let counts = [self.memo(.parked, attempts: 1), self.memo(.parked, attempts: 2), self.memo(.dead, attempts: 3)]
        let before = self.good.filter { if case .applied(_, self.actions, _, _, _) = $0 { false } else { true } }
        #expect(self.violated(before + [refusal, refusal, refusal] + counts, rest) == [])
        #expect(self.violated(before + [refusal, refusal] + counts, rest) == [.notCounted])
    }

    @Test func aCommitAfterAnErrorIsFound() { #expect(self.violated([.committedAfterError(at: 1)]) == [.rollback]) }

    @Test func aRowThatIsSettledAsAppliedBeforeItWasIsFound() {
        let settled = SimulationEvent.settled(at: 1, row: 1, type: 2, synID: 1, state: .settled, attempts: 0, reason: .applied)
        #expect(self.violated(self.good + [settled], self.rest) == [])
        #expect(self.violated(Array(self.good.prefix(5)) + [settled]) == [.truthfulSettle])
    }

    @Test func aRowThatShowsMoreRefusalsThanThereWereIsFound() {
        func shown(_ attempts: Int) -> SimulationEvent {
            .settled(at: 1, row: 2, type: 6, synID: 1, state: .open, attempts: attempts, reason: .refused)
        }
        let refused = self.good.prefix(5) + [SimulationEvent.refused(at: .cloud, token: 2)]
        #expect(self.violated(refused + [shown(1)]) == [])
        #expect(self.violated(refused + [shown(2)]) == [.notCounted])
    }

    @Test func anEpochThatGoesOnAfterANewerOneIsFound() {
        func moved(_ epoch: Int32, to number: Int64) -> SimulationEvent {
            .moved(at: .cloud, from: 1, epoch: epoch, type: 2, number: number - 1, to: number, session: 1)
        }
        #expect(self.violated(self.good + [moved(2, to: 1), moved(2, to: 2)]) == [])
        #expect(self.violated(self.good + [moved(2, to: 1), moved(1, to: 2)]) == [.epochFence])
    }

    @Test func aTypeThatOneBadRecordStopsIsFound() {
        let stopped = SimulationEvent.stopped(branch: 1, type: 2)
        #expect(self.violated([.brokeDown(at: .cloud, type: 2), stopped]) == [])
        #expect(self.violated([.brokeDown(at: .cloud, type: 6), .brokeDown(at: 1, type: 2), stopped]) == [.poisonIsolation])
    }

    @Test func whatIsHandedToAnotherBranchIsFound() {
        let order = SimulationEvent.appended(
            type: 3, place: 1, audience: .server(1), entity: EntityID(type: 3, scope: 1, key: "order:1"), token: 3, isDeletion: false, isEcho: false)
        #expect(self.violated([order, .handedOut(to: 1, type: 3, place: 1, audience: .server(1))]) == [])
        #expect(self.violated([order, .handedOut(to: 2, type: 3, place: 1, audience: .server(1))]) == [.tenantIsolation])
        // Whatever the record says of itself.
        #expect(self.violated([order, .handedOut(to: 2, type: 3, place: 1, audience: .all)]) == [.tenantIsolation])
    }

    @Test func whatABranchWritesIntoTheSpaceOfAnotherIsFound() {
        let events: [SimulationEvent] = [1, 2].map { scope in
            .applied(at: .cloud, stream: StreamID(origin: 1, epoch: 1, type: 4), synID: 1, entity: EntityID(type: 4, scope: scope, key: "v"), token: 4)
        }
        let written = SimulationEvent.written(at: 1, row: 4, change: SimulatedChange(type: 4, scope: 1, key: "v", token: 4))
        #expect(self.violated([written, events[0]]) == [])
        #expect(self.violated([written, events[1]]) == [.tenantIsolation])
    }

    @Test func aMessageThatHoldsTooMuchIsFound() {
        #expect(self.violated([.carried(branch: 1, records: 1_000)]) == [])
        #expect(self.violated([.carried(branch: 1, records: 1_001)]) == [.bounded])
    }

    @Test func moreThanTheQuotaIsFound() {
        func parked(_ number: Int64) -> SimulationEvent {
            .memo(
                SimulatedMemo(
                    at: .cloud, line: MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: 6), number: number, stream: self.actions, synID: number,
                    entity: self.points, disposition: .parked, reason: .refused, attempts: 1))
        }
        let ended = SimulationEvent.memo(
            SimulatedMemo(
                at: .cloud, line: MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: 6), number: 1, stream: self.actions, synID: 1,
                entity: self.points, disposition: .applied, reason: .applied, attempts: 1))
        var limits = SyncLimits()
        limits.openRecordsMax = 2
        #expect(self.violated([parked(1), parked(1), parked(2), ended, parked(3)], limits: limits) == [])
        #expect(self.violated([parked(1), parked(2), parked(3)], limits: limits) == [.bounded])
    }

    @Test func accountsThatDoNotAddUpAreFound() {
        #expect(self.violated([.summed(at: 1, 0)]) == [])
        #expect(self.violated([.summed(at: 1, 5)]) == [.conservation])
        var rest = self.rest
        rest.tables[2]?["balance"] = ["a/from": "-5", "a/to": "4"]
        #expect(self.violated(self.good, rest) == [.conservation])
    }

    @Test func whoeverWasToldOfAnEntityIsToldOfItsEnd() {
        // The deletion went to branch 1 alone; branch 2 keeps what it has.
        let end: [SimulationEvent] = [
            .written(at: 1, row: 3, change: SimulatedChange(type: 2, scope: .cloud, key: "product:1", token: 3, isDeletion: true)),
            .numbered(stream: self.states, first: 2, count: 1),
            .applied(at: .cloud, stream: self.states, synID: 2, entity: self.product, token: 3),
            .appended(type: 2, place: 2, audience: .server(1), entity: self.product, token: 3, isDeletion: true, isEcho: false),
            .moved(at: .cloud, from: 1, epoch: 1, type: 2, number: 1, to: 2, session: 1),
        ]
        var rest = self.rest
        for server in [.cloud, 1] as [ServerID] { rest.tables[server]?["product"] = [:] }
        rest.outbox[1]?.append(SimulatedRest.Row(id: 3, type: 2, synID: 2, state: .settled))
        #expect(self.violated(self.good + end, rest) == [.convergence])
        rest.tables[2]?["product"] = [:]
        #expect(self.violated(self.good + end, rest) == [])
    }

    @Test func aSeedThatIsAnotherRunTheNextTimeIsFound() {
        func report(digest: UInt64 = 1, row: String = "1") -> SimulationReport {
            SimulationReport(
                seed: 1, violations: [], events: 1, faults: 1, steps: 1, digest: digest, history: [],
                rest: SimulatedRest(branches: [1], tables: [1: ["product": ["a": row]]]))
        }
        func violated(_ again: SimulationReport, _ shifted: SimulationReport) -> [Invariant] {
            HistoryChecker.violations(of: report(), again: again, shifted: shifted).map(\.invariant)
        }
        #expect(violated(report(), report()) == [])
        #expect(violated(report(digest: 2), report()) == [.determinism])
        #expect(violated(report(row: "2"), report()) == [.determinism])
        #expect(violated(report(), report(row: "2")) == [.clockFree])
    }
}
