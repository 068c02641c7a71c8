import DataSync
import Synchronization

/// The way to the database for those who have proven nothing yet: a few at a time, some more that wait, and the rest is sent away.
///
/// Who is known does not come by here: however many strangers there are, the connections to the database are for the others.
final class StrangerGate: Sendable {
    private struct Places {
        var taken = 0
        var bySource: [String: Int] = [:]
    }

    private static let atOnce = 2
    private static let queueMax = 30
    /// One address does not fill the queue.
    private static let maxOfOne = 8

    private let places = Mutex(Places())
    private let turns = AsyncSemaphore(StrangerGate.atOnce)

    /// - Parameter source: The address that it comes from.
    /// - Throws: `storageBusy` where too many are at it.
    func pass<Result>(from source: String, _ body: () async throws -> Result) async throws -> Result {
        let isIn = self.places.withLock { places in
            guard places.taken < Self.atOnce + Self.queueMax, places.bySource[source, default: 0] < Self.maxOfOne else { return false }
            places.taken += 1
            places.bySource[source, default: 0] += 1
            return true
        }
        guard isIn else {
            throw DataSyncError(.storageBusy, operation: "stranger", detail: "too many who are not known at a time", retryAfter: .seconds(2))
        }
        defer {
            self.places.withLock { places in
                places.taken -= 1
                let count = places.bySource[source] ?? 1
                places.bySource[source] = count > 1 ? count - 1 : nil
            }
        }
        try await self.turns.wait()
        defer { self.turns.signal() }
        return try await body()
    }
}
