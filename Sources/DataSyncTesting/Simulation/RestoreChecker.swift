import DataSync

/// Verifies what must hold in a fleet of which databases were put back to backups, or a branch went on with one of two copies of its
/// machine, when it has come to rest.
///
/// What was written there after the backup, or to the other copy, and had reached nobody is lost with the database. Everything else is
/// where it belongs, once.
struct RestoreChecker {
    struct Written {
        var server: ServerID
        var change: SimulatedChange
    }

    let restored: Set<ServerID>
    let branches: [ServerID]
    let states: [ServerID: InMemoryState]
    let written: [Written]
    private(set) var violations: [HistoryChecker.Violation] = []

    init(restored: Set<ServerID>, branches: [ServerID], states: [ServerID: InMemoryState], written: [Written]) {
        self.restored = restored
        self.branches = branches
        self.states = states
        self.written = written
    }

    private var isCloudRestored: Bool { self.restored.contains(.cloud) }
    private func state(_ server: ServerID) -> InMemoryState { self.states[server] ?? InMemoryState() }

    private func dead(at server: ServerID) -> Set<RecordUID> {
        Set(self.state(server).memos.values.filter { $0.line.receiver == server && $0.disposition == .dead }.map(\.record.uid))
    }

    private func row(_ entity: EntityID, at server: ServerID) -> String? {
        self.state(server).tables[SimulatedType.table(of: entity.type)]?[SimulatedType.row(of: entity)]
    }

    mutating func check() {
        let dead = Dictionary(uniqueKeysWithValues: ([.cloud] + self.branches).map { ($0, self.dead(at: $0)) })
        let kept = self.states.mapValues { Set($0.outbox.map(\.uid)) }
        let received = Set(self.branches.flatMap { self.state(.cloud).receipts[$0] ?? [] }.flatMap(\.uids))
        /// What only the lost database had, or the branches that had read it.
        var lost: Set<EntityID> = []
        for written in self.written {
            let (change, uid) = (written.change, written.change.uid)
            let isKept = kept[written.server]?.contains(uid) ?? false
            let isLost = !isKept && (written.server.isCloud || !received.contains(uid))
            if isLost { lost.insert(change.entity) }
            guard SimulatedType.definition(of: change.type).kind == .action else { continue }
            for server in [.cloud] + self.branches {
                let name = SimulatedType.row(of: change.entity, action: change.token)
                let count = self.state(server).tables[SimulatedType.table(of: change.type)]?[name].flatMap { Int($0) } ?? 0
                // Where it was written it counts, unless it was lost there and came back.
                let isRefusable = server != written.server || !isKept
                let isDead = isRefusable && (dead[.cloud]?.contains(uid) ?? false || dead[server]?.contains(uid) ?? false)
                let what = "action \(change.token) of \(change.entity), written at \(written.server),"
                if count > 1 { self.violate(.effectOnce, "\(what) counts \(count) at \(server)") }
                // Branches keep what they had read of a cloud that has lost it.
                if isLost, self.isCloudRestored { continue }
                let expected = isLost || isDead ? 0 : 1
                if count < expected { self.violate(.noLoss, "\(what) does not count at \(server)") }
                if isLost, count > 0 { self.violate(.noPhantom, "\(what) was lost by its server, and counts at \(server)") }
            }
        }
        self.checkStates(dead, lost: self.isCloudRestored ? lost : [])
    }

    private mutating func checkStates(_ dead: [ServerID: Set<RecordUID>], lost: Set<EntityID>) {
        var last: [EntityID: LogRecord] = [:]
        let entities = self.state(.cloud).entities
        for (key, records) in self.state(.cloud).log where SimulatedType.definition(of: key.type).kind == .state {
            // A correction repeats a record for one server, and is not the entity's version.
            for record in records where entities[record.entity]?.version == record.logSeq { last[record.entity] = record }
        }
        for (entity, record) in last.sorted(by: { $0.key < $1.key }) where !lost.contains(entity) {
            let token = SimulatedPayload(record.record.payload)?.token
            let expected = record.isDeletion ? nil : token.map { String($0) }
            for server in [.cloud] + self.branches where server.isCloud || record.audience.contains(server) {
                let found = self.row(entity, at: server)
                if found == expected || dead[server]?.contains(record.record.uid) ?? false { continue }
                self.violate(
                    .convergence, "\(entity) at \(server) is \(found ?? "absent"), the log says \(expected ?? "absent") at place \(record.logSeq)")
            }
        }
    }

    private mutating func violate(_ invariant: HistoryChecker.Invariant, _ detail: String) {
        if self.violations.count < 20 { self.violations.append(HistoryChecker.Violation(invariant, "after a restore: \(detail)")) }
    }
}
