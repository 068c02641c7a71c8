/// How large a batch may be: the whole of what the limits allow on a good link, less and less on one that is cut before a
/// batch gets through, so that every short time of being up brings some records over.
struct PushWindow: Hashable, Sendable {
    /// Halvings of the limits.
    private var halvings = 0

    /// A thousand records become eight.
    static let halvingsMax = 7

    mutating func shrink() { self.halvings = min(self.halvings + 1, Self.halvingsMax) }
    mutating func grow() { self.halvings = max(self.halvings - 1, 0) }

    /// The share of `limit` that is allowed now, at least 1.
    func share(of limit: Int) -> Int { max(limit >> self.halvings, 1) }
}
