@testable import DataSync
import Testing

@Suite struct PushJudgeTests {
    private func item(_ prepared: PreparedRecord) -> PushWork.Item { self.item(.prepared(prepared), prepared.entity) }

    private func item(_ content: PushWork.Item.Content, _ entity: EntityID?) -> PushWork.Item {
        PushWork.Item(run: 0, type: 3, synID: 1, fingerprint: .none, before: .none, isAgain: false, content: content, entity: entity, bytes: 1)
    }

    private func outcome(_ verdict: PushJudge.Verdict) -> Outcome? {
        if case .setAside(let outcome) = verdict { outcome } else { nil }
    }

    private func isApplied(_ verdict: PushJudge.Verdict) -> Bool { if case .apply = verdict { true } else { false } }

    @Test func behindARefusedRecordItsEntityWaitsAndNoOther() throws {
        var judge = PushJudge(blocked: [])
        let (first, second) = (self.item(try Sample.prepared(.order, 1)), self.item(try Sample.prepared(.order, 2)))
        let refused = self.outcome(judge.verdict(for: first, at: 0, blamed: .refused("no")))
        #expect(refused == Outcome(.parked, reason: .refused, detail: "no", attempts: 1))
        #expect(self.outcome(judge.verdict(for: first, at: 1, blamed: nil)) == Outcome(.parked, reason: .behind))
        #expect(self.isApplied(judge.verdict(for: second, at: 2, blamed: nil)))
        #expect(judge.setAside.keys.sorted() == [0, 1])
    }

    @Test func whatWaitsBehindIsNotCountedThoughItIsAtFaultItself() throws {
        let record = try Sample.record(.order, 1)
        let entity = try Sample.prepared(.order, 1).entity
        var judge = PushJudge(blocked: [entity])
        let verdict = judge.verdict(for: self.item(.refused(record, .refused(.malformed, detail: nil)), entity), at: 0, blamed: nil)
        #expect(self.outcome(verdict) == Outcome(.parked, reason: .behind))
    }

    @Test func aMissingDependencyWaitsUncounted() throws {
        var judge = PushJudge(blocked: [])
        let item = self.item(try Sample.prepared(.order, 1))
        let verdict = judge.verdict(for: item, at: 0, blamed: .missingDependency(detail: "member:1"))
        #expect(self.outcome(verdict) == Outcome(.waiting, reason: .missingDependency, detail: "member:1"))
        #expect(self.outcome(judge.verdict(for: item, at: 1, blamed: nil))?.reason == .behind)
    }

    @Test func whatCanNeverBeSentIsDeadAtOnceAndNothingWaitsBehindIt() throws {
        let record = try Sample.record(.order, 1)
        let prepared = try Sample.prepared(.order, 1)
        var judge = PushJudge(blocked: [])
        let verdict = judge.verdict(for: self.item(.unsendable(record, .tooBig), prepared.entity), at: 0, blamed: nil)
        #expect(self.outcome(verdict) == Outcome(.dead, reason: .tooBig))
        #expect(self.isApplied(judge.verdict(for: self.item(prepared), at: 1, blamed: nil)))
    }

    @Test func aNumberWithoutARowIsVoid() {
        var judge = PushJudge(blocked: [])
        let verdict = judge.verdict(for: self.item(.void, nil), at: 0, blamed: nil)
        guard case .void = verdict else { Issue.record("\(verdict)"); return }
    }

    @Test func aRecordThatIsForbiddenBlocksItsEntityToo() throws {
        var judge = PushJudge(blocked: [])
        let item = self.item(try Sample.prepared(.order, 1))
        #expect(self.isApplied(judge.verdict(for: item, at: 0, blamed: nil)))
        judge.refuse(item, at: 0, .refused(.forbidden, detail: nil))
        #expect(judge.setAside[0] == Outcome(.parked, reason: .forbidden, attempts: 1))
        #expect(self.outcome(judge.verdict(for: item, at: 1, blamed: nil))?.reason == .behind)
    }
}

@Suite struct PullJudgeTests {
    private func name(_ verdict: PullJudge.Verdict) -> String {
        switch verdict {
        case .apply: "apply"
        case .superseded: "superseded"
        case .known: "known"
        case .setAside(let outcome): "\(outcome.disposition.name) \(outcome.reason)"
        }
    }

    private func judge(
        _ judge: inout PullJudge, _ log: LogRecord, _ type: ItemType, blamed: RecordFault? = nil, isChangedHere: Bool = false
    ) -> String {
        self.name(judge.verdict(for: PullWork.Item(log, type), at: Int(log.logSeq), blamed: blamed, isChangedHere: isChangedHere))
    }

    @Test func aStateOlderThanWhatIsHereIsSuperseded() throws {
        let log = try Sample.log(.product, 1, place: 5)
        for (version, expected) in [(4, "apply"), (5, "apply"), (6, "superseded")] as [(Int64, String)] {
            var judge = PullJudge(blocked: [], versions: [log.entity: version])
            #expect(self.judge(&judge, log, .product) == expected)
        }
    }

    @Test func aStateThatIsChangedHereIsSuperseded() throws {
        var judge = PullJudge(blocked: [], versions: [:])
        #expect(self.judge(&judge, try Sample.log(.product, 1, place: 5), .product, isChangedHere: true) == "superseded")
    }

    @Test func anActionIsNeverSuperseded() throws {
        let log = try Sample.log(.points, 1, place: 5)
        var judge = PullJudge(blocked: [], versions: [log.entity: 9])
        #expect(self.judge(&judge, log, .points, isChangedHere: true) == "apply")
    }

    @Test func anActionWaitsBehindAnEarlierOneAndAStateDoesNot() throws {
        var judge = PullJudge(blocked: [], versions: [:])
        #expect(self.judge(&judge, try Sample.log(.points, 1, place: 1), .points, blamed: .refused("no")) == "parked refused")
        #expect(self.judge(&judge, try Sample.log(.points, 1, place: 2), .points) == "parked behind")
        #expect(self.judge(&judge, try Sample.log(.points, 2, place: 3), .points) == "apply")
        #expect(self.judge(&judge, try Sample.log(.product, 1, place: 4), .product, blamed: .refused("no")) == "parked refused")
        #expect(self.judge(&judge, try Sample.log(.product, 1, place: 5), .product) == "apply")
    }

    @Test func aRecordWithoutItsPayloadIsDeadAtOnce() throws {
        var log = try Sample.log(.product, 1, place: 1)
        log.omission = .tooBig
        log.record.payload = ""
        var judge = PullJudge(blocked: [], versions: [:])
        #expect(self.judge(&judge, log, .product) == "dead too_big")
    }

    @Test func aPayloadThatCannotBeReadIsParked() throws {
        var log = try Sample.log(.product, 1, place: 1)
        log.record.payload = "{\"upsert\":"
        var judge = PullJudge(blocked: [], versions: [:])
        #expect(self.judge(&judge, log, .product) == "parked malformed")
    }
}
