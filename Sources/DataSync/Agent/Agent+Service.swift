import Logging
public import ServiceLifecycle
import Synchronization

extension Agent: Service {
    /// Works until the service group shuts down: cycles by interval, at once when an application puts something into the
    /// outbox or somebody asks, and ever more rarely while the cloud cannot be reached.
    ///
    /// No state needs a clean end; a shutdown lets the batch that is under way finish.
    /// - Throws: `leaseHeld` or `leaseLost` when another agent works on the database, and what no waiting will mend.
    public func run() async throws {
        var lease = try await self.takeLease()
        await self.environment.passes(.leaseTaken)
        self.noteStep()
        self.logger.notice("ready", metadata: ["branch": "\(self.id)", "version": "\(DataSyncVersion.current)"])
        do {
            try await self.loop(&lease)
        } catch {
            await lease?.release()
            throw error
        }
        await self.environment.passes(.shutdown)
        await lease?.release()
    }

    private func takeLease() async throws -> (any StorageLease)? {
        guard let storage = self.storage as? any LeasingStorage else { return nil }
        // A command that looks whether an agent is running holds the lease for an instant.
        for _ in 0..<4 {
            do { return try await storage.takeLease() } catch let error as DataSyncError where error.code == .leaseHeld {
                try await self.environment.clock.sleep(for: .milliseconds(200))
            }
        }
        return try await storage.takeLease()
    }

    /// Makes the next cycle begin at once.
    public func nudge() { self.state.withLock { $0.wasNudged = true } }

    /// Takes the lease again where it was lost, as by a restart of the database.
    ///
    /// A database that was cut off goes on for a while holding it for the connection that is gone, so it is asked for a minute.
    /// - Parameter lostAt: When it was found lost; nil while it is held.
    /// - Throws: `leaseHeld` if another agent has it.
    private func keep(_ lease: inout (any StorageLease)?, lostAt: inout Duration?) async throws {
        guard let storage = self.storage as? any LeasingStorage else { return }
        if let held = lease, await held.isHeld() { return }
        await lease?.release()
        lease = nil
        // Another agent may have worked here meanwhile: what this one knows is read again, under a new term.
        self.closeSession()
        self.state.withLock { $0.term = nil }
        let now = self.environment.runningTime()
        let since = lostAt ?? now
        lostAt = since
        do { lease = try await storage.takeLease() } catch let error as DataSyncError where error.code == .leaseHeld && now - since < .seconds(60) {
            throw DataSyncError(.storageUnavailable, operation: "lease", detail: "the lease on the database was lost, and is held by somebody else")
        }
        lostAt = nil
        self.logger.notice("the lease on the database was lost, and is taken again")
    }

    private func loop(_ lease: inout (any StorageLease)?) async throws {
        var failures = 0
        var leaseLostAt: Duration?
        var comparison: Comparison?
        while !Task.isShuttingDownGracefully && !Task.isCancelled {
            var hasMore = false
            var retryAfter: Duration?
            // Who asks for a cycle means one that begins after the question.
            var requests: [(id: String, request: AgentRequest?)] = []
            do {
                requests = try await self.storage.withTransaction(.snapshot) { try await AgentRequest.pending(in: $0) }
                try await self.keep(&lease, lostAt: &leaseLostAt)
                let report = try await self.cycle()
                if failures > 0 { self.logger.notice("the cloud is reached again", metadata: ["failures": "\(failures)"]) }
                failures = 0
                let isComparing = try await self.compare(&comparison, asked: requests, after: report)
                hasMore = report.hasMore || isComparing
                if !report.isIdle { self.logger.info("cycle", metadata: ["did": "\(report.summary)"]) }
                await self.note(report, error: nil)
                try await self.answer(requests, with: AgentReply(report))
                try await self.removeOld()
            } catch is CancellationError {
                return
            } catch let error as DataSyncError where [.leaseLost, .leaseHeld, .storageNotReady, .storageTooNew].contains(error.code) {
                throw error
            } catch {
                failures += 1
                // A link that fails now and then must not keep a long comparison from its end.
                comparison?.failures += 1
                if let count = comparison?.failures, count >= Self.comparisonFailuresMax { comparison = nil }
                retryAfter = (error as? DataSyncError)?.retryAfter
                await self.note(nil, error: error)
                self.logger.warning(
                    "cycle failed; nothing is lost or counted", metadata: ["error": "\(String(reflecting: error))", "failures": "\(failures)"])
                try? await self.answer(requests.filter { comparison == nil || $0.request?.verb != .reconcile }, with: AgentReply(error))
            }
            await self.measureVitals()
            let delay = self.schedule.delay(
                hasMore: hasMore, failures: failures, retryAfter: retryAfter, jitter: self.environment.jitter())
            try await self.wait(delay, isBackingOff: failures > 0)
        }
    }

    /// Sleeps for `delay`, or until there is something to do.
    private func wait(_ delay: Duration, isBackingOff: Bool) async throws {
        guard delay > .zero else { return await self.environment.giveWay() }
        let end = self.environment.runningTime() + delay
        while !Task.isShuttingDownGracefully {
            let left = end - self.environment.runningTime()
            guard left > .zero else { return }
            do { try await self.environment.sleepUnlessShuttingDown(for: min(left, self.schedule.watch)) } catch is CancellationError { return }
            if self.state.withLock({ $0.takeNudge() }) { return }
            self.noteStep()
            // While the cloud is away, what applications put in does not make it come back.
            if (try? await self.isWanted(forRows: !isBackingOff)) ?? false { return }
        }
    }

    private func isWanted(forRows: Bool) async throws -> Bool {
        try await self.storage.withTransaction(.snapshot) { transaction in
            if try await !AgentRequest.pending(in: transaction).isEmpty { return true }
            guard forRows else { return false }
            return try await transaction.hasOutboxRows(after: try await transaction.outboxFrontier())
        }
    }

    private func answer(_ requests: [(id: String, request: AgentRequest?)], with cycleReply: AgentReply) async throws {
        for (id, request) in requests {
            let reply: AgentReply
            switch request?.verb {
            case .sync: reply = cycleReply
            case .reconcile:
                // Carried out step by step, and answered at its end.
                guard !cycleReply.succeeded else { continue }
                reply = cycleReply
            case .retry: reply = await self.perform(request) { "it is \(try await self.retryMemo($0, actor: $1).disposition.name) now" }
            case .discard:
                reply = await self.perform(request) {
                    try await self.discardMemo($0, actor: $1)
                    return "it is discarded now"
                }
            case nil: reply = AgentReply(succeeded: false, message: "the request is not one that this agent knows")
            }
            await self.environment.passes(.requestPerformed)
            try await self.unit { try await AgentRequest.reply(reply, to: id, in: $0) }
        }
    }

    private static var comparisonFailuresMax: Int { 3 }

    /// Makes one step of the first comparison that is asked for, between two cycles.
    /// - Returns: Whether there is more to do at once.
    private func compare(
        _ comparison: inout Comparison?, asked requests: [(id: String, request: AgentRequest?)], after cycle: CycleReport
    ) async throws -> Bool {
        guard let (id, asked) = requests.first(where: { $0.request?.verb == .reconcile }), let request = asked else {
            // Nobody waits for it any more.
            comparison = nil
            return false
        }
        if comparison?.id != id {
            let types = Set((request.types ?? []).map(BusinessTypeID.init(rawValue:)))
            do { comparison = Comparison(id: id, work: try self.reconciliation(of: types, repair: request.repair)) } catch {
                try await self.unit { try await AgentRequest.reply(AgentReply(error), to: id, in: $0) }
                return true
            }
        }
        guard var work = comparison?.work else { return false }
        // What was found before something failed is kept.
        defer { if comparison != nil { comparison?.work = work } }
        let hasMore = try await self.reconcile(&work, after: cycle, actor: request.actor)
        comparison?.failures = 0
        if hasMore { return true }
        let report = work.report
        await self.environment.passes(.requestPerformed)
        try await self.unit { try await AgentRequest.reply(AgentReply(report), to: id, in: $0) }
        return true
    }

    private func perform(_ request: AgentRequest?, _ action: (Int64, String) async throws -> String) async -> AgentReply {
        guard let request, let memo = request.memo else {
            return AgentReply(succeeded: false, message: "the request names no record")
        }
        do {
            return AgentReply(succeeded: true, message: "record \(memo): \(try await action(memo, request.actor))")
        } catch {
            return AgentReply(error)
        }
    }

    private func note(_ report: CycleReport?, error: (any Error)?) async {
        self.noteStep()
        let (now, time) = (self.environment.runningTime(), self.environment.wallTime())
        let note = self.state.withLock { state -> AgentHealthNote? in
            let before = state.health
            state.health.lastCycle = now
            if let error {
                state.health.failures += 1
                state.health.lastError = (error as? DataSyncError)?.summary ?? "an error of an unknown kind: the log has more"
            } else {
                state.health.lastSuccess = now
                state.lastSuccessTime = time
                state.health.failures = 0
                state.health.lastError = nil
            }
            if let report { state.health.stopped = report.stopped }
            // A heartbeat, or something that a person should see at once.
            let hasChanged =
                (before.failures == 0) != (state.health.failures == 0) || before.stopped != state.health.stopped
                || before.lastError != state.health.lastError
            if let last = state.lastNote, now - last < AgentHealthNote.interval, !hasChanged { return nil }
            state.lastNote = now
            return AgentHealthNote(
                time: time, lastSuccess: state.lastSuccessTime, failures: state.health.failures, lastError: state.health.lastError,
                stopped: Dictionary(uniqueKeysWithValues: state.health.stopped.map { ("\($0.key)", $0.value) }))
        }
        guard let note else { return }
        // Where the database is what is away, the log has said so.
        try? await self.unit { try await note.write(in: $0) }
    }

    /// How the loop is doing, for a health endpoint and a watchdog. Times are in running time of `environment`.
    public var health: AgentHealth { self.state.withLock { $0.health } }
}

/// A comparison with the cloud that is under way, and the request that asked for it.
private struct Comparison: Sendable {
    var id: String
    var work: Reconciliation
    /// In a row.
    var failures = 0
}

public struct AgentHealth: Hashable, Sendable {
    /// When a cycle last ended, well or not; nil before the first.
    public internal(set) var lastCycle: Duration?
    public internal(set) var lastSuccess: Duration?
    /// Cycles that failed in a row.
    public internal(set) var failures = 0
    public internal(set) var lastError: String?
    public internal(set) var stopped: [BusinessTypeID: String] = [:]
    /// What has ended so far that could have lasted for ever: transactions, exchanges with the cloud, cycles, waits. 0 until the agent
    /// holds the database. Whoever feeds a watchdog does so when this has grown.
    public internal(set) var steps: UInt64 = 0
}

extension AgentState {
    mutating func takeNudge() -> Bool {
        defer { self.wasNudged = false }
        return self.wasNudged
    }
}
