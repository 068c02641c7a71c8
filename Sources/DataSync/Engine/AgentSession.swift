/// What an agent knows while one session lasts: what both sides agree on, and how far each own stream is.
///
/// All of it is told anew when a session is opened, so none of it needs to survive the process.
struct AgentSession: Sendable {
    let id: SessionID
    let logEpoch: Int32
    /// The largest payload that the cloud takes.
    let peerRecordBytesMax: Int
    /// In running time.
    var openedAt: Duration = .zero
    /// Types that one side does not know, or that mean different things on the two sides.
    private(set) var unsupported: Set<BusinessTypeID> = []
    private let received: [BusinessTypeID: Position]
    private var streams: [BusinessTypeID: OutboundStream] = [:]
    /// Types that the cloud does not take at present, until some running time.
    private var held: [BusinessTypeID: Duration] = [:]
    /// Why types did not flow, for the operator.
    private var reasons: [BusinessTypeID: String] = [:]

    init(_ answer: OpenAnswer) {
        self.id = answer.session
        self.logEpoch = answer.logEpoch
        self.peerRecordBytesMax = answer.recordBytesMax
        self.received = answer.positions
    }

    /// Compares what both sides mean by each type.
    /// - Returns: A sentence for the operator for each type of ours that cannot flow.
    mutating func compare(_ own: [BusinessTypeDefinition], with peer: [TypeSummary]) -> [String] {
        let byID = Dictionary(peer.map { ($0.id, $0) }) { first, _ in first }
        return own.map(TypeSummary.init).compactMap { mine in
            guard let theirs = byID[mine.id] else {
                self.unsupported.insert(mine.id)
                self.explain(mine.id, "not configured at the cloud")
                return "type \(mine.id) '\(mine.name)' is not configured at the cloud"
            }
            guard theirs != mine else { return nil }
            self.unsupported.insert(mine.id)
            self.explain(mine.id, "has another name, kind or route at the cloud")
            return "type \(mine.id) is '\(mine.name)' (\(mine.kind.rawValue), \(mine.route.rawValue)) here and "
                + "'\(theirs.name)' (\(theirs.kind.rawValue), \(theirs.route.rawValue)) at the cloud"
        }
    }

    // MARK: - Own streams

    /// The stream of `type`, if this session has sent of it or asked where it stands.
    func stream(_ type: BusinessTypeID) -> OutboundStream? { self.streams[type] }

    /// Begins to follow a stream whose first unsettled number is `first`.
    mutating func follow(_ type: BusinessTypeID, first: Int64) {
        guard self.streams[type] == nil else { return }
        self.streams[type] = OutboundStream(answered: first - 1, received: self.received[type]?.number ?? 0)
    }

    mutating func handOver(_ type: BusinessTypeID, through number: Int64) { self.streams[type]?.handOver(through: number) }

    mutating func takeAnswer(_ type: BusinessTypeID, first: Int64, last: Int64, count: Int) {
        self.streams[type]?.takeAnswer(first: first, last: last, count: count)
    }

    /// No answer came, or none that can be believed: whatever was handed over and not answered is sent again.
    mutating func loseAnswers() {
        for type in self.streams.keys { self.streams[type]?.loseAnswer() }
    }

    /// Whether rows of `type` may have reached the cloud of which nobody knows what became (rule 3).
    func isUnknown(_ type: BusinessTypeID) -> Bool { !PlantedBug.isOn(.noRule3) && self.streams[type]?.isUnknown ?? false }

    /// Whether copies of requests of this session may still bring the cloud rows that it was not seen to take in.
    var mayArriveLate: Bool { self.streams.values.contains { $0.mayArriveLate } }

    // MARK: - Types that wait

    /// Goes on with what `older` knew of types that wait: that the session is a new one changes nothing in it.
    mutating func carryOver(_ older: AgentSession) {
        self.unsupported.formUnion(older.unsupported)
        self.held.merge(older.held) { max($0, $1) }
        self.reasons.merge(older.reasons) { $1 }
    }

    mutating func hold(_ type: BusinessTypeID, until time: Duration) { self.held[type] = time }
    mutating func markUnsupported(_ type: BusinessTypeID) { self.unsupported.insert(type) }
    mutating func explain(_ type: BusinessTypeID, _ reason: String) { self.reasons[type] = reason }

    /// The types that the cloud does not take at `time`, and why.
    func stopped(at time: Duration) -> [BusinessTypeID: String] { self.reasons.filter { !self.maySend($0.key, at: time) } }

    /// Whether rows of `type` may be sent now.
    func maySend(_ type: BusinessTypeID, at time: Duration) -> Bool {
        !self.unsupported.contains(type) && (self.held[type] ?? .zero) <= time
    }
}
