import DataSync
import DataSyncSQL
import DataSyncTesting
import Logging
import Synchronization
import Testing

/// A cloud and two branches, each on a database of its own on the real server, whose applications have transactions open while the
/// agents and the hub work.
struct WriterCompany: Sendable {
    static let servers: [ServerID] = [.cloud, 1, 2]

    let hub: Hub<SQLStorage>
    private(set) var agents: [ServerID: Agent<SQLStorage, LossyTransport>] = [:]
    private let sites: [ServerID: Site]
    private let time: WriterTime
    private let limits: SyncLimits

    /// What belongs to one server.
    private struct Site: Sendable {
        let bench: Bench
        let gate = Gate()
        let link = LossyTransport.Link()
        let types: [any RecordHandler<SQLTransaction>]

        init() async throws {
            let bench = try await Bench(.mariadb, isMigrated: true, isPatient: true)
            try await bench.run(
                "create table product (id bigint not null primary key, name varchar(80) not null)",
                "create table label (id bigint not null primary key, name varchar(80))")
            let product = TypeMapping(
                definition: BusinessTypeDefinition(id: WriterTable.product.type, name: "product", priority: 10, route: .all),
                root: TableMapping(table: "product", key: [ColumnMapping("id")], columns: [ColumnMapping("name")]))
            self.bench = bench
            self.types = [GatedHandler(base: try await bench.type(product), gate: self.gate), GatedHandler(base: LabelType(), gate: self.gate)]
        }
    }

    init(seed: UInt64 = 1) async throws {
        self.time = WriterTime(seed: seed)
        var limits = SyncLimits()
        limits.retryDelays = [.zero, .zero]
        self.limits = limits
        var sites: [ServerID: Site] = [:]
        for server in Self.servers { sites[server] = try await Site() }
        self.sites = sites
        for (server, site) in sites {
            try await site.bench.storage.withTransaction { transaction in
                for known in server.isCloud ? Self.servers : [server] {
                    try await transaction.insertServer(ServerRow(id: known, name: "s\(known)", status: .active))
                }
            }
        }
        let cloud = sites[.cloud]!
        self.hub = try Hub(storage: cloud.bench.storage, types: cloud.types, limits: limits, environment: self.time.environment, logger: .silent)
        for branch in Self.servers where branch.isBranch { try self.start(branch) }
    }

    /// Starts the agent of a branch, as a new process would: it remembers nothing.
    mutating func start(_ branch: ServerID) throws {
        let site = self.sites[branch]!
        self.agents[branch] = try Agent(
            server: branch, storage: site.bench.storage,
            transport: LossyTransport(base: InMemoryTransport(hub: self.hub, branch: branch), link: site.link), types: site.types,
            limits: self.limits, environment: self.time.environment, logger: .silent)
    }

    func gate(_ server: ServerID) -> Gate { self.sites[server]!.gate }
    func link(_ branch: ServerID) -> LossyTransport.Link { self.sites[branch]!.link }

    // MARK: - What applications do

    /// Lends an application's connection of its own, which is rolled back and closed afterwards.
    func withWriter<Result: Sendable>(at server: ServerID, _ body: (Writer) async throws -> Result) async throws -> Result {
        let connection = try await self.sites[server]!.bench.database.connect()
        do {
            let result = try await body(Writer(connection))
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }

    /// A whole transaction of an application.
    func write(_ action: WriterAction, at server: ServerID, _ order: WriteOrder = .businessFirst) async throws {
        try await self.withWriter(at: server) { writer in
            try await writer.begin()
            try await writer.carryOut(action, order)
            try await writer.commit()
        }
    }

    /// Carries out `action` in a transaction, begins `work`, and commits when it waits for that transaction.
    func whileItWaits<Result: Sendable>(
        for action: WriterAction, _ order: WriteOrder = .businessFirst, at server: ServerID, _ work: @Sendable () async throws -> Result
    ) async throws -> Result {
        try await self.withWriter(at: server) { writer in
            try await writer.begin()
            try await writer.carryOut(action, order)
            async let result = work()
            try await self.untilSomebodyWaits(at: server)
            try await writer.commit()
            return try await result
        }
    }

    /// Inserts the outbox row of `action` in a transaction, does `work`, and only then changes the business row and commits.
    func whileAnnounced<Result: Sendable>(
        _ action: WriterAction, at server: ServerID, _ work: () async throws -> Result
    ) async throws -> Result {
        try await self.withWriter(at: server) { writer in
            try await writer.begin()
            try await writer.announce(action)
            let result = try await work()
            try await writer.change(action)
            try await writer.commit()
            return result
        }
    }

    // MARK: - What DataSync does

    @discardableResult
    func cycle(_ branch: ServerID) async throws -> CycleReport { try await self.agents[branch]!.cycle() }

    /// Time passes: what was stopped is tried again, and late rows are looked for.
    func advance() { self.time.advance(by: .seconds(3_600)) }

    /// Cycles until nothing moves any more, though time passes.
    func settle() async throws {
        var idleRounds = 0
        for _ in 0..<60 {
            self.advance()
            var isIdle = try await !self.hub.retryDue()
            for branch in self.agents.keys.sorted() {
                let report = try await self.cycle(branch)
                isIdle = isIdle && report.isIdle && !report.hasMore && report.stopped.isEmpty
            }
            idleRounds = isIdle ? idleRounds + 1 : 0
            if idleRounds == 2 { return }
        }
        throw DataSyncError(.invalidState, operation: "settle", detail: "the company does not come to rest")
    }

    // MARK: - What is looked at

    /// The names by id, of products or of labels that show one.
    func names(_ table: WriterTable = .product, at server: ServerID) async throws -> [Int: String] {
        let rows = try await self.sites[server]!.bench.query("select id, name from \(table) where name is not null")
        return try rows.reduce(into: [:]) { $0[Int(try $1.int(0))] = try $1.text(1) }
    }

    /// What was written where, in the order of the log.
    func log(_ table: WriterTable = .product) async throws -> [ServerID] {
        try await self.sites[.cloud]!.bench.storage.withTransaction(.snapshot) {
            try await $0.logPage(
                ofType: table.type, audience: .all, after: 0, limit: 10_000, bytesMax: .max, own: LogOwner(origin: -1, epoch: 0)
            ).records.map(\.record.origin)
        }
    }

    /// How the rows of the outbox stand, by id.
    func outbox(_ server: ServerID) async throws -> [(state: Int, reason: Int, failures: Int)] {
        try await self.sites[server]!.bench.query("select state, result_of_send_business, fail_num from sync_data order by id").map {
            (Int(try $0.int(0)), Int(try $0.int(1)), Int(try $0.int(2)))
        }
    }

    func memos(at server: ServerID) async throws -> [Memo] {
        try await self.sites[server]!.bench.storage.withTransaction(.snapshot) {
            try await $0.memos(Set(Disposition.allCases), after: 0, limit: 10_000)
        }
    }

    /// Returns when a statement in the database of `server` waits for a row that somebody else has locked.
    func untilSomebodyWaits(at server: ServerID) async throws {
        try await self.withWriter(at: server) { writer in
            if try await asking({ try await writer.seesSomebodyWait() }) { return }
            throw DataSyncError(.invalidState, operation: "test", detail: "nobody waits for a lock")
        }
    }
}

// MARK: - Applications

enum WriterTable: String, Sendable, CaseIterable, CustomStringConvertible {
    case product, label

    var description: String { self.rawValue }
    var type: BusinessTypeID { self == .product ? 1 : 2 }
}

enum WriterAction: Sendable {
    /// A product or label gets this name, whether or not it is there.
    case put(WriterTable, Int, String)
    case remove(WriterTable, Int)
    /// A label shows no name any more. One that is not there need not be made for that.
    case blank(Int)
}

/// Which of the two rows of a transaction is inserted first.
enum WriteOrder: String, Sendable, CaseIterable {
    /// As the contract of `sync_data` has it.
    case businessFirst
    /// As some object mappers do when they flush.
    case outboxFirst
}

/// An application's connection, which does one step after the other when it is told to.
struct Writer: Sendable {
    private let connection: any SQLConnection

    fileprivate init(_ connection: any SQLConnection) { self.connection = connection }

    func begin() async throws { try await self.connection.begin(.write) }
    func commit() async throws { try await self.connection.commit() }
    func rollback() async throws { try await self.connection.rollback() }

    /// The change of the business row.
    /// - Returns: Whether there is something to tell: who removed or blanked nothing has changed nothing.
    @discardableResult
    func change(_ action: WriterAction) async throws -> Bool {
        let (sql, values): (String, [SQLValue]) =
            switch action {
            case .put(let table, let id, let name):
                ("insert into \(table) (id, name) values (?, ?) on duplicate key update name = values(name)", [.int(id), .text(name)])
            case .remove(let table, let id): ("delete from \(table) where id = ?", [.int(id)])
            case .blank(let id): ("update label set name = null where id = ?", [.int(id)])
            }
        return try await self.connection.execute(Bench.mark(sql), values) > 0
    }

    /// The outbox row.
    func announce(_ action: WriterAction) async throws {
        let (table, id, payload): (WriterTable, Int, String) =
            switch action {
            case .put(let table, let id, let name): (table, id, #"{"upsert": {"id": \#(id), "name": "\#(name)"}}"#)
            case .remove(let table, let id): (table, id, #"{"delete": {"id": \#(id)}}"#)
            case .blank(let id): (.label, id, #"{"upsert": {"id": \#(id), "name": null}}"#)
            }
        _ = try await self.connection.execute(
            Bench.mark("insert into sync_data (business_type, data_from_detail, data_detail) values (?, ?, ?)"),
            [.int(table.type.rawValue), .bytes(Array("\(table):\(id)".utf8)), .text(payload)])
    }

    /// Whether a statement in this database waits for a row that somebody else has locked.
    ///
    /// The server's tables about waits are read anew when nobody has read them for a tenth of a second: who asks all the time sees nothing
    /// new in them.
    fileprivate func seesSomebodyWait() async throws -> Bool {
        let sessions = try await self.connection.query(Bench.mark("select id from information_schema.processlist where db = database()"), [])
        let ids = Set(try sessions.map { try $0.int(0) })
        let status = try await self.connection.query(Bench.mark("show engine innodb status"), [])[0].text(2)
        return status.split(separator: "---TRANSACTION ").contains { section in
            guard section.contains("\nLOCK WAIT "), let start = section.firstRange(of: "MariaDB thread id ")?.upperBound,
                let id = Int64(section[start...].prefix(while: \.isNumber))
            else { return false }
            return ids.contains(id)
        }
    }

    func carryOut(_ action: WriterAction, _ order: WriteOrder) async throws {
        switch order {
        case .businessFirst:
            try await self.change(action)
            try await self.announce(action)
        case .outboxFirst:
            try await self.announce(action)
            try await self.change(action)
        }
    }
}

// MARK: - Handlers

/// A type whose handler touches no row where there is nothing to blank, so that it meets no lock.
struct LabelType: BusinessType {
    struct Label: Codable, Sendable {
        var id: Int
        var name: String?
    }

    let id = WriterTable.label.type
    let name = "label"
    let priority = 20
    let route: Route<Label> = .all

    func key(of label: Label) -> EntityKey { EntityKey("label:\(label.id)") }

    func apply(_ change: Change<Label>, of entity: EntityID, in transaction: SQLTransaction) async throws {
        switch change {
        case .upsert(let label):
            guard let name = label.name else {
                try await transaction.execute(Bench.mark("update label set name = null where id = ?"), [.int(label.id)])
                return
            }
            try await transaction.execute(
                Bench.mark("insert into label (id, name) values (?, ?) on duplicate key update name = values(name)"),
                [.int(label.id), .text(name)])
        case .delete(let key):
            try await transaction.execute(Bench.mark("delete from label where id = ?"), [.text(String(key.text.dropFirst("label:".count)))])
        case .act: throw RecordFault.refused("not an action")
        }
    }
}

/// What a test does in the gaps of a transaction that applies records.
final class Gate: Sendable {
    typealias Hook = @Sendable () async throws -> Void
    /// The system's fault, not the record's.
    struct DiskFull: Error {}

    private struct State {
        var before: Hook?
        var after: Hook?
        var isBroken = false
    }
    private let state = Mutex(State())

    /// Runs `hook` once, when records are about to be applied. What it throws is what the handler throws.
    func beforeNext(_ hook: @escaping Hook) { self.state.withLock { $0.before = hook } }
    /// Runs `hook` once, when records were applied and nothing else has been done.
    func afterNext(_ hook: @escaping Hook) { self.state.withLock { $0.after = hook } }

    /// Whether the handlers meet a fault of the system.
    var isBroken: Bool {
        get { self.state.withLock { $0.isBroken } }
        set { self.state.withLock { $0.isBroken = newValue } }
    }

    fileprivate func around(_ apply: () async throws -> Void) async throws {
        let before = self.state.withLock { state in
            defer { state.before = nil }
            return state.before
        }
        try await before?()
        if self.isBroken { throw DiskFull() }
        try await apply()
        let after = self.state.withLock { state in
            defer { state.after = nil }
            return state.after
        }
        try await after?()
    }
}

private struct GatedHandler: RecordHandler {
    let base: any RecordHandler<SQLTransaction>
    let gate: Gate

    var definition: BusinessTypeDefinition { self.base.definition }

    func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord { try self.base.prepare(record, scope: scope) }
    func inspect(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord { try self.base.inspect(record, scope: scope) }

    func apply(_ records: [PreparedRecord], in transaction: SQLTransaction) async throws {
        try await self.gate.around { try await self.base.apply(records, in: transaction) }
    }
}

// MARK: - The way to the cloud, and time

/// A transport that loses answers to a push when it is told to: the cloud has carried it out.
struct LossyTransport: SyncTransport {
    final class Link: Sendable {
        private let isLosing = Mutex(false)

        func loseNextAnswerToPush() { self.isLosing.withLock { $0 = true } }

        fileprivate func takeLoss() -> Bool {
            self.isLosing.withLock { isLosing in
                defer { isLosing = false }
                return isLosing
            }
        }
    }

    let base: InMemoryTransport<SQLStorage>
    let link: Link

    func open(_ request: OpenRequest) async throws -> OpenAnswer { try await self.base.open(request) }
    func pull(_ request: PullRequest) async throws -> PullAnswer { try await self.base.pull(request) }
    func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer { try await self.base.acknowledge(request) }
    func recover(_ request: RecoverRequest) async throws -> RecoverAnswer { try await self.base.recover(request) }
    func compare(_ request: CompareRequest) async throws -> CompareAnswer { try await self.base.compare(request) }

    func push(_ request: PushRequest) async throws -> PushAnswer {
        let answer = try await self.base.push(request)
        if self.link.takeLoss() { throw DataSyncError(.peerUnreachable, operation: "test") }
        return answer
    }
}

/// Time that passes when a test says so, and chance from a seed. Only waits are the machine's.
private final class WriterTime: Sendable {
    private struct State {
        var running = Duration.seconds(3_600)
        var generator: SeededGenerator
    }
    private let state: Mutex<State>

    init(seed: UInt64) { self.state = Mutex(State(generator: SeededGenerator(seed: seed))) }

    func advance(by duration: Duration) { self.state.withLock { $0.running += duration } }

    var environment: SyncEnvironment {
        let running = { @Sendable in self.state.withLock { $0.running } }
        return SyncEnvironment(
            clock: ContinuousClock(), runningTime: running, wallTime: { 1_700_000_000_000 + running().components.seconds * 1_000 },
            random: { self.state.withLock { $0.generator.next() } })
    }
}

extension Logger {
    fileprivate static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}
