import DataSync
import DataSyncTesting
import Testing

private typealias MemoryTransport = InMemoryTransport<ControlledStorage>

@Test("in-memory transport", arguments: TransportContract<MemoryTransport>.Case.allCases)
private func inMemory(_ testCase: TransportContract<MemoryTransport>.Case) async throws {
    try await TransportContract<MemoryTransport> { hub, branch, body in
        try await body(InMemoryTransport(hub: hub, branch: branch))
    }.run(testCase)
}
