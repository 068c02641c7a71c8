/// `sync_config`: settings and notes of DataSync that are not worth a table, by name.
public protocol SettingTable {
    func setting(_ name: String) async throws -> String?
    /// Creates or replaces it.
    func putSetting(_ name: String, _ value: String) async throws
    /// Settings whose name begins with `prefix`.
    func settings(withPrefix prefix: String) async throws -> [String: String]
    func removeSetting(_ name: String) async throws
}
