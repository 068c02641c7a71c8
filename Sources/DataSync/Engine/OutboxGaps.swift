/// Which ids below the frontier had no committed row when they were last looked at.
///
/// A transaction that took such an id may commit after the frontier has passed it, and then another one change the same entity,
/// with an id above the frontier. Numbered as they are found, the newer change would go first. So before rows above the frontier
/// get numbers, these ids are looked at once more: what has committed there comes before.
public struct OutboxGaps: Sendable {
    private struct Gap {
        var ids: ClosedRange<Int64>
        var time: Duration
    }

    private var gaps: [Gap] = []
    /// Up to where the gaps are known; nil in a process that has just begun.
    private var known: Int64?

    /// How far below the frontier is looked where nothing is known.
    static let idsMax: Int64 = 5_000
    /// Each costs a question in every step that numbers something.
    static let gapsMax = 16
    /// For how long an id that is missing is asked for in every step. Most belong to transactions that were rolled back; the
    /// sweep finds the others.
    static let age: Duration = .seconds(60)

    public init() {}

    /// The ranges to look at before rows above `frontier` get numbers.
    public func rangesToLookAt(frontier: Int64) -> [ClosedRange<Int64>] {
        var ranges = self.gaps.map(\.ids).filter { $0.upperBound <= frontier }
        let floor = max(self.known ?? 0, frontier - Self.idsMax, 0)
        if floor < frontier { ranges.append(floor + 1...frontier) }
        return ranges
    }

    /// Takes in what a step found.
    /// - Parameters:
    ///   - ranges: Where it looked, ascending.
    ///   - present: The ids of all rows there, ascending.
    ///   - last: Where the frontier is now.
    public mutating func looked(at ranges: [ClosedRange<Int64>], present: [Int64], last: Int64, at time: Duration) {
        let old = self.gaps
        self.gaps = []
        var rows = present[...]
        for range in ranges {
            rows = rows.drop { $0 < range.lowerBound }
            var next = range.lowerBound
            while let row = rows.first, row <= range.upperBound {
                if next < row { self.add(next...row - 1, old, time) }
                next = row + 1
                rows = rows.dropFirst()
            }
            if next <= range.upperBound { self.add(next...range.upperBound, old, time) }
        }
        while self.gaps.count > Self.gapsMax {
            let second = self.gaps.remove(at: 1)
            self.gaps[0] = Gap(ids: self.gaps[0].ids.lowerBound...second.ids.upperBound, time: max(self.gaps[0].time, second.time))
        }
        self.known = last
    }

    private mutating func add(_ ids: ClosedRange<Int64>, _ old: [Gap], _ time: Duration) {
        let since = old.first { $0.ids.overlaps(ids) }?.time ?? time
        if time - since < Self.age { self.gaps.append(Gap(ids: ids, time: since)) }
    }
}
