import DataSync
import DataSyncIdentity
import DataSyncServer
import DataSyncTesting
import Hummingbird
import Logging
import Synchronization
import Testing

/// A cloud with a key of its own over a hub, to be asked without a socket or over one.
struct TestCloud<Storage: SyncStorage>: Sendable {
    let hub: Hub<Storage>
    let key: MachineKey
    var limits = ServerLimits.patient
    var environment = SyncEnvironment.system
    var trustedProxies: Set<String> = []
    /// Whose connections are not counted.
    var proxies: Set<String> = []
    let log = LogLines()

    init(_ hub: Hub<Storage>) throws {
        self.hub = hub
        self.key = try MachineKey.generate()
    }

    var enrolment: Enrolment<Storage> {
        Enrolment(storage: self.hub.storage, cloudKey: self.key.publicKey, environment: self.environment, logger: self.log.logger)
    }

    func router() throws -> Router<ServerRequestContext> {
        let router = Router(context: ServerRequestContext.self)
        try MachineRoutes(
            hub: self.hub, identity: CloudIdentity(key: self.key, environment: self.environment), enrolment: self.enrolment,
            limits: self.limits, trustedProxies: self.trustedProxies, environment: self.environment, logger: self.log.logger
        ).add(to: router.group("datasync"))
        HTTPServer.addHealth(to: router) { (true, "the database answers") }
        return router
    }

    func application(
        tls: TLSFiles? = nil, listening: @escaping @Sendable (Int) -> Void = { _ in }
    ) throws -> Application<some HTTPResponder<ServerRequestContext>> {
        try HTTPServer.make(
            router: try self.router(), at: ListenAddress(host: "127.0.0.1", port: 0), tls: tls, limits: self.limits,
            proxies: self.proxies, logger: self.log.logger, listening: listening)
    }

    /// Serves on a free port while `body` runs.
    func serve(tls: TLSFiles? = nil, _ body: @escaping @Sendable (_ port: Int) async throws -> Void) async throws {
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        try await serving(try self.application(tls: tls) { continuation.yield($0) }, ports, body)
    }

    /// Gives a branch that the hub knows a key.
    func enrol(_ id: ServerID, environment: SyncEnvironment = .system) async throws -> TestBranch {
        let branch = try TestBranch(id, cloud: self.key, environment: environment)
        try await self.hub.storage.withTransaction { transaction in
            guard var row = try await transaction.server(id) else { return }
            row.publicKey = branch.key.publicKey.text
            #expect(try await transaction.replaceServer(row))
        }
        return branch
    }
}

/// Runs an application, whose ports come over `ports`, while `body` runs.
func serving(
    _ application: some ApplicationProtocol, _ ports: AsyncStream<Int>, _ body: @escaping @Sendable (Int) async throws -> Void
) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await application.run() }
        group.addTask {
            for await port in ports { return try await body(port) }
        }
        do { try await group.next() } catch {
            group.cancelAll()
            throw error
        }
        group.cancelAll()
        while await group.nextResult() != nil {}
    }
}

/// A note, in a table of its own.
struct NoteType: BusinessType {
    struct Note: Codable, Sendable {
        var id: Int
        var text: String
    }

    let id: BusinessTypeID = 1
    let name = "note"
    let priority = 10
    let route: Route<Note> = .all

    func key(of note: Note) -> EntityKey { EntityKey("note:\(note.id)") }

    func apply(_ change: Change<Note>, of entity: EntityID, in transaction: InMemoryTransaction) async throws {
        switch change {
        case .upsert(let note):
            let count = transaction.row("effects", "\(note.id)").flatMap { Int($0) } ?? 0
            try transaction.setRow("effects", "\(note.id)", "\(count + 1)")
            try transaction.setRow("note", "\(note.id)", note.text)
        case .delete, .act: throw RecordFault.refused("only upserts")
        }
    }
}

typealias NoteCloud = TestCloud<ControlledStorage>

/// A cloud that takes notes and knows branches 7 and 8.
func makeNoteCloud(_ limits: SyncLimits = SyncLimits()) async throws -> NoteCloud {
    let storage = ControlledStorage()
    try await storage.withTransaction { transaction in
        for id in [7, 8] as [ServerID] {
            try await transaction.insertServer(ServerRow(id: id, name: "branch \(id)", status: .active))
        }
    }
    return try TestCloud(Hub(storage: storage, types: [NoteType()], limits: limits))
}

extension TestCloud where Storage == ControlledStorage {
    func notes() async throws -> [String: String] {
        try await self.hub.storage.withTransaction(.snapshot) { $0.rows("note") }
    }

    func effects() async throws -> [String: String] {
        try await self.hub.storage.withTransaction(.snapshot) { $0.rows("effects") }
    }

    func setStatus(_ status: ServerRow.Status, of id: ServerID) async throws {
        try await self.hub.storage.withTransaction { transaction in
            guard var row = try await transaction.server(id) else { return }
            row.status = status
            #expect(try await transaction.replaceServer(row))
        }
    }
}

/// The requests that tests send.
enum Ask {
    static let open = OpenRequest(nonce: "0123456789abcdef", software: "test 1", types: [])

    static func push(_ session: SessionID, _ texts: [String], first: Int64 = 1) -> PushRequest {
        let records = texts.enumerated().map { offset, text in
            let number = first + Int64(offset)
            return SentRecord.record(
                SyncRecord(
                    stream: StreamID(origin: 7, epoch: 1, type: 1), synID: number, uid: RecordUID(high: 1, low: UInt64(number)),
                    key: EntityKey("note:\(number)"), target: .cloud, createTime: number, client: nil,
                    payload: "{\"upsert\":{\"id\":\(number),\"text\":\"\(text)\"}}"))
        }
        return PushRequest(
            session: session,
            runs: [
                PushRun(
                    type: 1, firstSynID: first, run: Fingerprint(rawValue: 5), before: first == 1 ? .none : Fingerprint(rawValue: 5), records: records)
            ])
    }

    static func pull(_ session: SessionID) -> PullRequest {
        PullRequest(
            session: session, logEpoch: 1, cursors: [1: .start], recordsMax: 100, bytesMax: 1 << 20, recordBytesMax: 1 << 20)
    }
}

/// What was logged, instead of printing it.
final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { self.lines.withLock { $0 } }
    func count(of text: String) -> Int { self.all.count { $0.contains(text) } }

    var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(lines: self) }
        logger.logLevel = .trace
        return logger
    }

    private struct Handler: LogHandler {
        let lines: LogLines
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]

        init(lines: LogLines) { self.lines = lines }

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { self.metadata[key] }
            set { self.metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let all = self.metadata.merging(event.metadata ?? [:]) { $1 }
            self.lines.lines.withLock { $0.append("\(event.level) \(event.message) \(all)") }
        }
    }
}

extension SyncEnvironment {
    /// The system's, with a wall clock that is wrong by so much.
    static func wrong(by difference: Duration) -> SyncEnvironment {
        var environment = SyncEnvironment.system
        environment.wallTime = { SyncEnvironment.system.wallTime() + difference.components.seconds * 1_000 }
        return environment
    }
}
