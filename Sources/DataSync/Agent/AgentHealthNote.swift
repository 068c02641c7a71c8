import FoundationEssentials

/// What the agent of a branch last said about itself, kept in the branch's database for `status`.
public struct AgentHealthNote: Codable, Hashable, Sendable {
    /// Milliseconds since 1970.
    public var time: Int64
    public var lastSuccess: Int64?
    /// Cycles that failed in a row.
    public var failures: Int
    public var lastError: String?
    /// Type ids, and why they do not flow.
    public var stopped: [String: String]

    static let settingName = "agent.health"

    /// Written again after this, though nothing changed.
    static let interval: Duration = .seconds(30)

    /// The note in this database; nil if no agent has worked on it.
    public static func read(in transaction: some SyncTransaction) async throws -> AgentHealthNote? {
        guard let text = try await transaction.setting(self.settingName) else { return nil }
        return try? JSONDecoder().decode(Self.self, from: Data(text.utf8))
    }

    func write(in transaction: some SyncTransaction) async throws {
        try await transaction.putSetting(Self.settingName, String(decoding: try JSONEncoder().encode(self), as: UTF8.self))
    }
}
