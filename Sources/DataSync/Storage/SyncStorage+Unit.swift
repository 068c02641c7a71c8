extension SyncStorage {
    /// Runs one of DataSync's own units: again after a rollback that may not happen twice, and again after a commit whose
    /// outcome is unknown. Every unit is written so that its second run finds what the first one left.
    ///
    /// - Throws: `storageBusy` after `attemptsMax` attempts, or the unit's error.
    func runUnit<Result: Sendable>(
        attemptsMax: Int, _ environment: SyncEnvironment, _ body: (Transaction) async throws -> Result
    ) async throws -> Result {
        var attempt = 1
        var last: Result?
        while true {
            do {
                return try await self.withTransaction(.write) { transaction in
                    let result = try await body(transaction)
                    if PlantedBug.isOn(.unknownCommitIsDone) { last = result }
                    return result
                }
            } catch let error as DataSyncError where error.code.isWorthRunningAgain && attempt < attemptsMax {
                if error.code == .commitUnknown, let last { return last }
                attempt += 1
                // 20 to 500 ms: the two that met must not meet again.
                try await environment.clock.sleep(for: .milliseconds(20 + 480 * environment.jitter()))
            }
        }
    }
}
