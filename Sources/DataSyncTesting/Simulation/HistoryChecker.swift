public import DataSync

/// What a simulated fleet holds when it has come to rest.
public struct SimulatedRest: Hashable, Sendable {
    public struct Row: Hashable, Sendable {
        public var id: Int64
        public var type: BusinessTypeID
        public var synID: Int64
        public var state: OutboxState
        public var reason: ReasonCode

        public init(id: Int64, type: BusinessTypeID, synID: Int64, state: OutboxState, reason: ReasonCode = .none) {
            self.id = id
            self.type = type
            self.synID = synID
            self.state = state
            self.reason = reason
        }
    }

    public var branches: [ServerID]
    /// Server, table, row.
    public var tables: [ServerID: [String: [String: String]]]
    public var outbox: [ServerID: [Row]]

    public init(branches: [ServerID], tables: [ServerID: [String: [String: String]]] = [:], outbox: [ServerID: [Row]] = [:]) {
        self.branches = branches
        self.tables = tables
        self.outbox = outbox
    }
}

/// Verifies the promises over the history of a fleet. A value: events go in, what they violate comes out.
public struct HistoryChecker: Sendable {
    public enum Invariant: String, Hashable, Sendable {
        case noLoss = "I1 no loss"
        case noPhantom = "I2 no phantom"
        case effectOnce = "I3 effect once"
        case truthfulSettle = "I4 truthful settle"
        case deadMeansThree = "I5 dead means three"
        case notCounted = "I6 not counted"
        case entityOrder = "I7 entity order"
        case convergence = "I8 convergence"
        case position = "I10 position"
        case dense = "I11 dense"
        case logOrder = "I12 log order"
        case oneSession = "I13 one session"
        case clones = "suspected clones are suspended"
        case epochFence = "I14 epoch fence"
        case clockFree = "I15 clock-free"
        case poisonIsolation = "I16 poison isolation"
        case tenantIsolation = "I17 tenant isolation"
        case bounded = "I18 bounded"
        case quiet = "I19 quiet is quiet"
        case liveness = "I23 liveness"
        case conservation = "I25 conservation"
        case determinism = "I26 determinism"
        case rollback = "a unit whose database refused something is rolled back"
    }

    public struct Violation: Hashable, Sendable, CustomStringConvertible {
        public var invariant: Invariant
        public var detail: String

        public init(_ invariant: Invariant, _ detail: String) {
            self.invariant = invariant
            self.detail = detail
        }

        public var description: String { "\(self.invariant.rawValue): \(self.detail)" }
    }

    private struct Number: Hashable {
        var stream: StreamID
        var synID: Int64
    }

    private struct Place {
        var place: Int64
        var audience: Audience
        var token: Int
        var isDeletion: Bool
        var isEcho: Bool
    }

    private struct Held: Hashable { var at: ServerID; var line: MemoLine; var number: Int64 }
    private struct At<Value: Hashable & Sendable>: Hashable, Sendable { var server: ServerID; var value: Value }
    private struct Line: Hashable { var at: ServerID; var from: ServerID; var epoch: Int32; var type: BusinessTypeID }

    private let kinds: [BusinessTypeID: BusinessTypeDefinition]
    private let limits: SyncLimits
    public private(set) var violations: [Violation] = []
    private var changes: [Int: (server: ServerID, row: Int64, change: SimulatedChange)] = [:]
    private var tokenOfRow: [At<Int64>: Int] = [:]
    private var lastNumbers: [StreamID: Int64] = [:]
    /// How often each record was carried out at each server.
    private var effects: [At<Number>: Int] = [:]
    private var lastApplied: [At<EntityID>: [ServerID: Int64]] = [:]
    private var refusals: [At<Int>: Int] = [:]
    /// By the server that refused it most often.
    private var mostRefusals: [Int: Int] = [:]
    /// What was begun with alone, by the server and the line and the record in it.
    private var loneTries: [At<LoneRecord>: (tries: Int, process: Int)] = [:]
    /// Lines of a server in which something was.
    private var loneLines: Set<At<String>> = []
    /// Processes that did not go on with what they had begun with.
    private var gone: Set<Int> = []
    private var memos: [Held: SimulatedMemo] = [:]
    private var log: [EntityID: [Place]] = [:]
    private var lastPlaces: [BusinessTypeID: Int64] = [:]
    private var versions: [At<EntityID>: Int64] = [:]
    private var positions: [Line: Int64] = [:]
    private var sessions: [ServerID: Int64] = [:]
    private var agents: [ServerID: Int] = [:]
    /// The newest epoch that the cloud has received of each branch.
    private var epochs: [ServerID: Int32] = [:]
    /// Types that the system of a server did not take at some time.
    private var broken: Set<At<BusinessTypeID>> = []
    private var places: [Located: Logged] = [:]
    /// The first place of each change in the log.
    private var firstPlaces: [Int: Int64] = [:]
    /// What applications of the branches changed and the cloud has not settled, as far as they know: by the row of the outbox.
    private var unsettled: [At<EntityID>: [Int64: SimulatedChange]] = [:]
    private var applied: Set<At<Int>> = []
    /// The entities whose rows are there.
    private var rows: Set<At<EntityID>> = []
    /// Those of which applications have made a row where none was, and the cloud has not decided about it.
    private var newRows: Set<At<EntityID>> = []
    private var open: [Quota: Int] = [:]
    /// Of whom a type has had records of which it was open whether they or the system are at fault.
    private var suspected: Set<Quota> = []

    private struct LoneRecord: Hashable { var line: String; var epoch: Int32; var number: Int64 }
    private struct Located: Hashable { var type: BusinessTypeID; var place: Int64 }
    private struct Logged { var audience: Audience; var entity: EntityID; var token: Int; var isEcho: Bool }
    private struct Quota: Hashable { var at: ServerID; var sender: ServerID; var type: BusinessTypeID }

    public init(_ definitions: [BusinessTypeDefinition], _ limits: SyncLimits = SyncLimits()) {
        self.kinds = Dictionary(uniqueKeysWithValues: definitions.map { ($0.id, $0) })
        self.limits = limits
    }

    private mutating func violate(_ invariant: Invariant, _ detail: String) {
        if self.violations.count < 20 { self.violations.append(Violation(invariant, detail)) }
    }

    public mutating func add(_ violation: Violation) { self.violate(violation.invariant, violation.detail) }

    private func isState(_ type: BusinessTypeID) -> Bool { self.kinds[type]?.kind == .state }

    // MARK: - While it runs

    public mutating func take(_ event: SimulationEvent) {
        switch event {
        case .written(let server, let row, let change):
            self.changes[change.token] = (server, row, change)
            self.tokenOfRow[At(server: server, value: row)] = change.token
            let entity = At(server: server, value: change.entity)
            if server.isBranch { self.unsettled[entity, default: [:]][row] = change }
            if change.isDeletion {
                self.rows.remove(entity)
            } else if self.rows.insert(entity).inserted {
                self.newRows.insert(entity)
            }
        case .numbered(let stream, let first, let count):
            let last = self.lastNumbers[stream] ?? 0
            if first != last + 1 { self.violate(.dense, "\(stream) goes from \(last) to \(first)") }
            self.lastNumbers[stream] = first + Int64(count) - 1
        case .applied(let server, let stream, let synID, let entity, let token):
            self.take(applied: token, of: entity, Number(stream: stream, synID: synID), at: server)
        case .refused(let server, let token):
            let count = (self.refusals[At(server: server, value: token)] ?? 0) + 1
            self.refusals[At(server: server, value: token)] = count
            self.mostRefusals[token] = max(count, self.mostRefusals[token] ?? 0)
        case .memo(let memo): self.take(memo)
        case .appended(let type, let place, let audience, let entity, let token, let isDeletion, let isEcho):
            let last = self.lastPlaces[type] ?? 0
            if place != last + 1 { self.violate(.logOrder, "type \(type) goes from place \(last) to \(place)") }
            self.lastPlaces[type] = max(place, last)
            self.places[Located(type: type, place: place)] = Logged(audience: audience, entity: entity, token: token, isEcho: isEcho)
            if !isEcho, self.firstPlaces[token] == nil { self.firstPlaces[token] = place }
            self.log[entity, default: []].append(Place(place: place, audience: audience, token: token, isDeletion: isDeletion, isEcho: isEcho))
        case .raised(let server, let entity, let version):
            let known = self.versions[At(server: server, value: entity)] ?? 0
            if version <= known { self.violate(.entityOrder, "\(entity) at \(server) goes from version \(known) to \(version)") }
            self.versions[At(server: server, value: entity)] = version
        case .moved(let server, let from, let epoch, let type, let number, let to, let session):
            let line = Line(at: server, from: from, epoch: epoch, type: type)
            let known = self.positions[line] ?? 0
            if number != known || to < number { self.violate(.position, "\(line) stood at \(known) and is moved from \(number) to \(to)") }
            self.positions[line] = to
            if server.isBranch, from.isCloud, number < to { self.checkSuperseded(number + 1...to, of: type, epoch, at: server) }
            if server.isCloud {
                if epoch < self.epochs[from] ?? 0 { self.violate(.epochFence, "epoch \(epoch) of \(from) goes on after \(self.epochs[from] ?? 0)") }
                self.epochs[from] = max(epoch, self.epochs[from] ?? 0)
            }
            if server.isCloud, let session, session != self.sessions[from] {
                self.violate(.oneSession, "branch \(from) wrote under session \(session), the newest is \(self.sessions[from] ?? 0)")
            }
        case .opened(let branch, let session, _, _): self.sessions[branch] = session
        case .tookOver(let branch, let process): self.agents[branch] = process
        case .wroteAsAgent(let branch, let process):
            if let newest = self.agents[branch], newest != process {
                self.violate(.oneSession, "process \(process) wrote as the agent of \(branch) after \(newest) had taken over")
            }
        case .committedAfterError(let server): self.violate(.rollback, "at \(server)")
        case .settled(let server, let row, let type, let synID, let state, let attempts, let reason):
            self.take(settled: row, type, synID, state, attempts, reason, at: server)
        case .handedOut(let branch, let type, let place, let audience):
            let written = self.places[Located(type: type, place: place)]?.audience
            if written != audience || !audience.contains(branch) {
                self.violate(.tenantIsolation, "place \(place) of type \(type), for \(written ?? audience), was handed to \(branch)")
            }
        case .carried(let branch, let records):
            if records > self.limits.batchRecordsMax { self.violate(.bounded, "\(records) records in one message of \(branch)") }
        case .brokeDown(let server, let type): self.broken.insert(At(server: server, value: type))
        case .stopped(let branch, let type):
            // Where many are refused alike and none passes, nobody can tell.
            let isSuspect = self.suspected.contains(Quota(at: .cloud, sender: branch, type: type))
            // A replica leaves it alone while another may be at work on a record of it alone.
            let isBegun = self.loneLines.contains(At(server: .cloud, value: "lone.\(branch).\(type)"))
            if !isSuspect, !isBegun, !self.broken.contains(At(server: .cloud, value: type)) {
                self.violate(.poisonIsolation, "type \(type) was stopped for \(branch), and nothing but records was at fault")
            }
        case .summed(let server, let sum): if sum != 0 { self.violate(.conservation, "the accounts at \(server) add up to \(sum)") }
        case .begunAlone(let server, let line, let epoch, let number, let tries, let process):
            self.take(begunAlone: At(server: server, value: LoneRecord(line: line, epoch: epoch, number: number)), tries, by: process)
        case .gone(let process): self.gone.insert(process)
        case .failed, .readmitted, .fault: break
        }
    }

    private mutating func take(
        settled row: Int64, _ type: BusinessTypeID, _ synID: Int64, _ state: OutboxState, _ attempts: Int, _ reason: ReasonCode, at server: ServerID
    ) {
        guard let token = self.tokenOfRow[At(server: server, value: row)] else { return }
        if state == .settled, let change = self.changes[token]?.change {
            let entity = At(server: server, value: change.entity)
            self.unsettled[entity]?[row] = nil
            self.newRows.remove(entity)
        }
        if server.isBranch, state == .settled, reason == .applied,
            self.effects[At(server: .cloud, value: Number(stream: StreamID(origin: server, epoch: 1, type: type), synID: synID))] == nil
        {
            self.violate(.truthfulSettle, "row \(row) of \(server), change \(token), is settled as applied, and the cloud has not applied it")
        }
        let refusals = self.mostRefusals[token] ?? 0
        if attempts > refusals, reason != .forbidden, reason != .crashSuspect {
            self.violate(.notCounted, "row \(row) of \(server), change \(token), shows \(attempts) refusals of \(refusals)")
        }
    }

    /// What a branch reads and does not apply must be older than what it has, or than a change of its own that comes later in the log.
    private mutating func checkSuperseded(_ places: ClosedRange<Int64>, of type: BusinessTypeID, _ epoch: Int32, at branch: ServerID) {
        guard self.isState(type) else { return }
        for place in places {
            guard let record = self.places[Located(type: type, place: place)], record.audience.contains(branch),
                record.isEcho || self.changes[record.token]?.server != branch, !self.applied.contains(At(server: branch, value: record.token)),
                self.memos[Held(at: branch, line: MemoLine(receiver: branch, sender: .cloud, epoch: epoch, type: type), number: place)] == nil
            else { continue }
            let key = At(server: branch, value: record.entity)
            let isOlder = self.versions[key] ?? 0 > place
            let isOvertaken = (self.unsettled[key] ?? [:]).values.contains { self.firstPlaces[$0.token] ?? .max > place }
            if !isOlder, !isOvertaken {
                self.violate(.position, "place \(place) of type \(type), a change of \(record.entity), is passed over at \(branch) for nothing later")
            }
        }
    }

    private mutating func take(applied token: Int, of entity: EntityID, _ number: Number, at server: ServerID) {
        if let written = self.changes[token] {
            if written.server != number.stream.origin || written.change.entity.key != entity.key || written.change.type != entity.type {
                self.violate(.noPhantom, "change \(token) of \(entity) is applied at \(server) as another than was written")
            }
        } else {
            self.violate(.noPhantom, "change \(token) of \(entity) is applied at \(server) and was never committed")
        }
        let origin = number.stream.origin
        if origin.isBranch, self.kinds[entity.type]?.route.isScopedByHome ?? false, entity.scope != origin {
            self.violate(.tenantIsolation, "\(origin) wrote \(entity) at \(server)")
        }
        self.effects[At(server: server, value: number), default: 0] += 1
        let isState = self.isState(entity.type)
        if self.effects[At(server: server, value: number)] ?? 0 > 1, server.isCloud || !isState {
            self.violate(.effectOnce, "change \(token) of \(entity), \(number.synID) of \(number.stream), took effect twice at \(server)")
        }
        let key = At(server: server, value: entity)
        self.applied.insert(At(server: server, value: token))
        // To delete what is not there takes no lock, so either may have been committed after the look: theirs, which is looked for, or
        // ours, which has changed nothing.
        let isDeletion = self.changes[token]?.change.isDeletion ?? false
        let hasFoundNothing = isDeletion && self.newRows.contains(key)
        if !hasFoundNothing {
            if isDeletion { self.rows.remove(key) } else { self.rows.insert(key) }
            self.newRows.remove(key)
        }
        if isState, !hasFoundNothing, let own = self.unsettled[key]?.values.first(where: { !$0.isDeletion && $0.token != token }) {
            self.violate(.entityOrder, "change \(token) of \(entity) is applied at \(server) over \(own.token), which the cloud has not decided about")
        }
        if server.isCloud {
            let last = self.lastApplied[key]?[number.stream.origin] ?? 0
            if number.synID <= last { self.violate(.entityOrder, "\(entity) at the cloud: number \(number.synID) of \(number.stream) after \(last)") }
            self.lastApplied[key, default: [:]][number.stream.origin] = number.synID
        } else if isState, let version = self.versions[key], let newest = self.log[entity]?.last(where: { $0.token == token })?.place, newest < version {
            self.violate(.entityOrder, "\(entity) at \(server): place \(newest) is applied over version \(version)")
        }
    }

    /// A try counts where the process that began it is gone; at a branch also where another has taken its place.
    private mutating func take(begunAlone record: At<LoneRecord>, _ tries: Int, by process: Int) {
        if let last = self.loneTries[record], tries > last.tries, !self.isGone(last.process, from: record.server, since: process) {
            self.violate(.notCounted, "process \(last.process) is still at work at \(record.server) on \(record.value), and counts as ended by it")
        }
        self.loneTries[record] = (tries, process)
        self.loneLines.insert(At(server: record.server, value: record.value.line))
        self.gone.remove(process)
    }

    private func isGone(_ process: Int, from server: ServerID, since other: Int? = nil) -> Bool {
        self.gone.contains(process) || (server.isBranch && (other ?? self.agents[server]) != process)
    }

    /// Whether three processes one after the other have not come back from this record.
    private func isGivenUp(_ memo: SimulatedMemo) -> Bool {
        let record = LoneRecord(line: "lone.\(memo.line.sender).\(memo.line.type)", epoch: memo.line.epoch, number: memo.number)
        guard memo.reason == .crashSuspect, let last = self.loneTries[At(server: memo.at, value: record)] else { return false }
        return last.tries >= 3 && self.isGone(last.process, from: memo.at)
    }

    private mutating func take(_ memo: SimulatedMemo) {
        let held = Held(at: memo.at, line: memo.line, number: memo.number)
        let before = self.memos[held]
        self.memos[held] = memo
        // Its receiver decides; the others hear of it.
        guard memo.at == memo.line.receiver, memo.at != memo.line.sender else { return }
        let quota = Quota(at: memo.at, sender: memo.line.sender, type: memo.line.type)
        let change = (memo.disposition.isOpen ? 1 : 0) - (before.map { $0.disposition.isOpen ? 1 : 0 } ?? 0)
        self.open[quota, default: 0] += change
        if memo.disposition == .suspect { self.suspected.insert(quota) }
        if change > 0, self.open[quota] ?? 0 > self.limits.openRecordsMax {
            self.violate(.bounded, "\(self.open[quota] ?? 0) records of \(memo.line.sender), type \(memo.line.type), wait at \(memo.at)")
        }
        let isAtOnce = [.tooBig, .damaged, .unsendable].contains(memo.reason)
        if memo.attempts > (before?.attempts ?? 0) + 1, !self.isGivenUp(memo) {
            self.violate(.deadMeansThree, "\(memo) was counted twice at once")
        }
        if memo.disposition == .suspect, memo.attempts > 0 { self.violate(.notCounted, "\(memo) is a suspect, and counted") }
        if let before, before.disposition.isSettled, memo.disposition != before.disposition {
            self.violate(.effectOnce, "\(memo) was \(before.disposition.name) before")
        }
        if memo.disposition == .dead, memo.attempts != Outcome.attemptsMax, !isAtOnce {
            self.violate(.deadMeansThree, "\(memo) is dead after \(memo.attempts)")
        }
        if memo.disposition.isOpen, memo.attempts >= Outcome.attemptsMax {
            self.violate(.deadMeansThree, "\(memo) is alive after \(memo.attempts)")
        }
    }

    // MARK: - At the end

    /// Verifies what must hold when all faults have ended and nothing is left to do.
    public mutating func finish(_ rest: SimulatedRest) {
        var numbers: [Number: Int] = [:]
        for (server, rows) in rest.outbox.sorted(by: { $0.key < $1.key }) {
            for row in rows {
                guard let token = self.tokenOfRow[At(server: server, value: row.id)] else { continue }
                if row.state != .settled { self.violate(.noLoss, "row \(row.id) of \(server), change \(token), is \(row.state)") }
                if row.synID == 0, row.reason == .superseded {
                    self.checkOvertaken(row, token, rows, at: server)
                    continue
                }
                numbers[Number(stream: StreamID(origin: server, epoch: 1, type: row.type), synID: row.synID)] = token
            }
        }
        self.checkCounts(numbers)
        self.checkPositions(numbers)
        self.checkStates(rest, numbers)
        self.checkActions(rest, numbers)
        for (server, tables) in rest.tables.sorted(by: { $0.key < $1.key }) {
            let sum = (tables[SimulatedType.balances] ?? [:]).values.compactMap { Int($0) }.reduce(0, +)
            if sum != 0 { self.violate(.conservation, "in the end the accounts at \(server) add up to \(sum)") }
        }
    }

    /// A row may end without a number where a later state of its entity was numbered before it was there.
    private mutating func checkOvertaken(_ row: SimulatedRest.Row, _ token: Int, _ rows: [SimulatedRest.Row], at server: ServerID) {
        let change = self.changes[token]?.change
        let hasLater = rows.contains { later in
            guard later.id > row.id, later.synID > 0, let other = self.tokenOfRow[At(server: server, value: later.id)] else { return false }
            return self.changes[other]?.change.entity == change?.entity
        }
        if !hasLater || !self.isState(row.type) { self.violate(.noLoss, "row \(row.id) of \(server), change \(token), was overtaken by nothing") }
    }

    private mutating func checkCounts(_ numbers: [Number: Int]) {
        for (held, memo) in self.memos.sorted(by: { $0.key.number < $1.key.number }) where held.at == memo.line.receiver && memo.at != memo.line.sender {
            if memo.disposition.isOpen { self.violate(.noLoss, "\(memo) is still open") }
            guard memo.attempts > 0, memo.reason != .forbidden, let token = numbers[Number(stream: memo.stream, synID: memo.synID)] else { continue }
            let refusals = self.refusals[At(server: memo.at, value: token)] ?? 0
            if refusals < memo.attempts, memo.reason != .crashSuspect {
                self.violate(.notCounted, "\(memo) was counted \(memo.attempts) times, refused \(refusals) times")
            }
        }
    }

    /// Whether `server` holds a record as dead.
    private func dead(at server: ServerID) -> Set<Number> {
        Set(
            self.memos.values.filter { $0.at == server && $0.line.receiver == server && $0.disposition == .dead }.map {
                Number(stream: $0.stream, synID: $0.synID)
            })
    }

    private mutating func checkPositions(_ numbers: [Number: Int]) {
        let held = Set(self.memos.values.filter { $0.at.isCloud && $0.line.receiver.isCloud }.map { Number(stream: $0.stream, synID: $0.synID) })
        for (line, position) in self.positions.sorted(by: { ($0.key.from, $0.key.type) < ($1.key.from, $1.key.type) }) where line.at.isCloud && position > 0 {
            let stream = StreamID(origin: line.from, epoch: line.epoch, type: line.type)
            for synID in 1...position {
                let number = Number(stream: stream, synID: synID)
                if self.effects[At(server: .cloud, value: number)] == nil, !held.contains(number) {
                    self.violate(.position, "number \(synID) of \(stream) is below the position, and nothing became of it")
                }
            }
            if position != self.lastNumbers[stream] ?? 0 { self.violate(.noLoss, "\(stream) stands at \(position) of \(self.lastNumbers[stream] ?? 0)") }
        }
    }

    private mutating func checkStates(_ rest: SimulatedRest, _ numbers: [Number: Int]) {
        let tokens = Dictionary(numbers.map { ($1, $0) }) { first, _ in first }
        for (entity, places) in self.log.sorted(by: { $0.key < $1.key }) where self.isState(entity.type) {
            // A correction repeats a record for one server.
            guard let last = places.last(where: { !$0.isEcho }), let definition = self.kinds[entity.type] else { continue }
            let expected = last.isDeletion ? nil : String(last.token)
            var entitled: [ServerID] = [.cloud]
            // Nobody loses sight of an entity here, so whoever was told of it is told of its end.
            for branch in rest.branches where places.contains(where: { !$0.isEcho && $0.audience.contains(branch) }) { entitled.append(branch) }
            for server in entitled {
                let found = rest.tables[server]?[definition.name]?[SimulatedType.row(of: entity)]
                if found == expected { continue }
                // A record that is dead here, or that was this server's and is dead at the cloud and came before the log's first.
                if let number = tokens[last.token], self.dead(at: server).contains(number) { continue }
                self.violate(
                    .convergence, "\(definition.name) \(entity.scope)/\(entity.key) at \(server) is \(found ?? "absent"), the log says \(expected ?? "absent")")
            }
        }
        self.checkStatesWithoutLog(rest, numbers)
    }

    /// What goes up only: the cloud holds the last record of each entity that was applied.
    private mutating func checkStatesWithoutLog(_ rest: SimulatedRest, _ numbers: [Number: Int]) {
        var last: [EntityID: (number: Number, change: SimulatedChange)] = [:]
        for (number, token) in numbers where self.kinds[number.stream.type]?.route == .up && self.effects[At(server: .cloud, value: number)] != nil {
            guard let change = self.changes[token]?.change else { continue }
            if let known = last[change.entity], known.number.synID > number.synID { continue }
            last[change.entity] = (number, change)
        }
        for (entity, known) in last.sorted(by: { $0.key < $1.key }) {
            let expected = known.change.isDeletion ? nil : String(known.change.token)
            let found = rest.tables[.cloud]?[self.kinds[entity.type]?.name ?? ""]?[SimulatedType.row(of: entity)]
            if found != expected { self.violate(.convergence, "\(entity) at the cloud is \(found ?? "absent"), the last record says \(expected ?? "absent")") }
        }
    }

    /// Whether three runs of one seed were one: as it is, again, and with all clocks shifted.
    public static func violations(of report: SimulationReport, again: SimulationReport, shifted: SimulationReport) -> [Violation] {
        var violations: [Violation] = []
        if again.digest != report.digest || again.events != report.events || again.rest != report.rest {
            violations.append(Violation(.determinism, "the same seed was another run the second time"))
        }
        if shifted.digest != report.digest || shifted.rest != report.rest {
            violations.append(Violation(.clockFree, "with all clocks shifted the run is another one"))
        }
        return violations + again.violations + shifted.violations
    }

    private mutating func checkActions(_ rest: SimulatedRest, _ numbers: [Number: Int]) {
        for (number, token) in numbers.sorted(by: { $0.value < $1.value }) {
            guard let definition = self.kinds[number.stream.type], let change = self.changes[token]?.change else { continue }
            let deadAtCloud = self.dead(at: .cloud).contains(number)
            if definition.kind == .state {
                if number.stream.origin.isBranch, self.effects[At(server: .cloud, value: number)] == nil, !deadAtCloud {
                    self.violate(.noLoss, "change \(token) of \(change.entity) neither took effect at the cloud nor is dead there")
                }
                continue
            }
            for server in [.cloud] + rest.branches {
                let row = SimulatedType.row(of: change.entity, action: token)
                let count = rest.tables[server]?[definition.name]?[row].flatMap { Int($0) } ?? 0
                let isDead = server != number.stream.origin && (deadAtCloud || self.dead(at: server).contains(number))
                let expected = isDead ? 0 : 1
                if count > expected { self.violate(.effectOnce, "action \(token) of \(change.entity) counts \(count) at \(server)") }
                if count < expected { self.violate(.noLoss, "action \(token) of \(change.entity) does not count at \(server)") }
            }
        }
    }
}
