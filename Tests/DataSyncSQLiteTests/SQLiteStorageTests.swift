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
    let storage = SQLStorage(SQLiteDatabase(path: folder.appending(path: "\(UUID()).sqlite").path), connectionsMax: 4, waitMax: .seconds(600))
    try await storage.migrate()
    return storage
}

private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
}

@Test func aNewFileIsForItsUserAlone() async throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "datasync-\(UUID()).sqlite").path
    let storage = SQLStorage(SQLiteDatabase(path: path), connectionsMax: 2, waitMax: .seconds(600))
    try await storage.migrate()
    #expect(try mode(path) == 0o600)
    #expect(try mode(path + "-wal") == 0o600)
    // Whoever wants applications of a group to write it, says so, and that stays.
    try FileManager.default.setAttributes([.posixPermissions: 0o660], ofItemAtPath: path)
    try await storage.withTransaction { try await $0.putSetting("a", "1") }
    await storage.close()
    let again = SQLStorage(SQLiteDatabase(path: path), connectionsMax: 2, waitMax: .seconds(600))
    #expect(try await again.withTransaction { try await $0.setting("a") } == "1")
    #expect(try mode(path) == 0o660)
    await again.close()
    try FileManager.default.removeItem(atPath: path)
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
