import DataSync
import Synchronization

/// What a test does between two steps of an agent or a hub, where it passes a labelled point.
final class PointHooks: Sendable {
    typealias Hook = @Sendable () async -> Void

    private let hooks = Mutex<[CrashPoint: Hook]>([:])

    /// Runs `hook` the next time that anybody passes `point`.
    func once(_ point: CrashPoint, _ hook: @escaping Hook) { self.hooks.withLock { $0[point] = hook } }

    func environment(_ time: TestTime) -> SyncEnvironment {
        var environment = time.environment
        environment.atPoint = { await self.pass($0) }
        return environment
    }

    private func pass(_ point: CrashPoint) async {
        await self.hooks.withLock { $0.removeValue(forKey: point) }?()
    }
}
