/// `sync_memo`: the records that were not simply applied: parked, waiting and dead ones, and what was done about them.
///
/// The receiver's row is the truth and holds the payload. The sender keeps a row without one for each record whose fate
/// is not decided yet at the receiver, so that it can ask, and for the dead ones, so that a person sees them on both sides.
public protocol MemoTable {
    /// Inserts rows; their `id` is ignored. Throws `storageBusy` if one exists for the same number.
    func insertMemos(_ memos: [Memo]) async throws
    /// Rewrites everything of a row that can change.
    func updateMemos(_ memos: [Memo]) async throws
    /// Begins a try: raises `tries` if it is still `tries` and the record is still in `disposition`.
    ///
    /// This row is the position of a parked record. Two replicas cannot both try, and a commit whose outcome is unknown
    /// cannot count twice.
    /// - Returns: Whether it was.
    func beginTry(ofMemo id: Int64, disposition: Disposition, tries: Int) async throws -> Bool

    func memo(_ id: Int64) async throws -> Memo?
    /// The rows of one line for these numbers, by number, without payload.
    func memos(in line: MemoLine, numbers: [Int64]) async throws -> [Memo]
    /// The rows of one line in a range of numbers, by number, without payload.
    func memos(in line: MemoLine, numbers: ClosedRange<Int64>, limit: Int) async throws -> [Memo]
    /// All rows of `entities` at `receiver` that came from `sender`, by id, without payload.
    func memos(at receiver: ServerID, from sender: ServerID, of entities: Set<EntityID>) async throws -> [Memo]
    /// What kinds of open rows `receiver` has: one cheap question before several dear ones.
    func openMemos(at receiver: ServerID, from sender: ServerID) async throws -> OpenMemos
    /// Which of `entities` have open rows at `receiver` that came from `sender`.
    func openEntities(at receiver: ServerID, from sender: ServerID, among entities: Set<EntityID>) async throws -> Set<EntityID>
    /// The smallest id of an open row of the entity, which is the one to be tried first.
    func firstOpenMemo(at receiver: ServerID, from sender: ServerID, of entity: EntityID) async throws -> Int64?
    /// How much is open of one line's type.
    func openUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage
    /// How much is dead of one line's type, and waits for a person.
    func deadUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage
    /// Open rows at `receiver` whose next try is due, by that time: ids only.
    func dueMemos(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Int64]
    /// Makes rows that wait at `receiver`, whoever sent them, due at `time`, those first that are due next: at most `limit`
    /// of those that wait for an entity of one of these names, and `unnamedMax` of those that wait for something without a name.
    /// - Returns: How many.
    func releaseMemos(
        at receiver: ServerID, needing keys: Set<EntityKey>, limit: Int, unnamedMax: Int, time: Int64
    ) async throws -> Int
    /// What the first row at `receiver` that came from `sender`, waits and is about an entity of this name waits for, if there is one.
    func dependency(at receiver: ServerID, from sender: ServerID, of key: EntityKey) async throws -> Dependency?
    /// The suspects of one line's type, by id, without payload.
    func suspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, limit: Int) async throws -> [Memo]
    /// Makes the suspects of these types parked ones that were refused `attempts` times and are due at `time`.
    /// - Returns: How many.
    func endSuspicion(
        at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>, attempts: Int, time: Int64
    ) async throws -> Int
    /// Makes the suspects of one line's type due at `time` and as many milliseconds later as each has tries: those first that
    /// were tried least.
    func postponeSuspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, time: Int64) async throws
    /// Makes the open rows of an entity due at `time`.
    func wakeMemos(at receiver: ServerID, from sender: ServerID, of entity: EntityID, time: Int64) async throws
    /// Open rows at `receiver`, which is another server, by when they were last asked about: without payload. And dead ones whose
    /// `nextTry` is not after `time`: a person may have decided on them there.
    func memosToAsk(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Memo]
    /// Rows of any of `dispositions` above `id`, by id, without payload.
    /// - Parameter branches: Those alone that concern these and no others (``Memo/concernsOnly(_:)``); nil for all.
    func memos(_ dispositions: Set<Disposition>, after id: Int64, limit: Int, among branches: Set<ServerID>?) async throws -> [Memo]
    /// How many rows stand how, by where they are held.
    /// - Parameter branches: Counted are those that concern these and no others; nil for all.
    func memoCounts(among branches: Set<ServerID>?) async throws -> [MemoCount]
}

extension MemoTable {
    public func memos(_ dispositions: Set<Disposition>, after id: Int64, limit: Int) async throws -> [Memo] {
        try await self.memos(dispositions, after: id, limit: limit, among: nil)
    }

    public func memoCounts() async throws -> [MemoCount] { try await self.memoCounts(among: nil) }
}

/// The line that a number belongs to: what `sender` sends to `receiver` of one type.
public struct MemoLine: Hashable, Sendable {
    public var receiver: ServerID
    public var sender: ServerID
    /// The epoch of the numbers: the sender's, or the log's.
    public var epoch: Int32
    public var type: BusinessTypeID

    public init(receiver: ServerID, sender: ServerID, epoch: Int32, type: BusinessTypeID) {
        self.receiver = receiver
        self.sender = sender
        self.epoch = epoch
        self.type = type
    }
}

public struct OpenMemos: Hashable, Sendable {
    /// Whether any open row came from the sender that was asked about.
    public var fromSender: Bool
    /// Whether any row waits for a dependency, whoever sent it.
    public var waiting: Bool
    /// Whether any row that came from the sender is a suspect.
    public var suspects: Bool

    public init(fromSender: Bool, waiting: Bool, suspects: Bool) {
        self.fromSender = fromSender
        self.waiting = waiting
        self.suspects = suspects
    }
}

public struct OpenUsage: Hashable, Sendable {
    public var records: Int
    public var bytes: Int

    public init(records: Int, bytes: Int) {
        self.records = records
        self.bytes = bytes
    }
}

public struct MemoCount: Hashable, Sendable {
    public var receiver: ServerID
    public var type: BusinessTypeID
    public var disposition: Disposition
    public var count: Int

    public init(receiver: ServerID, type: BusinessTypeID, disposition: Disposition, count: Int) {
        self.receiver = receiver
        self.type = type
        self.disposition = disposition
        self.count = count
    }
}

public struct Memo: Hashable, Sendable {
    public var id: Int64
    public var line: MemoLine
    /// The record's number in the line: its `synID`, or its place in the log.
    public var number: Int64
    public var scope: ServerID
    /// The record by its origin's numbers. The payload is empty where this server does not hold it.
    public var record: SyncRecord
    public var holdsPayload: Bool
    public var disposition: Disposition
    public var reason: ReasonCode
    public var detail: String?
    /// Definite refusals.
    public var attempts: Int
    /// All tries, those included that were not counted.
    public var tries: Int
    /// When it is tried again, and at its sender when it was last asked about: in running time of the database, in milliseconds.
    public var nextTry: Int64
    /// Milliseconds since 1970.
    public var created: Int64
    /// Running time of the database when the record was set aside, in milliseconds: what limits of age count from. 0 at a server that
    /// does not hold the record.
    public var since: Int64
    /// The place in the log that it got when it was applied; 0 until then.
    public var version: Int64
    /// What it waits for, at its receiver and while it is waiting.
    public var needs: Dependency?

    public init(
        id: Int64 = 0, line: MemoLine, number: Int64, scope: ServerID, record: SyncRecord, holdsPayload: Bool,
        disposition: Disposition, reason: ReasonCode, detail: String? = nil, attempts: Int = 0, tries: Int = 0,
        nextTry: Int64, created: Int64, since: Int64 = 0, version: Int64 = 0, needs: Dependency? = nil
    ) {
        self.id = id
        self.line = line
        self.number = number
        self.scope = scope
        self.record = record
        self.holdsPayload = holdsPayload
        self.disposition = disposition
        self.reason = reason
        self.detail = detail
        self.attempts = attempts
        self.tries = tries
        self.nextTry = nextTry
        self.created = created
        self.since = since
        self.version = version
        self.needs = needs
    }

    /// Whether it concerns branches, and none but these: who holds it, who sent it, and whose record it is.
    public func concernsOnly(_ branches: Set<ServerID>) -> Bool {
        let concerned = Set([self.line.receiver, self.line.sender, self.record.origin].filter(\.isBranch))
        return !concerned.isEmpty && concerned.isSubset(of: branches)
    }

    public var entity: EntityID { EntityID(type: self.line.type, scope: self.scope, key: self.record.key) }

    public var outcome: Outcome {
        Outcome(self.disposition, reason: self.reason, detail: self.detail, attempts: self.attempts, version: self.version)
    }

    /// When this row, held elsewhere, is asked about again after it was asked about at `time`: an open one after the others, a dead
    /// one, which only a person changes, not within the next minute.
    func timeToAsk(after time: Int64) -> Int64 { self.disposition == .dead ? time + 60_000 : time }

    /// How long a record of a type that is stopped for `wait`, or not configured any more, is left alone: in milliseconds, counting
    /// nothing. Not beyond the moment when the type may be tried, or what is to show that it passes again would miss that moment.
    static func standstillDelay(_ wait: Duration?) -> Int64 { min(wait?.milliseconds ?? .max, 60_000) }

    /// - Parameter needs: What the record waits for, if it is waiting and this is its receiver.
    public mutating func note(_ outcome: Outcome, needs: Dependency? = nil) {
        self.disposition = outcome.disposition
        self.reason = outcome.reason
        self.detail = outcome.detail
        self.attempts = outcome.attempts
        if outcome.version > 0 { self.version = outcome.version }
        self.needs = needs
    }
}
