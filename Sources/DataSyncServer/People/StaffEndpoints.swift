public import DataSync
public import DataSyncIdentity
import HTTPTypes

/// What people at a branch, and its applications, may ask for over HTTP. It works while the cloud is away.
public struct StaffEndpoints<Storage: SyncStorage>: Sendable where Storage.Transaction: PersonTable {
    private let login: PeopleLogin<Storage, StaffSet>
    private let storage: Storage
    private let limits: SyncLimits
    private let names: [BusinessTypeID: String]
    private let environment: SyncEnvironment
    private let status: @Sendable () async throws -> String
    private let ask: @Sendable (AgentRequest) async throws -> AgentReply
    private let put: @Sendable (NewOutboxRow, _ actor: String) async throws -> Void

    /// - Parameters:
    ///   - names: Of the business types.
    ///   - status: What stands how, as JSON.
    ///   - ask: Has the agent carry something out, which is the one writer of a branch's tables.
    ///   - put: Puts a record into the outbox, for whom the audit shall name.
    public init(
        login: PeopleLogin<Storage, StaffSet>, storage: Storage, limits: SyncLimits, names: [BusinessTypeID: String], environment: SyncEnvironment = .system,
        status: @escaping @Sendable () async throws -> String, ask: @escaping @Sendable (AgentRequest) async throws -> AgentReply,
        put: @escaping @Sendable (NewOutboxRow, _ actor: String) async throws -> Void
    ) {
        self.login = login
        self.storage = storage
        self.limits = limits
        self.names = names
        self.environment = environment
        self.status = status
        self.ask = ask
        self.put = put
    }

    private static var people: Set<StaffSet.Role> { [.viewer, .operator, .admin] }
    private static var deciding: Set<StaffSet.Role> { [.operator, .admin] }

    /// The table.
    public var all: [PeopleEndpoint<StaffSet>] {
        let (status, put) = (self.status, self.put)
        return PeopleEndpoint.login(self.login) + PeopleEndpoint.users(self.login.register) + PeopleEndpoint.audit(self.storage)
            + PeopleEndpoint.records(in: self.storage, for: Self.people, names: self.names, environment: self.environment) { _, _ in true }
            + [
                PeopleEndpoint(.get, "v1/status", for: Self.people) { _, _ in PeopleReply(body: try await status()) },
                self.decision("v1/records/{id}/retry", .retry),
                self.decision("v1/records/{id}/discard", .discard),
                .waiting(.post, "v1/sync", for: Self.deciding) { caller, _ in
                    try await self.reply(to: AgentRequest(.sync, actor: caller.actor))
                },
                .put(for: [.application, .operator, .admin], bytesMax: self.limits.recordBytesMax * 2 + 4_096, put),
            ]
    }

    private func decision(_ path: String, _ verb: AgentRequest.Verb) -> PeopleEndpoint<StaffSet> {
        .waiting(.post, path, for: Self.deciding) { caller, call in
            try await self.reply(to: AgentRequest(verb, memo: try call.number("id"), actor: caller.actor))
        }
    }

    private func reply(to request: AgentRequest) async throws -> PeopleReply {
        let reply = try await self.ask(request)
        if let error = reply.error(operation: "agent") {
            // What the cloud refuses the branch is not refused to who asks here.
            let isTheirs = [.notFound, .invalidState, .invalidInput, .storageBusy].contains(error.code)
            throw isTheirs ? error : DataSyncError(.peerUnreachable, operation: "agent", detail: error.detail, underlying: error)
        }
        return .object { writer in writer.member("message", reply.message) }
    }
}
