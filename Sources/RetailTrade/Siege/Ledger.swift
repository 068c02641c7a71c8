import Synchronization

/// What the applications of a company have written, kept apart from its databases: it says what must be there in the end, also where a
/// database was put back to an older state.
final class Ledger: Sendable {
    private struct State {
        /// Orders in the order in which they were sold, by branch.
        var orders: [Int32: [Int]] = [:]
        /// How often a record was written about an entity.
        var records: [String: Int] = [:]
        /// How often a branch may take in a record about an entity once more.
        var repeats: [Int32: [String: Int]] = [:]
        /// Orders that a database lost when it was put back, and nobody else had.
        var gone: Set<Int> = []
        var lost = 0
        var begun = 0
    }

    private let state = Mutex(State())

    /// How often a record was written about an entity of those whose effects are counted, such as `order:17`.
    var records: [String: Int] { self.state.withLock { $0.records } }
    /// How often a branch may have taken in a record about an entity once more, by branch: see ``mayRepeat(_:at:)``.
    var repeats: [Int32: [String: Int]] { self.state.withLock { $0.repeats } }
    /// How many applications have written what they write once, at the beginning.
    var begunCount: Int { self.state.withLock { $0.begun } }
    var goneCount: Int { self.state.withLock { $0.gone.count } }
    /// Orders that a database lost when it was put back, and that must have come back.
    var lostCount: Int { self.state.withLock { $0.lost } }

    func sold(_ orders: some Sequence<Order>, at branch: Int32) {
        self.state.withLock { state in
            for order in orders {
                state.orders[branch, default: []].append(order.id)
                state.records["order:\(order.id)", default: 0] += 1
            }
        }
    }

    func told(_ products: some Sequence<Product>) {
        self.state.withLock { state in for product in products { state.records["product:\(product.id)", default: 0] += 1 } }
    }

    func begun() { self.state.withLock { $0.begun += 1 } }

    /// Notes what a cloud that was put back hands to a branch again: a state that the branch has and, as far as the copy knows, has not said so.
    func mayRepeat(_ records: [String: Int], at branch: Int32) {
        self.state.withLock { $0.repeats[branch, default: [:]].merge(records, uniquingKeysWith: +) }
    }

    func lost(_ count: Int) { self.state.withLock { $0.lost += count } }

    func lose(_ orders: some Sequence<Int>) { self.state.withLock { $0.gone.formUnion(orders) } }

    /// The orders of a branch that were sold after the first `count`, those that are gone left out.
    func orders(of branch: Int32, after count: Int = 0) -> [Int] {
        self.state.withLock { state in (state.orders[branch] ?? []).dropFirst(count).filter { !state.gone.contains($0) } }
    }

    func count(of branch: Int32) -> Int { self.state.withLock { $0.orders[branch]?.count ?? 0 } }
}

/// Lets applications work, or keeps them out while a database is put back: what they had committed is known by then.
final class Gate: Sendable {
    private let state = Mutex((isClosed: false, inside: 0))

    /// Waits until the gate is open; each must be followed by one ``leave()``.
    func enter() async throws {
        while !self.state.withLock({ state in
            if state.isClosed { return false }
            state.inside += 1
            return true
        }) { try await Task.sleep(for: .milliseconds(20)) }
    }

    func leave() { self.state.withLock { $0.inside -= 1 } }

    /// Lets nobody in any more, and waits until all are out.
    func close() async throws {
        self.state.withLock { $0.isClosed = true }
        while self.state.withLock({ $0.inside > 0 }) { try await Task.sleep(for: .milliseconds(5)) }
    }

    func open() { self.state.withLock { $0.isClosed = false } }
}

/// One at a time: whoever strikes a program or a server, or holds it.
final class Turn: Sendable {
    private let isTaken = Mutex(false)

    func tryTake() -> Bool {
        self.isTaken.withLock { isTaken in
            defer { isTaken = true }
            return !isTaken
        }
    }

    func take() async throws { while !self.tryTake() { try await Task.sleep(for: .milliseconds(5)) } }

    func give() { self.isTaken.withLock { $0 = false } }
}
