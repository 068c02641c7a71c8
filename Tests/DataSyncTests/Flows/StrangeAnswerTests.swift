import DataSync
import Synchronization
import Testing

/// A cloud that answers what it should not. The branch throws, keeps its rows, and does not crash.
@Suite struct StrangeAnswerTests {
    /// Answers one push itself; the rest goes to the cloud.
    private struct StrangeTransport: ForwardingTransport {
        let base: FaultyTransport
        let answer: @Sendable (PushRequest) -> PushAnswer

        func push(_ request: PushRequest) async throws -> PushAnswer { self.answer(request) }
    }

    private static let one = Outcome.applied(version: 1)

    @Test(
        arguments: [
            // No answer for the run.
            { _ in [] },
            // More outcomes than records.
            { _ in [PushRunAnswer(outcomes: Array(repeating: Self.one, count: 9)), PushRunAnswer(outcomes: [Self.one])] },
            // Fewer, and no reason why.
            { _ in [PushRunAnswer(outcomes: [Self.one]), PushRunAnswer(outcomes: [Self.one])] },
            // Behind a record that was not received, one that was.
            { _ in [PushRunAnswer(outcomes: [Self.one], stop: .unsupported), PushRunAnswer(outcomes: [Self.one])] },
            { _ in [PushRunAnswer(stop: .stopped(retryAfter: .zero)), PushRunAnswer(outcomes: [Self.one])] },
        ] as [@Sendable (PushRequest) -> [PushRunAnswer]])
    func anAnswerThatDoesNotFitIsNotBelieved(_ runs: @escaping @Sendable (PushRequest) -> [PushRunAnswer]) async throws {
        var limits = Company.eagerLimits
        limits.manifestRowsMax = 2
        let company = try await Company(branches: [1], limits: limits)
        for id in 1...3 { try await company.write(Item(id: id, text: "x"), .order, at: 1) }
        let agent = try Agent(
            server: 1, storage: company.storage(1),
            transport: StrangeTransport(base: company.agents[1]!.transport) { PushAnswer(runs: runs($0)) }, types: [ItemType.order],
            limits: limits, environment: company.time.environment, logger: .silent)
        let error = await #expect(throws: DataSyncError.self) { try await agent.cycle() }
        #expect(error?.code == .peerInvalid)
        #expect(try await company.outbox(1).map(\.state) == [.new, .new, .new])
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 3)
    }

    @Test func recordsOutOfOrderAreNotTakenIn() async throws {
        struct Pull: ForwardingTransport {
            let base: FaultyTransport
            let runs: [PullRun]
            func pull(_ request: PullRequest) async throws -> PullAnswer { PullAnswer(runs: self.runs) }
            func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer { AcknowledgeAnswer() }
        }
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 9, text: "read before"), .points, at: .cloud)
        try await company.settle()
        let (first, second) = (try Sample.log(.product, 1, place: 1), try Sample.log(.product, 2, place: 2))
        func position(_ number: Int64) -> Position { Position(number: number, fingerprint: .none) }
        let strange: [[PullRun]] = [
            [PullRun(type: 2, records: [second, first], position: position(2))], [PullRun(type: 2, records: [first, first], position: position(2))],
            [PullRun(type: 2, records: [first, second], position: position(1))], [PullRun(type: 3, records: [first], position: position(1))],
            [PullRun(type: 99, records: [], position: position(1))], [PullRun(type: 6, records: [], position: position(0))],
            [PullRun(type: 6, records: [], position: position(-1))],
            [PullRun(type: 2, records: [first], position: position(1)), PullRun(type: 2, records: [second], position: position(2))],
        ]
        for runs in strange {
            let agent = try Agent(
                server: 1, storage: company.storage(1), transport: Pull(base: company.agents[1]!.transport, runs: runs), types: ItemType.all,
                limits: company.limits, environment: company.time.environment, logger: .silent)
            let error = await #expect(throws: DataSyncError.self) { try await agent.cycle() }
            #expect(error?.code == .peerInvalid)
        }
        #expect(try await company.rows(.product, at: 1) == [:])
    }
}
