import Logging
import ServiceLifecycle
import Synchronization

extension Agent {
    /// Fetches what is new and takes it in, and tells the cloud what became of it.
    ///
    /// While one answer is taken in the next is fetched, and the cloud is told of the one before.
    /// - Returns: Whether records that waited for something are due now, since it came.
    func pull(_ report: inout CycleReport) async throws -> Bool {
        let session = try self.session()
        let received = try await self.storage.withTransaction(.snapshot) {
            try await $0.positions(from: .cloud, epoch: session.logEpoch)
        }
        let cursors = self.pullable(session, &report).reduce(into: [:]) { $0[$1] = received[$1]?.position ?? .start }
        var work = try await self.fetch(cursors, session)
        var hasReleased = false
        // A cycle ends, though there be more: own records must not wait for a long load.
        for round in 1...Self.pullsMax {
            let current = work
            let isLast = !current.hasMore || round == Self.pullsMax || Task.isShuttingDownGracefully
            async let next = isLast ? nil : self.fetch(current.following, session)
            async let told: Void = round == 1 ? () : self.acknowledge()
            let isWhole = try await self.takeIn(current, &report, hasReleased: &hasReleased)
            try await told
            let fetched = try await next
            // Of a type that stopped, what was fetched ahead begins behind a gap.
            guard isWhole, let fetched else {
                report.hasMore = report.hasMore || current.hasMore
                break
            }
            work = fetched
        }
        try await self.acknowledge()
        if !self.state.withLock({ $0.reports.isEmpty }) { try await self.unitWithReports(session.logEpoch) { _ in } }
        return hasReleased
    }

    private static var pullsMax: Int { 20 }
    private static var fullReason: String { "too many refused records wait at this branch" }

    private func fetch(_ cursors: [BusinessTypeID: Position], _ session: AgentSession) async throws -> PullWork {
        defer { self.noteStep() }
        let window = self.state.withLock { $0.pullWindow }
        let request = PullRequest(
            session: session.id, logEpoch: session.logEpoch, cursors: cursors, asked: try await self.numbersToAsk(),
            recordsMax: window.share(of: self.limits.batchRecordsMax), bytesMax: window.share(of: self.limits.batchBytesMax),
            recordBytesMax: self.limits.recordBytesMax)
        let answer: PullAnswer
        await self.environment.passes(.pullBeforeSend)
        do { answer = try await self.transport.pull(request) } catch {
            // Cut off, too late, or larger than it looked: payloads count as they are, and take up to six times that in JSON.
            self.state.withLock { $0.pullWindow.shrink() }
            throw error
        }
        await self.environment.passes(.pullAfterReply)
        self.state.withLock { $0.pullWindow.grow() }
        self.state.withLock { $0.peerAsks = answer.asked }
        return try PullWork(answer, cursors: cursors, types: self.types, branch: self.id, logEpoch: session.logEpoch)
    }

    /// The types that may be pulled now.
    private func pullable(_ session: AgentSession, _ report: inout CycleReport) -> [BusinessTypeID] {
        let now = self.environment.runningTime()
        return self.types.definitions.map(\.id).filter { type in
            if session.unsupported.contains(type) || session.isUnknown(type) { return false }
            if self.state.withLock({ $0.full[type] ?? .zero }) > now {
                report.stopped[type] = Self.fullReason
                return false
            }
            if self.state.withLock({ $0.resting[type] ?? .zero }) > now {
                report.stopped[type] = Self.restReason
                return false
            }
            guard self.state.withLock({ $0.breaker.wait(for: type, at: now) }) == nil else {
                report.stopped[type] = "a fault of this branch's system"
                return false
            }
            return true
        }
    }

    /// Takes in pulled records, chunk by chunk. The outcomes of own records go into the first transaction, before the
    /// records: they were read from the same state of the cloud, and decide who prevails.
    /// - Returns: Whether all of the answer was taken in.
    private func takeIn(_ fetched: PullWork, _ report: inout CycleReport, hasReleased: inout Bool) async throws -> Bool {
        var work = fetched
        var outcomes = try await self.news(among: work.outcomes)
        let ends = work.positionsWithoutRecords
        if !outcomes.isEmpty || !ends.isEmpty {
            let (logEpoch, own) = (work.logEpoch, outcomes)
            if work.items.isEmpty || !ends.isEmpty {
                try await self.unitWithReports(logEpoch) { transaction in
                    try await self.note(own, in: transaction)
                    try await self.move(to: ends, of: fetched, in: transaction)
                }
                outcomes = []
            }
        }
        let isCareful = self.state.withLock { $0.start.isCareful }
        var queue = ChunkQueue(work.chunks(self.limits, areAlone: isCareful))
        var localChangeRuns = 0
        var hasBegun = false
        while let chunk = queue.next() {
            let indices = work.remaining(in: chunk)
            if indices.isEmpty { continue }
            var lone: String?
            if isCareful, work.blamed[indices[0]] == nil {
                let (log, type) = (work.items[indices[0]].log, work.items[indices[0]].type)
                let name = SettingName.lone(.cloud, type)
                switch try await self.beginAlone(name, RecordNumber(type: type, epoch: work.logEpoch, number: log.logSeq), &report) {
                case .begin: lone = name
                case .giveUp: work.blame(indices[0], .crashSuspect)
                case .rest: work.stop(type)
                }
                if work.remaining(in: chunk).isEmpty { continue }
            }
            do {
                let (current, own) = (work, outcomes)
                if hasBegun { await self.environment.passes(.pullBetweenChunks) }
                let taken = try await LoneTry.takingBack(lone, self.loneWatch, by: self.endAlone) {
                    try await self.unitWithReports(current.logEpoch) { transaction in
                        try await self.note(own, in: transaction)
                        await self.environment.passes(.pullAfterOutcomes)
                        let counts = try await self.takeIn(indices, of: current, in: transaction)
                        try await transaction.endAlone(lone)
                        await self.environment.passes(.pullBeforeCommit)
                        return counts
                    }
                }
                await self.environment.passes(.pullAfterCommit)
                hasBegun = true
                outcomes = []
                for (disposition, count) in taken.counts { report.pulled[disposition, default: 0] += count }
                hasReleased = hasReleased || taken.hasReleased
                work.notePassed(taken.passed)
                // A type that stops because nothing passes does not flow again yet.
                self.passed(Set(indices.map { current.items[$0].type }).subtracting(current.stopped))
            } catch let setback as ChunkSetback {
                switch setback {
                case .stopped(let type, let stop):
                    work.stop(type)
                    guard case .quota(let retryAfter) = stop else { break }
                    let until = self.environment.runningTime() + retryAfter
                    self.state.withLock { $0.full[type] = until }
                    report.stopped[type] = Self.fullReason
                case .systemFault(let type, let error):
                    work.stop(type)
                    self.stop(type, because: error, &report)
                case .suspected(let type, let index):
                    work.stop(type, from: index)
                    let detail = "every record of the type is refused alike, \(self.limits.suspectsMax) are held: it stops until one passes"
                    self.stop(type, because: DataSyncError(.storageFailed, operation: "pull", detail: detail), &report)
                case .blamed(let index, let fault):
                    work.blame(index, fault)
                    if work.isWorthHalving(chunk) {
                        queue.halve(chunk)
                        continue
                    }
                case .existing: preconditionFailure("a branch makes no guesses")
                case .someBlamed:
                    queue.halve(chunk)
                    continue
                case .ownChanges(let names):
                    localChangeRuns += 1
                    guard localChangeRuns <= 10 * self.limits.unitAttemptsMax else {
                        throw DataSyncError(.storageBusy, operation: "pull", detail: "applications keep changing the same entities")
                    }
                    work.noteChangedHere(names)
                }
                queue.again(chunk)
            }
        }
        return work.stopped.isEmpty
    }

    private struct Taken {
        var counts: [Disposition: Int] = [:]
        var passed: Set<BusinessTypeID> = []
        var hasReleased = false
    }

    /// Takes in the records at `indices` in one transaction, or throws a ``ChunkSetback`` and has done nothing.
    private func takeIn(
        _ indices: [Int], of work: PullWork, in transaction: Storage.Transaction
    ) async throws -> Taken {
        // The position decides what is new: where a commit of unknown outcome had succeeded, all of it is there.
        let received = try await transaction.positions(from: .cloud, epoch: work.logEpoch)
        let indices = indices.filter { work.items[$0].log.logSeq > received[work.items[$0].type]?.position.number ?? 0 }
        try work.checkFollows(received, at: indices)
        let entities = Set(indices.map { work.items[$0].log.entity })
        // An entity has a version above what comes next in the log only where the cloud accepted a record of this branch.
        let written = try await transaction.typesNumbered(by: self.id)
        let states = try await transaction.entities(entities.filter { written.contains($0.type) }.sorted())
        let known = try await transaction.openMemos(at: self.id, from: .cloud)
        let open = known.fromSender ? try await transaction.openEntities(at: self.id, from: .cloud, among: entities) : []
        let met = try await self.metBefore(indices, of: work, in: transaction)
        var judge = PullJudge(blocked: open, versions: states.mapValues(\.version), met: met)
        var toApply: [(index: Int, prepared: PreparedRecord)] = []
        var superseded = 0
        for index in indices {
            let item = work.items[index]
            let isChangedHere =
                !work.changedHere.isEmpty && self.isOfOwnScope(item.log.entity)
                && work.changedHere.contains(EntityName(type: item.type, key: item.log.record.key))
            switch judge.verdict(for: item, at: index, blamed: work.blamed[index], isChangedHere: isChangedHere) {
            case .superseded: superseded += 1
            case .known: break
            case .setAside: break
            case .apply(let prepared): toApply.append((index, prepared))
            }
        }
        var taken = Taken(passed: Set(toApply.map { work.items[$0.index].type }))
        let suspects = try await transaction.suspects(
            among: judge.setAside, at: indices, of: work, passing: taken.passed, received: received.mapValues(\.position.number),
            hasSuspects: known.suspects, limits: self.limits)
        judge.suspect(suspects.indices)
        var cleared = suspects.cleared
        // Others pass: the fault was theirs.
        if known.suspects { cleared.formUnion(taken.passed) }
        try await self.apply(toApply, areDistinct: entities.count == indices.count, in: transaction)
        await self.environment.passes(.pullMid)
        try await self.checkQuota(judge.setAside, of: work, in: transaction)
        try await self.keepUIDs(of: indices, of: work, in: transaction)
        let now = try await self.databaseClock.now(in: transaction)
        // In the order of the log: the rows of an entity are tried in the order in which they were inserted.
        var memos = judge.setAside.sorted { $0.key < $1.key }.map {
            work.memo(for: $0.key, outcome: $0.value, needs: judge.needs[$0.key], now: now, limits: self.limits)
        }
        if !cleared.isEmpty {
            _ = try await transaction.endSuspicion(
                at: self.id, from: .cloud, types: cleared, attempts: 1, time: now.age + self.limits.retryDelays[0].milliseconds)
        }
        let arrivals = Arrivals(toApply.lazy.map(\.prepared))
        if known.waiting { taken.hasReleased = try await arrivals.release(at: self.id, limits: self.limits, now: now.age, in: transaction) }
        arrivals.release(&memos, limits: self.limits, now: now.age)
        if memos.contains(where: { $0.needs != nil && $0.nextTry <= now.age }) { taken.hasReleased = true }
        if !memos.isEmpty { try await transaction.insertMemos(memos) }
        try await self.raise(toApply.map { work.items[$0.index].log }, in: transaction)
        try await self.move(to: work.positions(after: indices), of: work, in: transaction)
        if superseded > 0 { taken.counts[.superseded] = superseded }
        if !toApply.isEmpty { taken.counts[.applied] = toApply.count }
        for outcome in judge.setAside.values { taken.counts[outcome.disposition, default: 0] += 1 }
        return taken
    }

    /// What is known of records that came under other places or numbers before. Only where a database was restored can there be any.
    private func metBefore(_ indices: [Int], of work: PullWork, in transaction: Storage.Transaction) async throws -> PullJudge.Met {
        var met = PullJudge.Met()
        guard work.logEpoch > 1 || self.state.withLock({ $0.term })?.epoch ?? 1 > 1 else { return met }
        let actions = indices.map { work.items[$0] }.filter { $0.kind == .action }
        if PlantedBug.isOn(.actionsNotKnown) { return met }
        met.known = try await transaction.knownUIDs(among: actions.map(\.log.record.uid))
        let own = actions.filter { $0.log.record.origin == self.id }.map { EntityName(type: $0.type, key: $0.log.record.key) }
        if !own.isEmpty { met.known.formUnion(try await transaction.outboxUIDs(of: Set(own))) }
        let entities = Set(indices.map { work.items[$0].log.entity })
        for memo in try await transaction.memos(at: self.id, from: .cloud, of: entities) where memo.disposition == .dead {
            met.dead[memo.record.uid] = memo.outcome
        }
        return met
    }

    /// Notes which actions were taken in: should the cloud be restored, it relays them again under other places.
    private func keepUIDs(of indices: [Int], of work: PullWork, in transaction: Storage.Transaction) async throws {
        let actions = indices.map { work.items[$0] }.filter { $0.kind == .action }
        guard !actions.isEmpty else { return }
        let age = try await self.databaseClock.age(in: transaction)
        for (type, items) in Dictionary(grouping: actions, by: \.type) {
            try await transaction.keepUIDs(items.map(\.log.record.uid), ofType: type, time: age)
        }
    }

    /// Applies records, and only then looks for changes of this branch that they would overwrite (rule 2): looking first
    /// misses an application's transaction that was about to commit, applying first waits for it.
    ///
    /// - Parameter areDistinct: Whether it is known that no two records are of one entity.
    private func apply(
        _ records: [(index: Int, prepared: PreparedRecord)], areDistinct: Bool, in transaction: Storage.Transaction
    ) async throws {
        let byType = Dictionary(grouping: records) { $0.prepared.record.type }
        if PlantedBug.isOn(.rule2LooksFirst) { try await self.giveWay(records, in: transaction) }
        for definition in self.types.definitions {
            guard let records = byType[definition.id], let handler = self.types[definition.id] else { continue }
            for wave in areDistinct ? [records] : waves(of: records, entity: { $0.prepared.entity }) {
                do { try await handler.apply(wave.map(\.prepared), in: transaction) } catch {
                    throw try ChunkSetback(error, type: definition.id, indices: wave.map(\.index))
                }
            }
        }
        if !PlantedBug.isOn(.rule2LooksFirst), !PlantedBug.isOn(.noRule2) { try await self.giveWay(records, in: transaction) }
    }

    /// Undoes everything where an application here has changed one of the entities and the cloud has not settled that.
    private func giveWay(_ records: [(index: Int, prepared: PreparedRecord)], in transaction: Storage.Transaction) async throws {
        // Most types are written on one side only.
        let states = Set(records.map(\.prepared.record.type)).filter {
            self.types.definition(of: $0)?.kind == .state || PlantedBug.isOn(.actionSuperseded)
        }
        let own = states.isEmpty ? [] : try await transaction.typesInOutbox(among: states)
        guard !own.isEmpty else { return }
        let written = records.lazy.map(\.prepared).filter { own.contains($0.record.type) && self.isOfOwnScope($0.entity) }
        let names = Set(written.map { EntityName(type: $0.record.type, key: $0.record.key) })
        let changed = try await transaction.unsettledNames(among: names)
        guard changed.isEmpty else { throw ChunkSetback.ownChanges(changed) }
    }

    /// Stores the versions of applied states (rule 4).
    private func raise(_ records: [LogRecord], in transaction: Storage.Transaction) async throws {
        var states = EntityRaises(reservingCapacity: records.count)
        for record in records where self.types.definition(of: record.record.type)?.kind == .state {
            if PlantedBug.isOn(.tombstoneNotKept), record.isDeletion { continue }
            let id = record.entity
            states.raise(
                EntityState(
                    id: id, version: record.logSeq, origin: record.record.origin,
                    home: record.scope.isBranch ? record.scope : record.record.origin, audience: record.audience,
                    isDeleted: record.isDeletion))
        }
        if !states.all.isEmpty { try await transaction.raiseEntities(states.all) }
    }

    private func move(
        to positions: [BusinessTypeID: Position], of work: PullWork, in transaction: Storage.Transaction
    ) async throws {
        guard !positions.isEmpty else { return }
        let received = try await transaction.positions(from: .cloud, epoch: work.logEpoch)
        try work.checkFollows(received, for: positions.keys)
        for (type, position) in positions {
            let expected = received[type]?.position.number ?? 0
            guard expected < position.number else { continue }
            guard
                try await transaction.movePosition(
                    from: .cloud, epoch: work.logEpoch, type: type, expected: expected, to: position)
            else { throw DataSyncError(.storageBusy, operation: "pull", detail: "the position moved") }
        }
    }

    private func checkQuota(_ setAside: [Int: Outcome], of work: PullWork, in transaction: Storage.Transaction) async throws {
        let open = setAside.filter { $0.value.disposition.isOpen }
        for (type, indices) in Dictionary(grouping: open.keys, by: { work.items[$0].type }) {
            let usage = try await transaction.openUsage(at: self.id, from: .cloud, type: type)
            let bytes = indices.reduce(0) { $0 + work.items[$1].log.record.payload.utf8.count }
            guard
                usage.records + indices.count <= self.limits.openRecordsMax, usage.bytes + bytes <= self.limits.openBytesMax
            else {
                // Not a fault of the system: then what waits would not be tried either, and the room would never come.
                self.logger.error("too many refused records wait: the type is not fetched", metadata: ["type": "\(type)", "open": "\(usage.records)"])
                throw ChunkSetback.stopped(type, .quota(retryAfter: .seconds(60)))
            }
        }
    }

    // MARK: - Types that a fault of this branch's system has stopped

    func stop(_ type: BusinessTypeID, because error: any Error, _ report: inout CycleReport) {
        let (now, jitter) = (self.environment.runningTime(), self.environment.jitter())
        let message = (error as? DataSyncError)?.description ?? "\(Swift.type(of: error))"
        let delay = self.state.withLock { $0.breaker.stop(type, message: message, at: now, jitter: jitter) }
        report.stopped[type] = message
        self.logger.error(
            "type stopped by a fault of this branch's system; nothing is counted or lost",
            metadata: ["type": "\(type)", "error": "\(String(reflecting: error))", "retry_after": "\(delay)"])
    }

    func passed(_ types: Set<BusinessTypeID>) {
        self.state.withLock { state in state.resting = state.resting.filter { !types.contains($0.key) } }
        for type in types where self.state.withLock({ $0.breaker.passed(type) }) {
            self.logger.notice("type flows again", metadata: ["type": "\(type)"])
        }
    }

    // MARK: - Acknowledging

    /// Tells the cloud what it has not been told yet. What it is told is read from the tables, so an acknowledgement that
    /// was lost is made up for by the next.
    private func acknowledge() async throws {
        let session = try self.session()
        let (asked, told, reports) = self.state.withLock { ($0.peerAsks, $0.told, $0.reports) }
        let request = try await self.storage.withTransaction(.snapshot) { transaction in
            var request = AcknowledgeRequest(session: session.id, logEpoch: session.logEpoch, positions: [:], outcomes: [])
            let received = try await transaction.positions(from: .cloud, epoch: session.logEpoch)
            for (type, received) in received {
                let reported = max(received.reported, reports[type] ?? 0)
                guard reported < received.position.number else { continue }
                let line = MemoLine(receiver: self.id, sender: .cloud, epoch: session.logEpoch, type: type)
                let limit = max(self.limits.batchRecordsMax / 4, 1)
                let memos = try await transaction.memos(
                    in: line, numbers: reported + 1...received.position.number, limit: limit)
                request.outcomes += memos.map { NumberedOutcome(record: self.number(of: $0), outcome: $0.outcome) }
                // Where more were set aside than one request tells, only as far as it tells.
                request.positions[type] =
                    memos.count == limit
                    ? Position(number: memos[limit - 1].number, fingerprint: .none) : received.position
                if request.outcomes.count >= max(self.limits.batchRecordsMax / 2, 1) { break }
            }
            let byLine = Dictionary(grouping: asked) {
                MemoLine(receiver: self.id, sender: .cloud, epoch: $0.epoch, type: $0.type)
            }
            let read = byLine.isEmpty ? [:] : try await transaction.positions(from: .cloud)
            for (line, numbers) in byLine {
                let memos = try await transaction.memos(in: line, numbers: numbers.map(\.number))
                var outcomes = memos.map { NumberedOutcome(record: self.number(of: $0), outcome: $0.outcome) }
                // What this branch has read and keeps no row of was applied. After a restore it may not know of the row any more that
                // the cloud means, and have read the record again.
                let known = Set(memos.map(\.number))
                let position = read[line.epoch]?[line.type]?.position.number ?? 0
                // What it has not read of an older log it reads, or has read, under other places of the present one.
                outcomes += numbers.filter { !known.contains($0.number) && ($0.number <= position || line.epoch < session.logEpoch) }.map {
                    NumberedOutcome(record: $0, outcome: .applied(version: $0.number))
                }
                // The cloud asks about what it believes to be open. How a record ended is told whenever it asks: a copy of an older
                // acknowledgement may have come to it after the newest.
                request.outcomes += outcomes.filter { $0.outcome.disposition.isSettled || told[$0.record] != $0.outcome }
            }
            return request
        }
        guard !request.positions.isEmpty || !request.outcomes.isEmpty else { return }
        await self.environment.passes(.acknowledgeBeforeSend)
        _ = try await self.transport.acknowledge(request)
        await self.environment.passes(.acknowledgeAfterReply)
        let answered = request.outcomes
        self.state.withLock { state in
            // What is open still, was told and is asked for again is told again only when it has changed.
            state.told = state.told.filter { asked.contains($0.key) }
            for outcome in answered { state.told[outcome.record] = outcome.outcome }
            state.reports.merge(request.positions.mapValues(\.number)) { max($0, $1) }
        }
    }

    /// Runs a write of the agent and, with it, notes what the cloud was told meanwhile: that needs no commit of its own.
    private func unitWithReports<Result: Sendable>(
        _ logEpoch: Int32, _ body: (Storage.Transaction) async throws -> Result
    ) async throws -> Result {
        let reports = self.state.withLock { $0.reports }
        let result = try await self.unit { transaction in
            for (type, number) in reports.sorted(by: { $0.key < $1.key }) {
                try await transaction.reportPosition(from: .cloud, epoch: logEpoch, type: type, number: number)
            }
            if !reports.isEmpty { await self.environment.passes(.acknowledgeBeforeCommit) }
            return try await body(transaction)
        }
        self.state.withLock { state in state.reports = state.reports.filter { reports[$0.key] != $0.value } }
        return result
    }

    func number(of memo: Memo) -> RecordNumber {
        RecordNumber(type: memo.line.type, epoch: memo.line.epoch, number: memo.number)
    }
}
