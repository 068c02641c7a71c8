public import DataSync

/// What goes wrong between the branches and the cloud, in a million requests.
public struct LinkFaults: Sendable {
    public var lostRequest = 0
    /// The cloud has done it, and nobody knows.
    public var lostAnswer = 0
    /// Two copies arrive, at one replica or at two.
    public var duplicate = 0
    /// A request or an answer is on its way for up to two minutes.
    public var delay = 0
    /// An answer comes in place of another one. Its signature does not fit, so both are lost.
    public var swap = 0

    public init() {}
}

/// The request that a task of the cloud works on.
enum SimulatedRequest {
    /// What it was sent under.
    @TaskLocal static var session: Int64?
    /// Which machine opens a session by it.
    @TaskLocal static var host: String?
}

/// The cloud's replicas behind their load balancer, as branches reach them.
public final class SimulatedNetwork: @unchecked Sendable {  // on the one thread of the simulation
    struct Replica {
        var process: SimulatedProcess
        var hub: Hub<SimulatedStorage>
    }

    let executor: SimulatedExecutor
    let log: SimulationLog
    public var faults = LinkFaults()
    var replicas: [Replica] = []
    /// Branches whose line is down.
    var offline: Set<ServerID> = []
    public private(set) var requests = 0
    private var underWay: [(number: Int, fail: () -> Void)] = []

    public init(executor: SimulatedExecutor, log: SimulationLog) {
        self.executor = executor
        self.log = log
    }

    private func happens(_ perMillion: Int, _ what: String) -> Bool {
        guard self.executor.happens(perMillion) else { return false }
        self.log.fault(what)
        return true
    }

    private static var deadline: Int64 { 30_000_000 }
    private func travelTime() -> Int64 {
        self.happens(self.faults.delay, "delay") ? self.executor.random(Int64(100_000)...120_000_000) : self.executor.random(Int64(200)...20_000)
    }

    func call<Answer: Sendable>(
        from branch: ServerID, session: Int64?, host: String? = nil, operation: StaticString,
        _ handle: @escaping @Sendable (InMemoryTransport<SimulatedStorage>) async throws -> Answer
    ) async throws -> Answer {
        self.requests += 1
        let wait = SimulatedWait<Answer>()
        let unreachable = DataSyncError(.peerUnreachable, operation: operation)
        self.executor.wake(after: Self.deadline) { wait.fail(unreachable) }
        let number = self.requests
        self.underWay.append((number, { wait.fail(unreachable) }))
        defer { self.underWay.removeAll { $0.number == number } }
        for _ in 0..<(self.happens(self.faults.duplicate, "duplicate") ? 2 : 1) {
            if self.happens(self.faults.lostRequest, "lost request") {
                self.cut(wait, unreachable)
                continue
            }
            self.executor.wake(after: self.travelTime()) { self.arrive(from: branch, session, host, wait, unreachable, handle) }
        }
        return try await wait.value()
    }

    private func arrive<Answer: Sendable>(
        from branch: ServerID, _ session: Int64?, _ host: String?, _ wait: SimulatedWait<Answer>, _ unreachable: DataSyncError,
        _ handle: @escaping @Sendable (InMemoryTransport<SimulatedStorage>) async throws -> Answer
    ) {
        if self.offline.contains(branch) { return }
        let alive = self.replicas.filter { !$0.process.isDead }
        guard !alive.isEmpty else { return wait.fail(unreachable) }
        let replica = self.executor.pick(alive)
        let transport = InMemoryTransport(hub: replica.hub, branch: branch)
        let answered = SimulatedWait<Void>()
        replica.process.whenDead {
            // The connection is reset, if there was one: the answer may be on its way.
            if !answered.isDone { wait.fail(unreachable) }
        }
        replica.process.start {
            await SimulatedRequest.$session.withValue(session) {
                await SimulatedRequest.$host.withValue(host) {
                    let result: Result<Answer, any Error>
                    do { result = .success(try await handle(transport)) } catch { result = .failure(error) }
                    answered.succeed(())
                    self.answer(result, to: branch, wait)
                }
            }
        }
    }

    /// What was sent is lost. Most often the connection is reset, and who waits learns it; else it waits until its deadline.
    private func cut<Answer: Sendable>(_ wait: SimulatedWait<Answer>, _ unreachable: DataSyncError) {
        if self.executor.random(0...3) == 0 { return }
        self.executor.wake(after: self.executor.random(Int64(200)...20_000)) { wait.fail(unreachable) }
    }

    private func answer<Answer: Sendable>(_ result: Result<Answer, any Error>, to branch: ServerID, _ wait: SimulatedWait<Answer>) {
        if self.happens(self.faults.lostAnswer, "lost answer") {
            return self.cut(wait, DataSyncError(.peerUnreachable, operation: "answer"))
        }
        if self.happens(self.faults.swap, "swap") {
            if let other = self.underWay.last { other.fail() }
            return
        }
        self.executor.wake(after: self.travelTime()) {
            if self.offline.contains(branch) { return }
            switch result {
            case .success(let answer): wait.succeed(answer)
            case .failure(let error): wait.fail(error)
            }
        }
    }
}

/// How an agent of the fleet reaches the cloud: it loses requests and answers, doubles, delays and swaps them.
public struct SimulatedLink: SyncTransport {
    let network: SimulatedNetwork
    let branch: ServerID

    public func open(_ request: OpenRequest) async throws -> OpenAnswer {
        try await self.network.call(from: self.branch, session: nil, host: request.host, operation: "open") { try await $0.open(request) }
    }

    public func push(_ request: PushRequest) async throws -> PushAnswer {
        self.network.log.append(.carried(branch: self.branch, records: request.runs.reduce(0) { $0 + $1.records.count }))
        let answer = try await self.network.call(from: self.branch, session: request.session.number, operation: "push") { try await $0.push(request) }
        for (run, sent) in zip(answer.runs, request.runs) {
            if case .stopped = run.stop { self.network.log.append(.stopped(branch: self.branch, type: sent.type)) }
        }
        return answer
    }

    public func pull(_ request: PullRequest) async throws -> PullAnswer {
        let answer = try await self.network.call(from: self.branch, session: request.session.number, operation: "pull") { try await $0.pull(request) }
        self.network.log.append(.carried(branch: self.branch, records: answer.runs.reduce(0) { $0 + $1.records.count }))
        for run in answer.runs {
            for record in run.records {
                self.network.log.append(.handedOut(to: self.branch, type: run.type, place: record.logSeq, audience: record.audience))
            }
        }
        return answer
    }

    public func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
        try await self.network.call(from: self.branch, session: request.session.number, operation: "acknowledge") {
            try await $0.acknowledge(request)
        }
    }

    public func recover(_ request: RecoverRequest) async throws -> RecoverAnswer {
        try await self.network.call(from: self.branch, session: request.session.number, operation: "recover") { try await $0.recover(request) }
    }

    public func compare(_ request: CompareRequest) async throws -> CompareAnswer {
        try await self.network.call(from: self.branch, session: request.session.number, operation: "compare") { try await $0.compare(request) }
    }
}
