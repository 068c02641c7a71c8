public import DataSync
import DataSyncCompression
public import DataSyncIdentity
public import Foundation
import FoundationNetworking

/// Bounds of the HTTP client of a branch.
public struct HTTPLimits: Hashable, Sendable {
    /// To connect, and between two pieces of an answer.
    public var silence: Duration = .seconds(30)
    /// For a whole exchange: this, and the time that the body takes at `bytesPerSecondMin`.
    public var exchange: Duration = .seconds(30)
    public var bytesPerSecondMin = 16 << 10
    /// Of an answer, inflated.
    public var answerBytesMax = 16 << 20
    /// Whether bodies that gain by it are sent compressed. Also to a cloud on the same machine: URLSession on Linux sends
    /// a large body in many small steps, which costs more than compressing it.
    public var isCompressing = true

    public init() {}
}

/// The transport of a branch over HTTP: every request signed by the branch's key, every answer checked to be the cloud's.
public final class HTTPTransport: SyncTransport {
    private let endpoint: CloudEndpoint
    private let identity: BranchIdentity
    private let limits: HTTPLimits
    private let client: HTTPClient

    public init(cloud: CloudEndpoint, identity: BranchIdentity, limits: HTTPLimits = HTTPLimits()) {
        self.endpoint = cloud
        self.identity = identity
        self.limits = limits
        self.client = HTTPClient(answerBytesMax: limits.answerBytesMax, connectionTimeout: limits.silence)
    }

    public func open(_ request: OpenRequest) async throws -> OpenAnswer {
        try await self.exchange("open", request, session: nil)
    }

    public func push(_ request: PushRequest) async throws -> PushAnswer {
        try await self.exchange("push", request, session: request.session)
    }

    public func pull(_ request: PullRequest) async throws -> PullAnswer {
        try await self.exchange("pull", request, session: request.session)
    }

    public func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
        try await self.exchange("acknowledge", request, session: request.session)
    }

    public func recover(_ request: RecoverRequest) async throws -> RecoverAnswer {
        try await self.exchange("recover", request, session: request.session)
    }

    public func compare(_ request: CompareRequest) async throws -> CompareAnswer {
        try await self.exchange("compare", request, session: request.session)
    }

    /// Tells the cloud that `next` is to follow the key that signs this, or uses it for the first time if it signs itself.
    public func offer(_ next: MachineKey) async throws {
        let _: KeyAnswer = try await self.exchange("key", try await self.identity.offer(next), session: nil)
    }

    /// Sends a message and reads the answer; once more with the cloud's time if this machine's clock is wrong.
    private func exchange<Question: WireMessage, Answer: WireMessage>(
        _ operation: StaticString, _ question: Question, session: SessionID?
    ) async throws -> Answer {
        let plain = question.body
        var body = plain
        if self.limits.isCompressing, plain.count >= Gzip.worthwhileBytes {
            let compressed = try Gzip.compress(plain)
            if compressed.count < plain.count { body = compressed }
        }
        let isCompressed = body.count != plain.count
        let request = SignedRequest(path: "/v1/\(operation)", body: body, session: session)
        do {
            return try await self.send(request, isCompressed: isCompressed, operation: operation)
        } catch let error as DataSyncError where error.code == .clockSkew {
            _ = self.identity.adoptCloudTime()
            return try await self.send(request, isCompressed: isCompressed, operation: operation)
        }
    }

    private func send<Answer: WireMessage>(
        _ request: SignedRequest, isCompressed: Bool, operation: StaticString, isSecond: Bool = false
    ) async throws -> Answer {
        let (token, id) = try await self.identity.sign(request)
        let answer = try await self.client.send(
            self.endpoint.urlRequest(
                request, token: token, isCompressed: isCompressed, acceptsGzip: self.limits.isCompressing && !self.endpoint.isLoopback),
            deadline: self.limits.exchange + .seconds(request.body.count / self.limits.bytesPerSecondMin))
        guard let signature = answer.headers[CloudEndpoint.answerHeader] else {
            // The key was changed while this process ran: the new one is where the old one was.
            if answer.status == 401, !isSecond, self.identity.reloadKey() {
                return try await self.send(request, isCompressed: isCompressed, operation: operation, isSecond: true)
            }
            throw CloudEndpoint.unsignedAnswer(answer)
        }
        try await self.identity.verify(signature, status: answer.status, body: answer.body, request: id)
        guard answer.status == 200 else {
            throw try ErrorAnswer(body: answer.body).error(operation: operation)
        }
        return try Answer(body: answer.body)
    }
}

/// Where a cloud is, and what it is asked over HTTP.
public struct CloudEndpoint: Sendable {
    public let url: URL
    let isLoopback: Bool

    /// - Parameters:
    ///   - text: `https://host[:port][/prefix]`.
    ///   - allowsPlainHTTP: Plain HTTP is for this machine alone, unless somebody insists: records would be readable on
    ///     the way, though not forgeable.
    /// - Throws: `invalidConfiguration`.
    public init(_ text: String, allowsPlainHTTP: Bool = false) throws(DataSyncError) {
        func refuse(_ detail: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "cloud", detail: "cloud.url: \(detail)")
        }
        guard let url = URL(string: text), let scheme = url.scheme, let host = url.host, !host.isEmpty,
            ["http", "https"].contains(scheme), url.user == nil, url.query == nil, url.fragment == nil
        else {
            // Not quoted: somebody may have put a password into it.
            throw refuse("this is not of the form https://host[:port][/prefix], without a login, a query or a fragment")
        }
        self.isLoopback = ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host)
        if scheme == "http", !allowsPlainHTTP, !self.isLoopback {
            throw refuse("plain http to another machine: use https, or set cloud.allow_plain_http")
        }
        self.url = url
    }

    static let answerHeader = "datasync-answer"

    func urlRequest(_ request: SignedRequest, token: String, isCompressed: Bool, acceptsGzip: Bool) -> URLRequest {
        var http = URLRequest(url: self.url.appendingPathComponent("datasync" + request.path))
        http.httpMethod = request.method
        http.httpBody = Data(request.body)
        http.setValue("application/json", forHTTPHeaderField: "Content-Type")
        http.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
        http.setValue(acceptsGzip ? "gzip" : "identity", forHTTPHeaderField: "Accept-Encoding")
        if isCompressed { http.setValue("gzip", forHTTPHeaderField: "Content-Encoding") }
        return http
    }

    /// An answer that nobody signed: a proxy's, a captive portal's, or that of a cloud that does not know this branch.
    static func unsignedAnswer(_ answer: HTTPClient.Answer) -> DataSyncError {
        let detail =
            switch answer.status {
            case 401: "the cloud does not accept this branch's key: has it joined this cloud, with this key?"
            case 404: "there is no DataSync at this address: is cloud.url right, with its prefix?"
            case 300...399: "the address answers with a redirect (HTTP \(answer.status)): set cloud.url to where it leads"
            case 502...504: "a proxy before the cloud cannot reach it (HTTP \(answer.status))"
            default: "the answer (HTTP \(answer.status)) is not the cloud's: something on the way answered"
            }
        let retryAfter = answer.headers["retry-after"].flatMap { Int($0) }.map { Duration.seconds(min(max($0, 0), 3_600)) }
        return DataSyncError(.peerUnreachable, operation: "answer", detail: detail, retryAfter: retryAfter)
    }

    private static var joinRefusal: DataSyncError {
        DataSyncError(
            .unauthorized, operation: "join",
            detail: "the cloud refuses the join token: it is good once, for an hour, for one branch; ask for a new one")
    }

    /// Enrols this branch: presents the secret of its join token with a new key, to the cloud whose fingerprint the token
    /// carries and to nobody else.
    /// - Returns: What the branch is called there, and the cloud's key to be kept.
    public func join(
        _ token: JoinToken, key: MachineKey, software: String, limits: HTTPLimits = HTTPLimits()
    ) async throws -> (answer: JoinAnswer, cloudKey: MachinePublicKey) {
        let question = JoinRequest(secret: token.secret, publicKey: key.publicKey.text, software: software)
        let request = SignedRequest(path: "/v1/join", body: question.body, session: nil)
        let client = HTTPClient(answerBytesMax: 64 << 10, connectionTimeout: limits.silence)
        // Until the answer is there, the cloud's key is not known, only its fingerprint: that is what is pinned.
        let signer = BranchIdentity(branch: token.server, key: key, cloudKey: key.publicKey)
        for attempt in 1...2 {
            let (jwt, id) = try await signer.sign(request, trusting: [token.cloudThumbprint])
            let answer = try await client.send(
                self.urlRequest(request, token: jwt, isCompressed: false, acceptsGzip: false), deadline: limits.exchange)
            guard let signature = answer.headers[Self.answerHeader] else {
                throw answer.status == 401 ? Self.joinRefusal : Self.unsignedAnswer(answer)
            }
            guard let cloudKey = answer.headers["datasync-key"].flatMap(MachinePublicKey.init(text:)), cloudKey.thumbprint == token.cloudThumbprint else {
                throw DataSyncError(.unauthorized, operation: "join", detail: "this is not the cloud that printed the join token: its key is another one")
            }
            let verifier = BranchIdentity(branch: token.server, key: key, cloudKey: cloudKey)
            try await verifier.verify(signature, status: answer.status, body: answer.body, request: id)
            if answer.status == 200 { return (try JoinAnswer(body: answer.body), cloudKey) }
            let error = try ErrorAnswer(body: answer.body).error(operation: "join")
            if error.code == .unauthorized { throw Self.joinRefusal }
            guard error.code == .clockSkew, attempt == 1 else { throw error }
            signer.adopt(timeOf: verifier)
        }
        throw DataSyncError(.clockSkew, operation: "join", detail: "this machine's clock runs differently with every question")
    }
}
