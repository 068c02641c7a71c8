import DataSync
import DataSyncMySQL
package import DataSyncSQL

/// The least that DataSync's database user and the applications' need, as statements for an administrator.
package enum Grants {
    package static func statements(database: String, user: String, types: [MappedType], programName: String) -> String {
        let quoted = "`\(database)`"
        let tables = Set(types.flatMap(\.tables)).sorted()
        var lines = [
            "-- \(programName): its own tables, and the tables that are mapped. Give the host you connect from.",
            "-- To run `init` it needs more, once: GRANT CREATE, ALTER, INDEX, REFERENCES ON \(quoted).* TO '\(user)'@'localhost';",
        ]
        for table in Self.ownTables {
            // Lines of the audit are added, and nothing else.
            let rights = table == "sync_audit" ? "SELECT, INSERT" : "SELECT, INSERT, UPDATE, DELETE"
            lines.append("GRANT \(rights) ON \(quoted).`\(table)` TO '\(user)'@'localhost';")
        }
        for table in tables {
            lines.append("GRANT SELECT, INSERT, UPDATE, DELETE ON \(quoted).`\(table.replacing("`", with: "``"))` TO '\(user)'@'localhost';")
        }
        lines += [
            "",
            "-- Applications: insert into the outbox, and read what became of their rows. Nothing else of DataSync's.",
            "GRANT SELECT, INSERT (data_detail, data_from_detail, business_type, data_to_server_id, create_time, data_from_client)",
            "  ON \(quoted).`sync_data` TO 'application'@'localhost';",
        ]
        return lines.joined(separator: "\n")
    }

    static let ownTables = [
        "sync_attempt", "sync_audit", "sync_audit_head", "sync_batch", "sync_config", "sync_data", "sync_entity", "sync_frontier", "sync_log",
        "sync_log_counter", "sync_log_tail", "sync_login", "sync_memo", "sync_person", "sync_position", "sync_receipt", "sync_send", "sync_sent",
        "sync_server", "sync_stream", "sync_uid",
    ]
}

extension Settings {
    /// What `grants` prints.
    package func grants(types: [MappedType]) throws -> String {
        let url = self.text("storage.url") ?? ""
        guard url.hasPrefix("mysql://") || url.hasPrefix("mariadb://") else {
            return "-- SQLite has no users: whoever may write the file may write all of it. Give the file to the group of those programs alone."
        }
        let configuration = try MySQLConfiguration(url: url)
        return Grants.statements(
            database: configuration.database, user: configuration.user, types: types, programName: self.program.rawValue)
    }
}
