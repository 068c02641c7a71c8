@testable import DataSync
import Testing

@Suite struct LoneTryTests {
    private func begun(_ verdict: LoneTry.Verdict) -> LoneTry? { if case .begin(let next) = verdict { next } else { nil } }

    /// What becomes of a record that never ends its try, begun with once a minute, each time by another process.
    private func walk(_ number: Int64, from noted: LoneTry?, start: Int64 = 0) -> (begun: Int, rests: Int, noted: LoneTry?) {
        var (noted, begun, rests) = (noted, 0, 0)
        for minute in 0..<1_000 {
            switch LoneTry.verdict(epoch: 1, number: number, noted: noted, age: start + Int64(minute) * 60_000, by: Int64(minute), lease: .zero) {
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
        let once = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: nil, age: 0, by: 1, lease: .zero)))
        #expect(self.begun(LoneTry.verdict(epoch: 1, number: 8, noted: once, age: 0, by: 2, lease: .zero))?.isAfterAnother == false)
        // A number of another epoch is another record.
        #expect(self.begun(LoneTry.verdict(epoch: 2, number: 7, noted: once, age: 0, by: 2, lease: .zero))?.tries == 1)
    }

    @Test func whoIsStillThereWasNotEndedByIt() throws {
        var noted = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: nil, age: 0, by: 1, lease: .zero)))
        for second in 1...10 {
            noted = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: noted, age: Int64(second) * 1_000, by: 1, lease: .zero)))
            #expect(noted.tries == 1)
        }
        #expect(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: noted, age: 10_000, by: 2, lease: .zero))?.tries == 2)
    }

    @Test func whatAnotherMayBeAtWorkOnIsLeftToIt() throws {
        let noted = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: nil, age: 0, by: 1, lease: .zero)))
        for number in [7, 8] as [Int64] {
            #expect(LoneTry.verdict(epoch: 1, number: number, noted: noted, age: 0, by: 2, lease: .seconds(3)) == .rest(.seconds(3)))
        }
    }

    /// It is measured by each process for itself, from when it has seen it, and anew where the database failed.
    @Test func theLeaseOfAnotherRunsFromWhenItIsSeen() throws {
        let noted = try #require(self.begun(LoneTry.verdict(epoch: 1, number: 7, noted: nil, age: 0, by: 1, lease: .zero)))
        let watch = LoneWatch(isSole: false, .system)
        #expect(watch.lease(noted, "a", at: .seconds(100)) == LoneWatch.lease)
        #expect(watch.lease(noted, "a", at: .seconds(110)) == LoneWatch.lease - .seconds(10))
        #expect(watch.lease(noted, "b", at: .seconds(110)) == LoneWatch.lease)
        #expect(watch.lease(noted, "a", at: .seconds(131)) == .zero)
        watch.forget()
        #expect(watch.lease(noted, "a", at: .seconds(132)) == LoneWatch.lease)
        var next = noted
        next.tries += 1
        #expect(watch.lease(next, "a", at: .seconds(170)) == LoneWatch.lease)
        #expect(LoneWatch(isSole: true, .system).lease(noted, "a", at: .zero) == .zero)
        next.owner = watch.owner
        #expect(watch.lease(next, "a", at: .seconds(171)) == .zero)
    }

    @Test(arguments: ["", "1 2 3", "1 2 3 4 5", "1 2 3 4 5 6 7", "a 2 3 4 5 6", "99999999999 2 3 0 5 6"]) func whatNobodyWroteIsNotRead(_ text: String) {
        #expect(LoneTry(text: text) == nil)
    }

    @Test func itIsReadAsItWasWritten() {
        let note = LoneTry(epoch: 2, number: .max, tries: 3, isAfterAnother: true, time: 12, owner: -3)
        #expect(LoneTry(text: note.text) == note)
    }
}
