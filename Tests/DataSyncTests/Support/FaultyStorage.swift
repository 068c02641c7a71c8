import DataSync
import Synchronization

/// An in-memory storage between which and its user things can go wrong. Without faults it changes nothing.
final class FaultyStorage: SyncStorage {
    typealias Hook = @Sendable () async throws -> Void

    /// What applications write through: they meet no faults.
    let base: InMemoryStorage
    private let plan: FaultPlan
    private let rollbackHook = Mutex<Hook?>(nil)

    init(_ base: InMemoryStorage, plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    /// Runs `hook` once, after the next transaction that is rolled back.
    func afterRollback(_ hook: @escaping Hook) { self.rollbackHook.withLock { $0 = hook } }

    func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (InMemoryTransaction) async throws -> Result
    ) async throws -> Result {
        try self.plan.pass(.transaction)
        let result: Result
        do { result = try await self.base.withTransaction(access, body) } catch {
            let hook = self.rollbackHook.withLock { hook -> Hook? in
                defer { hook = nil }
                return hook
            }
            try await hook?()
            throw error
        }
        if access == .write { try self.plan.pass(.commit) }
        return result
    }
}
