@testable import DataSync
import Testing

@Suite struct LoneTryTests {
    private func begun(_ verdict: LoneTry.Verdict) -> LoneTry? { if case .begin(let next) = verdict { next } else { nil } }

    /// What becomes of a record that never ends its try, begun with once a minute.
    private func walk(_ number: Int64, from noted: LoneTry?, start: Int64 = 0) -> (begun: Int, rests: Int, noted: LoneTry?) {
        var (noted, begun, rests) = (noted, 0, 0)
        for minute in 0..<1_000 {
            switch LoneTry.verdict(epoch: 1, number: number, noted: noted, age: start + Int64(minute) * 60_000) {
            case .begin(let next): (noted, begun) = (next, begun + 1)
            case .rest: rests += 1
            case .giveUp: return (begun, rests, noted)
            }
        }
        return (begun, rests, noted)
    }

    @Test func aRecordIsGivenUpAfterThreeTries() {
        let walk = self.walk(7, from: nil)
        #expect(walk.begun == 3)
        #expect(walk.rests == 0)
    }

    @Test func theNextOneIsProbedRarelyAndForAnHour() throws {
        let first = try #require(self.walk(7, from: nil).noted)
        let second = self.walk(8, from: first, start: first.time)
        #expect(second.begun == LoneTry.triesMax + LoneTry.probesMax)
        #expect(second.rests >= 4 * LoneTry.probesMax)
        // Long after, one proves nothing about the other.
        #expect(self.walk(8, from: first, start: first.time + LoneTry.memory).begun == 3)
    }

    @Test func whatWasNotGivenUpSaysNothingAboutTheNext() throws {
        let once = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: nil, age: 0)))
        #expect(self.begun(LoneTry.verdict(epoch: 1, number: 8, noted: once, age: 0))?.isAfterAnother == false)
        // A number of another epoch is another record.
        #expect(self.begun(LoneTry.verdict(epoch: 2, number: 7, noted: once, age: 0))?.tries == 1)
    }

    @Test(arguments: ["", "1 2 3", "1 2 3 4 5 6", "a 2 3 4 5", "99999999999 2 3 0 5"]) func whatNobodyWroteIsNotRead(_ text: String) {
        #expect(LoneTry(text: text) == nil)
    }

    @Test func itIsReadAsItWasWritten() {
        let note = LoneTry(epoch: 2, number: .max, tries: 3, isAfterAnother: true, time: 12)
        #expect(LoneTry(text: note.text) == note)
    }
}
