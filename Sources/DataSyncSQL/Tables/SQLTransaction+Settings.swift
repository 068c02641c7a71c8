public import DataSync

extension SQLTransaction: SettingTable {
    public func setting(_ name: String) async throws -> String? {
        try await self.read("setting", "select value from sync_config where name = ?", [.text(name)]).first?.text(0)
    }

    public func putSetting(_ name: String, _ value: String) async throws {
        let found = try await self.write(
            "putSetting", "update sync_config set value = ?, version = version + 1 where name = ?", [.text(value), .text(name)])
        if found == 0 {
            try await self.write(
                "putSetting", "insert into sync_config (name, value) values (?, ?)", [.text(name), .text(value)])
        }
    }

    public func settings(withPrefix prefix: String) async throws -> [String: String] {
        // A range, since a prefix may hold what LIKE takes for a wildcard.
        let rows = try await self.read(
            "settings", "select name, value from sync_config where name >= ? and name < ?",
            [.text(prefix), .text(prefix + "\u{10FFFF}")])
        return try rows.reduce(into: [:]) { $0[try $1.text(0)] = try $1.text(1) }
    }

    public func removeSetting(_ name: String) async throws {
        try await self.write("removeSetting", "delete from sync_config where name = ?", [.text(name)])
    }
}
