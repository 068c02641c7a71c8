import DataSync

/// The way to the database for those who have proven nothing yet: a few at a time, some more that wait, and the rest is sent away.
///
/// Who is known does not come by here: however many strangers there are, the connections to the database are for the others.
final class StrangerGate: Sendable {
    private static let atOnce = 2
    private static let queueMax = 30

    /// One address does not fill the queue.
    private let places = BoundedPlaces(StrangerGate.atOnce + StrangerGate.queueMax, ofOne: 8)
    private let turns = AsyncSemaphore(StrangerGate.atOnce)

    /// - Parameter source: The address that it comes from.
    /// - Throws: `storageBusy` where too many are at it.
    func pass<Result>(from source: String, _ body: () async throws -> Result) async throws -> Result {
        let full = DataSyncError(.storageBusy, operation: "stranger", detail: "too many who are not known at a time", retryAfter: .seconds(2))
        return try await self.places.taking(source, else: full) {
            try await self.turns.wait()
            defer { self.turns.signal() }
            return try await body()
        }
    }
}
