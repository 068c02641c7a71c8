public import DataSync
public import DataSyncIdentity
import Foundation
import HTTPTypes
public import Hummingbird
public import Logging
import NIOCore

/// Makes routes of a table of ``PeopleEndpoint``.
///
/// In this order, whatever is asked for: the token is verified, the role and the branches are compared with the line of the table, and only then
/// is the body read and the work done. What a stranger sends is never held in memory.
public struct PeopleRoutes<Storage: SyncStorage, People: PeopleSet>: Sendable where Storage.Transaction: PersonTable {
    public let endpoints: [PeopleEndpoint<People>]
    private let login: PeopleLogin<Storage, People>
    private let trustedProxies: TrustedProxies
    private let logger: Logger
    /// So many of the database's connections people have at a time, and branches all the others.
    private let workers = AsyncSemaphore(4)
    /// For who waits for somebody else's work, apart from those who are answered at once.
    private let waiting = BoundedPlaces(16, ofOne: 4)
    private let strangers = StrangerGate()
    private let bodyDeadline: Duration

    /// - Parameter trustedProxies: The addresses of proxies whose `X-Forwarded-For` is believed; nobody else's is.
    public init(
        login: PeopleLogin<Storage, People>, endpoints: [PeopleEndpoint<People>], trustedProxies: Set<String> = [], bodyDeadline: Duration = .seconds(10),
        logger: Logger = Logger(label: "datasync.people")
    ) {
        self.login = login
        self.endpoints = endpoints
        self.trustedProxies = TrustedProxies(trustedProxies)
        self.bodyDeadline = bodyDeadline
        self.logger = logger
    }

    public func add<Context: RequestContext>(to group: some RouterMethods<Context>) {
        for endpoint in self.endpoints {
            group.on(RouterPath(endpoint.path), method: endpoint.method) { request, context in
                await self.respond(to: request, context, by: endpoint)
            }
        }
    }

    private func respond(to request: Request, _ context: some RequestContext, by endpoint: PeopleEndpoint<People>) async -> Response {
        let address = self.trustedProxies.origin(of: request, context)
        do {
            let reply: PeopleReply
            switch endpoint.work {
            case .hashing(let work): reply = try await work(try await self.call(request, context, endpoint, address))
            case .open(let work):
                let call = try await self.call(request, context, endpoint, address)
                reply = try await self.strangers.pass(from: AttemptSource.of(address)) { try await work(call) }
            case .known(let work):
                let caller = try await self.working { try await self.caller(of: request, context, for: endpoint) }
                let call = try await self.call(request, context, endpoint, address)
                reply = try await self.working { try await work(caller, call) }
            case .waiting(let work):
                let caller = try await self.working { try await self.caller(of: request, context, for: endpoint) }
                let call = try await self.call(request, context, endpoint, address)
                let full = DataSyncError(.storageBusy, operation: "request", detail: "too many wait for the agent already", retryAfter: .seconds(5))
                reply = try await self.waiting.taking(caller.name, else: full) { try await work(caller, call) }
            }
            return Self.response(reply)
        } catch {
            let isOurs = (error as? DataSyncError).map { $0.code == .storageFailed || $0.code == .storageUnavailable } ?? !(error is TooManyAttempts)
            self.logger.log(
                level: isOurs ? .error : .notice, "request of somebody refused",
                metadata: [
                    "set": "\(People.kind.rawValue)", "endpoint": "\(endpoint.method) \(endpoint.path)", "address": "\(address)",
                    "error": "\(String(reflecting: error))",
                ])
            var response = Self.response(PeopleReply(error))
            // What is left of a body that was not read is not a request.
            response.headers[.connection] = "close"
            return response
        }
    }

    private func working<Result: Sendable>(_ body: () async throws -> Result) async throws -> Result {
        if !self.workers.tryWait() {
            let workers = self.workers
            let isFree: Void? = try await withTimeout(.seconds(2)) { try await workers.wait() }
            guard isFree != nil else { throw DataSyncError(.storageBusy, operation: "request", retryAfter: .seconds(2)) }
        }
        defer { self.workers.signal() }
        return try await body()
    }

    /// Who asks, if the line is for them.
    private func caller(
        of request: Request, _ context: some RequestContext, for endpoint: PeopleEndpoint<People>
    ) async throws -> Verified<People> {
        let token = request.headers[.authorization].flatMap { $0.hasPrefix("Bearer ") ? String($0.dropFirst(7)) : nil }
        let caller = try await self.login.verify(token)
        guard case .roles(let roles) = endpoint.audience, roles.contains(caller.role) else { throw Self.forbidden }
        switch endpoint.scope {
        case .seen: break
        case .all: guard caller.branches == nil else { throw Self.forbidden }
        case .branch:
            guard let id = context.parameters.get("branch").flatMap({ Int32($0) }), caller.sees(ServerID(rawValue: id)) else {
                throw DataSyncError(.notFound, operation: "request", detail: "the branch is not one that \(caller.name) sees")
            }
        }
        return caller
    }

    private static var forbidden: DataSyncError { DataSyncError(.suspended, operation: "request", detail: "the role does not allow it") }

    private func call(
        _ request: Request, _ context: some RequestContext, _ endpoint: PeopleEndpoint<People>, _ address: String
    ) async throws -> PeopleCall {
        var parameters: [String: String] = [:]
        for (name, value) in context.parameters { parameters[String(name)] = String(value).removingPercentEncoding ?? "" }
        var query: [String: String] = [:]
        for (name, value) in request.uri.queryParameters { query[String(name)] = String(value).removingPercentEncoding ?? "" }
        return PeopleCall(address: address, parameters: parameters, query: query, body: try await self.body(of: request, for: endpoint))
    }

    private func body(of request: Request, for endpoint: PeopleEndpoint<People>) async throws -> [UInt8] {
        let bounds = BodyBounds(bytesMax: endpoint.bytesMax, deadline: self.bodyDeadline)
        try bounds.check(length: request.headers[.contentLength].flatMap { Int($0) })
        guard request.headers[.contentEncoding] == nil else {
            throw DataSyncError(.invalidInput, operation: "body", detail: "a body must not be compressed")
        }
        let body = try await bounds.read(request.body, into: [UInt8]()) { $0.append(contentsOf: $1.readableBytesView) }
        guard let body else { throw DataSyncError(.invalidInput, operation: "body", detail: "the body did not come in time") }
        // A page of another origin can send anything but this, without being asked about it first.
        let type = request.headers[.contentType].map { $0.prefix { $0 != ";" }.lowercased() }
        guard body.isEmpty || type == "application/json" else {
            throw DataSyncError(.invalidInput, operation: "body", detail: "a body must be application/json")
        }
        return body
    }

    private static func response(_ reply: PeopleReply) -> Response {
        var headers: HTTPFields = [.cacheControl: "no-store", .xContentTypeOptions: "nosniff"]
        if let retryAfter = reply.retryAfter { headers[.retryAfter] = "\(max(1, retryAfter.components.seconds))" }
        guard let body = reply.body else { return Response(status: reply.status, headers: headers) }
        headers[.contentType] = "application/json"
        return Response(status: reply.status, headers: headers, body: .init(byteBuffer: ByteBuffer(string: body)))
    }
}
