import DataSync
import Synchronization

/// An in-memory storage between which and its user things can go wrong. Without faults it changes nothing.
final class FaultyStorage: SyncStorage {
    typealias Hook = @Sendable () async throws -> Void

    /// What applications write through: they meet no faults.
    let base: InMemoryStorage
    private let plan: FaultPlan
    private let rollbackHook = Mutex<Hook?>(nil)
    private let isDead = Mutex(false)

    init(_ base: InMemoryStorage, plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    /// Ends the process that works through this: nothing that it still tries has any effect.
    func die() { self.isDead.withLock { $0 = true } }
    var isGone: Bool { self.isDead.withLock { $0 } }
    /// What works through this from now on is another process.
    func revive() { self.isDead.withLock { $0 = false } }

    /// Runs `hook` once, after the next transaction that is rolled back.
    func afterRollback(_ hook: @escaping Hook) { self.rollbackHook.withLock { $0 = hook } }

    func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (InMemoryTransaction) async throws -> Result
    ) async throws -> Result {
        if self.isDead.withLock({ $0 }) { throw FaultPlan.Crash() }
        try self.plan.pass(.transaction)
        let result: Result
        do {
            result = try await self.base.withTransaction(access) { transaction in
                let result = try await body(transaction)
                if self.isGone { throw FaultPlan.Crash() }
                return result
            }
        } catch {
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
