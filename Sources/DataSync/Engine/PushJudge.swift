/// Decides about new records in the order of their streams: a record that is set aside makes the later ones of its
/// entity wait behind it, and no others.
struct PushJudge: Sendable {
    enum Verdict {
        case apply(PreparedRecord)
        case setAside(Outcome)
        case void
    }

    /// Entities of which an earlier record is open: in the table, or in this chunk.
    private var blocked: Set<EntityID>
    /// What became of the records that are not applied, by index.
    private(set) var setAside: [Int: Outcome] = [:]
    /// What those of them that are waiting wait for.
    private(set) var needs: [Int: Dependency] = [:]

    init(blocked: Set<EntityID>) { self.blocked = blocked }

    mutating func verdict(for item: PushWork.Item, at index: Int, blamed: RecordFault?) -> Verdict {
        let fault: RecordFault
        switch item.content {
        case .void: return .void
        case .unsendable(_, let reason):
            // It can never be applied, so nothing waits behind it.
            return self.set(Outcome(.dead, reason: reason), item, index)
        case .prepared(let prepared):
            if self.isBlocked(item) { return self.set(Outcome(.parked, reason: .behind), item, index) }
            guard let blamed else { return .apply(prepared) }
            fault = blamed
        case .refused(_, let refusal):
            if self.isBlocked(item) { return self.set(Outcome(.parked, reason: .behind), item, index) }
            fault = refusal
        }
        return self.set(fault, item, index)
    }

    /// Takes in that a record which was to be applied is refused after all.
    mutating func refuse(_ item: PushWork.Item, at index: Int, _ fault: RecordFault) {
        _ = self.set(fault, item, index)
    }

    /// Takes in that records which are set aside are not to be counted: the fault may not be theirs.
    mutating func suspect(_ indices: Set<Int>) {
        for index in indices {
            self.setAside[index]?.disposition = .suspect
            self.setAside[index]?.attempts = 0
        }
    }

    private func isBlocked(_ item: PushWork.Item) -> Bool {
        !PlantedBug.isOn(.overtakesParked) && item.entity.map { self.blocked.contains($0) } ?? false
    }

    private mutating func set(_ fault: RecordFault, _ item: PushWork.Item, _ index: Int) -> Verdict {
        self.needs[index] = fault.dependency
        return self.set(Outcome(fault, attemptsBefore: 0), item, index)
    }

    private mutating func set(_ outcome: Outcome, _ item: PushWork.Item, _ index: Int) -> Verdict {
        self.setAside[index] = outcome
        if outcome.disposition.isOpen, let entity = item.entity { self.blocked.insert(entity) }
        return .setAside(outcome)
    }
}
