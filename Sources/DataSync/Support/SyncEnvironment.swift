import FoundationEssentials

/// Time and chance, as the drivers get them: real ones in a program, a seed's in a simulation.
public struct SyncEnvironment: Sendable {
    /// For every wait.
    public var clock: any Clock<Duration>
    /// Milliseconds since 1970. Decides nothing that matters: it is shown, and measures ages.
    public var wallTime: @Sendable () -> Int64
    public var random: @Sendable () -> UInt64
    /// Running time since some moment before the first call; never goes back.
    public var runningTime: @Sendable () -> Duration
    #if DEBUG
        /// What a test does where a process passes a labelled point; nil in all but a test's own processes.
        package var atPoint: (@Sendable (CrashPoint) async -> Void)?
    #endif

    public init(
        clock: any Clock<Duration>, runningTime: @escaping @Sendable () -> Duration,
        wallTime: @escaping @Sendable () -> Int64, random: @escaping @Sendable () -> UInt64
    ) {
        self.clock = clock
        self.runningTime = runningTime
        self.wallTime = wallTime
        self.random = random
    }

    private static let start = ContinuousClock.now

    /// The machine's clocks and generator.
    public static let system = SyncEnvironment(
        clock: ContinuousClock(),
        runningTime: {
            // An hour ahead, so that nothing needs a special case for the first seconds.
            .seconds(3_600) + Self.start.duration(to: .now)
        },
        wallTime: {
            Int64((Date.timeIntervalSinceReferenceDate + Date.timeIntervalBetween1970AndReferenceDate) * 1_000)
        },
        random: {
            var generator = SystemRandomNumberGenerator()
            return generator.next()
        })

    /// A fingerprint for what one transaction numbers.
    func fingerprint() -> Fingerprint {
        var generator = self
        return Fingerprint(using: &generator)
    }

    /// A number from 0 up to 1.
    package func jitter() -> Double { Double(self.random() >> 11) / Double(1 << 53) }
}

extension SyncEnvironment: RandomNumberGenerator {
    public mutating func next() -> UInt64 { self.random() }
}
