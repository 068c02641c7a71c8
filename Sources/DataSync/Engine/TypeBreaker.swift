/// Which business types are stopped by a fault of the system, and when each may be tried again.
///
/// A table that is missing at the receiver must not burn the three tries of ten thousand records, nor stop the other
/// types. So the type stops, counts nothing, and is probed with growing waits until it passes.
public struct TypeBreaker: Sendable {
    private struct Stop {
        var failures: Int
        /// In running time, as all arguments here.
        var until: Duration
        var message: String
    }

    private let backoff: Backoff
    private var stops: [BusinessTypeID: Stop] = [:]

    public init(backoff: Backoff = Backoff()) { self.backoff = backoff }

    /// How long `type` is to be left alone at `time`; nil if it may be tried.
    public func wait(for type: BusinessTypeID, at time: Duration) -> Duration? {
        guard let stop = self.stops[type], stop.until > time else { return nil }
        return stop.until - time
    }

    /// - Returns: How long the type is stopped for.
    @discardableResult
    public mutating func stop(_ type: BusinessTypeID, message: String, at time: Duration, jitter: Double) -> Duration {
        let failures = (self.stops[type]?.failures ?? 0) + 1
        let delay = self.backoff.delay(failures: failures, jitter: jitter)
        self.stops[type] = Stop(failures: failures, until: time + delay, message: message)
        return delay
    }

    /// - Returns: Whether the type was stopped until now.
    @discardableResult
    public mutating func passed(_ type: BusinessTypeID) -> Bool { self.stops.removeValue(forKey: type) != nil }

    /// Every type that has failed and not passed since, with the reason.
    public var stopped: [BusinessTypeID: String] { self.stops.mapValues(\.message) }
}
