/// A push request as the cloud works on it: its records in one row, what is known of each, and what is decided.
struct PushWork: ReceivedWork {
    /// A class, since a chunk is passed through many hands and none of them changes a record.
    final class Item: Sendable {
        enum Content: Sendable {
            case prepared(PreparedRecord)
            /// The payload could not be read.
            case refused(SyncRecord, RecordFault)
            case void
            case unsendable(SyncRecord, ReasonCode)
        }

        let run: Int
        let type: BusinessTypeID
        let synID: Int64
        let fingerprint: Fingerprint
        /// The run that gave the number before.
        let before: Fingerprint
        let isAgain: Bool
        let content: Content
        /// Nil for a number whose row is gone.
        let entity: EntityID?
        let bytes: Int

        init(
            run: Int, type: BusinessTypeID, synID: Int64, fingerprint: Fingerprint, before: Fingerprint, isAgain: Bool, content: Content,
            entity: EntityID?, bytes: Int
        ) {
            self.before = before
            self.isAgain = isAgain
            self.run = run
            self.type = type
            self.synID = synID
            self.fingerprint = fingerprint
            self.content = content
            self.entity = entity
            self.bytes = bytes
        }

        /// ``RecordUID/void`` for a number whose row is gone.
        var uid: RecordUID {
            switch self.content {
            case .prepared(let prepared): prepared.record.uid
            case .refused(let record, _), .unsendable(let record, _): record.uid
            case .void: .void
            }
        }

        var prepared: PreparedRecord? {
            if case .prepared(let prepared) = self.content { prepared } else { nil }
        }
    }

    let branch: ServerID
    let session: SessionID
    private(set) var items: [Item] = []
    /// What was found to be wrong with single records while they were applied.
    private(set) var blamed: [Int: RecordFault] = [:]
    private var outcomes: [Outcome?] = []
    /// Types that are not received further, with the first record that is not.
    private var stops: [BusinessTypeID: (stop: PushStop, from: Int)] = [:]
    /// Types of which a record of this request was applied.
    private(set) var passed: Set<BusinessTypeID> = []
    private let runs: [Range<Int>]

    /// Reads every payload, before any transaction is begun.
    /// - Throws: `peerInvalid` or `tooLarge` for a request that no agent of ours sends.
    init<Transaction>(
        _ request: PushRequest, from branch: ServerID, types: TypeRegistry<Transaction>, limits: SyncLimits
    ) throws {
        self.branch = branch
        self.session = request.session
        var runs: [Range<Int>] = []
        let count = request.runs.reduce(0) { $0 + $1.records.count }
        guard count <= limits.batchRecordsMax else {
            throw DataSyncError(.tooLarge, operation: "push", detail: "\(count) records, at most \(limits.batchRecordsMax) are taken")
        }
        self.items.reserveCapacity(count)
        for (runIndex, run) in request.runs.enumerated() {
            guard run.firstSynID > 0, !run.records.isEmpty, run.firstSynID <= Int64.max - Int64(run.records.count) else {
                throw DataSyncError(.peerInvalid, operation: "push", detail: "a run is empty or numbered below 1")
            }
            let handler = types[run.type]
            let isScoped = handler?.definition.route.isScopedByHome ?? false
            let start = self.items.count
            for (offset, sent) in run.records.enumerated() {
                let synID = run.firstSynID + Int64(offset)
                let stream = StreamID(origin: branch, epoch: request.session.epoch, type: run.type)
                var entity: EntityID?
                var bytes = 0
                let content: Item.Content
                switch sent {
                case .void: content = .void
                case .unsendable(let uid, let key, let reason):
                    entity = EntityID(type: run.type, scope: isScoped ? branch : .cloud, key: key)
                    content = .unsendable(
                        SyncRecord(
                            stream: stream, synID: synID, uid: uid, key: key, target: .cloud, createTime: 0, client: nil,
                            payload: ""),
                        reason)
                case .record(var record):
                    // Who sent it and under which number is not the record's to say.
                    record.stream = stream
                    record.synID = synID
                    entity = EntityID(type: run.type, scope: isScoped ? branch : .cloud, key: record.key)
                    bytes = record.payload.utf8.count
                    content = Self.prepare(record, scope: isScoped ? branch : .cloud, handler: handler, limits: limits)
                }
                self.items.append(
                    Item(
                        run: runIndex, type: run.type, synID: synID, fingerprint: run.run, before: offset == 0 ? run.before : run.run,
                        isAgain: run.isAgain, content: content, entity: entity, bytes: bytes))
            }
            runs.append(start..<self.items.count)
        }
        self.runs = runs
        self.outcomes = Array(repeating: nil, count: self.items.count)
    }

    private static func prepare<Transaction>(
        _ record: SyncRecord, scope: ServerID, handler: (any RecordHandler<Transaction>)?, limits: SyncLimits
    ) -> Item.Content {
        if record.payload.utf8.count > limits.recordBytesMax { return .unsendable(record, .tooBig) }
        guard let handler else { return .refused(record, .refused(.unsupportedType, detail: nil)) }
        do throws(RecordFault) {
            return .prepared(try handler.prepare(record, scope: scope))
        } catch { return .refused(record, error) }
    }

    // MARK: - Chunks

    /// - Parameter areAlone: Whether each record is to have a transaction of its own.
    func chunks(_ limits: SyncLimits, areAlone: Bool) -> [Range<Int>] {
        SyncLimits.chunks(of: self.items.map(\.bytes), recordsMax: areAlone ? 1 : limits.chunkRecordsMax, bytesMax: limits.chunkBytesMax)
    }

    /// The records of a chunk before which their type was not stopped.
    func remaining(in chunk: Range<Int>) -> [Int] { chunk.filter { $0 < self.stops[self.items[$0].type]?.from ?? .max } }

    var count: Int { self.items.count }
    func entity(at index: Int) -> EntityID? { self.items[index].entity }

    struct Split {
        var duplicates: [Int] = []
        var new: [Int] = []
        /// Where each type stands after the new ones.
        var positions: [BusinessTypeID: Position] = [:]
    }

    /// Divides records into those that were received before and those that come next.
    /// - Throws: ``ChunkSetback`` where a number is missing between the position and the first new record; `diverged` where the
    ///   number before it was given by another step than the position says.
    func split(_ indices: [Int], at received: [BusinessTypeID: Position]) throws -> Split {
        var split = Split()
        for index in indices {
            let item = self.items[index]
            let position = split.positions[item.type] ?? received[item.type] ?? .start
            if item.synID <= position.number || (PlantedBug.isOn(.positionPastGap) && item.synID > position.number + 1) {
                split.duplicates.append(index)
            } else if item.synID == position.number + 1 || PlantedBug.isOn(.gapAccepted) {
                let follows = item.before == position.fingerprint || PlantedBug.isOn(.gapAccepted) || PlantedBug.isOn(.comparedByNumberOnly)
                guard follows else { throw self.divergence(item.type, at: position.number) }
                split.new.append(index)
                split.positions[item.type] = Position(number: item.synID, fingerprint: item.fingerprint)
            } else {
                throw ChunkSetback.stopped(item.type, .gap(position: received[item.type]?.number ?? 0))
            }
        }
        return split
    }

    /// Consecutive numbers of one run, each with its uid.
    func receipts(for indices: [Int], time: Int64) -> [Receipt] {
        var receipts: [BusinessTypeID: [Receipt]] = [:]
        for index in indices {
            let item = self.items[index]
            if let last = receipts[item.type]?.last, last.run == item.fingerprint {
                receipts[item.type]?.extendLast(by: item.uid)
            } else {
                receipts[item.type, default: []].append(
                    Receipt(
                        epoch: self.session.epoch, type: item.type, firstSynID: item.synID, run: item.fingerprint, uids: [item.uid], time: time))
            }
        }
        return receipts.sorted { $0.key < $1.key }.flatMap(\.value)
    }

    func divergence(_ type: BusinessTypeID, at number: Int64) -> DataSyncError {
        DataSyncError(
            .diverged, operation: "push",
            detail: "number \(number) of type \(type) was given to another row before: the branch's database is an older copy")
    }

    // MARK: - Decisions

    /// - Parameter index: The first record that is not received.
    mutating func stop(_ type: BusinessTypeID, _ stop: PushStop, from index: Int = 0) {
        if let known = self.stops[type], known.from <= index { return }
        self.stops[type] = (stop, index)
    }

    mutating func blame(_ index: Int, _ fault: RecordFault) {
        // A record that was blamed is not applied again, so it cannot be blamed again.
        precondition(self.blamed.updateValue(fault, forKey: index) == nil, "a record was applied after it was blamed")
    }

    /// - Parameter cleared: Types of which no record is a suspect any more.
    mutating func note(_ outcomes: [(index: Int, outcome: Outcome)], cleared: Set<BusinessTypeID> = []) {
        for (index, outcome) in outcomes {
            self.outcomes[index] = outcome
            if outcome.disposition == .applied, !outcome.isDuplicate { self.passed.insert(self.items[index].type) }
        }
        // Where one passes, or is refused unlike the others, the suspects of the type were parked in that transaction.
        let cleared = cleared.union(self.passed)
        for index in self.items.indices where self.outcomes[index]?.disposition == .suspect && cleared.contains(self.items[index].type) {
            self.outcomes[index]?.disposition = .parked
            self.outcomes[index]?.attempts = 1
        }
    }

    func answer(asked: [NumberedOutcome]) -> PushAnswer {
        PushAnswer(
            runs: self.runs.map { range in
                let outcomes = range.prefix { self.outcomes[$0] != nil }.compactMap { self.outcomes[$0] }
                let stop = outcomes.count < range.count ? self.stops[self.items[range.lowerBound].type]?.stop : nil
                return PushRunAnswer(outcomes: outcomes, stop: stop)
            },
            outcomes: asked)
    }

    func line(_ type: BusinessTypeID) -> MemoLine {
        MemoLine(receiver: .cloud, sender: self.branch, epoch: self.session.epoch, type: type)
    }

    /// The memo row of a record that was received and not applied.
    func memo(for index: Int, outcome: Outcome, needs: Dependency?, now: Moment, limits: SyncLimits) -> Memo {
        let item = self.items[index]
        let record: SyncRecord
        switch item.content {
        case .prepared(let prepared): record = prepared.record
        case .refused(let refused, _): record = refused
        case .unsendable(let unsendable, _): record = unsendable
        case .void: preconditionFailure("a void number has no memo")
        }
        // What will never be applied need not be kept; what was too big must not be.
        let holdsPayload = outcome.mayBeTried
        var memo = Memo(
            line: self.line(item.type), number: item.synID, scope: item.entity?.scope ?? .cloud, record: record,
            holdsPayload: holdsPayload, disposition: outcome.disposition, reason: outcome.reason, detail: outcome.detail,
            attempts: outcome.attempts, nextTry: now.age + limits.delay(after: outcome, waited: .zero).milliseconds,
            created: now.wall, since: now.age, needs: needs)
        if !holdsPayload { memo.record.payload = "" }
        memo.tries = outcome.reason == .behind ? 0 : 1
        return memo
    }
}

extension [Receipt] {
    fileprivate mutating func extendLast(by uid: RecordUID) { self[self.count - 1].uids.append(uid) }
}
