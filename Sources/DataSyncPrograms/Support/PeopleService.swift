import DataSync
import DataSyncIdentity
import DataSyncSQL
import DataSyncServer
import Foundation
import Hummingbird
import Logging
import ServiceLifecycle

/// Where people log in.
struct PeopleListener: Sendable {
    var address: ListenAddress
    /// Nil where nobody else can listen: on this machine.
    var tls: TLSFiles?
}

extension Settings {
    /// The key that signs what people get who log in at this program.
    func peopleKey() throws(DataSyncError) -> MachineKey {
        let path = try self.required("identity.people_key_file")
        guard FileManager.default.fileExists(atPath: path) else {
            throw ConfigurationFile.failure("\(path) is missing, the key that signs what people get who log in: run init, or copy it from another replica")
        }
        return try MachineKey(file: path)
    }

    /// Makes the key where there is none.
    /// - Returns: What was done, for who runs `init`.
    package func makePeopleKey() throws -> String? {
        let path = try self.required("identity.people_key_file")
        guard !FileManager.default.fileExists(atPath: path) else { return nil }
        let key = try MachineKey.generate()
        try key.write(to: path)
        return "made the key that signs what people get who log in, in \(path)"
    }

    func peopleLogin<People: PeopleSet>(_ storage: SQLStorage, _: People.Type) throws(DataSyncError) -> PeopleLogin<SQLStorage, People> {
        PeopleLogin(
            register: PeopleRegister(storage: storage, environment: .program), authority: TokenAuthority(key: try self.peopleKey()),
            logger: Logger(label: "datasync.people"))
    }
}

extension PeopleListener {
    /// A listener of its own: what people do there takes nothing from the one that branches use.
    func server<People: PeopleSet>(
        _ routes: PeopleRoutes<SQLStorage, People>, limits: ServerLimits, proxies: Set<String> = [], logger: Logger
    ) throws(DataSyncError) -> any Service {
        let router = Router(context: ServerRequestContext.self)
        routes.add(to: router)
        var limits = limits
        limits.connectionsMax = min(limits.connectionsMax, 200)
        let address = self.address
        let server = try HTTPServer.make(
            router: router, at: address, tls: self.tls, limits: limits, proxies: proxies.union(["127.0.0.1", "::1"]), logger: logger
        ) { port in
            logger.notice("people log in here", metadata: ["host": "\(address.host)", "port": "\(port)"])
        }
        return ListeningService(server: server, address: address)
    }
}

/// A server that says where it could not listen: it is not the only one of its program.
private struct ListeningService<Server: Service>: Service {
    let server: Server
    let address: ListenAddress

    func run() async throws {
        do { try await self.server.run() } catch let error as DataSyncError { throw error } catch {
            throw HTTPServer.failure(error, listeningAt: self.address)
        }
    }
}
