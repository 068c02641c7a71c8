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

    private func violated(_ events: [SimulationEvent], _ rest: SimulatedRest? = nil) -> Set<HistoryChecker.Invariant> {
        var checker = HistoryChecker(self.definitions)
        for event in events { checker.take(event) }
        if let rest { checker.finish(rest) }
        return Set(checker.violations.map(\.invariant))
    }

    private func memo(_ disposition: Disposition, attempts: Int) -> SimulationEvent {
        .memo(
            SimulatedMemo(
                at: .cloud, line: MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: 6), number: 1, stream: self.actions, synID: 1,
                entity: self.points, disposition: disposition, reason: .refused, attempts: attempts))
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
}
