import Logging
import Synchronization

extension Agent {
    /// Tries pulled records again whose time has come, each in a transaction of its own.
    func retryDue(_ report: inout CycleReport, limit: Int = 200) async throws {
        let now = self.environment.wallTime()
        let due = try await self.storage.withTransaction(.snapshot) {
            try await $0.dueMemos(at: self.id, time: now, limit: limit)
        }
        for id in due { try await self.retry(id, byPerson: false, &report) }
        if due.count == limit { report.hasMore = true }
    }

    /// - Returns: How the record stands afterwards; nil if it was not tried.
    @discardableResult
    func retry(_ id: Int64, byPerson: Bool, _ report: inout CycleReport) async throws -> Outcome? {
        // Which try this is, said before the unit: one that runs again after a commit of unknown outcome must not be the next.
        guard let tries = try await self.storage.withTransaction(.snapshot, { try await $0.memo(id)?.tries }) else { return nil }
        var blamed: RecordFault?
        var isChangedHere = false
        while true {
            do {
                let (fault, isChanged) = (blamed, isChangedHere)
                let outcome = try await self.unit {
                    try await self.retry(id, after: tries, byPerson: byPerson, blamed: fault, isChangedHere: isChanged, in: $0)
                }
                await self.environment.passes(.retryAfterCommit)
                return outcome
            } catch let setback as ChunkSetback {
                switch setback {
                case .blamed(_, let fault): blamed = fault
                case .ownChanges: isChangedHere = true
                case .someBlamed, .existing: preconditionFailure("one record is applied, and its entity is looked at")
                case .stopped: return nil
                case .systemFault(let type, let error):
                    self.stop(type, because: error, &report)
                    if byPerson { throw error }
                    return nil
                }
            }
        }
    }

    private func retry(
        _ id: Int64, after tries: Int, byPerson: Bool, blamed: RecordFault?, isChangedHere: Bool,
        in transaction: Storage.Transaction
    ) async throws -> Outcome? {
        let runningTime = self.environment.runningTime()
        guard var memo = try await transaction.memo(id), memo.line.receiver == self.id else { return nil }
        guard memo.tries == tries else { return memo.outcome }
        guard memo.holdsPayload, memo.disposition.isOpen || (byPerson && memo.disposition == .dead) else { return nil }
        guard let handler = self.types[memo.line.type],
            byPerson || self.state.withLock({ $0.breaker.wait(for: memo.line.type, at: runningTime) }) == nil
        else {
            // Else those of a type that stands still would be found first each time, and no others.
            memo.nextTry = self.environment.wallTime() + Memo.standstillDelay
            try await transaction.updateMemos([memo])
            return nil
        }
        await self.environment.passes(.retryBeforeGuard)
        guard try await transaction.beginTry(ofMemo: id, disposition: memo.disposition, tries: memo.tries) else { return nil }
        await self.environment.passes(.retryAfterGuard)
        memo.tries += 1
        let now = self.environment.wallTime()
        let wasDead = memo.disposition == .dead
        let outcome = try await self.attempt(
            memo, handler: handler, blamed: blamed, isChangedHere: isChangedHere, now: now, in: transaction)
        memo.note(outcome)
        if wasDead, outcome.disposition != .applied, outcome.disposition != .superseded { memo.disposition = .dead }
        memo.attempts = min(memo.attempts, Outcome.attemptsMax)
        memo.nextTry = now + self.limits.delay(after: memo.outcome, tries: memo.tries).milliseconds
        try await transaction.updateMemos([memo])
        if memo.disposition.isSettled {
            try await transaction.wakeMemos(at: self.id, from: .cloud, of: memo.entity, time: now)
        }
        await self.environment.passes(.retryBeforeCommit)
        self.logger.info(
            "tried again",
            metadata: [
                "record": "\(memo.line.type)/\(memo.number)", "is": "\(memo.disposition.name)", "reason": "\(memo.reason)",
                "attempts": "\(memo.attempts)",
            ])
        return memo.outcome
    }

    private func attempt(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?, isChangedHere: Bool,
        now: Int64, in transaction: Storage.Transaction
    ) async throws -> Outcome {
        let definition = handler.definition
        let superseded = Outcome(.superseded, reason: .superseded, attempts: memo.attempts)
        switch definition.kind {
        case .state:
            let version = try await transaction.entities([memo.entity])[memo.entity]?.version ?? 0
            if isChangedHere || version > memo.number { return superseded }
        case .action:
            let first = try await transaction.firstOpenMemo(at: self.id, from: .cloud, of: memo.entity)
            if let first, first != memo.id { return Outcome(.parked, reason: .behind, attempts: memo.attempts) }
        }
        if let fault = try await self.apply(memo, handler: handler, blamed: blamed, in: transaction) {
            let isTooOld = now - memo.created > self.limits.waitingAgeMax.milliseconds
            return Outcome(fault, attemptsBefore: memo.attempts, isTooOld: isTooOld)
        }
        await self.environment.passes(.retryAfterApply)
        guard definition.kind == .state else { return .applied(version: memo.number) }
        let isOwn = self.isOfOwnScope(memo.entity)
        let changed = try await transaction.unsettledNames(among: isOwn ? [EntityName(type: definition.id, key: memo.record.key)] : [])
        guard changed.isEmpty else { throw ChunkSetback.ownChanges(changed) }
        try await transaction.raiseEntities([
            EntityState(
                id: memo.entity, version: memo.number, origin: memo.record.origin,
                home: memo.scope.isBranch ? memo.scope : memo.record.origin,
                audience: definition.route.isScopedByHome ? .server(self.id) : .all)
        ])
        return .applied(version: memo.number)
    }

    /// - Returns: What is held against the record, with nothing changed; nil if it is applied.
    private func apply(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?,
        in transaction: Storage.Transaction
    ) async throws -> RecordFault? {
        if let blamed { return blamed }
        let prepared: PreparedRecord
        do throws(RecordFault) { prepared = try handler.prepare(memo.record, scope: memo.scope) } catch { return error }
        do { try await handler.apply([prepared], in: transaction) } catch {
            throw try ChunkSetback(error, type: memo.line.type, indices: [0])
        }
        return nil
    }
}
