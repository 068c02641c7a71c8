/// What some switches of ``PlantedBug`` need.
extension Agent {
    /// Counts against the records of a batch that it did not get through.
    func countFailure(of batch: PushBatch) async throws {
        try await self.unit { transaction in
            let rows = try await transaction.outboxRows(batch.parts.flatMap { $0.entries.map(\.id) })
            try await transaction.updateOutbox(
                rows.map {
                    OutboxSettlement(
                        id: $0.id, type: $0.head.type, synID: $0.synID, state: $0.state, attempts: $0.attempts + 1, reason: .system)
                })
        }
    }
}

extension SyncEnvironment {
    /// The same with timers that go by the wall clock.
    var withWallClockTimers: SyncEnvironment {
        var environment = self
        let wallTime = self.wallTime
        environment.runningTime = { .milliseconds(wallTime()) }
        return environment
    }
}
