@testable import DataSync
import Testing

@Suite struct SettlingTests {
    private func part(_ type: BusinessTypeID, first: Int64, offset: Int, keys: [EntityKey?]) -> PushBatch.Part {
        let entries = keys.indices.map { Sample.entry(Int64($0 + 1), time: 900) }
        let rows = keys.enumerated().map { index, key in
            OutboxRow(
                head: OutboxHead(id: Int64(index + 1), type: type, createTime: 900, bytes: 1, digest: 0),
                uid: RecordUID(high: 0, low: UInt64(index)), key: key, target: .cloud, client: nil, payload: "")
        }
        return PushBatch.Part(
            manifest: ManifestKey(epoch: 1, type: type, firstSynID: first), run: Fingerprint(rawValue: 8), before: .none, isAgain: false,
            offset: offset, entries: entries, rows: rows)
    }

    private func settle(_ parts: [PushBatch.Part], _ runs: [PushRunAnswer], _ type: ItemType) -> Settling {
        let batch = PushBatch(parts: parts, request: PushRequest(session: SessionID(number: 1, epoch: 1), runs: []))
        var settling = Settling(branch: 7, batch: batch, answer: PushAnswer(runs: runs), now: Moment(wall: 1_000, age: 50))
        settling.decide { $0 == type.id ? type.definition : nil }
        return settling
    }

    @Test func anAppliedRecordIsSettledWithItsNumberAndItsVersionKept() {
        let settling = self.settle(
            [self.part(2, first: 11, offset: 3, keys: ["product:1", "product:2"])],
            [PushRunAnswer(outcomes: [.applied(version: 40), .applied(version: 41)])], .product)
        #expect(settling.settlements.map(\.synID) == [14, 15])
        #expect(settling.settlements.map(\.state) == [.settled, .settled])
        #expect(settling.manifests.map(\.settled) == [5])
        #expect(settling.entities.map(\.version) == [40, 41])
        #expect(settling.confirmations.map(\.position) == [Position(number: 15, fingerprint: Fingerprint(rawValue: 8))])
        #expect(settling.confirmations.map(\.lag) == [100])
        #expect(settling.memos == [])
    }

    @Test func whatIsOpenOrDeadIsNotedAndWhatIsOpenStaysUnsettled() {
        let outcomes = [
            Outcome(.parked, reason: .refused, detail: "no", attempts: 1), Outcome(.dead, reason: .tooBig), Outcome(.waiting, reason: .missingDependency),
            Outcome(.discarded, reason: .discarded, attempts: 2),
        ]
        let settling = self.settle(
            [self.part(3, first: 1, offset: 0, keys: ["order:1", "order:2", "order:3", "order:4"])], [PushRunAnswer(outcomes: outcomes)], .order)
        #expect(settling.settlements.map(\.state) == [.open, .settled, .open, .settled])
        #expect(settling.settlements.map(\.attempts) == [1, 0, 0, 2])
        #expect(settling.settlements.map(\.reason) == [.refused, .tooBig, .missingDependency, .discarded])
        #expect(settling.memos.map(\.number) == [1, 2, 3])
        #expect(settling.memos.allSatisfy { !$0.holdsPayload && $0.scope == 7 })
        #expect(settling.entities == [])
    }

    @Test func whatWasNotAnsweredIsLeftAlone() {
        let settling = self.settle(
            [self.part(3, first: 1, offset: 0, keys: ["order:1", "order:2"]), self.part(2, first: 1, offset: 0, keys: ["product:1"])],
            [PushRunAnswer(outcomes: [.applied(version: 1)], stop: .unsupported), PushRunAnswer(stop: .unsupported)], .order)
        #expect(settling.settlements.count == 1)
        #expect(settling.manifests.map(\.settled) == [1])
        #expect(settling.confirmations.map(\.type) == [3])
    }

    @Test func anActionHasNoVersion() {
        let settling = self.settle(
            [self.part(6, first: 1, offset: 0, keys: ["points:1"])], [PushRunAnswer(outcomes: [.applied(version: 9)])], .points)
        #expect(settling.entities == [])
    }

    @Test func aNumberWhoseRowIsGoneIsPassedOver() {
        var part = self.part(3, first: 1, offset: 0, keys: ["order:1", "order:2"])
        part.rows[0] = nil
        let settling = self.settle(
            [part], [PushRunAnswer(outcomes: [Outcome(.void, reason: .void), .applied(version: 3)])], .order)
        #expect(settling.settlements.map(\.id) == [2])
        #expect(settling.manifests.map(\.settled) == [2])
    }
}
