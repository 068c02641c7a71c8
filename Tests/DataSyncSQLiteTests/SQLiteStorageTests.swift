import DataSync
import DataSyncSQL
import DataSyncSQLite
import DataSyncTesting
import Foundation
import Testing

/// A storage in a file of its own below the temporary folder.
func makeSQLiteStorage() async throws -> SQLStorage {
    let folder = FileManager.default.temporaryDirectory.appending(path: "datasync-tests")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let storage = SQLStorage(SQLiteDatabase(path: folder.appending(path: "\(UUID()).sqlite").path), connectionsMax: 4, waitMax: .seconds(30))
    try await storage.migrate()
    return storage
}

@Test("SQLite storage", arguments: StorageContract<SQLStorage>.Case.allCases)
func sqlite(_ testCase: StorageContract<SQLStorage>.Case) async throws {
    try await StorageContract(
        breakCommit: { transaction in
            // Looked at by the commit alone, which fails and leaves the transaction open.
            try await transaction.execute("create table parent (id integer primary key)")
            try await transaction.execute("create table child (id integer primary key, p integer references parent deferrable initially deferred)")
            try await transaction.execute("insert into child values (1, 99)")
        },
        makeStorage: { try await makeSQLiteStorage() }
    ).run(testCase)
}
