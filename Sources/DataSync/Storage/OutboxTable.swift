/// `sync_data` (同步数据表) and the manifests over it: what this server's applications want to be carried.
///
/// Applications insert; DataSync alone changes what was inserted. A row is *new* until it is numbered; where it is
/// numbered by a manifest it stays as it is until it is settled, so that numbering costs no write per row.
public protocol OutboxTable {
    /// Inserts rows as an application does.
    func appendOutbox(_ rows: [NewOutboxRow]) async throws

    /// Up to which id committed rows were read for numbering. It only limits what is read; it never decides: a
    /// transaction with a smaller id may commit later, and is found by looking below.
    func outboxFrontier() async throws -> Int64
    /// Moves the frontier if it is still `from`.
    /// - Returns: Whether it was.
    func moveOutboxFrontier(from: Int64, to: Int64) async throws -> Bool
    /// Whether a row above `id` is committed.
    func hasOutboxRows(after id: Int64) async throws -> Bool

    /// Committed rows with an id in `ids`, by id: a plain read, which never waits for an open transaction.
    /// - Parameter newOnly: Leaves out rows that are settled or known to be received. Rows that a manifest covers are new.
    func outboxHeads(in ids: ClosedRange<Int64>, newOnly: Bool, limit: Int) async throws -> [OutboxHead]
    /// The rows with these ids, by id. Ids without a row are left out.
    func outboxRows(_ ids: [Int64]) async throws -> [OutboxRow]
    /// Committed rows above `id`, whatever their state, by id: at most `limit`, and no more payload than `bytesMax` except
    /// that the first row always comes. Their digests are not computed: 0.
    func outboxRows(after id: Int64, limit: Int, bytesMax: Int) async throws -> OutboxPage
    /// New rows of one type above `id`, by id.
    func newOutboxRows(ofType type: BusinessTypeID, after id: Int64, limit: Int) async throws -> [OutboxRow]
    /// Which of `types` have any committed row here, settled or not: a cheap question before a dear one.
    func typesInOutbox(among types: Set<BusinessTypeID>) async throws -> Set<BusinessTypeID>
    /// Which of `names` have committed rows that are not settled: new, numbered, or open at the peer.
    func unsettledNames(among names: Set<EntityName>) async throws -> Set<EntityName>
    /// Those of the rows `ids` that a later one has overtaken: one of the same type, name and target, with a greater id up to
    /// `frontier`, that is not among `ids` itself.
    func overtakenRows(among ids: [Int64], upTo frontier: Int64) async throws -> Set<Int64>
    /// The new rows of `names` up to the id `last`, by id. At the cloud, where rows are settled when they are numbered.
    func newOutboxRows(of names: Set<EntityName>, upTo last: Int64, limit: Int) async throws -> [OutboxRow]
    /// The row with this uid. Not by its number: numbers begin anew with every epoch.
    func outboxRow(_ name: EntityName, uid: RecordUID) async throws -> OutboxRow?

    /// Writes the numbers, the origin and the state of those of these rows that are new. No other row is touched.
    /// - Returns: How many rows were new and are changed now.
    func settleOutbox(_ settlements: [OutboxSettlement], origin: ServerID) async throws -> Int
    /// Writes what is known of rows that are open at the peer, or of which a branch refused a copy.
    func updateOutbox(_ settlements: [OutboxSettlement]) async throws

    /// Takes the next `count` numbers of a stream; the counter stays locked to the end of the transaction.
    /// - Returns: The first of them, 1 for a new stream.
    func takeNumbers(_ stream: StreamID, count: Int) async throws -> Int64

    /// The last number given in each stream of `origin` and `epoch`.
    func lastNumbers(origin: ServerID, epoch: Int32) async throws -> [BusinessTypeID: Int64]

    /// The types of which `origin` was ever given a number here, in any epoch.
    func typesNumbered(by origin: ServerID) async throws -> Set<BusinessTypeID>

    func insertManifests(_ manifests: [Manifest]) async throws
    /// The first manifests of a type that are not wholly settled, by epoch and number.
    func manifests(ofType type: BusinessTypeID, after position: ManifestKey?, limit: Int) async throws -> [Manifest]
    /// For every type that has manifests: how many rows they cover that are not settled, and the oldest creation time.
    func manifestSummary() async throws -> [BusinessTypeID: Backlog]
    /// Of `ids`, those that a manifest covers.
    func manifestedIDs(in ids: ClosedRange<Int64>) async throws -> Set<Int64>
    /// Says that the first `settled` rows of a manifest are settled. When all are it is put by as a sent one, with `time`.
    func settleManifest(_ key: ManifestKey, settled: Int, time: Int64) async throws
    /// Writes manifests of rows that were settled when they were numbered, as sent ones, with `time`.
    func insertSentManifests(_ manifests: [Manifest], time: Int64) async throws
    /// Sent manifests of one stream that reach beyond `number`, by number.
    func sentManifests(of stream: StreamID, after number: Int64, limit: Int) async throws -> [Manifest]
    /// Up to which number each own stream is settled, as far as manifests, sent or not, are kept.
    func settledEnds() async throws -> [StreamName: Int64]
    /// The run that gave `number`, if a manifest that holds it is kept.
    func run(of stream: StreamID, number: Int64) async throws -> Fingerprint?
    /// Writes a manifest, sent or not, as one that is to be sent: what the peer had confirmed of it, it has lost.
    func putBackManifest(_ manifest: Manifest) async throws
    /// Removes a manifest that is not sent, whose rows get other numbers.
    func removeManifest(_ key: ManifestKey) async throws
    /// Makes settled or open rows new again. Their numbers stay with their manifests.
    func reopenOutbox(_ ids: [Int64]) async throws
    /// The uids of those of the rows `ids` that are new.
    func newOutboxUIDs(_ ids: [Int64]) async throws -> [Int64: RecordUID]
    /// The uids of all rows of `names`.
    func outboxUIDs(of names: Set<EntityName>) async throws -> Set<RecordUID>
    /// Removes sent manifests that were put by before `time`, at most `limit`, with those of their rows that are settled.
    /// - Returns: How many manifests were removed. Of some of them all rows may have been gone.
    func removeSentManifests(before time: Int64, limit: Int) async throws -> Int
}

public struct OutboxPage: Hashable, Sendable {
    public var rows: [OutboxRow]
    /// Whether there is no row behind the last one.
    public var isLast: Bool

    public init(rows: [OutboxRow], isLast: Bool) {
        self.rows = rows
        self.isLast = isLast
    }
}

/// The name of an entity as the outbox knows it, which has no scope.
public struct EntityName: Hashable, Sendable, Comparable {
    public var type: BusinessTypeID
    public var key: EntityKey

    public init(type: BusinessTypeID, key: EntityKey) {
        self.type = type
        self.key = key
    }

    public static func < (left: Self, right: Self) -> Bool {
        left.type != right.type ? left.type < right.type : left.key < right.key
    }
}

/// What an application names when it inserts; everything else has a default.
public struct NewOutboxRow: Hashable, Sendable {
    public var type: BusinessTypeID
    public var key: EntityKey
    public var payload: String
    /// `data_to_server_id`: whom a `target` record is for; at the cloud, the home of an `origin` entity.
    public var target: ServerID
    /// Milliseconds since 1970; nil for now.
    public var createTime: Int64?
    public var client: Int8?

    public init(
        type: BusinessTypeID, key: EntityKey, payload: String, target: ServerID = .cloud, createTime: Int64? = nil,
        client: Int8? = nil
    ) {
        self.type = type
        self.key = key
        self.payload = payload
        self.target = target
        self.createTime = createTime
        self.client = client
    }
}

/// As much of an outbox row as numbering needs.
public struct OutboxHead: Hashable, Sendable {
    public var id: Int64
    public var type: BusinessTypeID
    public var createTime: Int64
    /// Of the payload.
    public var bytes: Int
    /// ``CRC32/ofRow(key:payload:)``.
    public var digest: UInt32
    public var state: OutboxState

    public init(
        id: Int64, type: BusinessTypeID, createTime: Int64, bytes: Int, digest: UInt32, state: OutboxState = .new
    ) {
        self.state = state
        self.id = id
        self.type = type
        self.createTime = createTime
        self.bytes = bytes
        self.digest = digest
    }
}

public struct OutboxRow: Hashable, Sendable {
    public var head: OutboxHead
    public var uid: RecordUID
    /// Nil if `data_from_detail` is empty or not UTF-8: such a row cannot be sent.
    public var key: EntityKey?
    public var target: ServerID
    public var client: Int8?
    public var payload: String
    public var synID: Int64
    public var attempts: Int
    public var reason: ReasonCode

    public init(
        head: OutboxHead, uid: RecordUID, key: EntityKey?, target: ServerID, client: Int8?, payload: String,
        synID: Int64 = 0, attempts: Int = 0, reason: ReasonCode = .none
    ) {
        self.head = head
        self.uid = uid
        self.key = key
        self.target = target
        self.client = client
        self.payload = payload
        self.synID = synID
        self.attempts = attempts
        self.reason = reason
    }

    public var id: Int64 { self.head.id }
    public var state: OutboxState { self.head.state }
    /// Whether a message can hold the row as it is: not every database checks what applications insert.
    var isWritable: Bool { self.target >= .cloud && (1...EntityKey.bytesMax).contains(self.key?.text.utf8.count ?? 0) }
    /// What a row is called whose `data_from_detail` cannot be sent.
    var substituteKey: EntityKey { EntityKey("unnamed:\(self.id)") }
}

/// Column `state` of `sync_data`.
public enum OutboxState: UInt8, Hashable, Sendable {
    /// As inserted; perhaps numbered by a manifest, perhaps on its way.
    case new = 0
    /// The peer has it, and has not settled it: parked, waiting or suspect there.
    case open = 1
    case settled = 2
}

/// What is written into a row of the outbox when its peer has answered.
public struct OutboxSettlement: Hashable, Sendable {
    public var id: Int64
    public var type: BusinessTypeID
    public var synID: Int64
    public var state: OutboxState
    /// `fail_num`.
    public var attempts: Int
    /// `result_of_send_business`.
    public var reason: ReasonCode
    /// The reason in words.
    public var detail: String?

    public init(
        id: Int64, type: BusinessTypeID, synID: Int64, state: OutboxState, attempts: Int = 0, reason: ReasonCode,
        detail: String? = nil
    ) {
        self.id = id
        self.type = type
        self.synID = synID
        self.state = state
        self.attempts = attempts
        self.reason = reason
        self.detail = detail
    }
}

public struct ManifestKey: Hashable, Sendable, Comparable {
    public var epoch: Int32
    public var type: BusinessTypeID
    public var firstSynID: Int64

    public init(epoch: Int32, type: BusinessTypeID, firstSynID: Int64) {
        self.epoch = epoch
        self.type = type
        self.firstSynID = firstSynID
    }

    public static func < (left: Self, right: Self) -> Bool {
        (left.epoch, left.type, left.firstSynID) < (right.epoch, right.type, right.firstSynID)
    }
}

/// Which rows got which numbers: the entry at index i is number `firstSynID + i` of its stream.
///
/// One row of `sync_batch` for up to a thousand rows of the outbox, with what a batch cut needs to know of them.
public struct Manifest: Hashable, Sendable {
    public struct Entry: Hashable, Sendable {
        public var id: Int64
        public var createTime: Int64
        public var bytes: Int
        /// Of the row when it was numbered; one that changed since is not sent.
        public var digest: UInt32

        public init(id: Int64, createTime: Int64, bytes: Int, digest: UInt32) {
            self.id = id
            self.createTime = createTime
            self.bytes = bytes
            self.digest = digest
        }
    }

    public var key: ManifestKey
    public var run: Fingerprint
    /// By id.
    public var entries: [Entry]
    /// How many entries, from the first, are settled.
    public var settled: Int
    /// Whether the peer had confirmed rows of it before it lost them: they are sent to it again.
    public var isAgain: Bool

    public init(key: ManifestKey, run: Fingerprint, entries: [Entry], settled: Int = 0, isAgain: Bool = false) {
        self.key = key
        self.run = run
        self.entries = entries
        self.settled = settled
        self.isAgain = isAgain
    }

    public var lastSynID: Int64 { self.key.firstSynID + Int64(self.entries.count) - 1 }
    public func synID(at index: Int) -> Int64 { self.key.firstSynID + Int64(index) }
}

/// One of this server's own streams.
public struct StreamName: Hashable, Sendable, Comparable {
    public var epoch: Int32
    public var type: BusinessTypeID

    public init(epoch: Int32, type: BusinessTypeID) {
        self.epoch = epoch
        self.type = type
    }

    public static func < (left: Self, right: Self) -> Bool { (left.epoch, left.type) < (right.epoch, right.type) }
}

/// What waits to be sent of one type.
public struct Backlog: Hashable, Sendable {
    public var records: Int
    /// Milliseconds since 1970, by the clock that wrote the rows.
    public var oldestCreateTime: Int64

    public init(records: Int, oldestCreateTime: Int64) {
        self.records = records
        self.oldestCreateTime = oldestCreateTime
    }
}
