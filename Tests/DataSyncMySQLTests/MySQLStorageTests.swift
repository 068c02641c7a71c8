import DataSync
import DataSyncMySQL
import DataSyncSQL
import DataSyncTesting
import Foundation
import Synchronization
import Testing

/// The private server that `Scripts/test` starts, by the environment; nil without one.
enum MySQLServer {
    static let socket = ProcessInfo.processInfo.environment["DATASYNC_TEST_MYSQL_SOCKET"]
    static let isAvailable = Self.socket != nil
    static let hint: Comment = "DATASYNC_TEST_MYSQL_SOCKET is not set: Scripts/test starts a private MariaDB and sets it"

    static func configuration(database: String) -> MySQLConfiguration {
        var configuration = MySQLConfiguration(socket: Self.socket, user: "root", database: database)
        // That the machine is busy is not what these tests are about.
        (configuration.connectTimeout, configuration.answerTimeout) = (.seconds(600), .seconds(600))
        return configuration
    }

    /// Makes an empty database of its own.
    static func makeDatabase() async throws -> MySQLConfiguration {
        let name = "t_\(UUID().uuidString.replacingOccurrences(of: "-", with: ""))"
        let server = try await MySQLDatabase(self.configuration(database: "mysql")).connect()
        _ = try await server.execute("create database \(name)", [])
        await server.close()
        return self.configuration(database: name)
    }
}

func makeMySQLStorage() async throws -> SQLStorage {
    let storage = SQLStorage(MySQLDatabase(try await MySQLServer.makeDatabase()), waitMax: .seconds(600))
    try await storage.migrate()
    return storage
}

@Test(
    "MariaDB storage", .enabled(if: MySQLServer.isAvailable, MySQLServer.hint),
    arguments: StorageContract<SQLStorage>.Case.allCases)
func mariadb(_ testCase: StorageContract<SQLStorage>.Case) async throws {
    try await StorageContract(
        breakCommit: { transaction in
            let id = try await transaction.query("select connection_id()")[0].int(0)
            let server = try await MySQLDatabase(MySQLServer.configuration(database: "mysql")).connect()
            _ = try await server.execute("kill \(id)", [])
            // Until it is gone: a connection that is on its way out may still answer a commit.
            while try await !server.query("select 1 from information_schema.processlist where id = ?", [.int(id)]).isEmpty {}
            await server.close()
        },
        makeStorage: { try await makeMySQLStorage() }
    ).run(testCase)
}
