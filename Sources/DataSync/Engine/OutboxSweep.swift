/// Decides where to look for rows that committed late: with an id below the frontier, after the frontier had passed it.
///
/// Such a row is common while many transactions write, and then it is young: the ids of the last minute are looked at
/// every second. One from a transaction that was open for an hour is rare: the rest is looked at slowly, downwards, in turn. Late
/// rows cost time only. What must be exact, such as whether an entity has a local change, is asked by name.
public struct OutboxSweep: Sendable {
    private var lastSweep: Duration?
    /// Where the frontier was, once a second over the last minute.
    private var history: [(time: Duration, frontier: Int64)] = []
    /// Below it the slow look goes on; 0: at the floor of the young ids.
    private var slowCursor: Int64 = 0

    /// Most ids in one range.
    static let idsMax: Int64 = 5_000
    static let interval: Duration = .seconds(1)
    static let youngAge: Duration = .seconds(60)

    public init() {}

    /// The ranges of ids to look at now: none if it is too soon.
    public mutating func nextRanges(frontier: Int64, at time: Duration) -> [ClosedRange<Int64>] {
        if let lastSweep, time - lastSweep < Self.interval { return [] }
        self.lastSweep = time
        // Nobody knows how old the newest ids are when the first look is taken: they count as young.
        if self.history.isEmpty { self.history.append((time, max(0, frontier - Self.idsMax))) }
        self.history.append((time, frontier))
        // The newest entry that is old enough stays: below it everything has had its minute.
        while self.history.count > 1, time - self.history[1].time >= Self.youngAge { self.history.removeFirst() }
        let youngFloor = max(self.history[0].frontier, frontier - Self.idsMax)
        var ranges: [ClosedRange<Int64>] = []
        if youngFloor < frontier { ranges.append(youngFloor + 1...frontier) }
        if self.slowCursor <= 0 || self.slowCursor > youngFloor { self.slowCursor = youngFloor }
        if self.slowCursor > 0 {
            let start = max(self.slowCursor - Self.idsMax, 0)
            ranges.append(start + 1...self.slowCursor)
            self.slowCursor = start
        }
        return ranges
    }
}
