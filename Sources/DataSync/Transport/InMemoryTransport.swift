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
        try await self.hub.open(request, from: self.branch)
    }

    public func push(_ request: PushRequest) async throws -> PushAnswer {
        try await self.hub.push(request, from: self.branch)
    }

    public func pull(_ request: PullRequest) async throws -> PullAnswer {
        try await self.hub.pull(request, from: self.branch)
    }

    public func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
        try await self.hub.acknowledge(request, from: self.branch)
    }
}
