public import DataSync

/// Virtual time. Whoever sleeps by it goes on when the executor has come so far.
public struct SimulatedClock: Clock {
    public struct Instant: InstantProtocol {
        public var offset: Duration
        public func advanced(by duration: Duration) -> Instant { Instant(offset: self.offset + duration) }
        public func duration(to other: Instant) -> Duration { other.offset - self.offset }
        public static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
    }

    let executor: SimulatedExecutor

    public init(executor: SimulatedExecutor) { self.executor = executor }

    public var now: Instant { Instant(offset: .microseconds(self.executor.now)) }
    public var minimumResolution: Duration { .microseconds(1) }

    public func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let (seconds, attoseconds) = deadline.offset.components
        let microseconds = seconds.multipliedReportingOverflow(by: 1_000_000)
        let time = microseconds.overflow ? Int64.max / 2 : microseconds.partialValue + attoseconds / 1_000_000_000_000
        try await self.executor.sleep(until: min(time, Int64.max / 2))
    }
}

extension SimulatedExecutor {
    /// Sleeps to a moment in microseconds, or throws at once when the task is cancelled.
    func sleep(until time: Int64) async throws {
        try Task.checkCancellation()
        guard !self.isEnding else { throw CancellationError() }
        let sleep = SimulatedSleep()
        self.wake(after: time - self.now) { sleep.end() }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { sleep.begin($0) }
        } onCancel: {
            sleep.cancel()
        }
        if sleep.isCancelled { throw CancellationError() }
    }

    func sleep(_ microseconds: Int64) async throws { try await self.sleep(until: self.now + microseconds) }

    /// Lets time pass, whether or not the task is cancelled meanwhile: what takes long and cannot be given up.
    func pass(_ microseconds: Int64) async {
        await withUnsafeContinuation { continuation in self.wake(after: microseconds) { continuation.resume() } }
    }
}

/// One sleep of one task, which ends by the clock or by its cancellation. Most of what a simulation does is this.
final class SimulatedSleep: @unchecked Sendable {  // on the one thread of the simulation
    private var continuation: UnsafeContinuation<Void, Never>?
    private var hasEnded = false
    private(set) var isCancelled = false

    func begin(_ continuation: UnsafeContinuation<Void, Never>) {
        if self.hasEnded { continuation.resume() } else { self.continuation = continuation }
    }

    func end() {
        guard !self.hasEnded else { return }
        self.hasEnded = true
        self.continuation?.resume()
        self.continuation = nil
    }

    func cancel() {
        guard !self.hasEnded else { return }
        self.isCancelled = true
        self.end()
    }
}

/// One value that one task waits for, once; its cancellation ends the wait.
final class SimulatedWait<Value: Sendable>: @unchecked Sendable {  // on the one thread of the simulation
    private enum State {
        case open
        case waiting(CheckedContinuation<Result<Value, any Error>, Never>)
        case done(Result<Value, any Error>)
    }

    private var state = State.open

    var isDone: Bool { if case .done = self.state { true } else { false } }

    func succeed(_ value: Value) { self.finish(.success(value)) }
    func fail(_ error: any Error) { self.finish(.failure(error)) }

    private func finish(_ result: Result<Value, any Error>) {
        switch self.state {
        case .open: self.state = .done(result)
        case .waiting(let continuation):
            self.state = .done(result)
            continuation.resume(returning: result)
        case .done: break
        }
    }

    func value() async throws -> Value {
        try await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                switch self.state {
                case .open: self.state = .waiting(continuation)
                case .waiting: preconditionFailure("two tasks wait for one value")
                case .done(let result): continuation.resume(returning: result)
                }
            }
        } onCancel: {
            self.fail(CancellationError())
        }.get()
    }
}

extension SimulatedProcess {
    /// What a clock that is right shows, in milliseconds since 1970.
    static func wallTime(at now: Int64) -> Int64 { 1_700_000_000_000 + now / 1_000 }

    /// What the real code of this process gets for time and chance.
    public var environment: SyncEnvironment {
        SyncEnvironment(
            clock: SimulatedClock(executor: self.executor), runningTime: { .seconds(3_600) + .microseconds(self.executor.now) },
            wallTime: { Self.wallTime(at: self.executor.now) + (self.wallClock?.offset ?? 0) + self.clockOffset }, random: { self.executor.random() })
    }
}
