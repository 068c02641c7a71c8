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
    try await StorageContract { try await makeSQLiteStorage() }.run(testCase)
}
