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
    private let strangers = StrangerGate()
    private let keys = KeyCache()
    private let firstLook = FirstLook()
    private let quota: Quota
    private let trustedProxies: TrustedProxies
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
        self.quota = Quota(limits)
        self.trustedProxies = TrustedProxies(trustedProxies)
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
            let source = AttemptSource.of(self.trustedProxies.origin(of: request, context))
            return await self.respond("join", request, context, bytesMax: Self.joinBytesMax) { incoming in
                // The key that signed is the one that it brings: that it is the branch's is what the secret says.
                let body = try await self.gate.withBytes(incoming.expectedBytes, of: .cloud) { try await incoming.read() }
                let question = try JoinRequest(body: body)
                let key = MachinePublicKey(text: question.publicKey)
                let proof = try await self.identity.authenticate(incoming.token, method: "POST", path: "/v1/join") { _, _ in key }
                return try await self.answer(proof, to: body, signsRefusals: false) {
                    let answer = try await self.strangers.pass(from: source) { try await self.enrolment.join(question, from: proof.caller.branch) }
                    self.keys.forget(proof.caller.branch)
                    self.logger.notice("branch joined", metadata: ["branch": "\(proof.caller.branch)", "key": "\(proof.caller.key)"])
                    return answer.body
                }
            }
        }
    }

    /// A join is a few hundred bytes, and is read before anybody is known.
    private static var joinBytesMax: Int { 4_096 }

    private func add<Question: WireMessage, Answer: WireMessage, Context: RequestContext>(
        _ name: StaticString, to group: some RouterMethods<Context>,
        _ work: @escaping @Sendable (Question, CloudIdentity.Caller) async throws -> Answer
    ) {
        group.post(RouterPath("v1/\(name)")) { request, context in
            await self.respond(name, request, context, bytesMax: self.limits.bodyBytesMax) { incoming in
                let encoding = request.headers[.contentEncoding]
                let (proof, keys): (CloudIdentity.Proof, BranchKeys)
                do {
                    let source = AttemptSource.of(self.trustedProxies.origin(of: request, context))
                    (proof, keys) = try await self.authenticate(incoming.token, path: "/v1/\(name)", from: source)
                } catch {
                    // Nothing is kept of what a stranger sends, but it is let through: who is cut off does not read the answer.
                    try await incoming.discard()
                    throw error
                }
                // Room is for those who are known.
                return try await self.gate.withBytes(incoming.expectedBytes, of: proof.caller.branch) {
                    let body = try await incoming.read()
                    return try await self.answer(proof, to: body) {
                        try self.count(body, of: proof.caller.branch)
                        try await self.takeIn(proof.caller, keys)
                        // What a body becomes is in memory for those alone who are at work.
                        return try await self.gate.work(for: proof.caller.branch) {
                            let question = try self.question(Question.self, body, encoding: encoding)
                            // The body cannot claim another session than the token was signed for.
                            guard question.sessionOfRequest == proof.caller.session else {
                                throw DataSyncError(.peerInvalid, operation: "session", detail: "the token was signed for another session")
                            }
                            return try await work(question, proof.caller).body
                        }
                    }
                }
            }
        }
    }

    /// Counts a request that is proven to be its branch's: nobody else can use up what a branch may ask for.
    private func count(_ body: [UInt8], of branch: ServerID) throws(DataSyncError) {
        do { try self.quota.take(bytes: body.count, of: branch, at: self.environment.runningTime()) } catch {
            if error.isWorthALine {
                self.logger.warning(
                    "a branch asks for more than its quota, and is told to come back",
                    metadata: ["branch": "\(branch)", "too_many": "\(error.excess.rawValue)", "retry_after": "\(error.retryAfter)"])
            }
            throw DataSyncError(.overQuota, operation: "request", detail: "too many \(error.excess.rawValue)", retryAfter: error.retryAfter)
        }
    }

    private func question<Question: WireMessage>(_: Question.Type, _ body: [UInt8], encoding: String?) throws -> Question {
        guard let encoding else { return try Question(body: body) }
        guard encoding.lowercased() == "gzip" else {
            throw DataSyncError(.peerInvalid, operation: "decode", detail: "the one encoding that is understood is gzip")
        }
        return try Question(body: try Gzip.decompress(body, bytesMax: self.limits.inflatedBytesMax, ratioMax: self.limits.inflationRatioMax))
    }

    /// What is to be done when a branch is known, and before it is listened to.
    private func takeIn(_ caller: CloudIdentity.Caller, _ keys: BranchKeys) async throws {
        if keys.next == caller.key {
            try await self.enrolment.takeUse(of: caller.key, by: caller.branch)
            self.keys.forget(caller.branch)
        }
        // What a branch says of the keys that it trusts is kept where it has changed: never while the cloud has its first key.
        guard let trusted = caller.trusted else { return }
        let text = trusted.sorted().joined(separator: " ")
        guard text != keys.trusted, text.utf8.count <= 100, keys.trusted != nil || trusted.count > 1 else { return }
        try await self.enrolment.note(trusted: text, by: caller.branch)
        self.keys.forget(caller.branch)
    }

    // MARK: - One request

    /// What goes back: a body and, for a known branch, its signature.
    private struct Reply {
        var status = 200
        var body: [UInt8]
        var signature: CloudIdentity.Signature?
        var retryAfter: Duration?
        /// Whose share the body is counted in until it is sent; small ones are not counted.
        var branch: ServerID?
    }

    /// A refusal that is not signed: whoever asked is not known to be the branch that it names.
    private struct Stranger: Error {
        let error: DataSyncError
    }

    private func respond<Context: RequestContext>(
        _ name: StaticString, _ request: Request, _ context: Context, bytesMax: Int, _ work: @Sendable (IncomingRequest) async throws -> Reply
    ) async -> Response {
        let incoming = IncomingRequest(request, bytesMax: bytesMax, limits: self.limits)
        do {
            return try self.response(try await work(incoming), acceptsGzip: incoming.acceptsGzip, to: context)
        } catch {
            guard let refusal = error as? DataSyncError ?? (error as? Stranger)?.error else {
                self.logger.error("request failed", metadata: ["operation": "\(name)", "error": "\(String(reflecting: error))"])
                let answer = ErrorAnswer(DataSyncError(.storageUnavailable, operation: name))
                return self.response(Reply(status: 503, body: answer.body, retryAfter: .seconds(1)))
            }
            self.log(refusal, name, address: self.trustedProxies.origin(of: request, context))
            let answer = ErrorAnswer(refusal)
            var response = self.response(Reply(status: answer.status, body: answer.body, retryAfter: refusal.retryAfter))
            // What is left of a body that was not read is not a request.
            response.headers[.connection] = "close"
            return response
        }
    }

    /// Answers who has proven to be a branch and to have sent `body`, and signs that, be it an answer or an error.
    ///
    /// What is thrown before is not signed: a copy of a branch's token would get the cloud's word for that branch's request.
    /// - Parameter signsRefusals: Whether who is not let in is told so by the cloud's key. A stranger is not.
    private func answer(
        _ proof: CloudIdentity.Proof, to body: [UInt8], signsRefusals: Bool = true, _ work: () async throws -> [UInt8]
    ) async throws -> Reply {
        let caller = proof.caller
        do {
            // Where it is the time that is wrong, the branch goes on by the cloud's, and somebody should see to it.
            do { try proof.check(body) } catch {
                guard error.code == .clockSkew else { throw Stranger(error: error) }
                throw error
            }
            let body = try await work()
            return Reply(body: body, signature: try await self.identity.sign(status: 200, body: body, to: caller), branch: caller.branch)
        } catch let error as DataSyncError {
            if error.code == .unauthorized, !signsRefusals { throw Stranger(error: error) }
            self.log(error, "request", branch: caller.branch)
            let answer = ErrorAnswer(error)
            let body = answer.body
            return Reply(
                status: answer.status, body: body, signature: try await self.identity.sign(status: answer.status, body: body, to: caller),
                retryAfter: error.retryAfter)
        }
    }

    /// Who asks, as far as the token says it.
    ///
    /// Keys are kept for a few seconds. One that was looked up a moment ago is good for the session that was open then and for no other:
    /// who changes a branch's key raises its session in the same transaction, so nothing that the old key signs gets past both. Who names no
    /// session, to open one or to name another key, is looked up at this moment.
    ///
    /// Whoever signs by a key that was a branch's when it was last looked up is no stranger, however long ago that was, and is looked up without
    /// waiting for strangers; whoever only names such a key is refused without being looked up. A replica that has just started looks all branches up
    /// at once, before it takes anybody for a stranger.
    private func authenticate(_ token: String?, path: String, from source: String) async throws -> (CloudIdentity.Proof, BranchKeys) {
        let now = self.environment.runningTime()
        for isKnown in [false, true] {
            var found: (keys: BranchKeys, isFresh: Bool)?
            let proof = try await self.identity.authenticate(token, method: "POST", path: path) { branch, thumbprint in
                if let known = found, known.isFresh { return known.keys.key(thumbprint) }
                if !isKnown { await self.firstLook.once { try await self.lookUpAll(at: now) } }
                if isKnown {
                    found = try await self.lookUp(branch, at: now).map { ($0, true) }
                } else if let remembered = self.keys.keys(of: branch), remembered.key(thumbprint) != nil {
                    found = (remembered, false)
                } else {
                    found = try await self.strangers.pass(from: source) { try await self.lookUp(branch, at: now) }.map { ($0, true) }
                }
                return found?.keys.key(thumbprint)
            }
            guard let (keys, isFresh) = found else { break }
            if isFresh || (keys.until > now && proof.caller.session?.number == keys.session) { return (proof, keys) }
        }
        throw DataSyncError(.unauthorized, operation: "token", detail: "the token does not fit the request")
    }

    /// The keys of a branch as the database has them.
    private func lookUp(_ branch: ServerID, at now: Duration) async throws -> BranchKeys? {
        let row = try await self.hub.storage.withTransaction(.snapshot) { try await $0.server(branch) }
        guard let keys = row.flatMap({ BranchKeys($0, until: now + KeyCache.lifetime) }) else {
            self.keys.forget(branch)
            return nil
        }
        self.keys.remember(keys, of: branch)
        return keys
    }

    private func lookUpAll(at now: Duration) async throws {
        for row in try await self.hub.storage.withTransaction(.snapshot, { try await $0.servers() }).prefix(KeyCache.branchesMax) where row.id.isBranch {
            if let keys = BranchKeys(row, until: now + KeyCache.lifetime) { self.keys.remember(keys, of: row.id) }
        }
    }

    // MARK: - Answers

    /// - Throws: `storageBusy` where too much waits to be read by this branch, or by all.
    private func response(_ reply: Reply, acceptsGzip: Bool, to context: some RequestContext) throws(DataSyncError) -> Response {
        guard reply.body.count >= Gzip.worthwhileBytes else { return self.response(reply) }
        var (reply, headers) = (reply, HTTPFields())
        if acceptsGzip, let compressed = try? Gzip.compress(reply.body), compressed.count < reply.body.count {
            reply.body = compressed
            headers[.contentEncoding] = "gzip"
        }
        let response = self.response(reply, headers)
        // An embedding server that says nothing of its connections bounds itself what waits there.
        guard reply.body.count > Self.smallBytesMax, let branch = reply.branch, let context = context as? ServerRequestContext else { return response }
        context.channel.triggerUserOutboundEvent(try self.gate.room(reply.body.count, of: branch), promise: nil)
        return response
    }

    /// What a connection's own buffer holds.
    private static var smallBytesMax: Int { 64 << 10 }

    private func response(_ reply: Reply, _ more: HTTPFields = [:]) -> Response {
        var headers = more
        headers[.contentType] = "application/json"
        headers[.cacheControl] = "no-store"
        if let signature = reply.signature {
            headers[HTTPField.Name("datasync-answer")!] = signature.token
            headers[HTTPField.Name("datasync-key")!] = signature.key.text
        }
        if let retryAfter = reply.retryAfter { headers[.retryAfter] = "\(max(1, retryAfter.components.seconds))" }
        return Response(status: .init(code: reply.status), headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: reply.body)))
    }

    // MARK: - Log

    private func log(_ error: DataSyncError, _ name: StaticString, address: String) {
        self.logger.warning(
            "request refused", metadata: ["operation": "\(name)", "error": "\(String(reflecting: error))", "address": "\(address)"])
    }

    private func log(_ error: DataSyncError, _ name: StaticString, branch: ServerID) {
        // That was said once, and is not said with each request.
        guard error.code != .overQuota else { return }
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
    /// The newest when the keys were looked up.
    var session: Int64
    /// In running time: looked up again after it.
    var until: Duration

    /// Nil where the branch has not joined.
    init?(_ row: ServerRow, until: Duration) {
        guard let present = row.publicKey.flatMap(MachinePublicKey.init(text:)) else { return nil }
        self.present = present
        self.next = row.nextKey.flatMap(MachinePublicKey.init(text:))
        self.trusted = row.cloudKeys
        self.session = row.session
        self.until = until
    }

    func key(_ thumbprint: String) -> MachinePublicKey? { [self.present, self.next].lazy.compactMap { $0 }.first { $0.thumbprint == thumbprint } }
}

/// The public keys that were asked for.
private final class KeyCache: Sendable {
    private let keys = Mutex<[ServerID: BranchKeys]>([:])
    /// After this they are looked up again; until then, and after it, they tell a stranger's token from one that may be a branch's.
    static let lifetime: Duration = .seconds(5)
    static let branchesMax = 10_000

    func keys(of branch: ServerID) -> BranchKeys? { self.keys.withLock { $0[branch] } }

    func remember(_ known: BranchKeys, of branch: ServerID) {
        self.keys.withLock { keys in
            if keys.count >= Self.branchesMax, keys[branch] == nil { keys.removeAll() }
            keys[branch] = known
        }
    }

    func forget(_ branch: ServerID) { self.keys.withLock { $0[branch] = nil } }
}

/// What is to be done once, before anything else; whoever comes meanwhile waits for it, though not for long. What fails is tried again by the next.
private final class FirstLook: Sendable {
    private let isDone = Atomic(false)
    private let turn = AsyncSemaphore(1)

    func once(_ body: () async throws -> Void) async {
        guard !self.isDone.load(ordering: .relaxed) else { return }
        let turn = self.turn
        let isMine: Void? = try? await withTimeout(.seconds(2)) { try await turn.wait() }
        guard isMine != nil else { return }
        defer { turn.signal() }
        guard !self.isDone.load(ordering: .relaxed) else { return }
        do {
            try await body()
            self.isDone.store(true, ordering: .relaxed)
        } catch {
            // Then everybody is looked up one by one, which says so where the database is what is away.
        }
    }
}

/// The quotas of all branches in this process.
private final class Quota: Sendable {
    private let quota: Mutex<BranchQuota>

    init(_ limits: ServerLimits) {
        self.quota = Mutex(BranchQuota(requestsPerMinute: limits.branchRequestsPerMinute, bytesPerDay: limits.branchBytesPerDay))
    }

    func take(bytes: Int, of branch: ServerID, at now: Duration) throws(BranchQuota.Refusal) {
        try self.quota.withLock { (quota) throws(BranchQuota.Refusal) in try quota.take(bytes: bytes, of: branch, at: now) }
    }
}

/// A request whose body is read when it is known who asks.
private final class IncomingRequest: Sendable {
    let token: String?
    let acceptsGzip: Bool
    /// What its body may take in memory.
    let expectedBytes: Int
    private let length: Int?
    private let bounds: BodyBounds
    private let body: RequestBody

    init(_ request: Request, bytesMax: Int, limits: ServerLimits) {
        self.token = request.headers[.authorization].flatMap { $0.hasPrefix("Bearer ") ? String($0.dropFirst(7)) : nil }
        self.acceptsGzip = request.headers[.acceptEncoding]?.split(separator: ",").contains { $0.drop { $0 == " " }.hasPrefix("gzip") } ?? false
        let length = request.headers[.contentLength].flatMap { Int($0) }
        self.length = length
        let bytesMax = min(bytesMax, limits.bodyBytesMax)
        self.expectedBytes = min(length ?? bytesMax, bytesMax)
        self.bounds = BodyBounds(
            bytesMax: bytesMax, deadline: limits.bodyDeadline + .seconds(self.expectedBytes / limits.bodyBytesPerSecondMin))
        self.body = request.body
    }

    /// The body, within its size and its time.
    func read() async throws -> [UInt8] {
        var body: [UInt8] = []
        body.reserveCapacity(self.length == nil ? 0 : self.expectedBytes)
        return try await self.pieces(of: body) { $0.append(contentsOf: $1.readableBytesView) }
    }

    /// Reads the body, within the same bounds, and keeps nothing of it.
    func discard() async throws { try await self.pieces(of: ()) { _, _ in } }

    private func pieces<Result: Sendable>(of start: Result, _ take: @escaping @Sendable (inout Result, ByteBuffer) -> Void) async throws -> Result {
        try self.bounds.check(length: self.length)
        guard let result = try await self.bounds.read(self.body, into: start, take) else {
            throw DataSyncError(.peerInvalid, operation: "body", detail: "the body did not come in time")
        }
        return result
    }
}

/// Bounds what is in memory and at work at a time. What does not fit is sent away, with the time to come back.
///
/// One branch has a share of both, whatever it sends: bodies that trickle in, or many requests at a time that wait for each other, take
/// nothing from the others.
private final class WorkGate: Sendable {
    private struct Taken {
        var bytes = 0
        var workers = 0
    }

    private let bytesMax: Int
    private let shareBytesMax: Int
    /// At work and waiting. An agent has two requests under way, and some more where it has given up waiting for older ones.
    private let shareWorkersMax: Int
    private let shares = Mutex<[ServerID: Taken]>([:])
    private let wait: Duration
    private let bytes = Mutex(0)
    private let workers: AsyncSemaphore
    private let waitersMax: Int
    private let waiters = Mutex(0)

    init(_ limits: ServerLimits) {
        self.bytesMax = limits.bodiesBytesMax
        self.shareBytesMax = max(limits.bodiesBytesMax / 3, limits.bodyBytesMax)
        self.shareWorkersMax = max(limits.workersMax / 2, 2)
        self.wait = limits.workWait
        self.waitersMax = limits.waitersMax
        self.workers = AsyncSemaphore(limits.workersMax)
    }

    private static let busy = DataSyncError(
        .storageBusy, operation: "request", detail: "too many requests at a time", retryAfter: .seconds(2))

    /// - Parameter branch: Whose bytes they are; of strangers all together, the cloud's id.
    /// - Returns: What holds the room as long as there is a reference to it.
    func room(_ count: Int, of branch: ServerID) throws(DataSyncError) -> HeldRoom {
        guard self.take(count, \.bytes, of: branch, max: self.shareBytesMax) else { throw Self.busy }
        let fits = self.bytes.withLock { bytes in
            guard bytes + count <= self.bytesMax else { return false }
            bytes += count
            return true
        }
        guard fits else {
            self.giveBack(count, \.bytes, of: branch)
            throw Self.busy
        }
        return HeldRoom {
            self.bytes.withLock { $0 -= count }
            self.giveBack(count, \.bytes, of: branch)
        }
    }

    func withBytes<Result>(_ count: Int, of branch: ServerID, _ body: () async throws -> Result) async throws -> Result {
        let room = try self.room(count, of: branch)
        defer { withExtendedLifetime(room) {} }
        return try await body()
    }

    /// - Returns: Whether that is no more than the branch's share.
    private func take(_ count: Int, _ kind: any WritableKeyPath<Taken, Int> & Sendable, of branch: ServerID, max: Int) -> Bool {
        self.shares.withLock { shares in
            guard shares[branch, default: Taken()][keyPath: kind] + count <= max else { return false }
            shares[branch, default: Taken()][keyPath: kind] += count
            return true
        }
    }

    private func giveBack(_ count: Int, _ kind: any WritableKeyPath<Taken, Int> & Sendable, of branch: ServerID) {
        self.shares.withLock { shares in
            guard var taken = shares[branch] else { return }
            taken[keyPath: kind] -= count
            shares[branch] = taken.bytes == 0 && taken.workers == 0 ? nil : taken
        }
    }

    func work<Result>(for branch: ServerID, _ body: () async throws -> Result) async throws -> Result {
        guard self.take(1, \.workers, of: branch, max: self.shareWorkersMax) else { throw Self.busy }
        defer { self.giveBack(1, \.workers, of: branch) }
        return try await self.work(body)
    }

    private func work<Result>(_ body: () async throws -> Result) async throws -> Result {
        if !self.workers.tryWait() {
            let mayWait = self.waiters.withLock { waiters in
                guard waiters < self.waitersMax else { return false }
                waiters += 1
                return true
            }
            guard mayWait else { throw Self.busy }
            defer { self.waiters.withLock { $0 -= 1 } }
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
