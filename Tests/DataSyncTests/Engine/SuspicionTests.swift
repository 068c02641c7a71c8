@testable import DataSync
import Testing

@Suite struct SuspicionTests {
    private func refused(_ index: Int, _ id: Int, _ detail: String = "no") throws -> Suspicion.Refused {
        let outcome = Outcome(.parked, reason: .constraint, detail: detail, attempts: 1)
        return try #require(Suspicion.Refused(index: index, entity: try Sample.prepared(.order, id).entity, outcome: outcome))
    }

    private func held(_ id: Int, _ detail: String = "no", _ disposition: Disposition = .suspect, attempts: Int = 0) throws -> Memo {
        Memo(
            line: MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: 3), number: Int64(id), scope: 1, record: try Sample.record(.order, id),
            holdsPayload: true, disposition: disposition, reason: .constraint, detail: detail, attempts: attempts, nextTry: 0, created: 0)
    }

    private func verdict(
        _ refused: [Suspicion.Refused], held: [Memo] = [], before: Memo? = nil, mayComeMore: Bool = false, suspectsMax: Int = 9
    ) -> Suspicion.Verdict {
        Suspicion.verdict(on: refused, held: held, before: before, mayComeMore: mayComeMore, suspectsMax: suspectsMax)
    }

    @Test func aSingleEntityProvesNothing() throws {
        #expect(self.verdict([]) == Suspicion.Verdict())
        #expect(self.verdict([try self.refused(0, 1)]) == Suspicion.Verdict())
        #expect(self.verdict([try self.refused(0, 1), try self.refused(1, 1)]) == Suspicion.Verdict())
        // Unless more are about to show.
        #expect(self.verdict([try self.refused(0, 1)], mayComeMore: true) == Suspicion.Verdict(suspects: [0]))
    }

    @Test func severalThatAreRefusedAlikeAreSuspects() throws {
        #expect(self.verdict([try self.refused(0, 1), try self.refused(3, 2)]) == Suspicion.Verdict(suspects: [0, 3]))
        #expect(self.verdict([try self.refused(0, 1), try self.refused(3, 2, "other")]) == Suspicion.Verdict())
        // The one before was alone, and so is this.
        #expect(self.verdict([try self.refused(0, 2)], before: try self.held(1, "no", .parked, attempts: 1)) == Suspicion.Verdict(suspects: [0]))
        #expect(self.verdict([try self.refused(0, 2)], before: try self.held(1, "other", .parked, attempts: 1)) == Suspicion.Verdict())
        #expect(self.verdict([try self.refused(0, 2)], before: try self.held(1, "no", .dead, attempts: 3)) == Suspicion.Verdict())
        // Behind another, uncounted.
        #expect(self.verdict([try self.refused(0, 2)], before: try self.held(1, "no", .parked)) == Suspicion.Verdict())
    }

    @Test func whereThereAreSuspectsOnlyWhatIsLikeThemIsOne() throws {
        let held = [try self.held(1), try self.held(2)]
        let verdict = self.verdict([try self.refused(0, 3), try self.refused(1, 4, "other")], held: held)
        #expect(verdict == Suspicion.Verdict(suspects: [0]))
        // One alone was held until the next would show.
        let mixed = [try self.refused(0, 3), try self.refused(1, 4, "other")]
        #expect(self.verdict(mixed, held: [try self.held(1)]) == Suspicion.Verdict(clearsHeld: true))
        #expect(self.verdict([try self.refused(0, 3)], held: [try self.held(1)]) == Suspicion.Verdict(suspects: [0]))
    }

    @Test func theTypeStopsBeforeTheFirstThatFindsNoRoom() throws {
        let refused = try (0..<5).map { try self.refused($0, $0 + 10) }
        #expect(self.verdict(refused, suspectsMax: 3) == Suspicion.Verdict(suspects: [0, 1, 2], firstWithoutRoom: 3))
        #expect(self.verdict(refused, suspectsMax: 5) == Suspicion.Verdict(suspects: [0, 1, 2, 3, 4]))
        #expect(self.verdict(refused, held: [try self.held(1), try self.held(2)], suspectsMax: 2) == Suspicion.Verdict(firstWithoutRoom: 0))
    }

    @Test func whatIsNotCountedOrNotAllowedProvesNothing() throws {
        let entity = try Sample.prepared(.order, 1).entity
        for outcome in [
            Outcome(.refused(.forbidden, detail: nil), attemptsBefore: 0), Outcome(.parked, reason: .behind),
            Outcome(.missingDependency(detail: nil), attemptsBefore: 0), Outcome(.refused(.unknownVersion, detail: nil), attemptsBefore: 0),
            Outcome(.dead, reason: .tooBig),
        ] { #expect(Suspicion.Refused(index: 0, entity: entity, outcome: outcome) == nil) }
    }

    @Test func aTryThatEndsLikeTheOthersIsNotCounted() throws {
        func outcome(_ memo: Memo, _ suspects: [Memo], isTooOld: Bool = false) -> Outcome {
            let refusal = Outcome(.parked, reason: .constraint, detail: "no", attempts: memo.attempts + 1)
            return Suspicion.outcome(of: refusal, for: memo, suspects: suspects, isTooOld: isTooOld, suspectsMax: 3)
        }
        let (first, second, third) = (try self.held(1), try self.held(2), try self.held(3))
        #expect(outcome(first, [first, second]) == Outcome(.suspect, reason: .constraint, detail: "no"))
        // Alone, or unlike the others, it proves nothing.
        #expect(outcome(first, [first]).attempts == 1)
        #expect(outcome(first, [first, try self.held(2, "other")]).attempts == 1)
        // Too old it counts, unless the type is stopped.
        #expect(outcome(first, [first, second], isTooOld: true).attempts == 1)
        #expect(outcome(first, [first, second, third], isTooOld: true).disposition == .suspect)
        // One that was counted before stays where it is.
        #expect(outcome(try self.held(4, "no", .parked, attempts: 2), [first]) == Outcome(.parked, reason: .constraint, detail: "no", attempts: 2))
    }
}
