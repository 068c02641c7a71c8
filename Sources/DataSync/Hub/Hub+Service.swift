import Logging
public import ServiceLifecycle

extension Hub: Service {
    /// Numbers the cloud's own rows and tries parked records again, once a second, until the service group shuts down; and removes
    /// what is older than the retention.
    ///
    /// Several replicas may do so over one database: who comes second finds nothing left to do. Nothing needs a clean end.
    public func run() async throws {
        var failures = 0
        let backoff = Backoff()
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            var delay = Duration.seconds(1)
            var hasFailed = false
            let removeOld = { () async throws -> Bool in
                try await self.removeOld()
                return false
            }
            // Neither waits for the other's troubles.
            for work in [{ try await self.numberOwnRows() }, { try await self.retryDue() }, removeOld] as [() async throws -> Bool] {
                do { if try await work() { delay = .zero } } catch is CancellationError { return } catch {
                    hasFailed = true
                    self.logger.error("the cloud's own work failed and will be tried again", metadata: ["error": "\(String(reflecting: error))"])
                }
                self.noteStep()
            }
            failures = hasFailed ? failures + 1 : 0
            if hasFailed { delay = backoff.delay(failures: failures, jitter: self.environment.jitter()) }
            try await self.environment.sleepUnlessShuttingDown(for: delay)
        }
    }
}
