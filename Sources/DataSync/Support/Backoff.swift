/// Waits between attempts that failed: full jitter, so that five hundred branches that lost the same cloud do not come
/// back in the same second.
public struct Backoff: Hashable, Sendable {
    public var base: Duration
    public var max: Duration

    public init(base: Duration = .seconds(1), max: Duration = .seconds(300)) {
        self.base = base
        self.max = max
    }

    /// A wait between a fifth of the step and all of it. The steps double: with a base of 1 s they are 1 s, 2 s, 4 s, …
    /// and, from the ninth failure on, a `max` of 300 s.
    /// - Parameters:
    ///   - failures: How many attempts failed in a row, from 1.
    ///   - jitter: From 0 up to 1.
    public func delay(failures: Int, jitter: Double) -> Duration {
        precondition(failures > 0 && (0..<1).contains(jitter))
        // The exponent is capped, not the product: the product of a long outage would overflow.
        let step = Swift.min(self.base * (1 << Swift.min(failures - 1, 20)), self.max)
        return PlantedBug.isOn(.noJitter) ? step : step * (0.2 + 0.8 * jitter)
    }
}
