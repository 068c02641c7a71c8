public import DataSync

/// What happened in a simulated fleet, as far as a promise is about it. Things in a database happen when they are committed.
public enum SimulationEvent: Hashable, Sendable {
    /// An application committed a change with its row of the outbox.
    case written(at: ServerID, row: Int64, change: SimulatedChange)
    /// Numbers of a stream were given.
    case numbered(stream: StreamID, first: Int64, count: Int)
    /// A record was carried out on business tables.
    case applied(at: ServerID, stream: StreamID, synID: Int64, entity: EntityID, token: Int)
    /// A handler refused a record, whether or not that came to count.
    case refused(at: ServerID, token: Int)
    /// The row that keeps a record which was not simply applied.
    case memo(SimulatedMemo)
    /// A record got a place in the log.
    case appended(type: BusinessTypeID, place: Int64, audience: Audience, entity: EntityID, token: Int, isDeletion: Bool, isEcho: Bool)
    /// A server stored the version of an entity.
    case raised(at: ServerID, entity: EntityID, version: Int64)
    /// A receiver's position moved. `session` is what the request was sent under, at the cloud.
    case moved(at: ServerID, from: ServerID, epoch: Int32, type: BusinessTypeID, number: Int64, to: Int64, session: Int64?)
    /// A session of a branch was opened at the cloud, by which machine, as that calls itself; nil where the cloud alone ended one. `age` is the
    /// running time that the cloud's database had last counted, in milliseconds.
    case opened(branch: ServerID, session: Int64, host: String? = nil, age: Int64 = 0)
    /// A branch that was suspended was readmitted by a person.
    case readmitted(branch: ServerID)
    /// A process took over the database of a branch.
    case tookOver(branch: ServerID, process: Int)
    /// A process wrote as the agent of a branch.
    case wroteAsAgent(branch: ServerID, process: Int)
    /// What a sender wrote into a row of its outbox about what became of it.
    case settled(at: ServerID, row: Int64, type: BusinessTypeID, synID: Int64, state: OutboxState, attempts: Int, reason: ReasonCode)
    /// The cloud handed out a place of its log.
    case handedOut(to: ServerID, type: BusinessTypeID, place: Int64, audience: Audience)
    /// A branch pushed so many records in one request, or was handed so many.
    case carried(branch: ServerID, records: Int)
    /// The system of a server does not take a type for a while.
    case brokeDown(at: ServerID, type: BusinessTypeID)
    /// The cloud said that its system does not take a type.
    case stopped(branch: ServerID, type: BusinessTypeID)
    /// Somebody added up the accounts between which transfers are made.
    case summed(at: ServerID, Int)
    /// A unit went on after its database had refused a statement, and was committed.
    case committedAfterError(at: ServerID)
    /// A process wrote down that it begins with one record alone.
    case begunAlone(at: ServerID, line: String, epoch: Int32, number: Int64, tries: Int, process: Int)
    /// A process was killed, or stood still for so long that its database took it for dead.
    case gone(process: Int)
    /// A cycle of an agent failed, for what reason.
    case failed(branch: ServerID, String)
    /// Something was done to the fleet.
    case fault(String)
}

/// What an application changed.
public struct SimulatedChange: Hashable, Sendable {
    public var type: BusinessTypeID
    public var scope: ServerID
    public var key: EntityKey
    public var target: ServerID
    /// Tells this change from every other.
    public var token: Int
    public var isDeletion: Bool
    public var uid: RecordUID

    public init(
        type: BusinessTypeID, scope: ServerID, key: EntityKey, target: ServerID = .cloud, token: Int, isDeletion: Bool = false,
        uid: RecordUID = .void
    ) {
        self.uid = uid
        self.type = type
        self.scope = scope
        self.key = key
        self.target = target
        self.token = token
        self.isDeletion = isDeletion
    }

    public var entity: EntityID { EntityID(type: self.type, scope: self.scope, key: self.key) }
}

/// How a record stands that a receiver did not simply apply.
public struct SimulatedMemo: Hashable, Sendable {
    public var at: ServerID
    public var line: MemoLine
    public var number: Int64
    /// The record's number at its origin.
    public var stream: StreamID
    public var synID: Int64
    public var entity: EntityID
    public var disposition: Disposition
    public var reason: ReasonCode
    public var attempts: Int

    public init(
        at: ServerID, line: MemoLine, number: Int64, stream: StreamID, synID: Int64, entity: EntityID, disposition: Disposition,
        reason: ReasonCode, attempts: Int
    ) {
        self.at = at
        self.line = line
        self.number = number
        self.stream = stream
        self.synID = synID
        self.entity = entity
        self.disposition = disposition
        self.reason = reason
        self.attempts = attempts
    }
}

/// What a simulated fleet wrote down, in order.
public final class SimulationLog: @unchecked Sendable {  // on the one thread of the simulation
    public private(set) var events: [SimulationEvent] = []
    public private(set) var faults = 0

    public init() {}

    func append(_ event: SimulationEvent) { self.events.append(event) }

    func fault(_ what: String) {
        self.faults += 1
        self.events.append(.fault(what))
    }

    func clear() { self.events = [] }
}
