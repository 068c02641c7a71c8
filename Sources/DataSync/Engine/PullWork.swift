/// Pulled records as a branch works on them: in the order in which they are applied, with what is decided of each.
struct PullWork: ReceivedWork {
    final class Item: Sendable {
        let log: LogRecord
        /// What its handler made of the payload, or holds against it; nil where the payload did not come.
        let reading: Result<PreparedRecord, RecordFault>?
        let kind: RecordKind

        init<Transaction: SyncTransaction>(_ log: LogRecord, _ handler: any RecordHandler<Transaction>) {
            self.log = log
            self.kind = handler.definition.kind
            guard log.omission == .none else {
                self.reading = nil
                return
            }
            do throws(RecordFault) {
                self.reading = .success(try handler.prepare(log.record, scope: log.scope))
            } catch { self.reading = .failure(error) }
        }

        var type: BusinessTypeID { self.log.record.type }
    }

    let branch: ServerID
    let logEpoch: Int32
    /// How own records stand that were asked for. To be taken in before the records.
    let outcomes: [NumberedOutcome]
    let hasMore: Bool
    /// Where the logs stood before these records.
    private let cursors: [BusinessTypeID: Position]
    /// Where the logs stand behind these records.
    let following: [BusinessTypeID: Position]
    /// In the order of the answer: types by priority, each in the order of its log.
    private(set) var items: [Item] = []
    /// For each item the place in its log up to which all was read before it.
    private var before: [Int64] = []
    private(set) var blamed: [Int: RecordFault] = [:]
    /// Entities of which this branch has a change that is not settled: the cloud will decide by that one (rule 2).
    private(set) var changedHere: Set<EntityName> = []
    /// Types that are not taken in further, with the first record that is not.
    private var stops: [BusinessTypeID: Int] = [:]
    /// Types of which a record of this answer was applied.
    private(set) var passed: Set<BusinessTypeID> = []
    /// The place up to which the log was read for each type.
    private let ends: [BusinessTypeID: Position]
    /// The last item of each type.
    private var lastIndex: [BusinessTypeID: Int] = [:]

    /// Reads every payload, before any transaction is begun.
    /// - Throws: `peerInvalid` for an answer that the cloud does not give.
    init<Transaction: SyncTransaction>(
        _ answer: PullAnswer, cursors: [BusinessTypeID: Position], types: TypeRegistry<Transaction>, branch: ServerID,
        logEpoch: Int32
    ) throws {
        self.branch = branch
        self.logEpoch = logEpoch
        self.outcomes = answer.outcomes
        self.hasMore = answer.hasMore
        self.cursors = cursors
        self.following = answer.runs.reduce(into: cursors) { $0[$1.type] = $1.position }
        var ends: [BusinessTypeID: Position] = [:]
        for run in answer.runs {
            guard let cursor = cursors[run.type], let handler = types[run.type], ends[run.type] == nil else {
                throw DataSyncError(.peerInvalid, operation: "pull", detail: "the answer has a type that was not asked for")
            }
            guard run.position.number >= cursor.number else {
                throw DataSyncError(.peerInvalid, operation: "pull", detail: "the log of a type was read backwards")
            }
            var last = cursor.number
            for record in run.records {
                guard record.record.type == run.type, record.logSeq > last, record.logSeq <= run.position.number else {
                    throw DataSyncError(.peerInvalid, operation: "pull", detail: "the records of a type are not in order")
                }
                self.before.append(last)
                last = record.logSeq
                self.lastIndex[run.type] = self.items.count
                self.items.append(Item(record, handler))
            }
            ends[run.type] = run.position
        }
        self.ends = ends
    }

    /// - Parameter areAlone: Whether each record is to have a transaction of its own.
    func chunks(_ limits: SyncLimits, areAlone: Bool) -> [Range<Int>] {
        SyncLimits.chunks(
            of: self.items.map { $0.log.record.payload.utf8.count }, recordsMax: areAlone ? 1 : limits.chunkRecordsMax,
            bytesMax: limits.chunkBytesMax)
    }

    var stopped: Set<BusinessTypeID> { Set(self.stops.keys) }

    func remaining(in chunk: Range<Int>) -> [Int] { chunk.filter { $0 < self.stops[self.items[$0].type] ?? .max } }

    var count: Int { self.items.count }
    func entity(at index: Int) -> EntityID? { self.items[index].log.entity }

    /// Where the types stand after the records at `indices`: for a type whose records end there, where the reading ended.
    func positions(after indices: [Int]) -> [BusinessTypeID: Position] {
        var positions: [BusinessTypeID: Position] = [:]
        for index in indices {
            let item = self.items[index]
            let isLast = self.lastIndex[item.type] == index
            positions[item.type] =
                isLast ? self.ends[item.type] : Position(number: item.log.logSeq, fingerprint: item.log.mark)
        }
        return positions
    }

    /// Types of which the log was read over own records only.
    var positionsWithoutRecords: [BusinessTypeID: Position] { self.ends.filter { self.lastIndex[$0.key] == nil } }

    /// Verifies that nothing lies between where the database stands and what is to be taken in: it may have been put back to a backup
    /// since the records were asked for.
    /// - Parameter indices: Of records above `received`.
    func checkFollows(_ received: [BusinessTypeID: ReceivedPosition], at indices: [Int]) throws(DataSyncError) {
        var seen: Set<BusinessTypeID> = []
        for index in indices where seen.insert(self.items[index].type).inserted {
            try self.check(received, of: self.items[index].type, standsAt: self.before[index])
        }
    }

    /// The same for types as a whole, which may have had own records only.
    func checkFollows(_ received: [BusinessTypeID: ReceivedPosition], for types: some Sequence<BusinessTypeID>) throws(DataSyncError) {
        for type in types { try self.check(received, of: type, standsAt: self.cursors[type]?.number ?? 0) }
    }

    private func check(
        _ received: [BusinessTypeID: ReceivedPosition], of type: BusinessTypeID, standsAt place: Int64
    ) throws(DataSyncError) {
        guard received[type]?.position.number ?? 0 >= place else {
            throw DataSyncError(
                .diverged, operation: "pull", detail: "records of type \(type) that were read are not here any more: this database was put back to a backup")
        }
    }

    /// - Parameter index: The first record that is not taken in.
    mutating func stop(_ type: BusinessTypeID, from index: Int = 0) { self.stops[type] = min(index, self.stops[type] ?? .max) }

    mutating func notePassed(_ types: Set<BusinessTypeID>) { self.passed.formUnion(types) }

    mutating func blame(_ index: Int, _ fault: RecordFault) {
        precondition(self.blamed.updateValue(fault, forKey: index) == nil, "a record was applied after it was blamed")
    }

    mutating func noteChangedHere(_ names: Set<EntityName>) { self.changedHere.formUnion(names) }

    func line(_ type: BusinessTypeID) -> MemoLine {
        MemoLine(receiver: self.branch, sender: .cloud, epoch: self.logEpoch, type: type)
    }

    /// The memo row of a record that was taken in and not applied.
    func memo(for index: Int, outcome: Outcome, needs: Dependency?, now: Moment, limits: SyncLimits) -> Memo {
        let item = self.items[index].log
        var memo = Memo(
            line: self.line(item.record.type), number: item.logSeq, scope: item.scope, record: item.record,
            holdsPayload: outcome.mayBeTried, disposition: outcome.disposition, reason: outcome.reason,
            detail: outcome.detail, attempts: outcome.attempts, tries: outcome.reason == .behind ? 0 : 1,
            nextTry: now.age + limits.delay(after: outcome, waited: .zero).milliseconds, created: now.wall, since: now.age, needs: needs)
        if !memo.holdsPayload { memo.record.payload = "" }
        return memo
    }
}

/// Decides about pulled records in the order of the log.
struct PullJudge: Sendable {
    enum Verdict {
        case apply(PreparedRecord)
        /// A state that is older than what is here, or that a change of this branch will be decided against.
        case superseded
        /// An action that was taken in before, under another place of the log.
        case known
        case setAside(Outcome)
    }

    /// What is known of records that came before, under other places of the log.
    struct Met: Sendable {
        /// Actions that were taken in.
        var known: Set<RecordUID> = []
        /// What is dead here stays dead.
        var dead: [RecordUID: Outcome] = [:]
    }

    /// Entities of which an earlier record is open here.
    private var blocked: Set<EntityID>
    private let versions: [EntityID: Int64]
    private let met: Met
    private(set) var setAside: [Int: Outcome] = [:]
    /// What those of them that are waiting wait for.
    private(set) var needs: [Int: Dependency] = [:]

    init(blocked: Set<EntityID>, versions: [EntityID: Int64], met: Met = Met()) {
        self.met = met
        self.blocked = blocked
        self.versions = versions
    }

    /// - Parameters:
    ///   - blamed: What an earlier run of this unit held against the record.
    ///   - isChangedHere: Whether this branch has an unsettled change of the entity.
    mutating func verdict(for item: PullWork.Item, at index: Int, blamed: RecordFault?, isChangedHere: Bool) -> Verdict {
        let record = item.log
        if item.kind == .action, self.met.known.contains(record.record.uid) { return .known }
        if let dead = self.met.dead[record.record.uid] { return self.set(dead, record, index) }
        if item.kind == .state || PlantedBug.isOn(.actionSuperseded), isChangedHere { return .superseded }
        // Rule 4: what this branch has accepted or had accepted since.
        if item.kind == .state, let version = self.versions[record.entity], self.isNewer(version, than: record) { return .superseded }
        guard let reading = item.reading else { return self.set(Outcome(.dead, reason: record.omission), record, index) }
        // A newer state supersedes an older one that is parked; an action does not.
        if item.kind == .action, self.blocked.contains(record.entity) {
            return self.set(Outcome(.parked, reason: .behind), record, index)
        }
        if let blamed { return self.set(blamed, record, index) }
        switch reading {
        case .success(let prepared): return .apply(prepared)
        case .failure(let fault): return self.set(fault, record, index)
        }
    }

    private func isNewer(_ version: Int64, than record: LogRecord) -> Bool {
        if PlantedBug.isOn(.noRule4) { return false }
        return PlantedBug.isOn(.equalVersionGuard) ? version >= record.logSeq : version > record.logSeq
    }

    /// Takes in that records which are set aside are not to be counted: the fault may not be theirs.
    mutating func suspect(_ indices: Set<Int>) {
        for index in indices {
            self.setAside[index]?.disposition = .suspect
            self.setAside[index]?.attempts = 0
        }
    }

    private mutating func set(_ fault: RecordFault, _ record: LogRecord, _ index: Int) -> Verdict {
        self.needs[index] = fault.dependency
        return self.set(Outcome(fault, attemptsBefore: 0), record, index)
    }

    private mutating func set(_ outcome: Outcome, _ record: LogRecord, _ index: Int) -> Verdict {
        self.setAside[index] = outcome
        if outcome.disposition.isOpen { self.blocked.insert(record.entity) }
        return .setAside(outcome)
    }
}
