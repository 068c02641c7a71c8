import Logging
import Synchronization

extension Hub {
    /// Takes in what `branch` pushes, chunk by chunk, and answers what became of each record.
    ///
    /// - Parameter branch: Who asks, from its verified key; never from the request.
    /// - Throws: `DataSyncError`. Chunks that were committed before stay so; the branch sends all of it again and learns.
    public func push(_ request: PushRequest, from branch: ServerID) async throws -> PushAnswer {
        let place = self.lanes.enter(branch)
        defer { self.lanes.leave(place) }
        var work = try PushWork(request, from: branch, types: self.types, limits: self.limits)
        try await place.turn()
        for index in request.runs.indices {
            let type = request.runs[index].type
            if self.types[type] == nil { work.stop(type, .unsupported) }
            if let wait = self.wait(for: type) { work.stop(type, .stopped(retryAfter: wait)) }
        }
        var queue = ChunkQueue(work.chunks(self.limits, areAlone: request.isCareful))
        var ownChangeRuns = 0
        var hasBegun = false
        while let chunk = queue.next() {
            let indices = work.remaining(in: chunk)
            if indices.isEmpty { continue }
            let lone = request.isCareful ? try await self.beginAlone(indices[0], of: &work) : nil
            if work.remaining(in: chunk).isEmpty { continue }
            do {
                let current = work
                let isGuessing = self.mayGuess(indices, of: work)
                if hasBegun { await self.environment.passes(.applyBetweenChunks) }
                await self.environment.passes(.applyBeforeTransaction)
                let (outcomes, cleared) = try await LoneTry.takingBack(lone, self.loneWatch, by: { try await self.endAlone($0, of: current) }) {
                    try await self.unit { transaction in
                        let received = try await self.receive(indices, of: current, isGuessing: isGuessing, in: transaction)
                        try await transaction.endAlone(lone)
                        return received
                    }
                }
                await self.environment.passes(.applyAfterCommit)
                hasBegun = true
                if PlantedBug.isOn(.positionApart) { try await self.movePositions(over: indices, of: current) }
                work.note(outcomes, cleared: cleared)
                for type in Set(outcomes.lazy.filter { $0.outcome.disposition == .suspect && !$0.outcome.isDuplicate }.map { current.items[$0.index].type }) {
                    self.logger.warning(
                        "records of several entities are refused and none passes: set aside, not counted",
                        metadata: ["branch": "\(branch)", "type": "\(type)"])
                }
                self.passed(Set(outcomes.lazy.filter { $0.outcome.disposition == .applied }.map { current.items[$0.index].type }))
            } catch let setback as ChunkSetback {
                switch setback {
                case .stopped(let type, let stop): work.stop(type, stop)
                case .suspected(let type, let index):
                    self.logger.error(
                        "every record of a type is refused alike: the type stops for this branch until one passes",
                        metadata: ["branch": "\(branch)", "type": "\(type)", "suspects": "\(self.limits.suspectsMax)"])
                    work.stop(type, .stopped(retryAfter: .seconds(60)), from: index)
                case .systemFault(let type, let error): work.stop(type, .stopped(retryAfter: self.stop(type, because: error)))
                case .blamed(let index, _) where PlantedBug.isOn(.poisonStopsBatch):
                    work.stop(work.items[index].type, .stopped(retryAfter: .seconds(1)))
                case .blamed(let index, let fault):
                    work.blame(index, fault)
                    if work.isWorthHalving(chunk) {
                        queue.halve(chunk)
                        continue
                    }
                case .existing: self.guess.withLock { $0.wasWrong(Set(indices.map { work.items[$0].type }), of: branch) }
                case .someBlamed:
                    queue.halve(chunk)
                    continue
                case .ownChanges(let names):
                    ownChangeRuns += 1
                    guard ownChangeRuns <= self.limits.unitAttemptsMax else {
                        throw DataSyncError(.storageBusy, operation: "push", detail: "the cloud's applications keep changing the same entities")
                    }
                    if !PlantedBug.isOn(.rule1NumbersNothing) { try await self.numberOwnRows(of: names) }
                }
                queue.again(chunk)
            }
        }
        await self.environment.passes(.cloudPushBeforeReply)
        // Where nothing was written, nothing has asked yet whether this is the branch's newest session.
        guard !request.asked.isEmpty || !hasBegun else { return work.answer(asked: []) }
        let outcomes = try await self.storage.withTransaction(.snapshot) { transaction in
            try await self.checkSession(branch, request.session, in: transaction)
            return try await self.outcomes(of: request.asked, from: branch, in: transaction)
        }
        return work.answer(asked: outcomes)
    }

    /// Commits that the record at `index` is begun with, unless it was received before or its handler will not be asked.
    /// - Returns: The setting that says so, which is to be removed with it.
    private func beginAlone(_ index: Int, of work: inout PushWork) async throws -> String? {
        let item = work.items[index]
        guard item.prepared != nil, work.blamed[index] == nil else { return nil }
        let (branch, session) = (work.branch, work.session)
        let name = SettingName.lone(branch, item.type)
        let verdict = try await self.watchingOthers { transaction -> LoneTry.Verdict? in
            try await self.fence(branch, session, in: transaction)
            let received = try await transaction.positions(from: branch, epoch: session.epoch)[item.type]?.position.number ?? 0
            guard item.synID > received else { return nil }
            return try await transaction.beginAlone(
                name, epoch: session.epoch, number: item.synID, age: self.databaseClock.age(in: transaction), self.loneWatch,
                at: self.environment.runningTime())
        }
        switch verdict {
        case nil: return nil
        case .begin: return name
        case .giveUp:
            work.blame(index, .crashSuspect)
            self.logger.critical(
                "a record ended this program whenever it was applied: it is set aside as dead",
                metadata: ["record": "\(branch)/\(session.epoch)/\(item.type)/\(item.synID)"])
            return nil
        case .rest(let wait):
            work.stop(item.type, .stopped(retryAfter: wait))
            return nil
        }
    }

    /// Takes back that a record was begun with: it was put off, or refused, in good order.
    private func endAlone(_ name: String, of work: PushWork) async throws {
        let (branch, session) = (work.branch, work.session)
        try await self.unit { transaction in
            try await self.fence(branch, session, in: transaction)
            try await transaction.removeSetting(name)
        }
    }

    /// Receives the records at `indices` in one transaction, or throws a ``ChunkSetback`` and has done nothing.
    ///
    /// - Parameter isGuessing: Whether the entities are taken for new ones.
    /// - Returns: With the outcomes, the types of which no record is a suspect any more.
    private func receive(
        _ indices: [Int], of work: PushWork, isGuessing: Bool, in transaction: Storage.Transaction
    ) async throws -> ([(index: Int, outcome: Outcome)], cleared: Set<BusinessTypeID>) {
        try await self.fence(work.branch, work.session, in: transaction)
        await self.environment.passes(.applyAfterFence)
        let received = try await transaction.positions(from: work.branch, epoch: work.session.epoch).mapValues(\.position)
        let split = try work.split(indices, at: received)
        var outcomes = try await self.outcomesOfDuplicates(split.duplicates, of: work, in: transaction)
        guard !split.new.isEmpty else { return (outcomes, []) }
        if PlantedBug.isOn(.positionFirst) { try await self.movePositions(over: split.new, of: work) }

        let entities = split.new.compactMap { work.items[$0].entity }
        var unit = CloudUnit(hub: self, transaction: transaction)
        if isGuessing { unit.expectNew(entities) } else { try await unit.lock(entities) }
        await self.environment.passes(.applyAfterLocks)
        let known = try await transaction.openMemos(at: .cloud, from: work.branch)
        let open = known.fromSender ? try await transaction.openEntities(at: .cloud, from: work.branch, among: Set(entities)) : []

        // Judge, in the order of the streams.
        var judge = PushJudge(blocked: open)
        var toApply: [Int] = []
        for index in split.new {
            let item = work.items[index]
            switch judge.verdict(for: item, at: index, blamed: work.blamed[index]) {
            case .void: outcomes.append((index, Outcome(.void, reason: .void)))
            case .apply(let prepared):
                if let fault = try await unit.admit(prepared, isEcho: item.isAgain && self.isState(item.type) && !PlantedBug.isOn(.againNotEchoed)) {
                    judge.refuse(item, at: index, fault)
                } else {
                    toApply.append(index)
                }
            case .setAside(let outcome):
                if outcome.disposition == .dead, let entity = item.entity { unit.correct(entity, at: work.branch) }
            }
        }
        let passing = Set(toApply.map { work.items[$0].type })
        let suspects = try await transaction.suspects(
            among: judge.setAside, at: indices, of: work, passing: passing, received: received.mapValues(\.number),
            hasSuspects: known.suspects, limits: self.limits)
        judge.suspect(suspects.indices)
        var cleared = suspects.cleared
        // Others pass: the fault was theirs.
        if known.suspects { cleared.formUnion(passing) }
        if PlantedBug.isOn(.rule1LooksFirst) { try await unit.giveWay() }
        try await self.apply(toApply, of: work, areDistinct: unit.entityCount == entities.count, in: transaction)
        await self.environment.passes(.applyMid)
        if !PlantedBug.isOn(.rule1LooksFirst) { try await unit.giveWay() }
        let now = try await self.databaseClock.now(in: transaction)
        let arrivals = Arrivals(toApply.lazy.compactMap { work.items[$0].prepared })
        // Before the counters of the log are taken: who tries one of these records holds its row and waits for a counter.
        if !cleared.isEmpty {
            _ = try await transaction.endSuspicion(
                at: .cloud, from: work.branch, types: cleared, attempts: 1, time: now.age + self.limits.retryDelays[0].milliseconds)
        }
        if known.waiting { _ = try await arrivals.release(at: .cloud, limits: self.limits, now: now.age, in: transaction) }
        let places = try await unit.append()
        await self.environment.passes(.applyAfterLog)
        for (index, place) in zip(toApply, places) { outcomes.append((index, .applied(version: place))) }

        // What was not applied.
        try await self.checkQuota(judge.setAside, of: work, in: transaction)
        // In the order of their streams: the rows of an entity are tried in the order in which they were inserted.
        var memos = judge.setAside.sorted { $0.key < $1.key }.map { index, outcome in
            work.memo(for: index, outcome: outcome, needs: judge.needs[index], now: now, limits: self.limits)
        }
        arrivals.release(&memos, limits: self.limits, now: now.age)
        if !memos.isEmpty { try await transaction.insertMemos(memos) }
        for (index, outcome) in judge.setAside { outcomes.append((index, outcome)) }

        try await transaction.insertReceipts(work.receipts(for: split.new, time: now.age), from: work.branch)
        for (type, position) in split.positions where !PlantedBug.isOn(.positionApart) && !PlantedBug.isOn(.positionFirst) {
            let expected = received[type]?.number ?? 0
            guard
                try await transaction.movePosition(
                    from: work.branch, epoch: work.session.epoch, type: type, expected: expected, to: position)
            else { throw DataSyncError(.storageBusy, operation: "push", detail: "the position moved") }
        }
        await self.environment.passes(.applyAfterPositions)
        return (outcomes, cleared)
    }

    /// Whether the entities of a chunk may be taken for new ones: each is its sender's own by name, and none is deleted.
    private func mayGuess(_ indices: [Int], of work: PushWork) -> Bool {
        var types: Set<BusinessTypeID> = []
        for index in indices {
            let item = work.items[index]
            guard let prepared = item.prepared, !prepared.isDeletion else { return false }
            types.insert(item.type)
        }
        guard types.allSatisfy({ self.types.definition(of: $0)?.route.isScopedByHome ?? false }) else { return false }
        return self.guess.withLock { $0.shouldGuess(types, of: work.branch) }
    }

    /// Applies records type by type in the order of priority, wave by wave.
    /// - Parameter areDistinct: Whether it is known that no two records are of one entity.
    private func apply(
        _ indices: [Int], of work: PushWork, areDistinct: Bool, in transaction: Storage.Transaction
    ) async throws {
        let byType = Dictionary(grouping: indices) { work.items[$0].type }
        for definition in self.types.definitions {
            guard let indices = byType[definition.id], let handler = self.types[definition.id] else { continue }
            for wave in areDistinct ? [indices] : waves(of: indices, entity: { work.items[$0].prepared!.entity }) {
                do {
                    try await handler.apply(wave.map { work.items[$0].prepared! }, in: transaction)
                } catch {
                    throw try ChunkSetback(error, type: definition.id, indices: wave)
                }
            }
        }
    }

    /// What became of records that were received before: their row in `sync_memo`, else they were applied.
    private func outcomesOfDuplicates(
        _ indices: [Int], of work: PushWork, in transaction: Storage.Transaction
    ) async throws -> [(index: Int, outcome: Outcome)] {
        guard !indices.isEmpty else { return [] }
        var outcomes: [(index: Int, outcome: Outcome)] = []
        for (type, indices) in Dictionary(grouping: indices, by: { work.items[$0].type }) {
            try await self.checkRuns(indices, of: work, type, in: transaction)
            let memos = try await transaction.memos(in: work.line(type), numbers: indices.map { work.items[$0].synID })
            let byNumber = Dictionary(memos.map { ($0.number, $0.outcome) }) { first, _ in first }
            let entities = Set(indices.compactMap { work.items[$0].entity }).sorted()
            let states = try await transaction.entities(entities)
            for index in indices {
                let item = work.items[index]
                // The entity's version is at least the record's; whatever lies between will be pulled as older than the
                // version's record, which comes too.
                var outcome =
                    byNumber[item.synID]
                    ?? (item.entity == nil
                        ? Outcome(.void, reason: .void)
                        : .applied(version: PlantedBug.isOn(.duplicateWithoutVersion) ? 0 : item.entity.flatMap { states[$0]?.version } ?? 0))
                outcome.isDuplicate = true
                outcomes.append((index, outcome))
            }
        }
        return outcomes
    }

    /// A number that was received before must come from the step that gave it then: a restored branch gives it again, to another row.
    private func checkRuns(_ indices: [Int], of work: PushWork, _ type: BusinessTypeID, in transaction: Storage.Transaction) async throws {
        let first = work.items[indices[0]].synID
        let receipts = try await transaction.receipts(
            from: work.branch, epoch: work.session.epoch, type: type, after: first - 1, limit: indices.count)
        for index in indices {
            let item = work.items[index]
            guard let receipt = receipts.first(where: { ($0.firstSynID...$0.lastSynID).contains(item.synID) }) else { continue }
            guard receipt.run == item.fingerprint || PlantedBug.isOn(.comparedByNumberOnly) else { throw work.divergence(type, at: item.synID) }
        }
    }

    private func isState(_ type: BusinessTypeID) -> Bool { self.types.definition(of: type)?.kind == .state }

    /// Nothing is dropped when too much waits for attention: the type of that branch stops, and says so.
    private func checkQuota(_ setAside: [Int: Outcome], of work: PushWork, in transaction: Storage.Transaction) async throws {
        let byType = Dictionary(grouping: setAside.keys) { work.items[$0].type }
        for (type, indices) in byType {
            // Each of these is dead, or may be one day. What is dead at once is kept without its payload.
            let dead = try await transaction.deadUsage(at: .cloud, from: work.branch, type: type)
            try self.check(dead, adding: indices, of: work, recordsMax: self.limits.deadRecordsMax, bytesMax: self.limits.deadBytesMax, "dead")
            let open = indices.filter { setAside[$0]?.disposition.isOpen ?? false }
            guard !open.isEmpty else { continue }
            let usage = try await transaction.openUsage(at: .cloud, from: work.branch, type: type)
            try self.check(usage, adding: open, of: work, recordsMax: self.limits.openRecordsMax, bytesMax: self.limits.openBytesMax, "open")
        }
    }

    private func check(
        _ usage: OpenUsage, adding indices: [Int], of work: PushWork, recordsMax: Int, bytesMax: Int, _ kind: String
    ) throws(ChunkSetback) {
        let type = work.items[indices[0]].type
        let bytes = indices.reduce(0) { $0 + work.items[$1].bytes }
        guard usage.records + indices.count > recordsMax || usage.bytes + bytes > bytesMax else { return }
        self.logger.error(
            "too many records wait for attention: the type stops for this branch",
            metadata: ["branch": "\(work.branch)", "type": "\(type)", "\(kind)": "\(usage.records)"])
        throw .stopped(type, .quota(retryAfter: .seconds(60)))
    }

    /// How the records that a branch asks for stand. Records that were never received are left out.
    func outcomes(
        of asked: [RecordNumber], from branch: ServerID, in transaction: Storage.Transaction
    ) async throws -> [NumberedOutcome] {
        var outcomes: [NumberedOutcome] = []
        let byLine = Dictionary(grouping: asked.prefix(self.limits.askedMax)) {
            MemoLine(receiver: .cloud, sender: branch, epoch: $0.epoch, type: $0.type)
        }
        for (line, records) in byLine {
            let memos = try await transaction.memos(in: line, numbers: records.map(\.number))
            let byNumber = Dictionary(memos.map { ($0.number, $0.outcome) }) { first, _ in first }
            let position = try await transaction.positions(from: branch, epoch: line.epoch)[line.type]?.position.number ?? 0
            for record in records {
                if let outcome = byNumber[record.number] {
                    if PlantedBug.isOn(.outcomeToldOnce), !self.isToldFirst(outcome, of: record, to: branch) { continue }
                    outcomes.append(NumberedOutcome(record: record, outcome: outcome))
                } else if record.number <= position {
                    outcomes.append(NumberedOutcome(record: record, outcome: .applied(version: 0)))
                }
            }
        }
        return outcomes
    }
}

/// Why a chunk was rolled back, and what is to be done before it is run again.
enum ChunkSetback: Error {
    /// The rest of this type's records is not received now.
    case stopped(BusinessTypeID, PushStop)
    case systemFault(BusinessTypeID, any Error)
    /// The records of this type are all refused alike, and from this one on there is no room for more suspects.
    case suspected(BusinessTypeID, Int)
    /// This record is at fault.
    case blamed(Int, RecordFault)
    /// One of several is.
    case someBlamed
    /// The cloud's own changes of these entities come first.
    case ownChanges(Set<EntityName>)
    /// An entity that was taken for a new one exists.
    case existing

    /// Decides whose fault it is that a handler did not apply the records at `indices`. First the class of the error
    /// decides; what is not clearly a record's is the system's.
    /// - Throws: `error` itself, where running the whole unit again, or giving up the request, is what helps.
    init(_ error: any Error, type: BusinessTypeID, indices: [Int]) throws {
        switch error {
        case let indexed as IndexedRecordFault:
            guard indices.indices.contains(indexed.index) else { self = .systemFault(type, error); return }
            self = .blamed(indices[indexed.index], indexed.fault)
        case let fault as RecordFault:
            self = indices.count == 1 ? .blamed(indices[0], fault) : .someBlamed
        case let error as DataSyncError where error.code == .storageBusy: throw BusyHandler(type: type, error: error)
        case let error as DataSyncError where error.code.isWorthRunningAgain || error.code == .storageUnavailable:
            throw error
        case is CancellationError: throw error
        default:
            guard PlantedBug.isOn(.systemFaultCounted) else { self = .systemFault(type, error); return }
            self = indices.count == 1 ? .blamed(indices[0], .refused(.refused, detail: nil)) : .someBlamed
        }
    }
}
