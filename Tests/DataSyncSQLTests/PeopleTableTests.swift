import DataSync
import DataSyncSQL
import DataSyncTesting
import Testing

@Test("people on SQL", arguments: TestDatabase.available, PeopleContract<SQLStorage>.Case.allCases)
func peopleOnSQL(kind: TestDatabase, _ testCase: PeopleContract<SQLStorage>.Case) async throws {
    try await PeopleContract {
        let storage = SQLStorage(try await kind.make(), connectionsMax: 4, waitMax: .seconds(600))
        try await storage.migrate()
        return storage
    }.run(testCase)
}
