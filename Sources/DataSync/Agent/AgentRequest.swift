import FoundationEssentials

/// What somebody at the branch asks of the running agent, through the database that both reach: no port is opened for it,
/// and any program that may write `sync_config` can ask.
///
/// The agent is the one writer of a branch's own tables, so it carries these out itself.
public struct AgentRequest: Codable, Hashable, Sendable {
    public enum Verb: String, Codable, Sendable { case sync, retry, discard, reconcile }

    public var verb: Verb
    /// The record, for `retry` and `discard`: its id in `sync_memo`.
    public var memo: Int64?
    /// For `reconcile`: the business types, all if there are none, and whose state is sent to the other side.
    public var types: [Int32]?
    public var repair: ReconcileRepair?
    /// Who asks, for the audit log.
    public var actor: String

    public init(_ verb: Verb, memo: Int64? = nil, types: [Int32]? = nil, repair: ReconcileRepair? = nil, actor: String) {
        self.verb = verb
        self.memo = memo
        self.types = types
        self.repair = repair
        self.actor = actor
    }
}

/// What the agent answers to an ``AgentRequest``.
public struct AgentReply: Codable, Hashable, Sendable {
    public var succeeded: Bool
    /// A sentence for whoever asked.
    public var message: String
    /// Of the error, if there was one, as ``DataSyncError/Code`` describes itself.
    public var code: String?
    /// By disposition, for `sync`.
    public var pushed: [String: Int]?
    public var pulled: [String: Int]?
    /// For `reconcile`.
    public var reconciled: ReconcileReport?

    public init(_ error: any Error) {
        let error = error as? DataSyncError
        self.init(succeeded: false, message: error?.summary ?? "an error of an unknown kind: the agent's log has more")
        self.code = error?.code.description
    }

    /// What the agent met, as if it had been met here; nil if it succeeded.
    public func error(operation: StaticString) -> DataSyncError? {
        self.succeeded ? nil : DataSyncError(self.code.flatMap { DataSyncError.Code($0) } ?? .invalidState, operation: operation, detail: self.message)
    }

    public init(succeeded: Bool, message: String, pushed: [String: Int]? = nil, pulled: [String: Int]? = nil) {
        self.succeeded = succeeded
        self.message = message
        self.pushed = pushed
        self.pulled = pulled
    }

    public init(_ report: CycleReport) {
        self.init(
            succeeded: true, message: report.summary,
            pushed: Dictionary(uniqueKeysWithValues: report.pushed.map { ($0.key.name, $0.value) }),
            pulled: Dictionary(uniqueKeysWithValues: report.pulled.map { ($0.key.name, $0.value) }))
    }

    public init(_ report: ReconcileReport) {
        self.init(succeeded: true, message: report.summary)
        self.reconciled = report
    }
}

extension AgentRequest {
    private static let requestPrefix = "agent.request."
    private static let replyPrefix = "agent.reply."

    /// Leaves the request for the agent.
    /// - Parameter id: Chosen by the asker; names the reply.
    public func post(_ id: String, in transaction: some SyncTransaction) async throws {
        let text = String(decoding: try JSONEncoder().encode(self), as: UTF8.self)
        try await transaction.putSetting(Self.requestPrefix + id, text)
    }

    /// The reply to request `id`, which is removed; nil while there is none.
    public static func takeReply(_ id: String, in transaction: some SyncTransaction) async throws -> AgentReply? {
        guard let text = try await transaction.setting(self.replyPrefix + id) else { return nil }
        try await transaction.removeSetting(self.replyPrefix + id)
        return try JSONDecoder().decode(AgentReply.self, from: Data(text.utf8))
    }

    /// Takes back a request that nobody has answered.
    public static func withdraw(_ id: String, in transaction: some SyncTransaction) async throws {
        try await transaction.removeSetting(self.requestPrefix + id)
        try await transaction.removeSetting(self.replyPrefix + id)
    }

    static func pending(in transaction: some SyncTransaction) async throws -> [(id: String, request: AgentRequest?)] {
        try await transaction.settings(withPrefix: self.requestPrefix).sorted { $0.key < $1.key }.map { name, text in
            (String(name.dropFirst(self.requestPrefix.count)), try? JSONDecoder().decode(Self.self, from: Data(text.utf8)))
        }
    }

    static func reply(_ reply: AgentReply, to id: String, in transaction: some SyncTransaction) async throws {
        try await transaction.removeSetting(self.requestPrefix + id)
        let text = String(decoding: try JSONEncoder().encode(reply), as: UTF8.self)
        try await transaction.putSetting(self.replyPrefix + id, text)
    }
}
