/// When what is kept for the retention was last looked through.
struct Retention: Sendable {
    private var last: Duration?

    static let interval: Duration = .seconds(3_600)

    /// Whether it is time, in running time of the process. If it is, it is taken as done: what fails is done the next time.
    mutating func isDue(at time: Duration) -> Bool {
        if let last, time - last < Self.interval { return false }
        self.last = time
        return true
    }
}

extension SyncTransaction {
    /// Removes some of what is older than the retention: settled rows with their manifests, and receipts.
    /// - Returns: How many manifests, receipts and uids were removed; 0 when nothing is left to do.
    func removeOld(_ limits: SyncLimits, age: Int64) async throws -> Int {
        let time = age - limits.retention.milliseconds
        guard time > 0 else { return 0 }
        // Little at a time: an application that inserts must not wait for it.
        return try await self.removeSentManifests(before: time, limit: 4) + self.removeReceipts(before: time, limit: 500)
    }
}
