import DataSync
import Synchronization

/// A transport between which and the cloud things can go wrong. Every message goes through its JSON on the way.
struct FaultyTransport: SyncTransport {
    let first: InMemoryTransport<FaultyStorage>
    let link: FaultyLink
    let plan: FaultPlan

    init(base: InMemoryTransport<FaultyStorage>, link: FaultyLink, plan: FaultPlan) {
        (self.first, self.link, self.plan) = (base, link, plan)
    }

    var base: InMemoryTransport<FaultyStorage> { self.link.successor ?? self.first }

    func open(_ request: OpenRequest) async throws -> OpenAnswer {
        try await self.carry(.open, request) { try await self.base.open($0) }
    }

    func push(_ request: PushRequest) async throws -> PushAnswer {
        self.link.lastPush = request
        return try await self.carry(.push, request) { try await self.base.push($0) }
    }

    func pull(_ request: PullRequest) async throws -> PullAnswer {
        try await self.carry(.pull, request) { try await self.base.pull($0) }
    }

    func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
        self.link.lastAcknowledgement = request
        return try await self.carry(.acknowledge, request) { try await self.base.acknowledge($0) }
    }

    func recover(_ request: RecoverRequest) async throws -> RecoverAnswer {
        try await self.carry(.recover, request) { try await self.base.recover($0) }
    }

    func compare(_ request: CompareRequest) async throws -> CompareAnswer {
        try await self.carry(.compare, request) { try await self.base.compare($0) }
    }

    private func carry<Request: WireMessage, Answer: WireMessage>(
        _ call: FaultyLink.Call, _ request: Request, _ perform: (Request) async throws -> Answer
    ) async throws -> Answer {
        try self.plan.pass(.request)
        self.link.count(call)
        try await self.link.hook(.before(call))?()
        let answer: Answer
        do { answer = try await perform(Request(body: request.body)) } catch  where self.base.hub.storage.isGone {
            // The cloud died over it: the branch sees that nobody answers.
            throw DataSyncError(.peerUnreachable, operation: "test")
        }
        try await self.link.hook(.after(call))?()
        try self.plan.pass(.answer)
        return try Answer(body: answer.body)
    }
}

/// A transport of a test that answers some calls itself, and hands on the others.
protocol ForwardingTransport: SyncTransport {
    var base: FaultyTransport { get }
}

extension ForwardingTransport {
    func open(_ request: OpenRequest) async throws -> OpenAnswer { try await self.base.open(request) }
    func push(_ request: PushRequest) async throws -> PushAnswer { try await self.base.push(request) }
    func pull(_ request: PullRequest) async throws -> PullAnswer { try await self.base.pull(request) }
    func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer { try await self.base.acknowledge(request) }
    func recover(_ request: RecoverRequest) async throws -> RecoverAnswer { try await self.base.recover(request) }
    func compare(_ request: CompareRequest) async throws -> CompareAnswer { try await self.base.compare(request) }
}

/// One branch's link: what a test does in the gaps of an exchange.
final class FaultyLink: Sendable {
    enum Call: Hashable, Sendable { case open, push, pull, acknowledge, recover, compare }
    enum Moment: Hashable, Sendable {
        /// The request is on its way.
        case before(Call)
        /// The cloud is done, the branch does not have the answer yet.
        case after(Call)
    }
    typealias Hook = @Sendable () async throws -> Void

    private struct State {
        var hooks: [Moment: [Hook]] = [:]
        var calls: [Call: Int] = [:]
        var lastPush: PushRequest?
        var lastAcknowledgement: AcknowledgeRequest?
        var successor: InMemoryTransport<FaultyStorage>?
    }
    private let state = Mutex(State())

    /// Runs `hook` at the next such moment, once. What it throws is what the branch gets in place of an answer.
    func once(_ moment: Moment, _ hook: @escaping Hook) { self.state.withLock { $0.hooks[moment, default: []].append(hook) } }

    /// Loses the answer to the next such call: the cloud has carried it out.
    func loseAnswer(to call: Call) { self.once(.after(call)) { throw DataSyncError(.peerUnreachable, operation: "test") } }

    /// To whom it leads now, where that is not the process with which it began.
    var successor: InMemoryTransport<FaultyStorage>? {
        get { self.state.withLock { $0.successor } }
        set { self.state.withLock { $0.successor = newValue } }
    }

    /// What was pushed, and acknowledged, last: for a network that doubles it.
    var lastPush: PushRequest? {
        get { self.state.withLock { $0.lastPush } }
        set { self.state.withLock { $0.lastPush = newValue } }
    }
    var lastAcknowledgement: AcknowledgeRequest? {
        get { self.state.withLock { $0.lastAcknowledgement } }
        set { self.state.withLock { $0.lastAcknowledgement = newValue } }
    }

    /// How often a call was made.
    func calls(_ call: Call) -> Int { self.state.withLock { $0.calls[call] ?? 0 } }

    fileprivate func count(_ call: Call) { self.state.withLock { $0.calls[call, default: 0] += 1 } }

    fileprivate func hook(_ moment: Moment) -> Hook? {
        self.state.withLock { state in
            guard let hook = state.hooks[moment]?.first else { return nil }
            state.hooks[moment]?.removeFirst()
            return hook
        }
    }
}
