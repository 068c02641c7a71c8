/// What a branch holds of consecutive entities, as it asks the cloud about it.
struct ComparedPage: Sendable {
    private struct Part: Sendable {
        var range: EntityRange
        var held: [EntityPlace: StateDigest]
        var digest: StateDigest
    }

    /// Where to go on.
    enum Next: Hashable, Sendable {
        case from(EntityPlace)
        case done
    }

    struct Difference: Sendable {
        /// What differs, perhaps because it is on its way.
        var suspects: [EntityPlace] = []
        /// How many entities there are of which at least one side holds something.
        var compared = 0
        var next = Next.done
    }

    /// Most entities of one range, and most ranges of one question.
    static let rangeEntitiesMax = 200
    static let rangesMax = 16
    static var entitiesMax: Int { self.rangeEntitiesMax * self.rangesMax }

    private var parts: [Part] = []

    /// - Parameters:
    ///   - states: What this branch knows of, by place.
    ///   - digests: Of those of which the tables hold something.
    ///   - after: Where the page begins.
    ///   - isLast: Whether nothing is known of behind these: then the page goes to the end.
    init(_ states: [EntityState], digests: [EntityID: StateDigest], after: EntityPlace?, isLast: Bool) {
        var start = 0
        var after = after
        repeat {
            let part = states[start..<min(start + Self.rangeEntitiesMax, states.count)]
            start = part.endIndex
            let end = isLast && start == states.count ? nil : part.last.map { EntityPlace($0.id) }
            let present = part.compactMap { state in digests[state.id].map { (place: EntityPlace(state.id), digest: $0) } }
            self.parts.append(
                Part(
                    range: EntityRange(after: after, upTo: end), held: Dictionary(uniqueKeysWithValues: present.map { ($0.place, $0.digest) }),
                    digest: StateDigest(of: present)))
            after = end
        } while start < states.count
    }

    var ranges: [ComparedRange] { self.parts.map { ComparedRange(range: $0.range, count: $0.held.count, digest: $0.digest) } }

    /// - Throws: `peerInvalid` for an answer that does not fit.
    func difference(from answer: CompareAnswer) throws(DataSyncError) -> Difference {
        func refuse() -> DataSyncError {
            DataSyncError(.peerInvalid, operation: "compare", detail: "the answer does not fit the ranges that were asked about")
        }
        guard (1...self.parts.count).contains(answer.ranges.count) else { throw refuse() }
        var difference = Difference()
        for (part, told) in zip(self.parts, answer.ranges) {
            if let end = told.end ?? part.range.upTo { difference.next = .from(end) } else { difference.next = .done }
            guard let entries = told.entries else {
                difference.compared += part.held.count
                continue
            }
            let isOrdered = zip(entries, entries.dropFirst()).allSatisfy { $0.place < $1.place }
            let range = EntityRange(after: part.range.after, upTo: told.end ?? part.range.upTo)
            guard isOrdered, entries.allSatisfy({ range.contains($0.place) }), told.end.map({ part.range.contains($0) }) ?? true else { throw refuse() }
            let here = part.held.filter { range.contains($0.key) }
            let there = entries.reduce(into: [:]) { $0[$1.place] = $1.digest }
            let places = Set(here.keys).union(there.keys)
            difference.compared += places.count
            difference.suspects += places.filter { here[$0] != there[$0] }.sorted()
            // The rest of the range, and those behind it, are asked about anew.
            if told.end != nil { break }
        }
        return difference
    }
}
