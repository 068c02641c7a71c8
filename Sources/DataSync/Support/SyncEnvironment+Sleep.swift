import ServiceLifecycle

extension SyncEnvironment {
    /// Sleeps, or returns early when the service group shuts down.
    func sleepUnlessShuttingDown(for duration: Duration) async throws {
        guard duration > .zero else { return await Task.yield() }
        do {
            try await cancelWhenGracefulShutdown { try await self.clock.sleep(for: duration) }
        } catch is CancellationError where Task.isShuttingDownGracefully && !Task.isCancelled {
            // The loop looks at the flag itself.
        }
    }
}
