import DataSync
import Foundation
import Synchronization

/// Hashes passwords: so many at a time and no more, on threads of its own, whatever is asked.
///
/// A hash takes 128 MiB and holds a processor for some tenths of a second. Who logs in, or tries to, uses neither the memory nor the
/// threads that branches are answered by; what does not fit into the queue is sent away.
public final class PasswordHasher: Sendable {
    public let cost: PasswordCost
    private let places: BoundedPlaces
    private let turns: AsyncSemaphore
    private let count = Atomic(0)

    /// - Parameters:
    ///   - atOnce: Hashes at a time.
    ///   - queueMax: How many more may wait for their turn.
    public init(cost: PasswordCost = .standard, atOnce: Int = 2, queueMax: Int = 16) {
        precondition(atOnce > 0 && queueMax >= 0)
        self.cost = cost
        self.places = BoundedPlaces(atOnce + queueMax, ofOne: max(1, (atOnce + queueMax) / 4))
        self.turns = AsyncSemaphore(atOnce)
    }

    /// How many hashes were computed.
    package var runs: Int { self.count.load(ordering: .relaxed) }

    /// Runs `body` when it is its turn. All that a login does is done in its turn: so no more of them are at the database at a time
    /// than hashes are computed.
    /// - Parameter source: Where it comes from; nil for this machine itself. One source has a quarter of the queue.
    /// - Throws: `storageBusy` when the queue is full.
    func withTurn<Result>(from source: String?, _ body: (PasswordHasher) async throws -> Result) async throws -> Result {
        let full = DataSyncError(.storageBusy, operation: "password", detail: "too many logins at a time", retryAfter: .seconds(5))
        return try await self.places.taking(source, else: full) {
            try await self.turns.wait()
            defer { self.turns.signal() }
            return try await body(self)
        }
    }

    /// A new hash, with a salt of its own. To be called within a turn.
    func hash(_ password: Secret<String>) async throws -> Secret<String> {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<PasswordHash.saltBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let cost = self.cost
        return try await self.compute { try PasswordHash(of: password, salt: salt, cost: cost) }.text
    }

    /// Whether this is the password. One hash is computed, whatever there is to compare it with: who does not exist takes as long as who
    /// does. To be called within a turn.
    func isRight(_ password: Secret<String>, for stored: Secret<String>?) async throws -> (isRight: Bool, isOld: Bool) {
        let known = stored.flatMap { PasswordHash(text: $0) }
        let salt = known?.salt ?? Array(repeating: 0, count: PasswordHash.saltBytes)
        let cost = known?.cost ?? self.cost
        let hash = try await self.compute { try PasswordHash(of: password, salt: salt, cost: cost) }
        guard let known else { return (false, false) }
        return (known.equals(hash), known.cost != self.cost)
    }

    private func compute(_ body: @escaping @Sendable () throws -> PasswordHash) async throws -> PasswordHash {
        self.count.add(1, ordering: .relaxed)
        return try await withCheckedThrowingContinuation { continuation in
            // Not by a queue: Dispatch has one thread for each processor as long as they are busy, and all that is asynchronous here shares them.
            Thread.detachNewThread {
                // On Linux that is this thread's own (setpriority(2), "C library/kernel differences"): a login can wait, a branch's record not.
                setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 5)
                continuation.resume(with: Result { try body() })
            }
        }
    }
}
