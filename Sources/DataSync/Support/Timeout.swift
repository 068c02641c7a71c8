/// Runs `body` for at most `duration`, then cancels it.
///
/// - Returns: What `body` returned; nil if it did not end in time. If `body` returns in the moment of its cancellation,
///   that counts.
public func withTimeout<Result: Sendable>(
    _ duration: Duration, clock: any Clock<Duration> = ContinuousClock(),
    _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result? {
    try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try? await clock.sleep(for: duration)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next() else { return nil }
        if let first { return first }
        group.cancelAll()
        // The time is over; what `body` makes of its cancellation decides.
        do { return try await group.next() ?? nil } catch is CancellationError {
            try Task.checkCancellation()
            return nil
        }
    }
}
