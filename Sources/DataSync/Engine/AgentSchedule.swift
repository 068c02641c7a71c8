/// When an agent works: by interval, when something is waiting, when it is asked to, and ever more rarely while the cloud
/// cannot be reached.
public struct AgentSchedule: Hashable, Sendable {
    /// From the end of a cycle to the start of the next, give or take a tenth. Zero: back to back.
    public var interval: Duration
    /// How often the branch's own database is asked whether an application put something into the outbox, or somebody
    /// asked for a cycle. Costs no request.
    public var watch: Duration
    /// Waits while cycles fail.
    public var backoff: Backoff
    /// An unsettled record that is older raises an alarm in the log, and another each time this has passed.
    public var alarm: Duration

    public init(
        interval: Duration = .seconds(10), watch: Duration = .milliseconds(200), backoff: Backoff = Backoff(), alarm: Duration = .seconds(3_600)
    ) {
        self.interval = interval
        self.watch = watch
        self.backoff = backoff
        self.alarm = alarm
    }

    /// How long to wait after a cycle.
    /// - Parameters:
    ///   - hasMore: Whether the cycle left work that can be done at once.
    ///   - failures: How many cycles failed in a row; 0 after one that went well.
    ///   - retryAfter: What the cloud asked for.
    ///   - jitter: From 0 up to 1.
    public func delay(hasMore: Bool, failures: Int, retryAfter: Duration? = nil, jitter: Double) -> Duration {
        if failures > 0 {
            let delay = self.backoff.delay(failures: failures, jitter: jitter)
            // Several branches that were told the same time must not all come back at it.
            return retryAfter.map { max(delay, $0 * (1 + 0.2 * jitter)) } ?? delay
        }
        return hasMore ? .zero : self.interval * (0.9 + 0.2 * jitter)
    }
}
