import DataSync
import DataSyncTesting
import Testing

@Test("in-memory storage", arguments: StorageContract<InMemoryStorage>.Case.allCases)
func inMemory(_ testCase: StorageContract<InMemoryStorage>.Case) async throws {
    try await StorageContract { InMemoryStorage() }.run(testCase)
}

@Test("people in memory", arguments: PeopleContract<InMemoryStorage>.Case.allCases)
func peopleInMemory(_ testCase: PeopleContract<InMemoryStorage>.Case) async throws {
    try await PeopleContract { InMemoryStorage() }.run(testCase)
}
