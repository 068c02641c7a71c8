import DataSync
import Synchronization

/// Those who wait for somebody else's work: bounded, for each by name and for all, and apart from those who are answered at once.
final class WaitingPlaces: Sendable {
    private let waiting = Mutex<[String: Int]>([:])
    private static let max = 16
    private static let maxOfOne = 4

    /// - Throws: `storageBusy` where too many wait already.
    func wait<Result>(_ name: String, _ body: () async throws -> Result) async throws -> Result {
        let fits = self.waiting.withLock { waiting in
            guard waiting.values.reduce(0, +) < Self.max, waiting[name, default: 0] < Self.maxOfOne else { return false }
            waiting[name, default: 0] += 1
            return true
        }
        guard fits else {
            throw DataSyncError(.storageBusy, operation: "request", detail: "too many wait for the agent already", retryAfter: .seconds(5))
        }
        defer {
            self.waiting.withLock { waiting in
                let count = waiting[name] ?? 1
                waiting[name] = count > 1 ? count - 1 : nil
            }
        }
        return try await body()
    }
}
