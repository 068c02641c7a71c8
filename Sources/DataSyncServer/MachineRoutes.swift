public import DataSync
import DataSyncCompression
public import DataSyncIdentity
import FoundationEssentials
import HTTPTypes
public import Hummingbird
public import Logging
import NIOCore
import Synchronization

/// The machine endpoint of a cloud, for its own program or for a backend's router:
///
/// ```swift
/// let router = Router()
/// MachineRoutes(hub: hub, identity: identity, enrolment: enrolment).add(to: router.group("datasync"))
/// ```
///
/// Every request is signed by a branch's own key and verified before anything of it is believed; every answer to a known
/// branch is signed by the cloud's.
public struct MachineRoutes<Storage: SyncStorage>: Sendable {
    private let hub: Hub<Storage>
    private let identity: CloudIdentity
    private let enrolment: Enrolment<Storage>
    private let limits: ServerLimits
    private let environment: SyncEnvironment
    private let gate: WorkGate
    private let keys = KeyCache()
    private let trustedProxies: Set<String>
    private let logger: Logger

    /// - Parameter trustedProxies: The addresses of proxies whose `X-Forwarded-For` is believed; nobody else's is.
    public init(
        hub: Hub<Storage>, identity: CloudIdentity, enrolment: Enrolment<Storage>, limits: ServerLimits = ServerLimits(),
        trustedProxies: Set<String> = [], environment: SyncEnvironment = .system,
        logger: Logger = Logger(label: "datasync.server")
    ) throws(DataSyncError) {
        try limits.validate(hub.limits)
        self.hub = hub
        self.identity = identity
        self.enrolment = enrolment
        self.limits = limits
        self.environment = environment
        self.gate = WorkGate(limits)
        self.trustedProxies = trustedProxies
        self.logger = logger
    }

    /// Adds the eight routes below `group`: `v1/join`, `v1/open`, `v1/push`, `v1/pull`, `v1/acknowledge`, `v1/recover`, `v1/compare` and `v1/key`.
    public func add<Context: RequestContext>(to group: some RouterMethods<Context>) {
        self.add("open", to: group) { (request: OpenRequest, caller) in try await self.hub.open(request, from: caller.branch) }
        self.add("push", to: group) { (request: PushRequest, caller) in try await self.hub.push(request, from: caller.branch) }
        self.add("pull", to: group) { (request: PullRequest, caller) in try await self.hub.pull(request, from: caller.branch) }
        self.add("acknowledge", to: group) { (request: AcknowledgeRequest, caller) in
            try await self.hub.acknowledge(request, from: caller.branch)
        }
        self.add("recover", to: group) { (request: RecoverRequest, caller) in try await self.hub.recover(request, from: caller.branch) }
        self.add("key", to: group) { (request: KeyRequest, caller) in
            let answer = try await self.enrolment.takeOffer(request, from: caller)
            self.keys.forget(caller.branch)
            return answer
        }
        self.add("compare", to: group) { (request: CompareRequest, caller) in try await self.hub.compare(request, from: caller.branch) }
        group.post("v1/join") { request, context in
            await self.respond("join", request, context) { body, token in
                // The key that signed is the one that it brings: that it is the branch's is what the secret says.
                let question = try JoinRequest(body: body)
                let signed = SignedRequest(path: "/v1/join", body: body, session: nil)
                let key = MachinePublicKey(text: question.publicKey)
                return try await self.answer(token, signed, signsRefusals: false, key: { _, _ in key }) { caller in
                    let answer = try await self.enrolment.join(question, from: caller.branch)
                    self.keys.forget(caller.branch)
                    self.logger.notice(
                        "branch joined", metadata: ["branch": "\(caller.branch)", "key": "\(MachinePublicKey(text: question.publicKey)?.thumbprint ?? "")"])
                    return answer.body
                }
            }
        }
    }

    private func add<Question: WireMessage, Answer: WireMessage, Context: RequestContext>(
        _ name: StaticString, to group: some RouterMethods<Context>,
        _ work: @escaping @Sendable (Question, CloudIdentity.Caller) async throws -> Answer
    ) {
        group.post(RouterPath("v1/\(name)")) { request, context in
            let isCompressed = request.headers[.contentEncoding] != nil
            let encoding = request.headers[.contentEncoding]
            return await self.respond(name, request, context) { body, token in
                // What is signed is what was sent; the session that it was signed for is compared below.
                let signed = SignedRequest(path: "/v1/\(name)", body: body, session: nil)
                // Who begins a session, or names another key, is looked up at this moment, wherever else the key has changed.
                let isFresh = Question.self == OpenRequest.self || Question.self == KeyRequest.self
                return try await self.answer(token, signed, key: { try await self.publicKey(of: $0, $1, isFresh: isFresh) }) { caller in
                    if self.keys.isNext(caller.key, of: caller.branch) {
                        try await self.enrolment.takeUse(of: caller.key, by: caller.branch)
                        self.keys.forget(caller.branch)
                    }
                    try await self.noteTrust(of: caller)
                    guard !isCompressed || encoding?.lowercased() == "gzip" else {
                        throw DataSyncError(.peerInvalid, operation: "decode", detail: "the one encoding that is understood is gzip")
                    }
                    let plain =
                        isCompressed
                        ? try Gzip.decompress(body, bytesMax: self.limits.inflatedBytesMax, ratioMax: self.limits.inflationRatioMax) : body
                    let question = try Question(body: plain)
                    // The body cannot claim another session than the token was signed for.
                    guard question.sessionOfRequest == caller.session else {
                        throw DataSyncError(.peerInvalid, operation: "session", detail: "the token was signed for another session")
                    }
                    return try await self.gate.work { try await work(question, caller).body }
                }
            }
        }
    }

    // MARK: - One request

    /// What goes back: a body and, for a known branch, its signature.
    private struct Reply {
        var status = 200
        var body: [UInt8]
        var signature: CloudIdentity.Signature?
        var retryAfter: Duration?
    }

    private func respond<Context: RequestContext>(
        _ name: StaticString, _ request: Request, _ context: Context,
        _ work: @Sendable ([UInt8], String?) async throws -> Reply
    ) async -> Response {
        do {
            let length = request.headers[.contentLength].flatMap { Int($0) }
            let reserved = min(length ?? self.limits.bodyBytesMax, self.limits.bodyBytesMax)
            return try await self.gate.withBytes(reserved) {
                let body = try await self.body(of: request, length: length)
                let token = request.headers[.authorization].flatMap { $0.hasPrefix("Bearer ") ? String($0.dropFirst(7)) : nil }
                return self.response(try await work(body, token), acceptsGzip: Self.acceptsGzip(request))
            }
        } catch let error as DataSyncError {
            self.log(error, name, address: self.address(of: request, context))
            let answer = ErrorAnswer(error)
            var response = self.response(
                Reply(status: answer.status, body: answer.body, retryAfter: error.retryAfter), acceptsGzip: false)
            // What is left of a body that was not read is not a request.
            response.headers[.connection] = "close"
            return response
        } catch {
            self.logger.error("request failed", metadata: ["operation": "\(name)", "error": "\(String(reflecting: error))"])
            let answer = ErrorAnswer(DataSyncError(.storageUnavailable, operation: name))
            return self.response(Reply(status: 503, body: answer.body, retryAfter: .seconds(1)), acceptsGzip: false)
        }
    }

    /// Verifies who asks and signs what is answered, be it an answer or an error.
    /// - Parameter signsRefusals: Whether who is not let in is told so by the cloud's key. A stranger is not.
    private func answer(
        _ token: String?, _ request: SignedRequest, signsRefusals: Bool = true, key: (ServerID, String) async throws -> MachinePublicKey?,
        _ work: (CloudIdentity.Caller) async throws -> [UInt8]
    ) async throws -> Reply {
        let caller: CloudIdentity.Caller
        do { caller = try await self.identity.verify(token, of: request, publicKey: key) } catch let skewed as SkewedRequest {
            // Its clock is wrong: the branch goes on by the cloud's time, and somebody should see to it.
            self.log(skewed.error, "request", branch: skewed.caller.branch)
            return try await self.signed(skewed.error, to: skewed.caller)
        }
        do {
            let body = try await work(caller)
            return Reply(body: body, signature: try await self.identity.sign(status: 200, body: body, to: caller))
        } catch let error as DataSyncError {
            if error.code == .unauthorized, !signsRefusals { throw error }
            self.log(error, "request", branch: caller.branch)
            return try await self.signed(error, to: caller)
        }
    }

    private func signed(_ error: DataSyncError, to caller: CloudIdentity.Caller) async throws -> Reply {
        let answer = ErrorAnswer(error)
        let body = answer.body
        return Reply(
            status: answer.status, body: body,
            signature: try await self.identity.sign(status: answer.status, body: body, to: caller), retryAfter: error.retryAfter)
    }

    /// The stored key of a branch that has this thumbprint. Kept for a few seconds: everything else about a branch is looked at by what
    /// it asks for, and who changes its key ends the sessions that were opened with the old one.
    private func publicKey(of branch: ServerID, _ thumbprint: String, isFresh: Bool) async throws -> MachinePublicKey? {
        let now = self.environment.runningTime()
        if !isFresh, let known = self.keys.keys(of: branch, at: now)?.key(thumbprint) { return known }
        let row = try await self.hub.storage.withTransaction(.snapshot) { try await $0.server(branch) }
        guard let present = row?.publicKey.flatMap(MachinePublicKey.init(text:)) else {
            self.keys.forget(branch)
            return nil
        }
        let keys = BranchKeys(present: present, next: row?.nextKey.flatMap(MachinePublicKey.init(text:)), trusted: row?.cloudKeys)
        self.keys.remember(keys, of: branch, at: now)
        return keys.key(thumbprint)
    }

    /// Keeps what a branch says of the keys that it trusts, where that has changed: never while the cloud has its first key.
    private func noteTrust(of caller: CloudIdentity.Caller) async throws {
        guard let trusted = caller.trusted, let known = self.keys.trust(of: caller.branch) else { return }
        let text = trusted.sorted().joined(separator: " ")
        guard text != known.last, text.utf8.count <= 100, known.last != nil || trusted.count > 1 else { return }
        try await self.enrolment.note(trusted: text, by: caller.branch)
        self.keys.forget(caller.branch)
    }

    // MARK: - Bodies

    /// Reads a body within its size and its time. A sender that trickles is cut off whatever it has sent.
    private func body(of request: Request, length: Int?) async throws -> [UInt8] {
        let limits = self.limits
        let tooLarge = DataSyncError(.tooLarge, operation: "body", detail: "more than \(limits.bodyBytesMax) bytes")
        if let length, length > limits.bodyBytesMax { throw tooLarge }
        let deadline = limits.bodyDeadline + .seconds((length ?? limits.bodyBytesMax) / limits.bodyBytesPerSecondMin)
        let stream = request.body
        let body = try await withTimeout(deadline) {
            var body: [UInt8] = []
            body.reserveCapacity(length ?? 0)
            for try await piece in stream {
                guard body.count + piece.readableBytes <= limits.bodyBytesMax else { throw tooLarge }
                body.append(contentsOf: piece.readableBytesView)
            }
            return body
        }
        guard let body else { throw DataSyncError(.peerInvalid, operation: "body", detail: "the body did not come in time") }
        return body
    }

    private static func acceptsGzip(_ request: Request) -> Bool {
        request.headers[.acceptEncoding]?.split(separator: ",").contains { $0.drop { $0 == " " }.hasPrefix("gzip") } ?? false
    }

    private func response(_ reply: Reply, acceptsGzip: Bool) -> Response {
        var headers: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]
        if let signature = reply.signature {
            headers[HTTPField.Name("datasync-answer")!] = signature.token
            headers[HTTPField.Name("datasync-key")!] = signature.key.text
        }
        if let retryAfter = reply.retryAfter { headers[.retryAfter] = "\(max(1, retryAfter.components.seconds))" }
        var body = reply.body
        if acceptsGzip, body.count >= Gzip.worthwhileBytes, let compressed = try? Gzip.compress(body), compressed.count < body.count {
            body = compressed
            headers[.contentEncoding] = "gzip"
        }
        return Response(status: .init(code: reply.status), headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: body)))
    }

    // MARK: - Log

    /// Where a request came from: the connection, or what the nearest proxy that is not trusted told a trusted one.
    private func address(of request: Request, _ context: some RequestContext) -> String {
        guard let peer = (context as? any CallerAddressContext)?.callerAddress else { return "unknown" }
        guard self.trustedProxies.contains(peer), let forwarded = request.headers[Self.forwardedFor] else { return peer }
        let path = forwarded.split(separator: ",").map { $0.filter { $0 != " " } }
        return path.last { !self.trustedProxies.contains($0) } ?? peer
    }

    private static var forwardedFor: HTTPField.Name { HTTPField.Name("x-forwarded-for")! }

    private func log(_ error: DataSyncError, _ name: StaticString, address: String) {
        self.logger.warning(
            "request refused", metadata: ["operation": "\(name)", "error": "\(String(reflecting: error))", "address": "\(address)"])
    }

    private func log(_ error: DataSyncError, _ name: StaticString, branch: ServerID) {
        let isOurs = error.code == .storageFailed || error.code == .storageUnavailable || error.code == .storageBusy || error.code == .commitUnknown
        self.logger.log(
            level: isOurs ? .error : .notice, "request of a branch failed",
            metadata: ["branch": "\(branch)", "error": "\(String(reflecting: error))"])
    }
}

/// A request's context that knows where the request came from.
public protocol CallerAddressContext: RequestContext {
    var callerAddress: String? { get }
}

/// The keys by which a branch may sign.
private struct BranchKeys: Sendable {
    var present: MachinePublicKey
    /// Known, and not used yet.
    var next: MachinePublicKey?
    /// The cloud's keys that it knows, as it last said.
    var trusted: String?

    func key(_ thumbprint: String) -> MachinePublicKey? { [self.present, self.next].lazy.compactMap { $0 }.first { $0.thumbprint == thumbprint } }
}

/// The public keys that were asked for lately.
private final class KeyCache: Sendable {
    private let keys = Mutex<[ServerID: (keys: BranchKeys, until: Duration)]>([:])
    private static let lifetime: Duration = .seconds(5)

    func keys(of branch: ServerID, at now: Duration) -> BranchKeys? {
        self.keys.withLock { keys in
            guard let known = keys[branch], known.until > now else { return nil }
            return known.keys
        }
    }

    /// Whether `key` is known as the one that is to follow, however long ago that was looked up.
    func isNext(_ key: MachinePublicKey, of branch: ServerID) -> Bool { self.keys.withLock { $0[branch]?.keys.next == key } }

    /// What is known of the keys that a branch trusts; nil where nothing is.
    func trust(of branch: ServerID) -> (last: String?, Void)? { self.keys.withLock { $0[branch].map { ($0.keys.trusted, ()) } } }

    func remember(_ known: BranchKeys, of branch: ServerID, at now: Duration) {
        self.keys.withLock { keys in
            if keys.count >= 10_000 { keys.removeAll() }
            keys[branch] = (known, now + Self.lifetime)
        }
    }

    func forget(_ branch: ServerID) { self.keys.withLock { $0[branch] = nil } }
}

/// Bounds what is in memory and at work at a time. What does not fit is sent away, with the time to come back.
private final class WorkGate: Sendable {
    private let bytesMax: Int
    private let wait: Duration
    private let bytes = Mutex(0)
    private let workers: AsyncSemaphore

    init(_ limits: ServerLimits) {
        self.bytesMax = limits.bodiesBytesMax
        self.wait = limits.workWait
        self.workers = AsyncSemaphore(limits.workersMax)
    }

    private static let busy = DataSyncError(
        .storageBusy, operation: "request", detail: "too many requests at a time", retryAfter: .seconds(2))

    func withBytes<Result>(_ count: Int, _ body: () async throws -> Result) async throws -> Result {
        let fits = self.bytes.withLock { bytes in
            guard bytes + count <= self.bytesMax else { return false }
            bytes += count
            return true
        }
        guard fits else { throw Self.busy }
        defer { self.bytes.withLock { $0 -= count } }
        return try await body()
    }

    func work<Result>(_ body: () async throws -> Result) async throws -> Result {
        if !self.workers.tryWait() {
            let workers = self.workers
            let isFree: Void? = try await withTimeout(self.wait) { try await workers.wait() }
            guard isFree != nil else { throw Self.busy }
        }
        defer { self.workers.signal() }
        return try await body()
    }
}

extension WireMessage {
    /// The session that a request names.
    fileprivate var sessionOfRequest: SessionID? {
        switch self {
        case let request as PushRequest: request.session
        case let request as PullRequest: request.session
        case let request as AcknowledgeRequest: request.session
        case let request as RecoverRequest: request.session
        case let request as CompareRequest: request.session
        default: nil
        }
    }
}
