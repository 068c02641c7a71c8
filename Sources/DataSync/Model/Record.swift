/// One packed business action (业务数据) on its way: what an application wrote into `sync_data`, with the identity it got there.
public struct SyncRecord: Hashable, Sendable {
    public var stream: StreamID
    /// Its number in the stream.
    public var synID: Int64
    public var uid: RecordUID
    public var key: EntityKey
    /// The server that the row names in `data_to_server_id`; 0 if none.
    public var target: ServerID
    /// Milliseconds since 1970 by the origin's clock. Decides about fairness only.
    public var createTime: Int64
    /// `data_from_client`: what the application says about the device; carried, not understood.
    public var client: Int8?
    /// `data_detail`, untouched.
    public var payload: String

    public init(
        stream: StreamID, synID: Int64, uid: RecordUID, key: EntityKey, target: ServerID, createTime: Int64,
        client: Int8?, payload: String
    ) {
        self.stream = stream
        self.synID = synID
        self.uid = uid
        self.key = key
        self.target = target
        self.createTime = createTime
        self.client = client
        self.payload = payload
    }

    public var type: BusinessTypeID { self.stream.type }
    public var origin: ServerID { self.stream.origin }
}

/// What stands at one number of a stream when it is sent.
public enum SentRecord: Hashable, Sendable {
    case record(SyncRecord)
    /// The row is gone. The number moves the position and nothing else.
    case void
    /// A row that can never be sent as it is; the receiver enters it as dead, so that the stream goes on.
    case unsendable(uid: RecordUID, key: EntityKey, reason: ReasonCode)
}

/// A row of the cloud's log (`sync_log`): a record with its place, and whom it is for.
public struct LogRecord: Hashable, Sendable {
    /// Its place among the records of its type, for ever; the version of its entity.
    public var logSeq: Int64
    public var mark: Fingerprint
    public var audience: Audience
    /// The home in whose space the entity is named, 0 where names are unique everywhere.
    public var scope: ServerID
    /// Sent to its origin too: a correction of a change that did not prevail, or a retry that a person made succeed.
    public var isEcho: Bool
    public var isDeletion: Bool
    /// Why the payload does not travel, such as `tooBig` for the reader; `none` where it does.
    public var omission: ReasonCode
    public var record: SyncRecord

    public init(
        logSeq: Int64, mark: Fingerprint, audience: Audience, scope: ServerID, isEcho: Bool, isDeletion: Bool,
        omission: ReasonCode = .none, record: SyncRecord
    ) {
        self.logSeq = logSeq
        self.mark = mark
        self.audience = audience
        self.scope = scope
        self.isEcho = isEcho
        self.isDeletion = isDeletion
        self.omission = omission
        self.record = record
    }

    public var entity: EntityID { EntityID(type: self.record.type, scope: self.scope, key: self.record.key) }
}

/// How far a receiver has got: a number of the sender's line, with the fingerprint of the transaction that gave it.
public struct Position: Hashable, Sendable {
    public var number: Int64
    public var fingerprint: Fingerprint

    public init(number: Int64, fingerprint: Fingerprint) {
        self.number = number
        self.fingerprint = fingerprint
    }

    /// Nothing received yet.
    public static let start = Position(number: 0, fingerprint: .none)
}
