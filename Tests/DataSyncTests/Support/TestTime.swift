import DataSync
import DataSyncTesting
import Synchronization

/// Time that only a test moves, and chance from a seed.
final class TestTime: Sendable {
    private struct State {
        var running: Duration = .seconds(3_600)
        var wallError: Int64 = 0
        var generator: SeededGenerator
    }

    /// What the wall clock shows at the running time of one hour.
    static let wallStart: Int64 = 1_700_000_000_000

    private let state: Mutex<State>

    init(seed: UInt64 = 1) { self.state = Mutex(State(generator: SeededGenerator(seed: seed))) }

    var running: Duration { self.state.withLock { $0.running } }
    var wall: Int64 { Self.wallStart + (self.running - .seconds(3_600)) / .milliseconds(1) + self.state.withLock { $0.wallError } }

    func advance(by duration: Duration) { self.state.withLock { $0.running += duration } }

    /// Somebody sets the wall clock.
    func setWall(forth milliseconds: Int64) { self.state.withLock { $0.wallError += milliseconds } }

    fileprivate func advance(to time: Duration) { self.state.withLock { $0.running = max($0.running, time) } }

    /// Whoever sleeps by it goes on at once, and the time is what was waited for.
    var environment: SyncEnvironment {
        SyncEnvironment(
            clock: SkippingClock(time: self), runningTime: { self.running }, wallTime: { self.wall },
            random: { self.state.withLock { $0.generator.next() } })
    }
}

private struct SkippingClock: Clock {
    struct Instant: InstantProtocol {
        var offset: Duration
        func advanced(by duration: Duration) -> Instant { Instant(offset: self.offset + duration) }
        func duration(to other: Instant) -> Duration { other.offset - self.offset }
        static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    let time: TestTime

    var now: Instant { Instant(offset: self.time.running) }
    var minimumResolution: Duration { .zero }

    func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        try Task.checkCancellation()
        self.time.advance(to: deadline.offset)
    }
}

extension Duration {
    /// How often `unit` fits into it, rounded down for positive ones.
    fileprivate static func / (left: Duration, unit: Duration) -> Int64 {
        let (left, unit) = (left.components, unit.components)
        let attoseconds = { (parts: (seconds: Int64, attoseconds: Int64)) in
            Int128(parts.seconds) * 1_000_000_000_000_000_000 + Int128(parts.attoseconds)
        }
        return Int64(attoseconds(left) / attoseconds(unit))
    }
}
