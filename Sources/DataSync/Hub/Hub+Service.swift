import Logging
public import ServiceLifecycle

extension Hub: Service {
    /// Numbers the cloud's own rows and tries parked records again, once a second, until the service group shuts down.
    ///
    /// Several replicas may do so over one database: who comes second finds nothing left to do. Nothing needs a clean end.
    public func run() async throws {
        var failures = 0
        let backoff = Backoff()
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            var delay = Duration.seconds(1)
            do {
                let hasMoreRows = try await self.numberOwnRows()
                let hasMoreTries = try await self.retryDue()
                failures = 0
                if hasMoreRows || hasMoreTries { delay = .zero }
            } catch is CancellationError {
                return
            } catch {
                failures += 1
                delay = backoff.delay(failures: failures, jitter: self.environment.jitter())
                self.logger.error(
                    "the cloud's own work failed and will be tried again",
                    metadata: ["error": "\(String(reflecting: error))", "retry_after": "\(delay)"])
            }
            try await self.environment.sleepUnlessShuttingDown(for: delay)
        }
    }
}
