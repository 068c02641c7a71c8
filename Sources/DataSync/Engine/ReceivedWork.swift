/// Records that a receiver works on, on either side, as far as whose fault it is that some of them are refused.
protocol ReceivedWork: Sendable {
    var count: Int { get }
    /// What was found to be wrong with single records while they were applied.
    var blamed: [Int: RecordFault] { get }
    /// The types of which a record was applied.
    var passed: Set<BusinessTypeID> { get }
    /// Nil for a number whose row is gone.
    func entity(at index: Int) -> EntityID?
    func line(_ type: BusinessTypeID) -> MemoLine
}

extension ReceivedWork {
    /// Whether so many of a chunk were refused, each at the price of a run, that smaller ones are better: where a whole type is refused,
    /// the first of them fill the room for suspects, and the rest is not tried.
    func isWorthHalving(_ chunk: Range<Int>) -> Bool { chunk.count > 1 && chunk.count { self.blamed[$0] != nil }.isMultiple(of: 16) }

    /// Whether records of other entities than `entities` come after those at `indices`.
    func hasMore(of type: BusinessTypeID, after indices: [Int], than entities: Set<EntityID>) -> Bool {
        guard let last = indices.last else { return false }
        return (last + 1..<self.count).contains { index in
            self.entity(at: index).map { $0.type == type && !entities.contains($0) } ?? false
        }
    }
}
