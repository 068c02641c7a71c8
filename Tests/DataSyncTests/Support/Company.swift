import DataSync
import Logging
import Synchronization

typealias TestAgent = Agent<FaultyStorage, FaultyTransport>

/// A cloud and branches in one process, with applications that write on both sides.
struct Company: Sendable {
    let time = TestTime()
    let plan = FaultPlan()
    let points = PointHooks()
    let limits: SyncLimits
    private(set) var hub: Hub<FaultyStorage>
    private(set) var agents: [ServerID: TestAgent] = [:]
    private let storages: [ServerID: FaultyStorage]
    private let conducts: [ServerID: Conduct]
    private let links: [ServerID: FaultyLink]

    /// - Parameter types: The types that a server knows; by default all.
    init(
        branches: [ServerID], limits: SyncLimits = Company.eagerLimits,
        types: (ServerID) -> [ItemType] = { _ in ItemType.all }
    ) async throws {
        self.limits = limits
        var (storages, conducts, links): ([ServerID: FaultyStorage], [ServerID: Conduct], [ServerID: FaultyLink]) = ([:], [:], [:])
        for server in [.cloud] + branches {
            storages[server] = FaultyStorage(InMemoryStorage(environment: self.time.environment), plan: self.plan)
            conducts[server] = Conduct()
            links[server] = FaultyLink()
        }
        for (server, storage) in storages { conducts[server]!.onDeath { storage.die() } }
        self.storages = storages
        self.conducts = conducts
        self.links = links
        for branch in branches {
            let row = ServerRow(id: branch, name: "b\(branch)", status: .active)
            for server in [.cloud, branch] {
                try await storages[server]!.base.withTransaction { try await $0.insertServer(row) }
            }
        }
        try await storages[.cloud]!.base.withTransaction {
            try await $0.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active))
        }
        self.hub = try Hub(
            storage: storages[.cloud]!, types: Self.handlers(types(.cloud), conducts[.cloud]!), limits: limits,
            environment: self.points.environment(self.time), logger: .silent)
        for branch in branches { try self.start(branch, types: types(branch)) }
    }

    /// No wait before a parked record is tried again.
    static var eagerLimits: SyncLimits {
        var limits = SyncLimits()
        limits.retryDelays = [.zero, .zero]
        return limits
    }

    private static func handlers(_ types: [ItemType], _ conduct: Conduct) -> [any RecordHandler<InMemoryTransaction>] {
        types.map { $0.with(conduct) } + [MemberType(conduct: conduct)]
    }

    /// Starts the agent of a branch, as a new process would: it remembers nothing.
    mutating func start(_ branch: ServerID, types: [ItemType] = ItemType.all) throws {
        self.agents[branch] = try self.agent(of: branch, types: types)
    }

    /// One more agent over the database of a branch.
    func agent(of branch: ServerID, types: [ItemType] = ItemType.all, host: String = "") throws -> TestAgent {
        try Agent(
            server: branch, storage: self.storage(branch),
            transport: FaultyTransport(
                base: InMemoryTransport(hub: self.hub, branch: branch), link: self.link(branch), plan: self.plan),
            types: Self.handlers(types, self.conduct(branch)), limits: self.limits, environment: self.points.environment(self.time),
            host: host, logger: .silent)
    }

    /// Starts the cloud again, and all branches with it.
    mutating func startAll(cloudTypes: [ItemType] = ItemType.all) throws {
        try self.startCloud(types: cloudTypes)
        for branch in self.agents.keys { try self.start(branch) }
    }

    /// Starts the cloud again: those who talk to it go on.
    mutating func startCloud(types: [ItemType] = ItemType.all) throws {
        self.hub = try self.replica(types: types)
        for (branch, link) in self.links { link.successor = InMemoryTransport(hub: self.hub, branch: branch) }
    }

    /// One more process over the cloud's database.
    func replica(types: [ItemType] = ItemType.all) throws -> Hub<FaultyStorage> {
        try Hub(
            storage: self.storage(.cloud), types: Self.handlers(types, self.conduct(.cloud)), limits: self.limits,
            environment: self.points.environment(self.time), logger: .silent)
    }

    func storage(_ server: ServerID) -> FaultyStorage { self.storages[server]! }
    func conduct(_ server: ServerID) -> Conduct { self.conducts[server]! }
    func link(_ branch: ServerID) -> FaultyLink { self.links[branch]! }

    // MARK: - What applications do

    /// Writes a business row and its outbox row in one transaction.
    func write(_ item: Item, _ type: ItemType, at server: ServerID, to target: ServerID = .cloud) async throws {
        try await self.storage(server).base.withTransaction { try await Self.write(item, type, to: target, in: $0) }
    }

    static func write(_ item: Item, _ type: ItemType, to target: ServerID = .cloud, in transaction: InMemoryTransaction) async throws {
        let change = type.kind == .action ? Change.act(item) : .upsert(item)
        try type.write(change, in: transaction)
        try await transaction.appendOutbox([try type.row(for: change, to: target)])
    }

    func delete(_ id: Int, _ type: ItemType, at server: ServerID) async throws {
        let change = Change<Item>.delete(type.key(of: Item(id: id, text: "")))
        try await self.storage(server).base.withTransaction { transaction in
            try type.write(change, in: transaction)
            try await transaction.appendOutbox([try type.row(for: change)])
        }
    }

    func write(_ member: Member, at server: ServerID) async throws {
        let type = MemberType()
        try await self.storage(server).base.withTransaction { transaction in
            try type.write(member, in: transaction)
            try await transaction.appendOutbox([try type.row(for: .upsert(member))])
        }
    }

    func delete(_ id: Int, at server: ServerID) async throws {
        try await self.storage(server).base.withTransaction { transaction in
            try transaction.setRow("member", "member:\(id)", nil)
            try await transaction.appendOutbox([try MemberType().row(for: .delete(EntityKey("member:\(id)")))])
        }
    }

    // MARK: - What is looked at

    func rows(_ type: ItemType, at server: ServerID) async throws -> [String: String] {
        try await self.storage(server).base.withTransaction(.snapshot) { $0.rows(type.name) }
    }

    func members(at server: ServerID) async throws -> [String: String] {
        try await self.storage(server).base.withTransaction(.snapshot) { $0.rows("member") }
    }

    func outbox(_ server: ServerID) async throws -> [OutboxRow] {
        try await self.storage(server).base.withTransaction(.snapshot) { try await $0.outboxRows(Array(1...1_000)) }
    }

    /// Rows of `sync_memo`, by id.
    func memos(at server: ServerID, _ dispositions: Set<Disposition> = Set(Disposition.allCases)) async throws -> [Memo] {
        try await self.storage(server).base.withTransaction(.snapshot) { try await $0.memos(dispositions, after: 0, limit: 1_000) }
    }

    /// The log that a server may read, as the texts of its payloads.
    func log(_ type: BusinessTypeID, _ audience: Audience) async throws -> [LogRecord] {
        try await self.storage(.cloud).base.withTransaction(.snapshot) {
            try await $0.logPage(
                ofType: type, audience: audience, after: 0, limit: 1_000, bytesMax: .max, own: LogOwner(origin: -1, epoch: 0)
            ).records
        }
    }

    // MARK: - What DataSync does

    @discardableResult
    func cycle(_ branch: ServerID) async throws -> CycleReport { try await self.agents[branch]!.cycle() }

    /// Cycles of every branch until nothing moves any more.
    func settle() async throws {
        for _ in 0..<20 {
            var isIdle = true
            for branch in self.agents.keys.sorted() {
                let report = try await self.cycle(branch)
                isIdle = isIdle && report.isIdle && !report.hasMore
            }
            if isIdle { return }
        }
        throw DataSyncError(.invalidState, operation: "settle", detail: "the company does not come to rest")
    }
}

extension Logger {
    static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}
