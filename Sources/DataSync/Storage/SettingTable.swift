/// `sync_config`: settings and notes of DataSync that are not worth a table, by name.
public protocol SettingTable {
    func setting(_ name: String) async throws -> String?
    /// Creates or replaces it.
    func putSetting(_ name: String, _ value: String) async throws
    /// Settings whose name begins with `prefix`.
    func settings(withPrefix prefix: String) async throws -> [String: String]
    func removeSetting(_ name: String) async throws

    /// Writes a line of the audit log (`sync_audit`): who did what to what. Never a payload, never a secret.
    func appendAudit(_ entry: AuditEntry) async throws
}

public struct AuditEntry: Hashable, Sendable {
    /// Milliseconds since 1970.
    public var time: Int64
    /// Who: a system user, a program, later a login.
    public var actor: String
    /// What, such as `memo.discard`.
    public var action: String
    /// To what, such as `record 7/1/3/42`.
    public var subject: String

    public init(time: Int64, actor: String, action: String, subject: String) {
        self.time = time
        self.actor = actor
        self.action = action
        self.subject = subject
    }
}
