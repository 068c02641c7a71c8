import DataSync
import DataSyncTesting
import Testing

@Test("in-memory storage", arguments: StorageContract<InMemoryStorage>.Case.allCases)
func inMemory(_ testCase: StorageContract<InMemoryStorage>.Case) async throws {
    try await StorageContract { InMemoryStorage() }.run(testCase)
}
