package import DataSync
package import DataSyncHTTP
package import DataSyncIdentity
package import DataSyncSQL
import DataSyncServer
import Foundation
import Hummingbird
package import Logging
import ServiceLifecycle
import UnixSignals

/// The branch as its settings describe it: the composition root of `datasync-local`.
package struct LocalProgram: Sendable {
    package typealias BranchAgent = Agent<SQLStorage, HTTPTransport>

    package let settings: Settings
    package let storage: SQLStorage
    package let limits: SyncLimits

    package init(_ settings: Settings) throws {
        self.settings = settings
        self.limits = try settings.limits()
        self.storage = try settings.storage()
    }

    package var logger: Logger { Logger(label: "datasync.local") }

    static let serverSetting = "branch.id"
    static let cloudSetting = "branch.cloud_url"

    /// Which branch this is.
    /// - Throws: `storageNotReady` before it has joined.
    package func branch() async throws -> ServerID {
        try await self.storage.checkSchema()
        let text = try await self.storage.withTransaction(.snapshot) { try await $0.setting(Self.serverSetting) }
        guard let id = text.flatMap({ Int32($0) }) else {
            throw DataSyncError(
                .storageNotReady, operation: "branch",
                detail: "this branch has not joined a cloud: run `datasync-local join` with the token that `datasync-cloud branch add` prints")
        }
        return ServerID(rawValue: id)
    }

    /// What is configured, or what `join` was told.
    private func endpoint() async throws -> CloudEndpoint {
        let known = try await self.storage.withTransaction(.snapshot) { try await $0.setting(Self.cloudSetting) }
        guard let url = self.settings.text("cloud.url") ?? known else {
            throw DataSyncError(.invalidConfiguration, operation: "cloud", detail: "cloud.url is not set: where is the cloud?")
        }
        return try CloudEndpoint(url, allowsPlainHTTP: try self.settings.flag("cloud.allow_plain_http"))
    }

    package func types() async throws -> [MappedType] {
        let types = try await self.settings.mappedTypes(in: self.storage)
        for warning in types.flatMap(\.warnings) { self.logger.warning("\(warning)") }
        return types
    }

    /// What signs by the key that lies in the key file, also when that is changed meanwhile.
    private func transport(of branch: ServerID) async throws -> HTTPTransport {
        guard let cloud = try await self.storage.withTransaction(.snapshot, { try await $0.server(.cloud) }),
            let cloudKey = cloud.publicKey.flatMap(MachinePublicKey.init(text:))
        else {
            throw DataSyncError(.storageNotReady, operation: "branch", detail: "the cloud's key is missing in sync_server: join again")
        }
        let path = try self.settings.keyFile()
        let storage = self.storage
        let identity = BranchIdentity(
            branch: branch, key: try MachineKey(file: path), cloudKey: cloudKey, otherCloudKey: cloud.nextKey.flatMap(MachinePublicKey.init(text:)),
            environment: .program, storedKey: { try MachineKey(file: path) }
        ) { keys in
            try await storage.withTransaction { transaction in
                guard var row = try await transaction.server(.cloud) else { return }
                (row.publicKey, row.nextKey) = (keys.first?.text, keys.dropFirst().first?.text)
                guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "key") }
            }
        }
        return HTTPTransport(cloud: try await self.endpoint(), identity: identity, limits: try self.settings.httpLimits())
    }

    package func agent() async throws -> BranchAgent {
        let id = try await self.branch()
        return try Agent(
            server: id, storage: self.storage, transport: try await self.transport(of: id), types: try await self.types(), limits: self.limits,
            schedule: try self.settings.schedule(), environment: .program, software: "datasync-local \(DataSyncVersion.current)",
            host: Self.bootID,
            logger: Logger(label: "datasync.agent"))
    }

    /// What Linux calls this start of the machine (`proc_sys_kernel(5)`): a copy of a virtual machine has another one. Empty elsewhere.
    private static var bootID: String {
        let text = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)
        return text.map { String($0.trimmingCharacters(in: .whitespacesAndNewlines).prefix(64)) } ?? ""
    }

    /// Where health is answered; nil where it is not.
    private func healthAddress() throws -> ListenAddress? {
        guard self.settings.text("health.port") != nil else { return nil }
        return ListenAddress(host: self.settings.text("health.host") ?? "127.0.0.1", port: try self.settings.port("health.port"))
    }

    /// Runs everything that `run` runs. Ended by SIGTERM or SIGINT: the batch under way is finished first.
    package func run(_ agent: BranchAgent) async throws {
        let services = try self.services(agent)
        do { try await services.run() } catch let error as DataSyncError { throw error } catch {
            guard let address = try self.healthAddress() else { throw error }
            throw HTTPServer.failure(error, listeningAt: address)
        }
    }

    private func services(_ agent: BranchAgent) throws -> ServiceGroup {
        var services: [any Service] = [agent]
        if let address = try self.healthAddress() {
            let router = Router(context: ServerRequestContext.self)
            HTTPServer.addHealth(to: router) {
                let health = agent.health
                guard health.lastSuccess != nil, health.failures == 0 else { return (false, health.lastError ?? "no cycle has ended yet") }
                return (true, "the last cycle went well")
            }
            services.append(try HTTPServer.make(router: router, at: address, tls: nil, logger: self.logger))
        }
        if let listener = try self.settings.peopleListener() { services.append(try self.desk(at: listener, agent)) }
        if let manager = ServiceManager() { services.append(Watchdog(manager) { agent.health.steps }) }
        var configuration = ServiceGroupConfiguration(
            services: services.map { .init(service: $0, successTerminationBehavior: .gracefullyShutdownGroup) },
            gracefulShutdownSignals: [.sigterm, .sigint], logger: self.logger)
        configuration.maximumGracefulShutdownDuration = .seconds(20)
        return ServiceGroup(configuration: configuration)
    }

    /// What people and applications of the branch log in to.
    private func desk(at listener: PeopleListener, _ agent: BranchAgent) throws -> any Service {
        let login = try self.settings.peopleLogin(self.storage, StaffSet.self)
        let (storage, settings, limits, branch) = (self.storage, self.settings, self.limits, agent.id)
        let definitions = settings.types.map(\.definition)
        let endpoints = StaffEndpoints(
            login: login, storage: storage, limits: limits, names: Dictionary(definitions.map { ($0.id, $0.name) }) { first, _ in first },
            environment: .program,
            status: {
                let overview = try await Overview(of: storage, definitions: definitions, audiences: [], now: SyncEnvironment.program.wallTime())
                return LocalStatus.json(overview, branch: branch, isRunning: true)
            },
            ask: { try await self.ask($0, timeout: .seconds(30)) },
            put: { row, actor in
                let type = try await settings.mappedTypes(in: storage).first { $0.definition.id == row.type }
                try await PutRecord.enqueue(row, type: type, scope: branch, limits: limits, by: actor, in: storage)
            })
        let proxies = try settings.trustedProxies()
        let routes = PeopleRoutes(login: login, endpoints: endpoints.all, trustedProxies: proxies, logger: self.logger)
        return try listener.server(routes, limits: ServerLimits(), proxies: proxies, logger: self.logger)
    }

    // MARK: - Joining

    /// Enrols this branch and remembers its cloud. Safe to do again: the same key gets the same answer.
    /// - Returns: What the branch is called at the cloud.
    package func join(_ token: JoinToken, cloud url: String) async throws -> JoinAnswer {
        try await self.storage.checkSchema()
        let known = try await self.storage.withTransaction(.snapshot) { try await $0.setting(Self.serverSetting) }
        if let known, known != "\(token.server.rawValue)" {
            throw DataSyncError(
                .invalidState, operation: "join",
                detail: "this database belongs to branch \(known); the token is for branch \(token.server). A database serves one branch for ever")
        }
        let endpoint = try CloudEndpoint(url, allowsPlainHTTP: try self.settings.flag("cloud.allow_plain_http"))
        let key = try self.ownKey()
        await SyncEnvironment.program.passes(.joinKeyWritten)
        let (answer, cloudKey) = try await endpoint.join(
            token, key: key, software: "datasync-local \(DataSyncVersion.current)", limits: try self.settings.httpLimits())
        await SyncEnvironment.program.passes(.joinEnrolled)
        try await self.storage.withTransaction { transaction in
            try await transaction.putSetting(Self.serverSetting, "\(token.server.rawValue)")
            try await transaction.putSetting(Self.cloudSetting, url)
            let own = ServerRow(id: token.server, name: answer.name, status: .active, publicKey: key.publicKey.text, epoch: answer.epoch)
            let cloud = ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: cloudKey.text)
            for row in [own, cloud] {
                guard var existing = try await transaction.server(row.id) else {
                    try await transaction.insertServer(row)
                    continue
                }
                existing.publicKey = row.publicKey
                existing.nextKey = nil
                guard try await transaction.replaceServer(existing) else { throw DataSyncError(.storageBusy, operation: "join") }
            }
            await SyncEnvironment.program.passes(.joinBeforeCommit)
        }
        await SyncEnvironment.program.passes(.joinAfterCommit)
        return answer
    }

    /// The key in the key file.
    package func key() throws -> MachineKey { try MachineKey(file: try self.settings.keyFile()) }

    /// The branch's key; a new one where there is none. It is written before the cloud hears of it: a key that is enrolled
    /// and then lost would lock the branch out.
    private func ownKey() throws -> MachineKey {
        let path = try self.settings.keyFile()
        if FileManager.default.fileExists(atPath: path) { return try MachineKey(file: path) }
        let key = try MachineKey.generate()
        try key.write(to: path)
        return key
    }

    // MARK: - Another key

    /// Gives this branch another key. An agent that runs meanwhile goes on with the new one.
    ///
    /// The new key lies beside the old one until the cloud knows it; from then on the cloud takes both, until it is asked with the new
    /// one. So whichever is in the key file when this breaks off is one that the cloud takes, and to run it again finishes the work.
    /// - Returns: The new key.
    package func changeKey(by actor: String) async throws -> MachinePublicKey {
        let branch = try await self.branch()
        let path = try self.settings.keyFile()
        let next = MachineKey.nextFile(of: path)
        // One that an earlier run has left may be known to the cloud.
        let key = FileManager.default.fileExists(atPath: next) ? try MachineKey(file: next) : try MachineKey.generate()
        if !FileManager.default.fileExists(atPath: next) { try key.write(to: next) }
        await SyncEnvironment.program.passes(.keyWritten)
        try await self.transport(of: branch).offer(key)
        await SyncEnvironment.program.passes(.keyOffered)
        try MachineKey.putNextInPlace(of: path)
        await SyncEnvironment.program.passes(.keyInPlace)
        // The first request that it signs itself: after that the old one is worth nothing.
        try await self.transport(of: branch).offer(key)
        await SyncEnvironment.program.passes(.keyUsed)
        try await self.note(key.publicKey, of: branch, by: actor)
        return key.publicKey
    }

    /// Notes in the branch's own row which key it has. An agent that works changes that row all the time.
    private func note(_ key: MachinePublicKey, of branch: ServerID, by actor: String) async throws {
        for attempt in 1...10 {
            do {
                return try await self.storage.withTransaction { transaction in
                    guard var row = try await transaction.server(branch) else { return }
                    row.publicKey = key.text
                    guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "key") }
                    try await transaction.appendAudit(
                        AuditEntry(
                            time: SyncEnvironment.program.wallTime(), actor: actor, action: "key.change",
                            subject: "branch \(branch), key \(key.thumbprint)"))
                }
            } catch let error as DataSyncError where error.code == .storageBusy && attempt < 10 {
                try await Task.sleep(for: .milliseconds(20 * attempt))
            }
        }
    }

    // MARK: - Asking

    /// Whether an agent works on this database.
    package func isRunning() async throws -> Bool {
        do {
            await (try await self.storage.takeLease()).release()
            return false
        } catch let error as DataSyncError where error.code == .leaseHeld { return true }
    }

    /// Has the running agent do something, or does it here if none is running.
    package func ask(_ request: AgentRequest, timeout: Duration) async throws -> AgentReply {
        _ = try await self.branch()
        if let reply = try await self.performAlone(request) { return reply }
        var generator = SystemRandomNumberGenerator()
        let id = RecordUID(using: &generator).hex
        try await self.storage.withTransaction { try await request.post(id, in: $0) }
        let end = ContinuousClock.now + timeout
        var rounds = 0
        while ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(100))
            if let reply = try await self.storage.withTransaction({ try await AgentRequest.takeReply(id, in: $0) }) { return reply }
            rounds += 1
            // The agent may have ended meanwhile, or what held the lease was no agent.
            if rounds.isMultiple(of: 10), let reply = try await self.performAlone(request) {
                try await self.storage.withTransaction { try await AgentRequest.withdraw(id, in: $0) }
                return reply
            }
        }
        try await self.storage.withTransaction { try await AgentRequest.withdraw(id, in: $0) }
        throw DataSyncError(
            .peerUnreachable, operation: "agent", detail: "the running agent did not answer within \(timeout): see its log, and `datasync-local status`")
    }

    /// Does it here; nil if an agent works on this database.
    private func performAlone(_ request: AgentRequest) async throws -> AgentReply? {
        let lease: any StorageLease
        do { lease = try await self.storage.takeLease() } catch let error as DataSyncError where error.code == .leaseHeld { return nil }
        let reply: AgentReply
        do { reply = try await self.perform(request) } catch {
            await lease.release()
            throw error
        }
        await lease.release()
        return reply
    }

    private func perform(_ request: AgentRequest) async throws -> AgentReply {
        let agent = try await self.agent()
        switch request.verb {
        case .sync:
            var report = try await agent.cycle()
            // As long as there is more: who asks wants it done.
            while report.hasMore { report.add(try await agent.cycle()) }
            return AgentReply(report)
        case .reconcile:
            let types = Set((request.types ?? []).map(BusinessTypeID.init(rawValue:)))
            return AgentReply(try await agent.reconcile(types, repair: request.repair, actor: request.actor))
        case .retry:
            try await agent.takeOver()
            let outcome = try await agent.retryMemo(request.memo ?? 0, actor: request.actor)
            return AgentReply(succeeded: true, message: "record \(request.memo ?? 0): it is \(outcome.disposition.name) now")
        case .discard:
            try await agent.takeOver()
            try await agent.discardMemo(request.memo ?? 0, actor: request.actor)
            return AgentReply(succeeded: true, message: "record \(request.memo ?? 0): it is discarded now")
        }
    }
}
