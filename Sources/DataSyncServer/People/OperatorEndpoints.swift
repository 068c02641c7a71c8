public import DataSync
public import DataSyncIdentity
import HTTPTypes

/// What people at the cloud may ask for over HTTP: every command of `datasync-cloud` that is of use while it serves.
public struct OperatorEndpoints<Storage: SyncStorage>: Sendable where Storage.Transaction: PersonTable {
    private let login: PeopleLogin<Storage, OperatorSet>
    private let hub: Hub<Storage>
    private let enrolment: Enrolment<Storage>
    private let keys: CloudKeyRing<Storage>?
    private let environment: SyncEnvironment
    private let status: @Sendable (Verified<OperatorSet>) async throws -> String
    private let grants: @Sendable () async throws -> String
    private let put: @Sendable (NewOutboxRow, _ actor: String) async throws -> Void

    /// - Parameters:
    ///   - keys: Of the cloud, where they may be changed over HTTP.
    ///   - status: What stands how, as JSON, of the branches that somebody sees.
    ///   - grants: The least rights that database users need, as statements.
    ///   - put: Puts a record of the cloud's own into the outbox, for whom the audit shall name.
    public init(
        login: PeopleLogin<Storage, OperatorSet>, hub: Hub<Storage>, enrolment: Enrolment<Storage>, keys: CloudKeyRing<Storage>?,
        environment: SyncEnvironment = .system, status: @escaping @Sendable (Verified<OperatorSet>) async throws -> String,
        grants: @escaping @Sendable () async throws -> String, put: @escaping @Sendable (NewOutboxRow, _ actor: String) async throws -> Void
    ) {
        self.login = login
        self.hub = hub
        self.enrolment = enrolment
        self.keys = keys
        self.environment = environment
        self.status = status
        self.grants = grants
        self.put = put
    }

    private static var everybody: Set<OperatorSet.Role> { [.viewer, .operator, .admin] }
    private static var deciding: Set<OperatorSet.Role> { [.operator, .admin] }
    private static var admins: Set<OperatorSet.Role> { [.admin] }

    /// The table.
    public var all: [PeopleEndpoint<OperatorSet>] {
        let names = Dictionary(self.hub.types.definitions.map { ($0.id, $0.name) }) { first, _ in first }
        return PeopleEndpoint.login(self.login) + PeopleEndpoint.users(self.login.register) + PeopleEndpoint.audit(self.hub.storage)
            + PeopleEndpoint.records(in: self.hub.storage, for: Self.everybody, names: names, environment: self.environment, sees: Self.sees)
            + self.branches + self.decisions + (self.keys.map(Self.keyChanges) ?? [])
            + [
                PeopleEndpoint(.get, "v1/status", for: Self.everybody) { caller, _ in PeopleReply(body: try await self.status(caller)) },
                PeopleEndpoint(.get, "v1/grants", for: Self.admins, scope: .all) { _, _ in
                    let statements = try await self.grants()
                    return .object { writer in writer.member("statements", statements) }
                },
            ]
    }

    /// A record concerns the branch that holds it or sent it, and the one that it is of.
    private static func sees(_ caller: Verified<OperatorSet>, _ memo: Memo) -> Bool {
        caller.branches.map { memo.concernsOnly(Set($0)) } ?? true
    }

    // MARK: - Branches

    private var branches: [PeopleEndpoint<OperatorSet>] {
        let (storage, enrolment) = (self.hub.storage, self.enrolment)
        return [
            PeopleEndpoint(.get, "v1/branches", for: Self.everybody) { caller, _ in
                let servers = try await storage.withTransaction(.snapshot) { try await $0.servers() }
                return .object { writer in
                    writer.key("branches")
                    writer.array { writer in for row in servers where row.id.isBranch && caller.sees(row.id) { row.write(to: &writer) } }
                }
            },
            PeopleEndpoint(.post, "v1/branches", for: Self.admins, scope: .all) { caller, call in
                let members = try call.members(["id", "name"])
                let token = try await enrolment.add(try members.server("id"), name: try members.text("name"), actor: caller.actor)
                return Self.joinToken(token, .created)
            },
            PeopleEndpoint(.get, "v1/branches/{branch}", for: Self.everybody, scope: .branch) { _, call in
                let id = try call.branch()
                guard let row = try await storage.withTransaction(.snapshot, { try await $0.server(id) }) else {
                    throw DataSyncError(.notFound, operation: "branch", detail: "there is no branch \(id)")
                }
                var writer = JSONWriter()
                row.write(to: &writer)
                return PeopleReply(body: writer.text)
            },
            PeopleEndpoint(.post, "v1/branches/{branch}/suspend", for: Self.deciding, scope: .branch) { caller, call in
                try await enrolment.suspend(try call.branch(), actor: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/branches/{branch}/resume", for: Self.deciding, scope: .branch) { caller, call in
                try await enrolment.resume(try call.branch(), actor: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/branches/{branch}/token", for: Self.admins, scope: .branch) { caller, call in
                Self.joinToken(try await enrolment.renewToken(of: try call.branch(), actor: caller.actor))
            },
            PeopleEndpoint(.post, "v1/branches/{branch}/replace", for: Self.admins, scope: .branch) { caller, call in
                Self.joinToken(try await enrolment.replace(try call.branch(), actor: caller.actor))
            },
        ]
    }

    private static func joinToken(_ token: JoinToken, _ status: HTTPResponse.Status = .ok) -> PeopleReply {
        .object(status) { writer in
            writer.member("branch", token.server.rawValue)
            writer.member("join_token", token.text)
            writer.member("expires_in", JoinToken.lifetime.components.seconds)
        }
    }

    // MARK: - Records

    private var decisions: [PeopleEndpoint<OperatorSet>] {
        let (hub, put) = (self.hub, self.put)
        @Sendable func find(_ call: PeopleCall, for caller: Verified<OperatorSet>) async throws -> Int64 {
            let id = try call.number("id")
            guard let memo = try await hub.storage.withTransaction(.snapshot, { try await $0.memo(id) }), Self.sees(caller, memo) else {
                throw DataSyncError(.notFound, operation: "records", detail: "there is no record \(id)")
            }
            return id
        }
        return [
            PeopleEndpoint(.post, "v1/records/{id}/retry", for: Self.deciding) { caller, call in
                let outcome = try await hub.retryMemo(try await find(call, for: caller), actor: caller.actor)
                return .object { writer in writer.member("is", outcome.disposition.name) }
            },
            PeopleEndpoint(.post, "v1/records/{id}/discard", for: Self.deciding) { caller, call in
                try await hub.discardMemo(try await find(call, for: caller), actor: caller.actor)
                return .done
            },
            .put(for: Self.deciding, scope: .all, bytesMax: hub.limits.recordBytesMax * 2 + 4_096, put),
        ]
    }

    // MARK: - The cloud's key

    private static func keyChanges(_ keys: CloudKeyRing<Storage>) -> [PeopleEndpoint<OperatorSet>] {
        [
            PeopleEndpoint(.get, "v1/key", for: Self.admins, scope: .all) { _, _ in
                let standing = try await keys.standing()
                return .object { writer in
                    writer.member("phase", "\(standing.phase)")
                    writer.member("present", standing.present.thumbprint)
                    if let other = standing.other { writer.member("other", other.thumbprint) }
                    writer.key("unaware")
                    writer.array { writer in for branch in standing.unaware { writer.integer(branch.rawValue) } }
                }
            },
            PeopleEndpoint(.post, "v1/key/rotate", for: Self.admins, scope: .all) { caller, _ in
                Self.key(try await keys.announce(by: caller.actor))
            },
            PeopleEndpoint(.post, "v1/key/activate", for: Self.admins, scope: .all) { caller, _ in
                Self.key(try await keys.activate(by: caller.actor))
            },
            PeopleEndpoint(.post, "v1/key/retire", for: Self.admins, scope: .all) { caller, call in
                let isForced = call.body.isEmpty ? false : try call.members([], optional: ["force"]).flag("force")
                return Self.key(try await keys.retire(isForced: isForced, by: caller.actor))
            },
        ]
    }

    private static func key(_ key: MachinePublicKey) -> PeopleReply { .object { writer in writer.member("key", key.thumbprint) } }
}

extension PeopleEndpoint {
    /// `POST v1/records`: a record of this server's own, as an application inserts it with SQL.
    static func put(
        for roles: Set<People.Role>, scope: Scope = .seen, bytesMax: Int, _ put: @escaping @Sendable (NewOutboxRow, _ actor: String) async throws -> Void
    ) -> Self {
        PeopleEndpoint(.post, "v1/records", for: roles, scope: scope, bytesMax: bytesMax) { caller, call in
            let members = try call.members(["type", "key", "payload"], optional: ["to"])
            let target = try members.values["to"] == nil ? ServerID.cloud : members.server("to")
            let type = try members.server("type").rawValue
            try await put(
                NewOutboxRow(
                    type: BusinessTypeID(rawValue: type), key: EntityKey(try members.text("key")), payload: try members.raw("payload"), target: target),
                caller.actor)
            return PeopleReply(.created)
        }
    }
}

extension ServerRow {
    /// As commands and the administrative interface show a branch.
    package func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", self.id.rawValue)
            writer.member("name", self.name)
            writer.member("status", self.status.rawValue)
            if let publicKey { writer.member("public_key", publicKey) }
            if let nextKey { writer.member("next_key", nextKey) }
            if let version { writer.member("software", version) }
            writer.member("epoch", self.epoch)
            writer.member("session", self.session)
            writer.member("last_seen", self.lastSeen)
        }
    }
}
