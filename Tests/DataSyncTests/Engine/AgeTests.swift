@testable import DataSync
import Testing

@Suite struct AgeTests {
    @Test func aProcessGoesOnWhereTheDatabaseStands() {
        var age = Age()
        #expect(age.value(at: .seconds(10)) == nil)
        #expect(age.isDue(at: .seconds(10)))
        #expect(age.meet(Age.Noted(age: 5_000, wall: 100_000), at: .seconds(10), wall: 100_000) == 5_000)
        #expect(age.value(at: .seconds(12)) == 7_000)
        // Whoever only reads it has not written it down.
        #expect(age.isDue(at: .seconds(12)))
        age.noted(at: .seconds(10))
        #expect(!age.isDue(at: .seconds(69)))
        #expect(age.isDue(at: .seconds(70)))
    }

    @Test func anEmptyDatabaseBeginsAtZero() {
        var age = Age()
        #expect(age.meet(nil, at: .seconds(10), wall: 1_700_000_000_000) == 0)
    }

    @Test(arguments: [
        (passed: Int64(0), counts: Int64(0)), (1_500, 1_500), (60_000, 60_000), (60_001, 60_000), (.max, 60_000), (-1, 0), (.min, 0),
    ])
    func whatPassedBeforeAStartCountsForAMinuteAtMost(passed: Int64, counts: Int64) {
        var age = Age()
        let wall = passed > 0 ? -1 : Int64(1)
        let now = wall.addingReportingOverflow(passed)
        #expect(age.meet(Age.Noted(age: 1_000, wall: wall), at: .zero, wall: now.overflow ? (passed > 0 ? .max : .min) : now.partialValue) == 1_000 + counts)
    }

    @Test func clocksThatContradictEachOtherBeyondAllNumbersCountNothing() {
        #expect(Age.Noted(age: 7, wall: .min).age(from: .max) == 7)
        #expect(Age.Noted(age: 7, wall: .max).age(from: .min) == 7)
    }

    @Test func whoRunsBelievesWhoHasCountedMoreAndNoClock() {
        var age = Age()
        _ = age.meet(Age.Noted(age: 0, wall: 0), at: .zero, wall: 0)
        #expect(age.meet(Age.Noted(age: 90_000, wall: 0), at: .seconds(60), wall: 1 << 50) == 90_000)
        #expect(age.meet(Age.Noted(age: 0, wall: 0), at: .seconds(120), wall: 1 << 50) == 150_000)
    }

    @Test func whatIsNotedIsReadAgain() {
        let noted = Age.Noted(Age.Noted(age: 12, wall: -34).text)
        #expect(noted?.age == 12)
        #expect(noted?.wall == -34)
        for text in ["", "12", "12 ", "a b", "1 2 3"] { #expect(Age.Noted(text) == nil, "\(text)") }
    }
}
