/// A transport without a network: a branch that lives in the process of its cloud, or a test.
public struct InMemoryTransport<CloudStorage: SyncStorage>: SyncTransport {
    public let hub: Hub<CloudStorage>
    public let branch: ServerID

    /// - Parameter branch: Whom the hub shall take the caller for. In place of a verified key.
    public init(hub: Hub<CloudStorage>, branch: ServerID) {
        self.hub = hub
        self.branch = branch
    }

    public func open(_ request: OpenRequest) async throws -> OpenAnswer {
        try await self.call("open") { try await self.hub.open(request, from: self.branch) }
    }

    public func push(_ request: PushRequest) async throws -> PushAnswer {
        try await self.call("push") { try await self.hub.push(request, from: self.branch) }
    }

    public func pull(_ request: PullRequest) async throws -> PullAnswer {
        try await self.call("pull") { try await self.hub.pull(request, from: self.branch) }
    }

    public func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
        try await self.call("acknowledge") { try await self.hub.acknowledge(request, from: self.branch) }
    }

    public func recover(_ request: RecoverRequest) async throws -> RecoverAnswer {
        try await self.call("recover") { try await self.hub.recover(request, from: self.branch) }
    }

    public func compare(_ request: CompareRequest) async throws -> CompareAnswer {
        try await self.call("compare") { try await self.hub.compare(request, from: self.branch) }
    }

    /// What ails the cloud's storage is no fault of the branch's own, and must not be taken for one: as over a network,
    /// it is the cloud that is away.
    private func call<Answer>(_ operation: StaticString, _ body: () async throws -> Answer) async throws -> Answer {
        do { return try await body() } catch let error as DataSyncError {
            var told = ErrorAnswer(error).error(operation: operation)
            told.underlying = error
            throw told
        } catch let error as CancellationError { throw error } catch {
            throw DataSyncError(.peerUnreachable, operation: operation, detail: "the cloud failed", underlying: error)
        }
    }
}
