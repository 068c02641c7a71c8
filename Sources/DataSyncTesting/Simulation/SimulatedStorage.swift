public import DataSync

/// A ``SimulatedDatabase`` as one process uses it.
public final class SimulatedStorage: LeasingStorage, @unchecked Sendable {  // on the one thread of the simulation
    public let database: SimulatedDatabase
    public let process: SimulatedProcess

    init(database: SimulatedDatabase, process: SimulatedProcess) {
        self.database = database
        self.process = process
        process.whenDead { database.disconnect(process) }
    }

    public func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (SimulatedTransaction) async throws -> Result
    ) async throws -> Result {
        let transaction = self.database.begin(self.process, access)
        // However this ends.
        defer { self.database.close(transaction) }
        try await transaction.start()
        let result: Result
        do { result = try await body(transaction) } catch {
            if PlantedBug.isOn(.commitAfterLockTimeout), transaction.hasWaitedInVain { try? await transaction.commit() }
            throw error
        }
        if access == .write { try await transaction.commit() }
        return result
    }

    public func takeLease() async throws -> any StorageLease {
        try await self.database.executor.sleep(1_000)
        return Lease(storage: self, number: try self.database.takeLease(self.process))
    }

    private struct Lease: StorageLease {
        let storage: SimulatedStorage
        let number: Int

        func isHeld() async -> Bool { self.storage.database.holdsLease(self.storage.process, self.number) }
        func release() async { self.storage.database.releaseLease(self.storage.process, self.number) }
    }
}
