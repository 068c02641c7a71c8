import ServiceLifecycle

extension SyncEnvironment {
    /// Lets others run. Not by `Task.yield()`, which goes through the global executor whatever executor the task prefers.
    func giveWay() async { try? await self.clock.sleep(for: .zero) }

    /// Sleeps, or returns early when the service group shuts down.
    func sleepUnlessShuttingDown(for duration: Duration) async throws {
        guard duration > .zero else { return await self.giveWay() }
        do {
            try await cancelWhenGracefulShutdown { try await self.clock.sleep(for: duration) }
        } catch is CancellationError where Task.isShuttingDownGracefully && !Task.isCancelled {
            // The loop looks at the flag itself.
        }
    }
}
