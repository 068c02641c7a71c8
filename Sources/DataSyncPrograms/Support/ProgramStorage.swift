package import DataSync
import DataSyncIdentity
import DataSyncMySQL
package import DataSyncSQL
import DataSyncSQLite
import Foundation

extension Settings {
    /// The storage that `storage.url` names. Nothing is opened yet.
    package func storage() throws(DataSyncError) -> SQLStorage {
        let url = try self.required("storage.url")
        let connections = try self.integer("storage.connections")
        let wait = try self.duration("storage.wait")
        guard connections >= 2 else { throw ConfigurationFile.failure("storage.connections must be at least 2") }
        if url.hasPrefix("sqlite:") {
            let path = String(url.dropFirst("sqlite:".count))
            guard !path.isEmpty, path != ":memory:" else {
                throw ConfigurationFile.failure("storage.url: sqlite: needs the path of a file, such as sqlite:./datasync.sqlite")
            }
            return SQLStorage(SQLiteDatabase(path: path), connectionsMax: connections, waitMax: wait)
        }
        guard url.hasPrefix("mysql://") || url.hasPrefix("mariadb://") else {
            throw ConfigurationFile.failure("storage.url must be sqlite:PATH or mysql://user@host/database")
        }
        let configuration = try MySQLConfiguration(url: url, password: try self.password())
        return SQLStorage(MySQLDatabase(configuration, limits: try self.limits()), connectionsMax: connections, waitMax: wait)
    }

    private func password() throws(DataSyncError) -> Secret<String>? {
        if let password = self.secret("storage.password") { return password }
        guard let path = self.text("storage.password_file") else { return nil }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw ConfigurationFile.failure("storage.password_file: \(path) cannot be read")
        }
        guard !FilePermissions.letEverybodyIn(to: path) else {
            throw ConfigurationFile.failure("storage.password_file: everybody on this machine can read \(path): chmod o-rwx it, and change the password")
        }
        return Secret(String(text.prefix { !$0.isNewline }))
    }

    /// The business types, compared with the tables of `storage`, and what should be known about them.
    package func mappedTypes(in storage: SQLStorage) async throws -> [MappedType] {
        guard !self.types.isEmpty else { return [] }
        let mappings = self.types
        return try await storage.withTransaction(.snapshot) { transaction in
            var types: [MappedType] = []
            for mapping in mappings { types.append(try await MappedType(mapping, in: transaction)) }
            // Two types with one id or one name.
            _ = try TypeRegistry(types)
            return types
        }
    }
}
