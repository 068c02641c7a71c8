/// What one cycle of an agent did.
public struct CycleReport: Hashable, Sendable {
    /// Records that the cloud answered for, by what became of them. Duplicates count as what became of the first copy.
    public internal(set) var pushed: [Disposition: Int] = [:]
    /// Records that were taken in, by what became of them here.
    public internal(set) var pulled: [Disposition: Int] = [:]
    /// Types that did not flow, and why.
    public internal(set) var stopped: [BusinessTypeID: String] = [:]
    /// Whether there was more to do when the cycle ended.
    public internal(set) var hasMore = false

    public init() {}

    public var pushedCount: Int { self.pushed.values.reduce(0, +) }
    public var pulledCount: Int { self.pulled.values.reduce(0, +) }
    public var isIdle: Bool { self.pushed.isEmpty && self.pulled.isEmpty }

    /// Takes in what the next cycle did.
    public mutating func add(_ next: CycleReport) {
        self.pushed.merge(next.pushed, uniquingKeysWith: +)
        self.pulled.merge(next.pulled, uniquingKeysWith: +)
        self.stopped = next.stopped
        self.hasMore = next.hasMore
    }

    mutating func count(_ outcomes: [Outcome]) {
        for outcome in outcomes { self.pushed[outcome.disposition, default: 0] += 1 }
    }
}
