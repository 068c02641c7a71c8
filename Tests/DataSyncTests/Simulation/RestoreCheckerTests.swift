@testable import DataSync
@testable import DataSyncTesting
import Testing

/// What fleets hold that break a promise after a restore, and what does not.
@Suite struct RestoreCheckerTests {
    private typealias Invariant = HistoryChecker.Invariant

    private static let product = EntityID(type: 2, scope: .cloud, key: "product:1")
    private static let points = EntityID(type: 6, scope: .cloud, key: "points:1")
    private static let servers: [ServerID] = [.cloud, 1, 2]
    private static func uid(_ token: Int) -> RecordUID { RecordUID(high: 1, low: UInt64(token)) }

    /// A product (change 1) and an action (change 2) of branch 1, which every server has.
    private struct Fleet {
        var restored: Set<ServerID> = [1]
        var states: [ServerID: InMemoryState]
        var written: [RestoreChecker.Written]

        init() {
            let tables = [
                "product": [SimulatedType.row(of: RestoreCheckerTests.product): "1"],
                "points": [SimulatedType.row(of: RestoreCheckerTests.points, action: 2): "1"],
            ]
            self.states = Dictionary(uniqueKeysWithValues: RestoreCheckerTests.servers.map { ($0, InMemoryState()) })
            for server in RestoreCheckerTests.servers { self.states[server]?.tables = tables }
            self.written = [RestoreCheckerTests.product, RestoreCheckerTests.points].enumerated().map { index, entity in
                let token = index + 1
                return RestoreChecker.Written(
                    server: 1,
                    change: SimulatedChange(
                        type: entity.type, scope: entity.scope, key: entity.key, token: token, uid: RestoreCheckerTests.uid(token)))
            }
            let rows = [self.row(1), self.row(2)]
            self.states[1]?.outbox = rows
            let record = self.record(1)
            self.states[.cloud]?.log[InMemoryState.LogKey(type: 2, audience: .all)] = [
                LogRecord(logSeq: 5, mark: .none, audience: .all, scope: .cloud, isEcho: false, isDeletion: false, record: record)
            ]
            self.states[.cloud]?.entities[RestoreCheckerTests.product] = EntityState(
                id: RestoreCheckerTests.product, version: 5, origin: 1, home: 1, audience: .all)
        }

        private func entity(_ token: Int) -> EntityID { token == 1 ? RestoreCheckerTests.product : RestoreCheckerTests.points }

        private func row(_ token: Int) -> OutboxRow {
            let head = OutboxHead(id: Int64(token), type: self.entity(token).type, createTime: 0, bytes: 0, digest: 0, state: .settled)
            return OutboxRow(
                head: head, uid: RestoreCheckerTests.uid(token), key: self.entity(token).key, target: .cloud, client: nil, payload: "",
                synID: 1)
        }

        func record(_ token: Int) -> SyncRecord {
            let verb = token == 1 ? SimulatedPayload.Verb.set : .act
            return SyncRecord(
                stream: StreamID(origin: 1, epoch: 1, type: self.entity(token).type), synID: 1, uid: RestoreCheckerTests.uid(token),
                key: self.entity(token).key, target: .cloud, createTime: 0, client: nil,
                payload: SimulatedPayload(verb: verb, token: token).text)
        }

        /// Branch 1 has lost the row of a change, and so what its application did.
        mutating func lose(_ token: Int) {
            self.states[1]?.outbox.removeAll { $0.id == token }
            self.states[1]?.tables[token == 1 ? "product" : "points"] = [:]
        }

        mutating func receive(_ token: Int) {
            let receipt = Receipt(
                epoch: 1, type: self.entity(token).type, firstSynID: 1, run: .none, uids: [RestoreCheckerTests.uid(token)], time: 0)
            self.states[.cloud]?.receipts[1] = [receipt]
        }

        mutating func bury(_ token: Int, at server: ServerID) {
            let record = self.record(token)
            self.states[server]?.memos[1] = Memo(
                id: 1, line: MemoLine(receiver: server, sender: .cloud, epoch: 1, type: record.type), number: 1, scope: .cloud, record: record,
                holdsPayload: true, disposition: .dead, reason: .refused, attempts: 3, nextTry: 0, created: 0)
        }

        mutating func set(_ token: Int, _ value: String?, at servers: [ServerID]) {
            let (table, name) =
                token == 1
                ? ("product", SimulatedType.row(of: RestoreCheckerTests.product))
                : ("points", SimulatedType.row(of: RestoreCheckerTests.points, action: token))
            for server in servers { self.states[server]?.tables[table, default: [:]][name] = value }
        }

        var violated: [Invariant] {
            var checker = RestoreChecker(restored: self.restored, branches: [1, 2], states: self.states, written: self.written)
            checker.check()
            return checker.violations.map(\.invariant)
        }
    }

    @Test func whereEverythingIsInItsPlaceNothingIsViolated() { #expect(Fleet().violated == []) }

    @Test(arguments: servers)
    func anActionThatCountsTwiceIsFound(server: ServerID) {
        var fleet = Fleet()
        fleet.set(2, "2", at: [server])
        #expect(fleet.violated == [.effectOnce])
    }

    @Test(arguments: servers)
    func anActionThatDoesNotCountIsFound(server: ServerID) {
        var fleet = Fleet()
        fleet.set(2, nil, at: [server])
        #expect(fleet.violated == [.noLoss])
        fleet.bury(2, at: server)
        // A record cannot be dead where its application did what it says.
        #expect(fleet.violated == (server == 1 ? [.noLoss] : []))
    }

    @Test func whatWasLostBeforeAnybodyHadItCountsNowhere() {
        var fleet = Fleet()
        fleet.lose(2)
        #expect(fleet.violated == [.noPhantom, .noPhantom])
        fleet.set(2, nil, at: Self.servers)
        #expect(fleet.violated == [])
    }

    @Test func whatTheCloudHadReceivedComesBack() {
        var fleet = Fleet()
        fleet.lose(2)
        fleet.receive(2)
        #expect(fleet.violated == [.noLoss])
        fleet.set(2, "1", at: [1])
        #expect(fleet.violated == [])
        // Coming back it may be refused, like any other.
        fleet.set(2, nil, at: [1])
        fleet.bury(2, at: 1)
        #expect(fleet.violated == [])
    }

    @Test func whatARestoredCloudHasLostMayBeWhereItWasRead() {
        var fleet = Fleet()
        fleet.restored = [.cloud]
        fleet.written[1].server = .cloud
        fleet.states[1]?.outbox.removeAll { $0.id == 2 }
        fleet.set(2, nil, at: [.cloud, 1])
        #expect(fleet.violated == [])
        fleet.set(2, "2", at: [2])
        #expect(fleet.violated == [.effectOnce])
    }

    @Test func whatBothHaveLostMayBeWhereItWasRead() {
        var fleet = Fleet()
        fleet.restored = [.cloud, 1]
        fleet.lose(2)
        #expect(fleet.violated == [])
        fleet.receive(2)
        #expect(fleet.violated == [.noLoss])
    }

    @Test func aBranchThatKeptItsRowSendsItAgainToARestoredCloud() {
        var fleet = Fleet()
        fleet.restored = [.cloud]
        fleet.set(2, nil, at: [.cloud, 2])
        #expect(fleet.violated == [.noLoss, .noLoss])
    }

    @Test(arguments: servers)
    func aStateThatDiffersIsFound(server: ServerID) {
        for value in ["9", nil] {
            var fleet = Fleet()
            fleet.set(1, value, at: [server])
            #expect(fleet.violated == [.convergence])
            fleet.bury(1, at: server)
            #expect(fleet.violated == [])
        }
    }

    @Test func whatBecameOfAnEntityWhoseRecordTheCloudLostIsNotTold() {
        var fleet = Fleet()
        fleet.restored = [.cloud]
        fleet.written[0].server = .cloud
        fleet.states[1]?.outbox.removeAll { $0.id == 1 }
        fleet.set(1, "9", at: [2])
        #expect(fleet.violated == [])
        fleet.restored = [1]
        #expect(fleet.violated == [.convergence])
    }
}

@Suite struct CloneCheckerTests {
    private func violated(_ hosts: [String?], minutesApart: Int64 = 1) -> Bool {
        var checker = CloneChecker()
        for (index, host) in hosts.enumerated() {
            checker.take(.opened(branch: 1, session: Int64(index), host: host, age: Int64(index) * minutesApart * 60_000))
        }
        return checker.violations.map(\.invariant) == [.clones]
    }

    @Test func machinesThatTakeTurnsForEverAreFound() {
        #expect(!self.violated(["a", "b", "a", "b", "a"]))
        #expect(self.violated(["a", "b", "a", "b", "a", "b"]))
        #expect(self.violated(["a", nil, "b", "a", "a", nil, "b", "a", "b"]))
        // Hours apart they may.
        #expect(!self.violated(["a", "b", "a", "b", "a", "b"], minutesApart: 3))
    }

    @Test func machinesThatFollowEachOtherAreNot() { #expect(!self.violated(["a", "b", "c", "d", "e", "f", "g"])) }

    @Test func whoeverWasReadmittedBeginsAnew() {
        var checker = CloneChecker()
        for _ in 0..<3 {
            for host in ["a", "b", "a", "b", "a"] { checker.take(.opened(branch: 1, session: 1, host: host)) }
            checker.take(.readmitted(branch: 1))
        }
        #expect(checker.violations.isEmpty)
    }
}
