@testable import DataSync
import Testing

@Suite struct OutcomeTests {
    @Test func threeRefusalsMakeARecordDead() {
        let fault = RecordFault.refused("no")
        #expect((0..<4).map { Outcome(fault, attemptsBefore: $0).disposition } == [.parked, .parked, .dead, .dead])
        #expect((0..<3).map { Outcome(fault, attemptsBefore: $0).attempts } == [1, 2, 3])
    }

    @Test func aMissingDependencyCountsOnlyWhenItIsTooOld() {
        let fault = RecordFault.missingDependency(detail: "member:1")
        #expect(Outcome(fault, attemptsBefore: 2) == Outcome(.waiting, reason: .missingDependency, detail: "member:1", attempts: 2))
        #expect(
            Outcome(fault, attemptsBefore: 2, isTooOld: true) == Outcome(.dead, reason: .dependencyTooOld, detail: "member:1", attempts: 3))
    }

    @Test func aNewerPayloadVersionParksUncounted() {
        let outcome = Outcome(.refused(.unknownVersion, detail: nil), attemptsBefore: 2)
        #expect(outcome == Outcome(.parked, reason: .unknownVersion, attempts: 2))
    }

    @Test func namesAndNumbersAreUniqueAndReadBack() {
        #expect(Disposition.allCases.allSatisfy { Disposition(name: $0.name) == $0 })
        #expect(ReasonCode.all.allSatisfy { ReasonCode(name: $0.name) == $0 })
        #expect(Set(ReasonCode.all.map(\.name)).count == ReasonCode.all.count)
        #expect(ReasonCode(rawValue: 99).name == "reason_99")
    }
}

@Suite struct SyncLimitsTests {
    @Test func theDefaultsHoldTogether() throws { try SyncLimits().validate() }

    @Test(
        arguments: [
            { $0.recordBytesMax = 9 << 20 }, { $0.chunkBytesMax = 1 }, { $0.openBytesMax = 1 }, { $0.ageingSlotEvery = 1 },
            { $0.retryDelays = [.seconds(1)] }, { $0.retryDelays = [.seconds(1), .seconds(-1)] }, { $0.waitingDelay = .zero },
            { $0.waitingDelayMax = .seconds(1) }, { $0.batchRecordsMax = 0 }, { $0.chunkRecordsMax = -1 }, { $0.askedMax = 0 },
            { $0.unitAttemptsMax = 0 }, { $0.manifestRowsMax = 0 }, { $0.openRecordsMax = 0 }, { $0.batchBytesMax = 1 },
        ] as [@Sendable (inout SyncLimits) -> Void])
    func aRelationThatDoesNotHoldIsRefused(_ change: @Sendable (inout SyncLimits) -> Void) {
        var limits = SyncLimits()
        change(&limits)
        let error = #expect(throws: DataSyncError.self) { try limits.validate() }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.detail?.isEmpty == false)
    }

    @Test func aRefusedRecordWaitsAsTheRetryDelaysSay() {
        let limits = SyncLimits()
        func delay(_ disposition: Disposition, _ reason: ReasonCode, attempts: Int, waited: Int) -> Duration {
            limits.delay(after: Outcome(disposition, reason: reason, attempts: attempts), waited: .seconds(waited))
        }
        #expect(delay(.parked, .refused, attempts: 1, waited: 0) == .seconds(30))
        #expect(delay(.parked, .refused, attempts: 2, waited: 30) == .seconds(300))
        // While nobody is at fault: 30 s, doubling to an hour.
        #expect(delay(.waiting, .missingDependency, attempts: 0, waited: 0) == .seconds(30))
        #expect(delay(.waiting, .missingDependency, attempts: 0, waited: 30) == .seconds(60))
        // The clock was set back.
        #expect(delay(.waiting, .missingDependency, attempts: 0, waited: -90) == .seconds(30))
        #expect(delay(.waiting, .missingDependency, attempts: 0, waited: 210) == .seconds(240))
        #expect(delay(.waiting, .missingDependency, attempts: 0, waited: 999_999) == .seconds(3_600))
        #expect(delay(.parked, .behind, attempts: 0, waited: 30) == .seconds(60))
        #expect(delay(.parked, .unknownVersion, attempts: 2, waited: 0) == .seconds(30))
    }
}
