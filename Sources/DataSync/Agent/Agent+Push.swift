import Logging
import ServiceLifecycle
import Synchronization

extension Agent {
    /// Sends what is numbered until nothing is left or nothing can be sent, and settles it by the answers.
    ///
    /// Two batches are on their way at a time, and while they are the one before is settled: so the cloud reads a batch
    /// while its database applies the last, and both databases work at once. The cloud keeps their order; a batch that
    /// comes too early finds a gap and is sent again.
    func push(_ report: inout CycleReport) async throws {
        do { try await self.sendAndSettle(&report) } catch {
            // Something in it may end the cloud whenever it is applied.
            let code = (error as? DataSyncError)?.code
            if code == .peerUnreachable || code == .peerInvalid { self.state.withLock { $0.lostPushes += 1 } }
            // Whatever failed, a batch may have been on its way: it is answered into the void, is sent again, and learnt then.
            self.updateSession { $0.loseAnswers() }
            throw error
        }
    }

    private func sendAndSettle(_ report: inout CycleReport) async throws {
        try await withThrowingTaskGroup(of: PushExchange.self) { group in
            var flight = PushFlight()
            var asking = try await self.numbersToAsk()
            var landed: [PushExchange] = []
            var (batches, settled) = (0, 0)
            let batchesMax = self.state.withLock { $0.pushWindow }.share(of: Self.batchesMax)
            while true {
                while flight.mayTakeOff, !Task.isShuttingDownGracefully, batches < batchesMax,
                    let batch = try await self.nextBatch(asking: asking, &report)
                {
                    asking = []
                    self.updateSession { session in
                        for (type, number) in batch.lastNumbers { session.handOver(type, through: number) }
                    }
                    batches += 1
                    let number = flight.takeOff()
                    group.addTask { PushExchange(number: number, batch: batch, answer: await self.send(batch)) }
                }
                // The next batch is on its way before this one is settled. In the order in which they were sent: a stream is
                // settled from its head on.
                for exchange in landed {
                    if settled > 0 { await self.environment.passes(.settleBetween) }
                    try await self.settle(exchange, &report)
                    settled += 1
                }
                let mayGoOn = flight.settle(landed.count)
                landed = []
                if mayGoOn { continue }
                if flight.isUnderWay { await self.environment.passes(.pushUnderWay) }
                guard let exchange = try await group.next() else {
                    if batches == batchesMax { report.hasMore = true }
                    return
                }
                landed = flight.land(exchange)
            }
        }
    }

    /// A cycle's push ends, though there be more: what the cloud has, retries and requests must not wait for a long backlog. On a link
    /// that is cut again and again it ends sooner, or no cycle would get to them.
    private static var batchesMax: Int { 50 }

    private func send(_ batch: PushBatch) async -> Result<PushAnswer, any Error> {
        defer { self.noteStep() }
        do {
            await self.environment.passes(.pushBeforeSend)
            let answer = try await self.transport.push(batch.request)
            await self.environment.passes(.pushAfterReply)
            try self.check(answer, of: batch)
            return .success(answer)
        } catch {
            if PlantedBug.isOn(.transportFailureCounted) { try? await self.countFailure(of: batch) }
            return .failure(error)
        }
    }

    private func settle(_ exchange: PushExchange, _ report: inout CycleReport) async throws {
        try await self.settle(exchange.batch, by: try exchange.answer.get(), isBehindStop: exchange.isBehindStop, &report)
    }

    /// Own records that the cloud has and has not settled, as far as this branch knows.
    func numbersToAsk() async throws -> [RecordNumber] {
        try await self.storage.withTransaction(.snapshot) { transaction in
            try await transaction.memosToAsk(at: .cloud, time: self.databaseClock.age(in: transaction), limit: self.limits.askedMax).map {
                RecordNumber(type: $0.line.type, epoch: $0.line.epoch, number: $0.number)
            }
        }
    }

    // MARK: - Reading a batch

    /// Cuts the next batch from the manifests and reads its rows; nil if there is nothing to send.
    private func nextBatch(asking: [RecordNumber], _ report: inout CycleReport) async throws -> PushBatch? {
        let hasMoreToNumber = try await self.numberRows(unitsMax: 1)
        let session = try self.session()
        let now = self.environment.runningTime()
        let window = self.state.withLock { $0.pushWindow }
        let batch = try await self.storage.withTransaction(.snapshot) { transaction -> PushBatch? in
            var queues: [(queue: BatchCutter.Queue, parts: [PushBatch.Part])] = []
            for type in try await transaction.manifestSummary().keys where session.maySend(type, at: now) {
                guard let stream = session.stream(type) else { continue }
                let parts = try await self.waitingParts(of: type, from: stream.next, in: transaction)
                let priority = self.types.definition(of: type)?.priority ?? .max
                queues.append(
                    (BatchCutter.Queue(type: type, priority: priority, entries: parts.flatMap(\.entries)), parts))
            }
            let cutter = BatchCutter(
                recordsMax: window.share(of: self.limits.batchRecordsMax),
                bytesMax: window.share(of: self.limits.batchBytesMax), ageingSlotEvery: self.limits.ageingSlotEvery)
            let byType = Dictionary(queues.map { ($0.queue.type, $0.parts) }) { first, _ in first }
            var parts: [PushBatch.Part] = []
            for cut in cutter.cut(queues.map(\.queue)) { parts += (byType[cut.type] ?? []).first(entries: cut.count) }
            guard !parts.isEmpty else { return nil }
            return try await self.read(parts, session: session, asking: asking, in: transaction)
        }
        if batch == nil, hasMoreToNumber { report.hasMore = true }
        return batch
    }

    /// As much of a stream as one batch could take, from number `first` on.
    private func waitingParts(
        of type: BusinessTypeID, from first: Int64, in transaction: Storage.Transaction
    ) async throws -> [PushBatch.Part] {
        var parts: [PushBatch.Part] = []
        var count = 0
        var last: ManifestKey?
        var before: (number: Int64, run: Fingerprint)?
        while count < self.limits.batchRecordsMax {
            let manifests = try await transaction.manifests(ofType: type, after: last, limit: 8)
            guard !manifests.isEmpty else { break }
            last = manifests.last?.key
            for manifest in manifests {
                defer { before = (manifest.lastSynID, manifest.run) }
                guard manifest.lastSynID >= first else { continue }
                let offset = max(manifest.settled, Int(first - manifest.key.firstSynID), 0)
                let entries = Array(manifest.entries[offset...])
                var part = PushBatch.Part(
                    manifest: manifest.key, run: manifest.run, before: manifest.run, isAgain: manifest.isAgain, offset: offset,
                    entries: entries, rows: [])
                if offset == 0 {
                    let number = manifest.key.firstSynID - 1
                    part.before = before?.number == number ? before?.run ?? .none : try await self.run(of: manifest.key, number: number, in: transaction)
                }
                parts.append(part)
                count += entries.count
            }
        }
        return parts
    }

    /// The run that gave `number` in the stream of a manifest; `none` before the first.
    private func run(of key: ManifestKey, number: Int64, in transaction: Storage.Transaction) async throws -> Fingerprint {
        guard number > 0 else { return .none }
        let confirmations = try await transaction.confirmations()
        let confirmed = confirmations.first { $0.peer == .cloud && $0.type == key.type && $0.epoch == key.epoch }?.position
        if let confirmed, confirmed.number == number { return confirmed.fingerprint }
        return try await transaction.run(of: StreamID(origin: self.id, epoch: key.epoch, type: key.type), number: number) ?? .none
    }

    private func read(
        _ parts: [PushBatch.Part], session: AgentSession, asking: [RecordNumber], in transaction: Storage.Transaction
    ) async throws -> PushBatch {
        let ids = parts.flatMap { $0.entries.map(\.id) }.sorted()
        let rows = ids.isEmpty ? [] : try await transaction.outboxRows(ids)
        let byID = Dictionary(rows.map { ($0.id, $0) }) { first, _ in first }
        var batch = PushBatch(parts: [], request: PushRequest(session: session.id, runs: [], asked: asking))
        let types = Set(parts.map(\.type))
        batch.request.isCareful = self.state.withLock { $0.lostPushes >= Start.suspicious || !$0.careful.isDisjoint(with: types) }
        for var part in parts {
            part.rows = part.entries.map { byID[$0.id] }
            if PlantedBug.isOn(.missingRowStops), part.rows.contains(nil) { throw DataSyncError(.storageFailed, operation: "push") }
            let records = zip(part.entries, part.rows).enumerated().map { index, pair in
                self.sent(pair.1, as: pair.0, synID: part.synID(at: index), of: part, session: session)
            }
            batch.request.runs.append(
                PushRun(
                    type: part.type, firstSynID: part.synID(at: 0), run: part.run, before: part.before, isAgain: part.isAgain, records: records))
            // The payloads are in the request; what settles the rows needs their names only.
            for index in part.rows.indices { part.rows[index]?.payload = "" }
            batch.parts.append(part)
        }
        return batch
    }

    /// What is sent for a number: its row, or what to enter in its place so that the stream goes on.
    private func sent(
        _ row: OutboxRow?, as entry: Manifest.Entry, synID: Int64, of part: PushBatch.Part, session: AgentSession
    ) -> SentRecord {
        guard let row else {
            self.logger.critical(
                "a numbered row of sync_data is gone: somebody deleted it. Its number is sent as void",
                metadata: ["type": "\(part.type)", "syn_id": "\(synID)", "id": "\(entry.id)"])
            return .void
        }
        guard let key = row.key, row.isWritable else { return .unsendable(uid: row.uid, key: row.substituteKey, reason: .unsendable) }
        guard row.head.digest == entry.digest else {
            self.logger.critical(
                "a row of sync_data changed after it was numbered: it is not sent",
                metadata: ["type": "\(part.type)", "syn_id": "\(synID)", "id": "\(entry.id)"])
            return .unsendable(uid: row.uid, key: key, reason: .damaged)
        }
        guard row.head.bytes <= min(session.peerRecordBytesMax, self.limits.batchBytesMax) else {
            return .unsendable(uid: row.uid, key: key, reason: .tooBig)
        }
        let stream = StreamID(origin: self.id, epoch: part.manifest.epoch, type: part.type)
        return .record(
            SyncRecord(
                stream: stream, synID: synID, uid: row.uid, key: key, target: row.target, createTime: row.head.createTime,
                client: row.client, payload: row.payload))
    }

    private func check(_ answer: PushAnswer, of batch: PushBatch) throws(DataSyncError) {
        // Behind a record of its type that was not received nothing can have been: the stream has no gaps.
        var stopped: Set<BusinessTypeID> = []
        let fits =
            answer.runs.count == batch.parts.count
            && zip(answer.runs, batch.parts).allSatisfy { run, part in
                if stopped.contains(part.type) { return run.outcomes.isEmpty && run.stop != nil }
                if run.outcomes.count == part.entries.count { return true }
                stopped.insert(part.type)
                return run.stop != nil && run.outcomes.count < part.entries.count
            }
        guard fits else {
            throw DataSyncError(.peerInvalid, operation: "push", detail: "the answer does not fit the request")
        }
    }

    /// A cloud that takes in numbers without those before them has skipped some: nothing of that is believed.
    private func checkOrder(_ answer: PushAnswer, of batch: PushBatch) throws {
        var answered: [BusinessTypeID: Int64] = [:]
        for (part, run) in zip(batch.parts, answer.runs) where !run.outcomes.isEmpty {
            let before = try answered[part.type] ?? self.session().stream(part.type)?.answered ?? 0
            guard part.synID(at: 0) <= before + 1 else {
                throw DataSyncError(.peerInvalid, operation: "push", detail: "the cloud took in numbers of type \(part.type) and none of those before them")
            }
            answered[part.type] = max(before, part.synID(at: run.outcomes.count - 1))
        }
    }

    // MARK: - Settling

    /// Writes what the answer says into the rows, in one transaction.
    ///
    /// - Parameter isBehindStop: Whether an earlier batch was not received whole, so that gaps are no surprise.
    private func settle(
        _ batch: PushBatch, by answer: PushAnswer, isBehindStop: Bool, _ report: inout CycleReport
    ) async throws {
        try self.checkOrder(answer, of: batch)
        self.state.withLock { $0.lostPushes = 0 }
        await self.environment.passes(.settleBefore)
        if batch.count > 0 || !answer.outcomes.isEmpty {
            do {
                try await self.unit { transaction in
                    var settling = Settling(branch: self.id, batch: batch, answer: answer, now: try await self.databaseClock.now(in: transaction))
                    settling.decide { self.types.definition(of: $0) }
                    try await self.checkNothingWaits(before: batch, answer, in: transaction)
                    try await self.write(settling, in: transaction)
                    try await self.note(answer.outcomes, in: transaction)
                    await self.environment.passes(.settleBeforeCommit)
                }
            } catch {
                // It may have been committed all the same: a new session reads where the streams stand.
                self.closeSession()
                throw error
            }
        }
        await self.environment.passes(.settleAfterCommit)
        for (part, run) in zip(batch.parts, answer.runs) {
            self.updateSession { session in
                session.takeAnswer(
                    part.type, first: part.synID(at: 0), last: part.synID(at: part.entries.count - 1), count: run.outcomes.count)
            }
            report.count(run.outcomes)
            if batch.request.isCareful {
                // Where the cloud leaves a type alone that ends it, the next of it is begun with alone as well.
                if case .stopped = run.stop { self.state.withLock { _ = $0.careful.insert(part.type) } }
                if run.stop == nil { self.state.withLock { _ = $0.careful.remove(part.type) } }
            }
            if let stop = run.stop { self.take(stop, of: part.type, isBehindStop: isBehindStop, &report) }
        }
    }

    /// Numbers are settled from the first that is not, and in this order. Where others wait before those that were answered the
    /// database is not the one that they were read from: it was put back to a backup meanwhile.
    private func checkNothingWaits(before batch: PushBatch, _ answer: PushAnswer, in transaction: Storage.Transaction) async throws {
        var seen: Set<BusinessTypeID> = []
        for (part, run) in zip(batch.parts, answer.runs) where !run.outcomes.isEmpty && seen.insert(part.type).inserted {
            guard let first = try await transaction.manifests(ofType: part.type, after: nil, limit: 1).first else { continue }
            guard first.key > part.manifest || (first.key == part.manifest && first.settled >= part.offset) else {
                throw DataSyncError(
                    .diverged, operation: "push", detail: "numbers of type \(part.type) wait that were settled: this database was put back to a backup")
            }
        }
    }

    private func write(_ settling: Settling, in transaction: Storage.Transaction) async throws {
        if !settling.settlements.isEmpty {
            let changed = try await transaction.settleOutbox(settling.settlements, origin: self.id)
            // Fewer where this runs again after a commit that had succeeded, or where somebody changed rows by hand: the
            // cloud has the records either way.
            if changed != settling.settlements.count {
                self.logger.debug("rows were settled before", metadata: ["rows": "\(settling.settlements.count - changed)"])
            }
        }
        await self.environment.passes(.settleMid)
        let age = try await self.databaseClock.age(in: transaction)
        for (key, settled) in settling.manifests { try await transaction.settleManifest(key, settled: settled, time: age) }
        if !settling.entities.isEmpty { try await transaction.raiseEntities(settling.entities) }
        for confirmation in settling.confirmations { try await transaction.putConfirmation(confirmation) }
        for (line, memos) in Dictionary(grouping: settling.memos, by: \.line) {
            let known = Set(try await transaction.memos(in: line, numbers: memos.map(\.number)).map(\.number))
            let new = memos.filter { !known.contains($0.number) }
            if !new.isEmpty { try await transaction.insertMemos(new) }
            let outcomes = memos.filter { known.contains($0.number) }.map {
                NumberedOutcome(
                    record: RecordNumber(type: line.type, epoch: line.epoch, number: $0.number), outcome: $0.outcome)
            }
            try await self.note(outcomes, in: transaction)
        }
    }

    /// Of outcomes that were asked for, those that say something new. While all open records fit into one question, an
    /// answer that changes nothing writes nothing.
    func news(among outcomes: [NumberedOutcome]) async throws -> [NumberedOutcome] {
        guard !outcomes.isEmpty, outcomes.count < self.limits.askedMax else { return outcomes }
        return try await self.storage.withTransaction(.snapshot) { transaction in
            var news: [NumberedOutcome] = []
            for (line, outcomes) in Dictionary(grouping: outcomes, by: { self.pushLine($0.record) }) {
                let memos = try await transaction.memos(in: line, numbers: outcomes.map(\.record.number))
                let known = Dictionary(memos.map { ($0.number, $0.outcome) }) { first, _ in first }
                news += outcomes.filter { known[$0.record.number] != nil && known[$0.record.number] != $0.outcome }
            }
            return news
        }
    }

    private func pushLine(_ record: RecordNumber) -> MemoLine {
        MemoLine(receiver: .cloud, sender: self.id, epoch: record.epoch, type: record.type)
    }

    /// Takes in how records stand that the cloud had not settled when it answered first.
    func note(_ outcomes: [NumberedOutcome], in transaction: Storage.Transaction) async throws {
        for (line, outcomes) in Dictionary(grouping: outcomes, by: { self.pushLine($0.record) }) {
            let byNumber = Dictionary(outcomes.map { ($0.record.number, $0.outcome) }) { first, _ in first }
            for var memo in try await transaction.memos(in: line, numbers: outcomes.map(\.record.number)) {
                guard let outcome = byNumber[memo.number] else { continue }
                memo.note(outcome)
                memo.nextTry = memo.timeToAsk(after: try await self.databaseClock.age(in: transaction))
                try await transaction.updateMemos([memo])
                let name = EntityName(type: line.type, key: memo.record.key)
                if let row = try await transaction.outboxRow(name, uid: memo.record.uid) {
                    try await transaction.updateOutbox([
                        OutboxSettlement(
                            id: row.id, type: line.type, synID: memo.number,
                            state: outcome.disposition.isSettled ? .settled : .open, attempts: outcome.attempts,
                            reason: outcome.reason, detail: outcome.detail)
                    ])
                }
                if outcome.disposition == .applied, outcome.version > 0,
                    let definition = self.types.definition(of: line.type), definition.kind == .state
                {
                    let entity = EntityID(type: line.type, scope: self.ownScope(definition), key: memo.record.key)
                    try await transaction.raiseEntities([
                        EntityState(
                            id: entity, version: outcome.version, origin: self.id, home: self.id,
                            audience: definition.route.isScopedByHome ? .server(self.id) : .all)
                    ])
                }
            }
        }
    }

    private func take(_ stop: PushStop, of type: BusinessTypeID, isBehindStop: Bool, _ report: inout CycleReport) {
        let now = self.environment.runningTime()
        switch stop {
        case .gap where isBehindStop: break
        case .gap(let position):
            self.logger.warning("the cloud misses numbers before those sent", metadata: ["type": "\(type)", "position": "\(position)"])
            // Whatever the reason, a new session compares both sides.
            self.closeSession()
            report.hasMore = true
        case .unsupported:
            self.updateSession { $0.markUnsupported(type) }
            self.explain(stop: "unsupported by the cloud", of: type, &report)
            self.reportOnce("type \(type) is not configured at the cloud")
        case .stopped(let retryAfter):
            self.updateSession { $0.hold(type, until: now + retryAfter) }
            self.explain(stop: "a fault at the cloud", of: type, &report)
            self.logger.warning("the cloud has stopped a type", metadata: ["type": "\(type)", "retry_after": "\(retryAfter)"])
        case .quota(let retryAfter):
            self.updateSession { $0.hold(type, until: now + retryAfter) }
            self.explain(stop: "too many refused records wait at the cloud", of: type, &report)
            self.logger.error("too many records of a type wait for attention at the cloud", metadata: ["type": "\(type)"])
        }
    }

    /// Says it in this cycle's report, and in those of later cycles for as long as it lasts.
    private func explain(stop reason: String, of type: BusinessTypeID, _ report: inout CycleReport) {
        report.stopped[type] = reason
        self.updateSession { $0.explain(type, reason) }
    }
}

extension [PushBatch.Part] {
    /// The parts that make up the first `count` entries.
    fileprivate func first(entries count: Int) -> [PushBatch.Part] {
        var left = count
        var parts: [PushBatch.Part] = []
        for var part in self where left > 0 {
            part.entries = Array<Manifest.Entry>(part.entries.prefix(left))
            left -= part.entries.count
            parts.append(part)
        }
        return parts
    }
}
