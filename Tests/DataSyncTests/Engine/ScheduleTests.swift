import DataSync
import Testing

extension Duration {
    /// To whole milliseconds: a product with a fraction is not exact.
    fileprivate var rounded: Duration {
        let parts = self.components
        return .milliseconds(parts.seconds * 1_000 + (parts.attoseconds + 500_000_000_000_000) / 1_000_000_000_000_000)
    }
}

@Suite struct BackoffTests {
    private let backoff = Backoff(base: .seconds(1), max: .seconds(300))

    @Test(arguments: [(1, 1), (2, 2), (3, 4), (5, 16), (9, 256), (10, 300), (11, 300), (1_000_000, 300)])
    func stepsDoubleUpToTheMost(failures: Int, seconds: Int) {
        // Jitter goes from a fifth of the step to nearly all of it.
        #expect(self.backoff.delay(failures: failures, jitter: 0).rounded == .milliseconds(200 * seconds))
        #expect(self.backoff.delay(failures: failures, jitter: 0.5).rounded == .milliseconds(600 * seconds))
        #expect(self.backoff.delay(failures: failures, jitter: 0.999_999) < .seconds(seconds))
    }

    @Test func anOutageOfAnyLengthDoesNotOverflow() {
        let slow = Backoff(base: .seconds(86_400), max: .seconds(10 * 86_400))
        #expect(slow.delay(failures: .max, jitter: 0).rounded == .seconds(2 * 86_400))
    }
}

@Suite struct AgentScheduleTests {
    private let schedule = AgentSchedule(interval: .seconds(10), backoff: Backoff(base: .seconds(1), max: .seconds(60)))

    @Test func waitsAnIntervalGiveOrTakeATenth() {
        #expect(self.schedule.delay(hasMore: false, failures: 0, jitter: 0).rounded == .seconds(9))
        #expect(self.schedule.delay(hasMore: false, failures: 0, jitter: 0.5).rounded == .seconds(10))
        #expect(self.schedule.delay(hasMore: false, failures: 0, jitter: 0.999) < .seconds(11))
    }

    @Test func goesOnAtOnceWhenThereIsMore() {
        #expect(self.schedule.delay(hasMore: true, failures: 0, jitter: 0.5).rounded == .zero)
    }

    @Test func aFailureWaitsThoughThereIsMore() {
        #expect(self.schedule.delay(hasMore: true, failures: 1, jitter: 0.5).rounded == .milliseconds(600))
        #expect(self.schedule.delay(hasMore: false, failures: 99, jitter: 0).rounded == .seconds(12))
    }

    @Test func whatTheCloudAskedForIsTheLeast() {
        #expect(self.schedule.delay(hasMore: false, failures: 1, retryAfter: .seconds(30), jitter: 0).rounded == .seconds(30))
        #expect(self.schedule.delay(hasMore: false, failures: 1, retryAfter: .seconds(30), jitter: 0.5).rounded == .seconds(33))
        #expect(self.schedule.delay(hasMore: false, failures: 99, retryAfter: .seconds(1), jitter: 0.5).rounded == .seconds(36))
    }
}

@Suite struct TypeBreakerTests {
    @Test func aTypeThatFailsIsLeftAloneEverLongerUntilItPasses() {
        var breaker = TypeBreaker(backoff: Backoff(base: .seconds(1), max: .seconds(60)))
        #expect(breaker.wait(for: 1, at: .seconds(100)) == nil)
        #expect(breaker.stop(1, message: "disk full", at: .seconds(100), jitter: 0.5).rounded == .milliseconds(600))
        #expect(breaker.wait(for: 1, at: .seconds(100))?.rounded == .milliseconds(600))
        #expect(breaker.wait(for: 2, at: .seconds(100)) == nil)
        // Its time has come, but it has not passed: it is still among the stopped.
        #expect(breaker.wait(for: 1, at: .seconds(101)) == nil)
        #expect(breaker.stopped == [1: "disk full"])
        #expect(breaker.stop(1, message: "disk full", at: .seconds(101), jitter: 0.5).rounded == .milliseconds(1_200))
        #expect(breaker.passed(1) == true)
        #expect(breaker.wait(for: 1, at: .seconds(101)) == nil)
        #expect(breaker.stopped == [:])
        #expect(breaker.passed(1) == false)
        #expect(breaker.stop(1, message: "disk full", at: .seconds(200), jitter: 0.5).rounded == .milliseconds(600))
    }
}

@Suite struct OutboxSweepTests {
    @Test func aStartLooksAtTheNewestIdsFirstAndAtAllOthersInTurn() {
        var sweep = OutboxSweep()
        #expect(sweep.nextRanges(frontier: 12_000, at: .seconds(1)) == [7_001...12_000, 2_001...7_000])
        #expect(sweep.nextRanges(frontier: 12_000, at: .seconds(2)) == [7_001...12_000, 1...2_000])
        #expect(sweep.nextRanges(frontier: 12_000, at: .seconds(3)) == [7_001...12_000, 2_001...7_000])
    }

    @Test func looksAtMostOnceASecond() {
        var sweep = OutboxSweep()
        #expect(sweep.nextRanges(frontier: 10, at: .seconds(1)) == [1...10])
        #expect(sweep.nextRanges(frontier: 10, at: .seconds(1.9)) == [])
        #expect(sweep.nextRanges(frontier: 10, at: .seconds(2)) == [1...10])
    }

    @Test func theIdsOfTheLastMinuteAreLookedAtEverySecond() {
        var sweep = OutboxSweep()
        #expect(sweep.nextRanges(frontier: 0, at: .seconds(0)) == [])
        #expect(sweep.nextRanges(frontier: 100, at: .seconds(1)) == [1...100])
        #expect(sweep.nextRanges(frontier: 200, at: .seconds(30)) == [1...200])
        // What was there a minute ago has had its minute: it is looked at slowly.
        #expect(sweep.nextRanges(frontier: 300, at: .seconds(61)) == [101...300, 1...100])
    }

    @Test func anEmptyOutboxIsNotLookedAt() {
        var sweep = OutboxSweep()
        #expect(sweep.nextRanges(frontier: 0, at: .seconds(0)) == [])
        #expect(sweep.nextRanges(frontier: 0, at: .seconds(5)) == [])
    }

    @Test func aRangeIsBoundedHoweverFastRowsCome() {
        var sweep = OutboxSweep()
        _ = sweep.nextRanges(frontier: 0, at: .seconds(0))
        let ranges = sweep.nextRanges(frontier: 1_000_000, at: .seconds(1))
        #expect(ranges == [995_001...1_000_000, 990_001...995_000])
    }
}
