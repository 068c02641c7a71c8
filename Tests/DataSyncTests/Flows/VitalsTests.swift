@testable import DataSync
import Logging
import Synchronization
import Testing

/// A record that waits for too long is said to, in the log.
@Suite struct VitalsTests {
    /// Keeps what was logged.
    private struct Recorder: LogHandler {
        let lines: Lines
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }
        func log(event: LogEvent) {
            self.lines.all.withLock { $0.append("\(event.level) \(event.message) \(event.metadata?["type"] ?? "")") }
        }
    }

    private final class Lines: Sendable {
        let all = Mutex<[String]>([])
        var alarms: Int { self.all.withLock { $0.count { $0.hasPrefix("error records have been waiting for too long 1") } } }
    }

    @Test func aRecordThatWaitsForTooLongRaisesAnAlarmAgainAndAgain() async throws {
        let time = TestTime()
        let lines = Lines()
        let storage = InMemoryStorage(environment: time.environment)
        try await storage.withTransaction { transaction in
            try await transaction.insertServer(ServerRow(id: 7, name: "b", status: .active))
            try await transaction.appendOutbox([try MemberType().row(for: .upsert(Member(id: 1, name: "ada", isShared: true)))])
        }
        let hub = try Hub(storage: InMemoryStorage(environment: time.environment), types: [MemberType()])
        let agent = try Agent(
            server: 7, storage: storage, transport: InMemoryTransport(hub: hub, branch: 7), types: [MemberType()],
            schedule: AgentSchedule(alarm: .seconds(600)), environment: time.environment,
            logger: Logger(label: "test", factory: { _ in Recorder(lines: lines) }))
        await agent.measureVitals()
        #expect(lines.alarms == 0)
        time.advance(by: .seconds(660))
        await agent.measureVitals()
        #expect(lines.alarms == 1)
        // Not in every round.
        time.advance(by: .seconds(60))
        await agent.measureVitals()
        #expect(lines.alarms == 1)
        time.advance(by: .seconds(600))
        await agent.measureVitals()
        #expect(lines.alarms == 2)
    }
}
