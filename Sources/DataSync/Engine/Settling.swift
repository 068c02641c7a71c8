/// Decides what an answer to a push changes in the sender's tables.
struct Settling: Sendable {
    let branch: ServerID
    let batch: PushBatch
    let answer: PushAnswer
    let now: Moment

    private(set) var settlements: [OutboxSettlement] = []
    private(set) var manifests: [(key: ManifestKey, settled: Int)] = []
    private var raises: EntityRaises
    /// The versions that accepted records gave their entities (rule 4).
    var entities: [EntityState] { self.raises.all }
    private(set) var confirmations: [Confirmation] = []
    /// One for each record whose fate is not decided, or that is dead.
    private(set) var memos: [Memo] = []

    init(branch: ServerID, batch: PushBatch, answer: PushAnswer, now: Moment) {
        self.branch = branch
        self.batch = batch
        self.answer = answer
        self.now = now
        self.raises = EntityRaises(reservingCapacity: batch.count)
    }

    mutating func decide(definition: (BusinessTypeID) -> BusinessTypeDefinition?) {
        self.settlements.reserveCapacity(self.batch.count)
        for (part, run) in zip(self.batch.parts, self.answer.runs) where !run.outcomes.isEmpty {
            let definition = definition(part.type)
            for (index, outcome) in run.outcomes.enumerated() {
                guard let row = part.rows[index] else { continue }
                let synID = part.synID(at: index)
                self.settlements.append(
                    OutboxSettlement(
                        id: row.id, type: part.type, synID: synID, state: outcome.disposition.isSettled ? .settled : .open,
                        attempts: outcome.attempts, reason: outcome.reason, detail: outcome.detail))
                if outcome.disposition == .applied {
                    guard outcome.version > 0, !PlantedBug.isOn(.ownVersionNotKept), let definition, definition.kind == .state, let key = row.key
                    else { continue }
                    let isScoped = definition.route.isScopedByHome
                    let id = EntityID(type: part.type, scope: isScoped ? self.branch : .cloud, key: key)
                    self.raises.raise(
                        EntityState(
                            id: id, version: outcome.version, origin: self.branch, home: self.branch,
                            audience: isScoped ? .server(self.branch) : .all))
                } else if outcome.disposition.isOpen || outcome.disposition == .dead {
                    self.memos.append(self.memo(of: row, synID: synID, in: part, outcome, definition))
                }
            }
            self.manifests.append((part.manifest, part.offset + run.outcomes.count))
            self.confirm(part, count: run.outcomes.count)
        }
    }

    private mutating func confirm(_ part: PushBatch.Part, count: Int) {
        let confirmation = Confirmation(
            peer: .cloud, type: part.type, epoch: part.manifest.epoch,
            position: Position(number: part.synID(at: count - 1), fingerprint: part.run), time: self.now.wall,
            lag: self.now.wall.elapsed(since: part.entries[count - 1].createTime))
        self.confirmations.removeAll { $0.type == part.type && $0.epoch == part.manifest.epoch }
        self.confirmations.append(confirmation)
    }

    private func memo(
        of row: OutboxRow, synID: Int64, in part: PushBatch.Part, _ outcome: Outcome,
        _ definition: BusinessTypeDefinition?
    ) -> Memo {
        let stream = StreamID(origin: self.branch, epoch: part.manifest.epoch, type: part.type)
        return Memo(
            line: MemoLine(receiver: .cloud, sender: self.branch, epoch: part.manifest.epoch, type: part.type),
            number: synID, scope: definition?.route.isScopedByHome ?? false ? self.branch : .cloud,
            record: SyncRecord(
                stream: stream, synID: synID, uid: row.uid, key: row.key ?? row.substituteKey,
                target: row.target, createTime: row.head.createTime, client: row.client, payload: ""),
            holdsPayload: false, disposition: outcome.disposition, reason: outcome.reason, detail: outcome.detail,
            attempts: outcome.attempts, nextTry: self.now.age, created: self.now.wall)
    }
}
