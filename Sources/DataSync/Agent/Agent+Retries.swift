import Logging
import Synchronization

extension Agent {
    /// Tries pulled records again whose time has come, each in a transaction of its own.
    func retryDue(_ report: inout CycleReport, limit: Int = 200) async throws {
        try await self.endOwed()
        if self.databaseClock.isDue { try await self.unit { try await self.databaseClock.note(in: $0) } }
        let due = try await self.storage.withTransaction(.snapshot) {
            try await $0.dueMemos(at: self.id, time: self.databaseClock.age(in: $0), limit: limit)
        }
        for id in due {
            guard let tried = try await self.tryAgain(id, by: nil, &report) else { continue }
            if tried.hasReleased { report.hasMore = true }
        }
        if due.count == limit { report.hasMore = true }
    }

    /// What came of a try.
    private struct Try {
        var outcome: Outcome
        /// What the record waits for, if it does.
        var needs: Dependency?
        /// Whether records that waited for this one are due now.
        var hasReleased = false
    }

    /// - Parameter person: Who asks for it; nil where its time has come.
    /// - Returns: How the record stands afterwards; nil if it was not tried.
    @discardableResult
    func retry(_ id: Int64, by person: String?, _ report: inout CycleReport) async throws -> Outcome? {
        try await self.tryAgain(id, by: person, &report)?.outcome
    }

    private func tryAgain(_ id: Int64, by person: String?, _ report: inout CycleReport) async throws -> Try? {
        // Which try this is, said before the unit: one that runs again after a commit of unknown outcome must not be the next.
        guard let memo = try await self.storage.withTransaction(.snapshot, { try await $0.memo(id) }) else { return nil }
        let tries = memo.tries
        var blamed: RecordFault?
        var isChangedHere = false
        while true {
            var lone: String?
            if person == nil, blamed == nil, self.state.withLock({ $0.start.isCareful }) {
                let name = SettingName.loneRetry(.cloud, memo.line.type)
                switch try await self.beginAlone(name, self.number(of: memo), &report) {
                case .begin: lone = name
                case .giveUp: blamed = .crashSuspect
                case .rest: return nil
                }
            }
            do {
                let (fault, isChanged) = (blamed, isChangedHere)
                let outcome = try await LoneTry.takingBack(lone, self.loneWatch, by: self.endAlone) {
                    try await self.unit { transaction in
                        let tried = try await self.retry(
                            id, after: tries, by: person, blamed: fault, isChangedHere: isChanged, in: transaction)
                        try await transaction.endAlone(lone)
                        return tried
                    }
                }
                await self.environment.passes(.retryAfterCommit)
                return outcome
            } catch let setback as ChunkSetback {
                switch setback {
                case .blamed(_, let fault): blamed = fault
                case .ownChanges: isChangedHere = true
                case .someBlamed, .existing, .suspected: preconditionFailure("one record is applied, and its entity is looked at")
                case .stopped: return nil
                case .systemFault(let type, let error):
                    self.stop(type, because: error, &report)
                    if person != nil { throw error }
                    return nil
                }
            }
        }
    }

    private func retry(
        _ id: Int64, after tries: Int, by person: String?, blamed: RecordFault?, isChangedHere: Bool,
        in transaction: Storage.Transaction
    ) async throws -> Try? {
        let runningTime = self.environment.runningTime()
        guard var memo = try await transaction.memo(id), memo.line.receiver == self.id else { return nil }
        guard memo.tries == tries else { return Try(outcome: memo.outcome) }
        let now = try await self.databaseClock.now(in: transaction)
        guard memo.holdsPayload, memo.disposition.isOpen || (person != nil && memo.disposition == .dead),
            // A try since it was found to be due may have postponed it.
            person != nil || memo.nextTry <= now.age
        else { return nil }
        let wait = self.state.withLock { $0.breaker.wait(for: memo.line.type, at: runningTime) }
        guard let handler = self.types[memo.line.type], person != nil || wait == nil else {
            // Else those of a type that stands still would be found first each time, and no others.
            memo.nextTry = now.age + Memo.standstillDelay(wait)
            try await transaction.updateMemos([memo])
            return nil
        }
        await self.environment.passes(.retryBeforeGuard)
        guard try await transaction.beginTry(ofMemo: id, disposition: memo.disposition, tries: memo.tries) else { return nil }
        await self.environment.passes(.retryAfterGuard)
        memo.tries += 1
        let wasDead = memo.disposition == .dead
        let tried = try await self.attempt(
            memo, handler: handler, blamed: blamed, isChangedHere: isChangedHere, now: now, in: transaction)
        memo.note(tried.outcome, needs: tried.needs)
        if wasDead, tried.outcome.disposition != .applied, tried.outcome.disposition != .superseded {
            memo.disposition = .dead
            memo.needs = nil
        }
        memo.attempts = min(memo.attempts, Outcome.attemptsMax)
        memo.nextTry = now.age + self.limits.delay(after: memo.outcome, waited: .milliseconds(now.age - memo.since)).milliseconds
        try await transaction.updateMemos([memo])
        if memo.disposition == .suspect {
            // One of them is probed at a time, and another the next time.
            try await transaction.postponeSuspects(at: self.id, from: .cloud, type: memo.line.type, time: memo.nextTry)
        }
        if memo.disposition.isSettled {
            try await transaction.wakeMemos(at: self.id, from: .cloud, of: memo.entity, time: now.age)
        }
        if let person { try await transaction.appendAudit(self.audit(memo, action: "memo.retry", actor: person)) }
        await self.environment.passes(.retryBeforeCommit)
        self.logger.info(
            "tried again",
            metadata: [
                "record": "\(memo.line.type)/\(memo.number)", "is": "\(memo.disposition.name)", "reason": "\(memo.reason)",
                "attempts": "\(memo.attempts)",
            ])
        return Try(outcome: memo.outcome, hasReleased: tried.hasReleased)
    }

    private func attempt(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?, isChangedHere: Bool,
        now: Moment, in transaction: Storage.Transaction
    ) async throws -> Try {
        let definition = handler.definition
        let superseded = Try(outcome: Outcome(.superseded, reason: .superseded, attempts: memo.attempts))
        switch definition.kind {
        case .state:
            let version = try await transaction.entities([memo.entity])[memo.entity]?.version ?? 0
            if isChangedHere || version > memo.number { return superseded }
        case .action:
            let first = try await transaction.firstOpenMemo(at: self.id, from: .cloud, of: memo.entity)
            if let first, first != memo.id { return Try(outcome: Outcome(.parked, reason: .behind, attempts: memo.attempts)) }
        }
        let applied: PreparedRecord
        switch try await self.apply(memo, handler: handler, blamed: blamed, in: transaction) {
        case .success(let prepared): applied = prepared
        case .failure(var fault):
            let isTooOld = now.age - memo.since > self.limits.waitingAgeMax.milliseconds
            if isTooOld { fault = try await fault.explained(for: memo, in: transaction) }
            let outcome = try await transaction.outcome(of: fault, for: memo, now: now, limits: self.limits)
            return Try(outcome: outcome, needs: outcome.disposition == .waiting ? fault.dependency : nil)
        }
        await self.environment.passes(.retryAfterApply)
        let arrivals = Arrivals(applied, neededBefore: memo.needs)
        var hasReleased = try await arrivals.release(at: self.id, limits: self.limits, now: now.age, in: transaction)
        // Now that one passes, the others are tried.
        let cleared = try await transaction.endSuspicion(
            at: self.id, from: .cloud, types: [memo.line.type], attempts: 0, time: now.age)
        hasReleased = hasReleased || cleared > 0
        let done = Try(outcome: .applied(version: memo.number), hasReleased: hasReleased)
        guard definition.kind == .state else { return done }
        let isOwn = self.isOfOwnScope(memo.entity)
        let changed = try await transaction.unsettledNames(among: isOwn ? [EntityName(type: definition.id, key: memo.record.key)] : [])
        guard changed.isEmpty else { throw ChunkSetback.ownChanges(changed) }
        try await transaction.raiseEntities([
            EntityState(
                id: memo.entity, version: memo.number, origin: memo.record.origin,
                home: memo.scope.isBranch ? memo.scope : memo.record.origin,
                audience: definition.route.isScopedByHome ? .server(self.id) : .all)
        ])
        return done
    }

    /// - Returns: The record, applied, or what is held against it, with nothing changed.
    private func apply(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?,
        in transaction: Storage.Transaction
    ) async throws -> Result<PreparedRecord, RecordFault> {
        if let blamed { return .failure(blamed) }
        let prepared: PreparedRecord
        do throws(RecordFault) { prepared = try handler.prepare(memo.record, scope: memo.scope) } catch { return .failure(error) }
        do { try await handler.apply([prepared], in: transaction) } catch {
            throw try ChunkSetback(error, type: memo.line.type, indices: [0])
        }
        return .success(prepared)
    }
}
