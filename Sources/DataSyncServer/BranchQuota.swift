import DataSync

/// What each branch has asked for lately, and whether it may ask for more: requests by the minute, bytes of bodies by the day.
///
/// Each is a bucket that holds as much as the time allows and runs empty in that time: so a branch that was silent may have all of it at once,
/// and one that is at its bound goes on as fast as the bound allows. What is refused fills nothing, or who asks in vain would never be let in again.
struct BranchQuota: Sendable {
    /// What there was too much of.
    enum Excess: String, Sendable {
        case requests, bytes
    }

    struct Refusal: Error, Hashable {
        var excess: Excess
        var retryAfter: Duration
        /// Whether it is to be said in the log: once in a while for each branch, however often it asks.
        var isWorthALine: Bool
    }

    /// Runs empty evenly.
    private struct Bucket {
        let max: Double
        /// In seconds, from full.
        let period: Double
        var level = 0.0
        var time: Duration?

        /// How long until there is room for anything; nil if there is.
        mutating func wait(at now: Duration) -> Duration? {
            if let time, now > time { self.level = Swift.max(0, self.level - (now - time) / .seconds(1) * self.max / self.period) }
            self.time = Swift.max(self.time ?? now, now)
            // What comes in may go beyond the bound once: a body that is larger than what is left would else never fit.
            guard self.level >= self.max else { return nil }
            return .milliseconds(Int64(((self.level - self.max) * self.period / self.max * 1_000).rounded(.up)) + 1)
        }

        var isEmpty: Bool { self.level == 0 }
    }

    private struct Use {
        var requests: Bucket
        var bytes: Bucket
        var lastLine: Duration?
    }

    private let requestsMax: Int
    private let bytesMax: Int
    private var uses: [ServerID: Use] = [:]
    private static let lineEvery: Duration = .seconds(60)
    private static let branchesMax = 10_000

    init(requestsPerMinute: Int, bytesPerDay: Int) {
        self.requestsMax = requestsPerMinute
        self.bytesMax = bytesPerDay
    }

    /// Takes in one request of `branch`, if it may have one.
    /// - Parameter now: Running time.
    mutating func take(bytes: Int, of branch: ServerID, at now: Duration) throws(Refusal) {
        var use =
            self.uses[branch]
            ?? Use(requests: Bucket(max: Double(self.requestsMax), period: 60), bytes: Bucket(max: Double(self.bytesMax), period: 86_400))
        defer { self.uses[branch] = use }
        for (excess, wait) in [(Excess.requests, use.requests.wait(at: now)), (.bytes, use.bytes.wait(at: now))] {
            guard let wait else { continue }
            let isWorthALine = use.lastLine.map { now - $0 >= Self.lineEvery } ?? true
            if isWorthALine { use.lastLine = now }
            throw Refusal(excess: excess, retryAfter: wait, isWorthALine: isWorthALine)
        }
        use.requests.level += 1
        use.bytes.level += Double(bytes)
        if self.uses.count >= Self.branchesMax { self.forgetIdle(at: now) }
    }

    /// For tests.
    var branchCount: Int { self.uses.count }

    /// Nothing is lost by that: who has an empty bucket is as one who never asked.
    private mutating func forgetIdle(at now: Duration) {
        for (branch, var use) in self.uses {
            _ = (use.requests.wait(at: now), use.bytes.wait(at: now))
            if use.requests.isEmpty, use.bytes.isEmpty { self.uses[branch] = nil }
        }
    }
}
