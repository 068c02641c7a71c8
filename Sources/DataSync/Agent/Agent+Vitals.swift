import Logging
import Metrics
import Synchronization

extension Agent {
    /// Measures what waits in the outbox, every ``AgentHealthNote/interval``, and raises an alarm where it has waited for too long.
    ///
    /// Gauges, for whatever metrics backend the host has (swift-metrics): `datasync_unsettled_records` and
    /// `datasync_unsettled_oldest_seconds`, with the dimensions `branch` and `type`.
    func measureVitals() async {
        let now = self.environment.runningTime()
        let isDue = self.state.withLock { state in
            if let last = state.lastVitals, now - last < AgentHealthNote.interval { return false }
            state.lastVitals = now
            return true
        }
        guard isDue else { return }
        // Where the database is what is away, the log says so already.
        guard let waiting = try? await self.storage.withTransaction(.snapshot, { try await $0.backlog(unnumberedMax: 1_000) }) else { return }
        let wallTime = self.environment.wallTime()
        for type in Set(waiting.keys).union(self.types.definitions.map(\.id)) {
            let backlog = waiting[type]
            let age = Duration.milliseconds(backlog.map { wallTime.elapsed(since: $0.oldestCreateTime) } ?? 0)
            let dimensions = [("branch", "\(self.id)"), ("type", "\(type)")]
            Gauge(label: "datasync_unsettled_records", dimensions: dimensions).record(backlog?.records ?? 0)
            Gauge(label: "datasync_unsettled_oldest_seconds", dimensions: dimensions).record(age.components.seconds)
            guard self.alarms(type, age: age, at: now), let backlog else { continue }
            self.logger.error(
                "records have been waiting for too long",
                metadata: ["type": "\(type)", "records": "\(backlog.records)", "oldest_seconds": "\(age.components.seconds)"])
        }
    }

    /// Whether to say it now: when the oldest record of the type has waited for `schedule.alarm`, and again each time that it has passed.
    private func alarms(_ type: BusinessTypeID, age: Duration, at now: Duration) -> Bool {
        self.state.withLock { state in
            guard age >= self.schedule.alarm else {
                state.alarmed[type] = nil
                return false
            }
            if let last = state.alarmed[type], now - last < self.schedule.alarm { return false }
            state.alarmed[type] = now
            return true
        }
    }
}
