import DataSync
import Testing

@Suite struct OutboxGapsTests {
    @Test func aNewProcessLooksAtAllThatIsNear() {
        let gaps = OutboxGaps()
        #expect(gaps.rangesToLookAt(frontier: 0) == [])
        #expect(gaps.rangesToLookAt(frontier: 40) == [1...40])
        #expect(gaps.rangesToLookAt(frontier: 20_000) == [15_001...20_000])
    }

    @Test func onlyMissingIdsAreLookedAtAgain() {
        var gaps = OutboxGaps()
        gaps.looked(at: [1...10], present: [1, 2, 3, 5, 6, 9, 10], last: 10, at: .seconds(1))
        #expect(gaps.rangesToLookAt(frontier: 10) == [4...4, 7...8])
        gaps.looked(at: [4...4, 7...8, 11...12], present: [4, 8, 11, 12], last: 12, at: .seconds(2))
        #expect(gaps.rangesToLookAt(frontier: 12) == [7...7])
    }

    @Test func aFrontierThatMovedUnseenIsLookedBehind() {
        var gaps = OutboxGaps()
        gaps.looked(at: [1...4], present: [1, 2, 3, 4], last: 4, at: .seconds(1))
        #expect(gaps.rangesToLookAt(frontier: 9) == [5...9])
    }

    @Test func whatIsMissingForLongIsLeftToTheSweep() {
        var gaps = OutboxGaps()
        gaps.looked(at: [1...3], present: [1, 3], last: 3, at: .seconds(1))
        gaps.looked(at: [2...2, 4...4], present: [4], last: 4, at: .seconds(30))
        #expect(gaps.rangesToLookAt(frontier: 4) == [2...2])
        gaps.looked(at: [2...2, 5...5], present: [5], last: 5, at: .seconds(62))
        #expect(gaps.rangesToLookAt(frontier: 5) == [])
    }

    @Test func manyGapsAreLookedAtTogether() {
        var gaps = OutboxGaps()
        let odd = stride(from: Int64(1), through: 99, by: 2).map { $0 }
        gaps.looked(at: [1...99], present: odd, last: 99, at: .seconds(1))
        let ranges = gaps.rangesToLookAt(frontier: 99)
        #expect(ranges.count == 16)
        #expect(ranges.first?.lowerBound == 2)
        #expect(ranges.last == 98...98)
    }
}
