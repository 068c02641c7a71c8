#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs every job of a simulated fleet on the calling thread, in an order that a seed chooses, in virtual time.
///
/// The real asynchronous code runs in it: whatever the real scheduler could do between two suspensions, some seed does.
/// Nothing in the fleet may leave it: no unstructured task without a ``SimulatedProcess``, no executor of its own, no real clock.
public final class SimulatedExecutor: @unchecked Sendable {  // one thread by construction
    private struct ReadyJob {
        var job: UnownedJob
        var process: SimulatedProcess
    }

    private struct Timer {
        var time: Int64
        var number: UInt64
        var wake: () -> Void
    }

    private var ready: [ReadyJob] = []
    /// By time, the next one last.
    private var timers: [Timer] = []
    private var nextTimer: UInt64 = 0
    private var generator: SeededGenerator
    private var processes: [SimulatedProcess] = []

    /// Microseconds since the beginning.
    public private(set) var now: Int64 = 0
    public private(set) var steps = 0
    /// Of every choice that was made: the same for the same seed and the same code.
    public private(set) var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    /// Set when the fleet is taken down: whoever waits gives up at once.
    private(set) var isEnding = false

    private let thread = pthread_self()

    public init(seed: UInt64) { self.generator = SeededGenerator(seed: seed) }

    // MARK: - Chance

    public func random() -> UInt64 { self.generator.next() }
    func random(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self.generator) }
    func random(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &self.generator) }
    /// Whether something happens that happens so often in a million times.
    func happens(_ perMillion: Int) -> Bool { perMillion > 0 && self.random(1...1_000_000) <= perMillion }
    func pick<Element>(_ elements: [Element]) -> Element { elements[self.random(0...elements.count - 1)] }

    func note(_ value: UInt64) { self.digest = (self.digest ^ value) &* 0x100_0000_01B3 }

    // MARK: - Jobs

    /// A process of the fleet: what belongs to it dies with it.
    public func makeProcess(_ name: String) -> SimulatedProcess {
        let process = SimulatedProcess(name: name, number: self.processes.count, executor: self)
        self.processes.append(process)
        return process
    }

    fileprivate func enqueue(_ job: UnownedJob, of process: SimulatedProcess) {
        precondition(pthread_equal(self.thread, pthread_self()) != 0, "something left the simulation and comes back on another thread")
        if process.isRunning || self.isEnding { self.ready.append(ReadyJob(job: job, process: process)) } else { process.held.append(job) }
    }

    fileprivate func hold(_ process: SimulatedProcess) {
        process.held += self.ready.filter { $0.process === process }.map(\.job)
        self.ready.removeAll { $0.process === process }
    }

    fileprivate func release(_ process: SimulatedProcess) {
        self.ready += process.held.map { ReadyJob(job: $0, process: process) }
        process.held = []
    }

    // MARK: - Time

    func wake(after microseconds: Int64, _ wake: @escaping () -> Void) {
        let time = self.now + max(microseconds, 0)
        self.nextTimer += 1
        var (low, high) = (0, self.timers.count)
        while low < high {
            let middle = (low + high) / 2
            if self.timers[middle].time > time { low = middle + 1 } else { high = middle }
        }
        self.timers.insert(Timer(time: time, number: self.nextTimer, wake: wake), at: low)
    }

    // MARK: - Running

    /// Runs until `isDone`, or until so many steps have been made, or until nothing is left to do.
    /// - Returns: Whether it is done.
    @discardableResult
    public func run(stepsMax: Int, until isDone: () -> Bool) -> Bool {
        let last = self.steps + stepsMax
        while !isDone() {
            guard self.steps < last else { return false }
            while let timer = self.timers.last, timer.time <= self.now {
                self.timers.removeLast()
                timer.wake()
            }
            guard !self.ready.isEmpty else {
                guard let next = self.timers.last else { return isDone() }
                self.now = next.time
                continue
            }
            let index = self.random(0...self.ready.count - 1)
            self.ready.swapAt(index, self.ready.count - 1)
            let next = self.ready.removeLast()
            self.steps += 1
            self.note(UInt64(truncatingIfNeeded: self.now) &* 31 &+ UInt64(next.process.number) &* 7 &+ UInt64(self.ready.count))
            // Work takes time, or nothing else could happen meanwhile.
            self.now += self.random(Int64(1)...400)
            next.job.runSynchronously(on: next.process.asUnownedTaskExecutor())
        }
        return true
    }

    /// Lets every task of the fleet come to its end, so that nothing of it remains in memory.
    public func end() {
        self.isEnding = true
        for process in self.processes {
            process.roots.forEach { $0.cancel() }
            self.release(process)
        }
        for _ in 0..<200 {
            let (woken, jobs) = (self.timers, self.ready)
            self.timers = []
            for timer in woken { timer.wake() }
            if woken.isEmpty, jobs.isEmpty { break }
            for _ in 0..<100_000 {
                guard let next = self.ready.popLast() else { break }
                next.job.runSynchronously(on: next.process.asUnownedTaskExecutor())
            }
        }
        // They hold each other, and the fleet through what they were to tell.
        for process in self.processes {
            process.roots = []
            process.obituaries = []
        }
        self.processes = []
    }
}

/// The wall clock of one machine.
final class SimulatedWallClock {
    /// How far it is from the truth, in milliseconds.
    var offset: Int64

    init(offset: Int64) { self.offset = offset }
}

/// A process of the simulated fleet, from its start to its death. A new start is a new process.
public final class SimulatedProcess: TaskExecutor, @unchecked Sendable {  // on the one thread of its executor
    public let name: String
    let number: Int
    public let executor: SimulatedExecutor
    fileprivate var held: [UnownedJob] = []
    fileprivate var roots: [Task<Void, Never>] = []
    /// What to tell when it dies: as the peers of its connections learn it.
    fileprivate var obituaries: [() -> Void] = []
    public private(set) var isDead = false
    public private(set) var isPaused = false
    /// Whether it came to its end by itself.
    public var hasEnded = false
    /// The clock of its machine, which all processes there share.
    var wallClock: SimulatedWallClock?
    /// How far its wall clock is off besides, in milliseconds.
    public var clockOffset: Int64 = 0

    fileprivate init(name: String, number: Int, executor: SimulatedExecutor) {
        self.name = name
        self.number = number
        self.executor = executor
    }

    var isRunning: Bool { !self.isDead && !self.isPaused }

    public func enqueue(_ job: consuming ExecutorJob) { self.executor.enqueue(UnownedJob(job), of: self) }

    /// Starts a task of this process.
    public func start(_ body: @escaping @Sendable () async -> Void) {
        self.roots.append(Task(executorPreference: self) { await body() })
    }

    func whenDead(_ tell: @escaping () -> Void) { self.obituaries.append(tell) }

    /// Dies at once, between any two steps: nothing of it runs again, and nothing is cleaned up.
    public func kill() {
        guard !self.isDead else { return }
        self.isDead = true
        self.executor.hold(self)
        let obituaries = self.obituaries
        self.obituaries = []
        obituaries.forEach { $0() }
    }

    /// Stands still until ``resume()``, while time goes on.
    public func pause() {
        guard self.isRunning else { return }
        self.isPaused = true
        self.executor.hold(self)
    }

    public func resume() {
        guard self.isPaused else { return }
        self.isPaused = false
        if !self.isDead { self.executor.release(self) }
    }
}
