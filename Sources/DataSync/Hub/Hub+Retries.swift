import Logging
import Synchronization

extension Hub {
    /// Tries records again whose time has come, each in a transaction of its own; carefully, where the programs before this one
    /// ended over it.
    /// - Returns: Whether more are due at once.
    @discardableResult
    public func retryDue(limit: Int = 200) async throws -> Bool {
        try await self.countStart()
        try await self.endOwed()
        if self.databaseClock.isDue { try await self.unit { try await self.databaseClock.note(in: $0) } }
        let due = try await self.storage.withTransaction(.snapshot) {
            try await $0.dueMemos(at: .cloud, time: self.databaseClock.age(in: $0), limit: limit)
        }
        var hasReleased = false
        var resting: Set<String> = []
        for id in due {
            guard let tried = try await self.tryAgain(id, by: .clock, resting: &resting) else { continue }
            self.noteStep()
            hasReleased = hasReleased || tried.hasReleased
        }
        if resting.isEmpty { try await self.endStart() }
        return due.count == limit || hasReleased
    }

    /// Takes back that records were begun with which this program lived through.
    private func endOwed() async throws {
        for name in self.loneWatch.owed.sorted() {
            try await self.unit { try await $0.endAlone(name, by: self.loneWatch.owner) }
            self.loneWatch.hasEnded(name)
        }
    }

    /// Runs `body`, which looks at what other replicas have begun with, as a unit.
    func watchingOthers<Result: Sendable>(_ body: (Storage.Transaction) async throws -> Result) async throws -> Result {
        do { return try await self.unit(body) } catch {
            // They could not end it either.
            self.loneWatch.forget()
            throw error
        }
    }

    /// Writes down that this program has come up, before it does anything that may end it.
    private func countStart() async throws {
        guard !self.start.withLock({ $0.isCounted }) else { return }
        let isCareful = try await self.unit { try await $0.countStart(SettingName.starts) }
        self.start.withLock { start in
            start.isCounted = true
            start.isCareful = isCareful
        }
        if isCareful { self.logger.error("this program ended again and again over what it tries again: it does so one by one to find out why") }
    }

    /// Writes down that it got through all that was due.
    private func endStart() async throws {
        guard !self.start.withLock({ $0.isOver }) else { return }
        try await self.unit { try await $0.removeSetting(SettingName.starts) }
        self.start.withLock { start in
            start.isOver = true
            start.isCareful = false
        }
    }

    enum Retrier: Hashable {
        case clock
        /// By name, for the audit.
        case person(String)

        var isPerson: Bool { self != .clock }
    }

    /// What came of a try.
    private struct Try {
        var outcome: Outcome
        /// What the record waits for, if it does.
        var needs: Dependency?
        /// Whether records that waited for this one are due now.
        var hasReleased = false
    }

    /// Tries a parked, waiting or, by a person, a dead record again.
    /// - Returns: How it stands afterwards; nil if somebody else is trying it, or its type is stopped.
    @discardableResult
    func retry(_ id: Int64, by retrier: Retrier) async throws -> Outcome? {
        var resting: Set<String> = []
        return try await self.tryAgain(id, by: retrier, resting: &resting)?.outcome
    }

    /// - Parameter resting: The lines, by their settings, of which nothing is begun with now.
    private func tryAgain(_ id: Int64, by retrier: Retrier, resting: inout Set<String>) async throws -> Try? {
        // Which try this is, said before the unit: one that runs again after a commit of unknown outcome must not be the next.
        guard let memo = try await self.storage.withTransaction(.snapshot, { try await $0.memo(id) }) else { return nil }
        let tries = memo.tries
        var blamed: RecordFault?
        var ownChangeRuns = 0
        while true {
            var lone: String?
            if retrier == .clock, blamed == nil, self.start.withLock({ $0.isCareful }) {
                let name = SettingName.loneRetry(memo.line.sender, memo.line.type)
                if resting.contains(name) { return nil }
                switch try await self.beginAlone(memo, name) {
                case .begin: lone = name
                case .giveUp: blamed = .crashSuspect
                case .rest:
                    resting.insert(name)
                    return nil
                }
            }
            do {
                let fault = blamed
                let outcome = try await LoneTry.takingBack(lone, self.loneWatch, by: { name in try await self.unit { try await $0.endAlone(name) } }) {
                    try await self.unit { transaction in
                        let tried = try await self.retry(id, after: tries, by: retrier, blamed: fault, in: transaction)
                        try await transaction.endAlone(lone)
                        return tried
                    }
                }
                await self.environment.passes(.cloudRetryAfterCommit)
                return outcome
            } catch let setback as ChunkSetback {
                switch setback {
                case .blamed(_, let fault): blamed = fault
                case .someBlamed, .existing, .suspected: preconditionFailure("one record is applied, and its entity is looked at")
                case .stopped: return nil
                case .systemFault(let type, let error):
                    _ = self.stop(type, because: error)
                    guard retrier == .clock else { throw error }
                    return nil
                case .ownChanges(let names):
                    ownChangeRuns += 1
                    guard ownChangeRuns <= self.limits.unitAttemptsMax else {
                        throw DataSyncError(.storageBusy, operation: "retry", detail: "the cloud's applications keep changing the same entity")
                    }
                    try await self.numberOwnRows(of: names)
                }
            }
        }
    }

    /// Commits that a record is tried again.
    private func beginAlone(_ memo: Memo, _ name: String) async throws -> LoneTry.Verdict {
        let verdict = try await self.watchingOthers { transaction in
            try await transaction.beginAlone(
                name, epoch: memo.line.epoch, number: memo.number, age: self.databaseClock.age(in: transaction), self.loneWatch,
                at: self.environment.runningTime())
        }
        if verdict == .giveUp {
            self.logger.critical(
                "a record ended this program whenever it was applied: it is set aside as dead",
                metadata: ["record": "\(memo.line.sender)/\(memo.line.epoch)/\(memo.line.type)/\(memo.number)"])
        }
        return verdict
    }

    private func retry(
        _ id: Int64, after tries: Int, by retrier: Retrier, blamed: RecordFault?, in transaction: Storage.Transaction
    ) async throws -> Try? {
        guard var memo = try await transaction.memo(id), memo.line.receiver == .cloud else { return nil }
        guard memo.tries == tries || PlantedBug.isOn(.retryWithoutGuard) else { return Try(outcome: memo.outcome) }
        let now = try await self.databaseClock.now(in: transaction)
        guard memo.holdsPayload, memo.disposition.isOpen || (retrier.isPerson && memo.disposition == .dead),
            // Another replica may have tried it since it was found to be due.
            retrier.isPerson || memo.nextTry <= now.age
        else { return nil }
        let wait = self.wait(for: memo.line.type)
        guard let handler = self.types[memo.line.type], retrier.isPerson || wait == nil else {
            // Another replica may be trying it: what it makes of it must not be overwritten.
            guard try await self.begins(memo, in: transaction) else { return nil }
            // Else those of a type that stands still would be found first each time, and no others.
            memo.nextTry = now.age + Memo.standstillDelay(wait)
            try await transaction.updateMemos([memo])
            return nil
        }
        await self.environment.passes(.cloudRetryBeforeGuard)
        guard try await self.begins(memo, in: transaction) else { return nil }
        await self.environment.passes(.cloudRetryAfterGuard)
        memo.tries += 1
        let wasDead = memo.disposition == .dead
        if !wasDead, let first = try await transaction.firstOpenMemo(at: .cloud, from: memo.line.sender, of: memo.entity), first != id {
            memo.note(Outcome(.parked, reason: .behind, attempts: memo.attempts))
            memo.nextTry = self.timeToTry(memo, after: now)
            try await transaction.updateMemos([memo])
            try await self.note(retrier, memo, in: transaction)
            return Try(outcome: memo.outcome)
        }
        let tried = try await self.attempt(memo, handler: handler, blamed: blamed, wasDead: wasDead, now: now, in: transaction)
        memo.note(tried.outcome, needs: tried.needs)
        // A dead record that a person tried in vain stays dead: it was refused three times before.
        if wasDead, tried.outcome.disposition != .applied {
            memo.disposition = .dead
            memo.needs = nil
        }
        memo.attempts = min(memo.attempts, Outcome.attemptsMax)
        memo.nextTry = self.timeToTry(memo, after: now)
        try await transaction.updateMemos([memo])
        if memo.disposition == .suspect {
            // One of them is probed at a time, and another the next time.
            try await transaction.postponeSuspects(at: .cloud, from: memo.line.sender, type: memo.line.type, time: memo.nextTry)
        }
        if memo.disposition.isSettled {
            try await transaction.wakeMemos(at: .cloud, from: memo.line.sender, of: memo.entity, time: now.age)
        }
        try await self.note(retrier, memo, in: transaction)
        await self.environment.passes(.cloudRetryBeforeCommit)
        self.logger.info(
            "tried again",
            metadata: [
                "record": "\(memo.line.sender)/\(memo.line.epoch)/\(memo.line.type)/\(memo.number)",
                "is": "\(memo.disposition.name)", "reason": "\(memo.reason)", "attempts": "\(memo.attempts)",
            ])
        return Try(outcome: memo.outcome, hasReleased: tried.hasReleased)
    }

    private func note(_ retrier: Retrier, _ memo: Memo, in transaction: Storage.Transaction) async throws {
        guard case .person(let actor) = retrier else { return }
        try await transaction.appendAudit(self.audit(memo, action: "memo.retry", actor: actor))
    }

    private func timeToTry(_ memo: Memo, after now: Moment) -> Int64 {
        now.age + self.limits.delay(after: memo.outcome, waited: .milliseconds(now.age - memo.since)).milliseconds
    }

    /// - Returns: Whether this transaction may change how `memo` stands: nobody else has since it was read.
    private func begins(_ memo: Memo, in transaction: Storage.Transaction) async throws -> Bool {
        if PlantedBug.isOn(.retryWithoutGuard) { return true }
        return try await transaction.beginTry(ofMemo: memo.id, disposition: memo.disposition, tries: memo.tries)
    }

    /// One try: applied and in the log, or what is held against it.
    private func attempt(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?, wasDead: Bool, now: Moment,
        in transaction: Storage.Transaction
    ) async throws -> Try {
        var unit = CloudUnit(hub: self, transaction: transaction)
        try await unit.lock([memo.entity])
        // Its origin was given another state when it died, and gets this one back. An action it never lost: it was not corrected. And
        // what ended in a database that was lost may be told to its origin already, which does not ask again.
        let isState = handler.definition.kind == .state
        let isAgain = try await self.logEpoch(in: transaction) > 1 && !PlantedBug.isOn(.againNotEchoed)
        let isEcho = isState && (isAgain || (wasDead && !PlantedBug.isOn(.successNotEchoed)))
        let applied: PreparedRecord
        switch try await self.apply(memo, handler: handler, blamed: blamed, isEcho: isEcho, unit: &unit) {
        case .success(let prepared): applied = prepared
        case .failure(var fault):
            let isTooOld = now.age - memo.since > self.limits.waitingAgeMax.milliseconds
            if isTooOld { fault = try await fault.explained(for: memo, in: transaction) }
            let outcome = try await transaction.outcome(of: fault, for: memo, now: now, limits: self.limits)
            if outcome.disposition == .dead, !wasDead, outcome.reason != .forbidden, !PlantedBug.isOn(.noCorrectionAfterDead) {
                unit.correct(memo.entity, at: memo.line.sender)
                _ = try await unit.append()
            }
            return Try(outcome: outcome, needs: outcome.disposition == .waiting ? fault.dependency : nil)
        }
        await self.environment.passes(.cloudRetryAfterApply)
        try await unit.giveWay()
        let arrivals = Arrivals(applied, neededBefore: memo.needs)
        var hasReleased = try await arrivals.release(at: .cloud, limits: self.limits, now: now.age, in: transaction)
        // Now that one passes, the others are tried.
        let cleared = try await transaction.endSuspicion(
            at: .cloud, from: memo.line.sender, types: [memo.line.type], attempts: 0, time: now.age)
        hasReleased = hasReleased || cleared > 0
        return Try(outcome: .applied(version: try await unit.append()[0]), hasReleased: hasReleased)
    }

    /// - Returns: The record, applied, or what is held against it, with nothing changed.
    private func apply(
        _ memo: Memo, handler: any RecordHandler<Storage.Transaction>, blamed: RecordFault?, isEcho: Bool,
        unit: inout CloudUnit<Storage>
    ) async throws -> Result<PreparedRecord, RecordFault> {
        if let blamed { return .failure(blamed) }
        let prepared: PreparedRecord
        do throws(RecordFault) { prepared = try handler.prepare(memo.record, scope: memo.scope) } catch { return .failure(error) }
        if let fault = try await unit.admit(prepared, isEcho: isEcho) { return .failure(fault) }
        do { try await handler.apply([prepared], in: unit.transaction) } catch {
            throw try ChunkSetback(error, type: memo.line.type, indices: [0])
        }
        return .success(prepared)
    }
}
