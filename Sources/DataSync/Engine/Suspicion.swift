/// Decides what becomes of records that were refused while nothing of their type and sender passed.
///
/// Where several entities, and all that were tried, are refused alike, the fault may lie in the system: a trigger that was
/// dropped in, a table that lost a column's default. Counting would then kill every record of the type. So they are set
/// aside as suspects, uncounted, and the next are tried: whatever passes shows that the fault was theirs.
enum Suspicion {
    /// What was held against a record. The text is cut as tables cut it.
    struct Charge: Hashable, Sendable {
        let reason: ReasonCode
        let detail: String?

        init(_ outcome: Outcome) {
            self.reason = outcome.reason
            self.detail = outcome.detail.map { String(String.UnicodeScalarView($0.unicodeScalars.prefix(250))) }
        }
    }

    /// A record that was refused for the first time.
    struct Refused: Hashable, Sendable {
        var index: Int
        var entity: EntityID
        var charge: Charge

        /// Nil for what says nothing about the system: it is not counted, or DataSync itself does not allow it.
        init?(index: Int, entity: EntityID?, outcome: Outcome) {
            guard let entity, outcome.disposition == .parked, outcome.attempts > 0, outcome.reason != .forbidden else { return nil }
            self.index = index
            self.entity = entity
            self.charge = Charge(outcome)
        }
    }

    struct Verdict: Hashable, Sendable {
        /// The records that are set aside, uncounted. All others are at fault themselves.
        var suspects: Set<Int> = []
        /// The first that is to be set aside and finds no room: the type stops before it.
        var firstWithoutRoom: Int?
        /// Whether what was held until now is at fault after all.
        var clearsHeld = false
    }

    /// - Parameters:
    ///   - refused: Records of one type and sender, in order, of which none passed in this unit.
    ///   - held: The suspects that are held of them already.
    ///   - before: The record that was received last before these, if it is held.
    ///   - mayComeMore: Whether records of other entities are still to be tried: then what a single one proves is seen by them.
    static func verdict(on refused: [Refused], held: [Memo], before: Memo?, mayComeMore: Bool, suspectsMax: Int) -> Verdict {
        guard let first = refused.first else { return Verdict() }
        var alike: [Refused]
        if let charge = held.first.map({ Charge($0.outcome) }) {
            alike = refused.filter { $0.charge == charge }
            // One alone was held until the next would show. Where several are alike, one that is refused for another reason is
            // at fault itself, and proves nothing for or against them.
            if Set(held.map(\.entity)).count == 1, alike.count < refused.count { return Verdict(clearsHeld: true) }
        } else {
            guard refused.allSatisfy({ $0.charge == first.charge }) else { return Verdict() }
            var entities = Set(refused.map(\.entity))
            if let before, before.disposition == .parked, before.attempts > 0, Charge(before.outcome) == first.charge {
                entities.insert(before.entity)
            }
            // A single entity proves nothing about the system.
            guard entities.count > 1 || mayComeMore else { return Verdict() }
            alike = refused
        }
        let room = max(suspectsMax - held.count, 0)
        return Verdict(
            suspects: Set(alike.prefix(room).map(\.index)), firstWithoutRoom: alike.count > room ? alike[room].index : nil)
    }

    /// What a refusal makes of a record that was tried again.
    /// - Parameters:
    ///   - suspects: Those of its type and sender, the record itself perhaps among them.
    ///   - isTooOld: Whether it has been a suspect for as long as that is borne while the type is not stopped.
    static func outcome(of refusal: Outcome, for memo: Memo, suspects: [Memo], isTooOld: Bool, suspectsMax: Int) -> Outcome {
        let isAlone = !suspects.contains { $0.entity != memo.entity && Charge($0.outcome) == Charge(refusal) }
        let isStopped = suspects.count >= suspectsMax
        guard refusal.reason != .forbidden, refusal.reason != .crashSuspect, !isAlone, !isTooOld || isStopped else { return refusal }
        return Outcome(
            memo.disposition == .suspect ? .suspect : .parked, reason: refusal.reason, detail: refusal.detail, attempts: memo.attempts)
    }
}
