import Logging
import Synchronization

extension Agent {
    /// One cycle: opens a session if none is open, sends what waits, tries again what is due, and fetches what is new.
    ///
    /// - Throws: What stopped it. Nothing is lost by that, and the next cycle goes on where this one stopped.
    public func cycle() async throws -> CycleReport {
        let isFirst = self.state.withLock { state in
            defer { state.isCycling = true }
            return !state.isCycling
        }
        guard isFirst else {
            throw DataSyncError(.invalidState, operation: "cycle", detail: "a cycle of this agent is under way")
        }
        defer { self.state.withLock { $0.isCycling = false } }
        if self.state.withLock({ $0.term == nil }) { try await self.takeOver() }
        try await self.countStart()
        do {
            return try await self.runCycle()
        } catch let error as DataSyncError where error.code == .diverged {
            // Opening compares both sides, and repairs what can be repaired.
            self.closeSession()
            throw error
        } catch let error as DataSyncError where error.code == .fenced {
            // A late copy of an old opening, or another agent with this identity: a new session tells which.
            self.closeSession()
            self.logger.notice("the session was fenced: opening a new one")
            do { return try await self.runCycle() } catch let again as DataSyncError where again.code == .fenced {
                self.closeSession()
                throw again
            }
        }
    }

    private func runCycle() async throws -> CycleReport {
        var report = CycleReport()
        try await self.openSession()
        report.stopped = try self.session().stopped(at: self.environment.runningTime())
        let hasMoreToNumber = try await self.numberRows(unitsMax: 4)
        do {
            try await self.push(&report)
            self.state.withLock { $0.pushWindow.grow() }
        } catch {
            // Smaller batches would be more requests.
            if (error as? DataSyncError)?.code != .overQuota { self.state.withLock { $0.pushWindow.shrink() } }
            throw error
        }
        try await self.fenceCopies()
        try await self.retryDue(&report)
        // A gap closes the session; what is left waits for the next.
        guard self.state.withLock({ $0.session != nil }) else { return report }
        if try await self.pull(&report) { try await self.retryDue(&report) }
        if hasMoreToNumber { report.hasMore = true }
        try await self.endStart()
        return report
    }

    /// Where the cloud did not take in all that was sent, a copy of the request may still reach it when it does. A type is pulled only
    /// when it is known what the cloud has of it (rule 3), so a new session fences such a copy first.
    private func fenceCopies() async throws {
        guard let session = self.state.withLock({ $0.session }), session.mayArriveLate else { return }
        self.closeSession()
        try await self.openSession()
        self.updateSession { $0.carryOver(session) }
    }
}

extension CycleReport {
    /// In one line.
    public var summary: String {
        func text(_ counts: [Disposition: Int]) -> String {
            counts.isEmpty
                ? "nothing"
                : counts.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.name)" }.joined(separator: ", ")
        }
        var summary = "up: \(text(self.pushed)); down: \(text(self.pulled))"
        for (type, reason) in self.stopped.sorted(by: { $0.key < $1.key }) { summary += "; type \(type) stopped: \(reason)" }
        return summary
    }
}
