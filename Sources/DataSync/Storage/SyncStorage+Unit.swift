extension SyncStorage {
    /// Runs one of DataSync's own units: again after a rollback that may not happen twice, and again after a commit whose
    /// outcome is unknown. Every unit is written so that its second run finds what the first one left.
    ///
    /// - Throws: `storageBusy` after `attemptsMax` attempts, or the unit's error. Where it was a handler that met rows that others work
    ///   on, its type is what stops, with a ``ChunkSetback``.
    func runUnit<Result: Sendable>(
        attemptsMax: Int, _ environment: SyncEnvironment, _ body: (Transaction) async throws -> Result
    ) async throws -> Result {
        var attempt = 1
        var last: Result?
        while true {
            let start = environment.runningTime()
            do {
                return try await self.withTransaction(.write) { transaction in
                    let result = try await body(transaction)
                    if PlantedBug.isOn(.unknownCommitIsDone) { last = result }
                    return result
                }
            } catch let error as DataSyncError where error.code.isWorthRunningAgain && attempt < attemptsMax {
                if error.code == .commitUnknown, let last { return last }
            } catch let busy as BusyHandler {
                let hasWaited = environment.runningTime() - start >= BusyHandler.lockWait
                guard attempt < attemptsMax, !hasWaited else { throw ChunkSetback.systemFault(busy.type, busy.error) }
            }
            attempt += 1
            // 20 to 500 ms: the two that met must not meet again.
            try await environment.clock.sleep(for: .milliseconds(20 + 480 * environment.jitter()))
        }
    }
}

/// A handler met rows that others work on: a deadlock, or a lock that was not to be had.
struct BusyHandler: Error {
    /// What takes so long was waiting for a lock. Whoever holds it for that time will not let go at once, and the other types of a
    /// request need not wait for it again and again. Two that met in a deadlock have hardly waited.
    static let lockWait: Duration = .seconds(3)

    var type: BusinessTypeID
    var error: DataSyncError
}
