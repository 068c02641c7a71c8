/// What one transaction applied, as far as others may wait for it.
///
/// Which waiting records are tried again because of it is a guess that costs a try where it is wrong and the clock's wait
/// where it is missing; nothing else rests on it.
struct Arrivals: Sendable {
    /// The names of entities that are there now.
    private(set) var keys: Set<EntityKey> = []
    /// Whether anything was applied, deletions included: a foreign key may have held a deletion back.
    private(set) var isAny = false

    init(_ records: some Sequence<PreparedRecord>) {
        for prepared in records {
            self.isAny = true
            if !prepared.isDeletion { self.keys.insert(prepared.record.key) }
        }
    }

    /// A record that had waited, and is applied: what it waited for is there, so others that wait for the same go on too.
    init(_ prepared: PreparedRecord, neededBefore: Dependency?) {
        self.init(CollectionOfOne(prepared))
        if case .entity(let key) = neededBefore { self.keys.insert(key) }
    }

    /// Makes records due that were set aside in this same transaction and wait for what it applied.
    func release(_ memos: inout [Memo], limits: SyncLimits, now: Int64) {
        var guesses = limits.guessedMax
        for index in memos.indices {
            switch memos[index].needs {
            case .entity(let key) where self.keys.contains(key): memos[index].nextTry = now
            case .unnamed where self.isAny && guesses > 0:
                guesses -= 1
                memos[index].nextTry = now
            case .entity, .unnamed, nil: break
            }
        }
    }
}
