/// How a branch speaks to the cloud: six questions, each with its answer.
///
/// Conforming types must pass `TransportContract` of DataSyncTesting.
///
/// - An answer that is returned is the cloud's, whole and unaltered.
/// - An error tells nothing about the effect: the request may have been carried out, in part or wholly, or may still be
///   on its way. Only sending it again, or opening a session, tells. The code says what to do next: `fenced` asks for a
///   new session, `clockSkew` for the same request again, `suspended` and `unauthorized` for a person.
/// - A call ends within the deadline of the transport, and at once when its task is cancelled.
public protocol SyncTransport: Sendable {
    /// Begins a session. The newest session of a branch fences all older ones. The same nonce gets the same answer.
    func open(_ request: OpenRequest) async throws -> OpenAnswer
    /// Carries records up, and returns what became of each.
    func push(_ request: PushRequest) async throws -> PushAnswer
    /// Fetches what is new for this branch. Changes nothing that the branch could miss later.
    func pull(_ request: PullRequest) async throws -> PullAnswer
    /// Tells what became of fetched records.
    func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer
    /// Asks what the cloud has received under numbers that this branch does not know any more, and in the end for a new epoch.
    func recover(_ request: RecoverRequest) async throws -> RecoverAnswer
    /// Asks what the cloud's tables hold of entities that are for this branch, and, if the branch wishes so, for that to be sent again.
    func compare(_ request: CompareRequest) async throws -> CompareAnswer
}

/// The version of the messages below. Both sides must speak it; a field that one side does not know is passed over.
public enum SyncProtocol {
    public static let version = 1
}

/// Which session a request belongs to.
public struct SessionID: Hashable, Sendable {
    public var number: Int64
    public var epoch: Int32

    public init(number: Int64, epoch: Int32) {
        self.number = number
        self.epoch = epoch
    }
}

/// A business type as one side tells the other: enough to see whether both mean the same.
public struct TypeSummary: Hashable, Sendable {
    public var id: BusinessTypeID
    public var name: String
    public var kind: RecordKind
    public var route: RouteKind

    public init(id: BusinessTypeID, name: String, kind: RecordKind, route: RouteKind) {
        self.id = id
        self.name = name
        self.kind = kind
        self.route = route
    }

    public init(_ definition: BusinessTypeDefinition) {
        self.init(id: definition.id, name: definition.name, kind: definition.kind, route: definition.route)
    }
}

// MARK: - Open

public struct OpenRequest: Hashable, Sendable {
    public var protocolVersion: Int
    /// Drawn for this opening; a copy that comes late gets the answer of the first.
    public var nonce: String
    /// The version of the branch's software, for the operator.
    public var software: String
    public var types: [TypeSummary]
    /// What the machine calls itself since it was started; at most 64 bytes. Two that take turns are a clone.
    public var host: String
    /// The newest epoch of the log that the branch has read, and how far it has read each.
    public var logEpoch: Int32
    public var cursors: [BusinessTypeID: Position]

    public init(
        protocolVersion: Int = SyncProtocol.version, nonce: String, software: String, types: [TypeSummary], host: String = "",
        logEpoch: Int32 = 1, cursors: [BusinessTypeID: Position] = [:]
    ) {
        self.protocolVersion = protocolVersion
        self.nonce = nonce
        self.software = software
        self.types = types
        self.host = host
        self.logEpoch = logEpoch
        self.cursors = cursors
    }
}

public struct OpenAnswer: Hashable, Sendable {
    public var session: SessionID
    /// The epoch of the cloud's log: its places mean nothing in another one.
    public var logEpoch: Int32
    /// How far the cloud has received each stream of the branch's epoch.
    public var positions: [BusinessTypeID: Position]
    /// The same of the epochs before.
    public var olderPositions: [Int32: [BusinessTypeID: Position]]
    /// Where the branch goes on reading, if the log has a newer epoch than the one that it has read; nil if it has not.
    public var cursors: [BusinessTypeID: Position]?
    public var types: [TypeSummary]
    /// The largest payload that the cloud takes.
    public var recordBytesMax: Int
    /// The cloud's clock, in milliseconds since 1970.
    public var time: Int64

    public init(
        session: SessionID, logEpoch: Int32, positions: [BusinessTypeID: Position], types: [TypeSummary],
        recordBytesMax: Int, time: Int64, olderPositions: [Int32: [BusinessTypeID: Position]] = [:],
        cursors: [BusinessTypeID: Position]? = nil
    ) {
        self.olderPositions = olderPositions
        self.cursors = cursors
        self.session = session
        self.logEpoch = logEpoch
        self.positions = positions
        self.types = types
        self.recordBytesMax = recordBytesMax
        self.time = time
    }
}

// MARK: - Push

public struct PushRequest: Hashable, Sendable {
    public var session: SessionID
    /// In the order in which they are to be applied.
    public var runs: [PushRun]
    /// Received records of which the branch does not know yet how they ended.
    public var asked: [RecordNumber]
    /// Whether the last pushes went unanswered, so that something in them may end the cloud: it is to find out what.
    public var isCareful: Bool

    public init(session: SessionID, runs: [PushRun], asked: [RecordNumber] = [], isCareful: Bool = false) {
        self.isCareful = isCareful
        self.session = session
        self.runs = runs
        self.asked = asked
    }
}

/// Consecutive numbers of one stream, numbered by one step.
public struct PushRun: Hashable, Sendable {
    public var type: BusinessTypeID
    public var firstSynID: Int64
    public var run: Fingerprint
    /// The run that gave the number before the first one; `none` before number 1. The cloud compares it with its position.
    public var before: Fingerprint
    /// Whether the cloud had confirmed some of these before it lost them. What it takes in again goes back to this branch too.
    public var isAgain: Bool
    public var records: [SentRecord]

    public init(
        type: BusinessTypeID, firstSynID: Int64, run: Fingerprint, before: Fingerprint = .none, isAgain: Bool = false, records: [SentRecord]
    ) {
        self.before = before
        self.isAgain = isAgain
        self.type = type
        self.firstSynID = firstSynID
        self.run = run
        self.records = records
    }
}

/// A record by its number in a line: a branch's stream, or the log.
public struct RecordNumber: Hashable, Sendable {
    public var type: BusinessTypeID
    public var epoch: Int32
    public var number: Int64

    public init(type: BusinessTypeID, epoch: Int32, number: Int64) {
        self.type = type
        self.epoch = epoch
        self.number = number
    }
}

public struct NumberedOutcome: Hashable, Sendable {
    public var record: RecordNumber
    public var outcome: Outcome

    public init(record: RecordNumber, outcome: Outcome) {
        self.record = record
        self.outcome = outcome
    }
}

public struct PushAnswer: Hashable, Sendable {
    /// One for each run, in the order of the request.
    public var runs: [PushRunAnswer]
    public var outcomes: [NumberedOutcome]

    public init(runs: [PushRunAnswer], outcomes: [NumberedOutcome] = []) {
        self.runs = runs
        self.outcomes = outcomes
    }
}

public struct PushRunAnswer: Hashable, Sendable {
    /// What became of the first records of the run: of all of them unless `stop` says why not.
    public var outcomes: [Outcome]
    /// Why the rest was not received. It had no effect and stays with the sender.
    public var stop: PushStop?

    public init(outcomes: [Outcome] = [], stop: PushStop? = nil) {
        self.outcomes = outcomes
        self.stop = stop
    }
}

public enum PushStop: Hashable, Sendable {
    /// A number is missing before the first one: the cloud stands here.
    case gap(position: Int64)
    /// The cloud does not know this type.
    case unsupported
    /// A fault of the system at the cloud: that type is stopped there for so long.
    case stopped(retryAfter: Duration)
    /// Too many records of this type wait at the cloud for somebody's attention.
    case quota(retryAfter: Duration)
}

// MARK: - Pull

public struct PullRequest: Hashable, Sendable {
    public var session: SessionID
    public var logEpoch: Int32
    /// Up to where the branch has each log that it wants to go on with.
    public var cursors: [BusinessTypeID: Position]
    public var asked: [RecordNumber]
    public var recordsMax: Int
    public var bytesMax: Int
    /// The largest payload that the branch takes; of a larger record it gets everything else.
    public var recordBytesMax: Int

    public init(
        session: SessionID, logEpoch: Int32, cursors: [BusinessTypeID: Position], asked: [RecordNumber] = [],
        recordsMax: Int, bytesMax: Int, recordBytesMax: Int
    ) {
        self.session = session
        self.logEpoch = logEpoch
        self.cursors = cursors
        self.asked = asked
        self.recordsMax = recordsMax
        self.bytesMax = bytesMax
        self.recordBytesMax = recordBytesMax
    }
}

/// All of it is read from one state of the cloud's database.
public struct PullAnswer: Hashable, Sendable {
    /// Types in the order of their priority; those with nothing new are left out.
    public var runs: [PullRun]
    /// How the records that the branch asked for stand. To be taken in before the records, in the same transaction.
    public var outcomes: [NumberedOutcome]
    /// Pulled records of which the cloud does not know yet how they ended.
    public var asked: [RecordNumber]
    /// Whether there is more at once.
    public var hasMore: Bool

    public init(
        runs: [PullRun] = [], outcomes: [NumberedOutcome] = [], asked: [RecordNumber] = [], hasMore: Bool = false
    ) {
        self.runs = runs
        self.outcomes = outcomes
        self.asked = asked
        self.hasMore = hasMore
    }
}

public struct PullRun: Hashable, Sendable {
    public var type: BusinessTypeID
    /// In the order of the log. Own records are not among them.
    public var records: [LogRecord]
    /// How far the log was read for this: beyond the last record, if own ones follow it.
    public var position: Position

    public init(type: BusinessTypeID, records: [LogRecord], position: Position) {
        self.type = type
        self.records = records
        self.position = position
    }
}

// MARK: - Acknowledge

public struct AcknowledgeRequest: Hashable, Sendable {
    public var session: SessionID
    public var logEpoch: Int32
    /// What is at or below these and not named in `outcomes`, now or earlier, was applied or superseded.
    public var positions: [BusinessTypeID: Position]
    /// The records that were not, and those that the cloud asked about.
    public var outcomes: [NumberedOutcome]

    public init(
        session: SessionID, logEpoch: Int32, positions: [BusinessTypeID: Position], outcomes: [NumberedOutcome]
    ) {
        self.session = session
        self.logEpoch = logEpoch
        self.positions = positions
        self.outcomes = outcomes
    }
}

public struct AcknowledgeAnswer: Hashable, Sendable {
    public init() {}
}

// MARK: - Recover

/// For a branch whose database was restored from a backup: what it had sent since, page by page, and then a new epoch.
public struct RecoverRequest: Hashable, Sendable {
    public var session: SessionID
    /// Of the streams that are asked for.
    public var epoch: Int32
    /// Up to where the branch knows each stream. Types that are left out are not asked for.
    public var after: [BusinessTypeID: Int64]
    /// Whether the branch knows all it needs: the cloud freezes its streams, and counts a new epoch.
    public var isEnd: Bool

    public init(session: SessionID, epoch: Int32, after: [BusinessTypeID: Int64], isEnd: Bool = false) {
        self.session = session
        self.epoch = epoch
        self.after = after
        self.isEnd = isEnd
    }
}

public struct RecoverAnswer: Hashable, Sendable {
    /// Each type's in the order of its numbers. Their `time` does not travel.
    public var receipts: [Receipt]
    /// How those of these records stand that were not simply applied.
    public var outcomes: [NumberedOutcome]
    /// Whether there are more of some type.
    public var hasMore: Bool
    /// The branch's epoch at the cloud, after this request.
    public var epoch: Int32

    public init(receipts: [Receipt] = [], outcomes: [NumberedOutcome] = [], hasMore: Bool = false, epoch: Int32) {
        self.receipts = receipts
        self.outcomes = outcomes
        self.hasMore = hasMore
        self.epoch = epoch
    }
}
