package import DataSync
package import DataSyncIdentity
package import DataSyncSQL
import DataSyncServer
import Hummingbird
package import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The cloud as its settings describe it: the composition root of `datasync-cloud`.
package struct CloudProgram: Sendable {
    package let settings: Settings
    package let storage: SQLStorage
    package let limits: SyncLimits

    package init(_ settings: Settings) throws {
        self.settings = settings
        self.limits = try settings.limits()
        self.storage = try settings.storage()
    }

    package var logger: Logger { Logger(label: "datasync.cloud") }

    package func key() throws -> MachineKey { try MachineKey(file: try self.settings.keyFile()) }

    /// A hub over the storage, whose tables are checked.
    package func hub() async throws -> Hub<SQLStorage> {
        try await self.storage.checkSchema()
        let types = try await self.settings.mappedTypes(in: self.storage)
        for warning in types.flatMap(\.warnings) { self.logger.warning("\(warning)") }
        return try Hub(storage: self.storage, types: types, limits: self.limits, environment: .program, logger: Logger(label: "datasync.hub"))
    }

    package func enrolment() throws -> Enrolment<SQLStorage> {
        Enrolment(storage: self.storage, cloudKey: try self.key().publicKey, environment: .program)
    }

    package func keyRing() throws -> CloudKeyRing<SQLStorage> {
        CloudKeyRing(storage: self.storage, file: try self.settings.keyFile(), environment: .program)
    }

    private func address() throws -> ListenAddress {
        ListenAddress(host: self.settings.text("http.host") ?? "127.0.0.1", port: try self.settings.port("http.port"))
    }

    /// Runs everything that `serve` runs. Ended by SIGTERM or SIGINT: requests under way are answered first.
    /// - Parameter listening: Called with the port when requests are accepted.
    package func run(listening: @escaping @Sendable (Int) -> Void) async throws {
        let services = try await self.services(listening: listening)
        do { try await services.run() } catch let error as DataSyncError { throw error } catch {
            throw HTTPServer.failure(error, listeningAt: try self.address())
        }
    }

    private func services(listening: @escaping @Sendable (Int) -> Void) async throws -> ServiceGroup {
        let ring = try self.keyRing()
        let hub = try await self.hub()
        _ = try await ring.keys()
        if hub.types.definitions.isEmpty {
            self.logger.warning("no business types are configured: nothing will be carried")
        }
        let router = Router(context: ServerRequestContext.self)
        let prefix = (self.settings.text("http.prefix") ?? "").split(separator: "/").joined(separator: "/")
        let storage = self.storage
        HTTPServer.addHealth(to: router, goodFor: .seconds(1)) {
            do {
                try await storage.checkSchema()
                return (true, "the database answers")
            } catch { return (false, "the database does not answer") }
        }
        let serverLimits = try self.settings.serverLimits()
        try MachineRoutes(
            hub: hub, identity: CloudIdentity { try await ring.keys() }, enrolment: try self.enrolment(), limits: serverLimits,
            trustedProxies: try self.settings.trustedProxies(), logger: self.logger
        ).add(to: router.group(RouterPath(prefix.isEmpty ? "datasync" : "\(prefix)/datasync")))
        let tls = try self.settings.tlsFiles()
        // What comes from this machine comes from a proxy, or from who may do worse.
        let proxies = try self.settings.trustedProxies().union(["127.0.0.1", "::1"])
        let isListening = Flag()
        let server = try HTTPServer.make(
            router: router, at: try self.address(), tls: tls, limits: serverLimits, proxies: proxies, logger: self.logger
        ) { port in
            isListening.raise()
            listening(port)
        }
        var services: [any Service] = [hub, server]
        if let listener = try self.settings.peopleListener() { services.append(try self.administration(at: listener, hub, ring, serverLimits)) }
        if let manager = ServiceManager() { services.append(Watchdog(manager) { isListening.isRaised ? hub.steps : 0 }) }
        var configuration = ServiceGroupConfiguration(
            services: services.map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint], logger: self.logger)
        configuration.maximumGracefulShutdownDuration = .seconds(20)
        return ServiceGroup(configuration: configuration)
    }

    /// What people at the cloud log in to.
    private func administration(
        at listener: PeopleListener, _ hub: Hub<SQLStorage>, _ ring: CloudKeyRing<SQLStorage>, _ limits: ServerLimits
    ) throws -> any Service {
        let login = try self.settings.peopleLogin(self.storage, OperatorSet.self)
        let (storage, definitions, mappings, recordLimits) = (self.storage, hub.types.definitions, self.settings, self.limits)
        let endpoints = OperatorEndpoints(
            login: login, hub: hub, enrolment: try self.enrolment(), keys: ring, environment: .program,
            status: { caller in
                let branches = try await storage.withTransaction(.snapshot) { try await $0.servers() }.map(\.id).filter { $0.isBranch && caller.sees($0) }
                let overview = try await Overview(
                    of: storage, definitions: definitions, audiences: [.all] + branches.map { .server($0) }, among: caller.branches.map { Set($0) },
                    now: SyncEnvironment.program.wallTime())
                return CloudStatus.json(overview) { caller.sees($0) }
            },
            grants: { try mappings.grants(types: try await mappings.mappedTypes(in: storage)) },
            put: { row, actor in
                let type = try await mappings.mappedTypes(in: storage).first { $0.definition.id == row.type }
                let scope: ServerID? = type?.definition.route == .origin ? (row.target.isBranch ? row.target : nil) : .cloud
                try await PutRecord.enqueue(row, type: type, scope: scope, limits: recordLimits, by: actor, in: storage)
            })
        let proxies = try self.settings.trustedProxies()
        let routes = PeopleRoutes(login: login, endpoints: endpoints.all, trustedProxies: proxies, logger: self.logger)
        return try listener.server(routes, limits: limits, proxies: proxies, logger: self.logger)
    }
}

/// Raised once.
private final class Flag: Sendable {
    private let value = Atomic(false)

    func raise() { self.value.store(true, ordering: .releasing) }
    var isRaised: Bool { self.value.load(ordering: .acquiring) }
}

extension Settings {
    func keyFile() throws(DataSyncError) -> String { try self.required("identity.key_file") }
}
