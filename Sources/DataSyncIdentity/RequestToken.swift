public import DataSync
import FoundationEssentials
import JWTKit
import Synchronization

/// What a branch signs with each request: who asks, what exactly, in which session. Nobody can use it for another
/// request, nor later than a minute after.
struct RequestClaims: TokenClaims {
    static let tokenType = "datasync-request+jwt"
    static let expectedIssuer = "datasync-branch"
    static let expectedAudience = "datasync-cloud"
    static let lifetimeSecondsMax: Int64 = 60

    var issuer = Self.expectedIssuer
    var audience = Self.expectedAudience
    var id: String
    var issued: Int64
    var expires: Int64
    /// The branch's id.
    var subject: String
    var method: String
    /// Without host and whatever a proxy puts before it: `/v1/push`.
    var path: String
    /// ``Digest/body(_:)`` of the bytes as sent.
    var digest: String
    /// The session of the request; absent where none is open yet.
    var session: Int64?
    var epoch: Int32?
    /// The thumbprints of the cloud's keys that the branch takes answers by.
    var trusted: [String]?

    enum CodingKeys: String, CodingKey {
        case issuer = "iss", audience = "aud", id = "jti", issued = "iat", expires = "exp", subject = "sub"
        case method = "htm", path = "htp", digest = "bod", session = "ses", epoch = "epo", trusted = "cks"
    }
}

/// What the cloud signs with each answer: to which request, what exactly, and its time.
struct AnswerClaims: TokenClaims {
    static let tokenType = "datasync-answer+jwt"
    static let expectedIssuer = "datasync-cloud"
    static let expectedAudience = "datasync-branch"
    static let lifetimeSecondsMax: Int64 = 60

    var issuer = Self.expectedIssuer
    var audience = Self.expectedAudience
    /// That of the request.
    var id: String
    var issued: Int64
    var expires: Int64
    /// The branch that is answered.
    var subject: String
    var status: Int
    /// Of the decoded body: a branch's HTTP client inflates before it hands out.
    var digest: String
    /// The cloud's clock, in milliseconds since 1970.
    var time: Int64
    /// Another key of the cloud's, by which its answers are to be taken as well: one that follows, or the one before, which is not retired.
    var other: String?

    enum CodingKeys: String, CodingKey {
        case issuer = "iss", audience = "aud", id = "jti", issued = "iat", expires = "exp", subject = "sub"
        case status = "sta", digest = "bod", time = "tim", other = "oth"
    }
}

/// A request to the cloud as both sides see it.
public struct SignedRequest: Sendable {
    public var method: String
    /// Without host and prefix: `/v1/push`.
    public var path: String
    /// As sent, before it is inflated.
    public var body: [UInt8]
    public var session: SessionID?

    public init(method: String = "POST", path: String, body: [UInt8], session: SessionID?) {
        self.method = method
        self.path = path
        self.body = body
        self.session = session
    }
}

/// How a branch proves who it is and knows that it is the cloud that answers.
public final class BranchIdentity: Sendable {
    public let branch: ServerID
    private let presentKey: Mutex<MachineKey>
    private let storedKey: @Sendable () throws -> MachineKey?
    /// By which the cloud's answers are taken: one, or two while the cloud changes its key.
    private let cloudKeys: Mutex<[MachinePublicKey]>
    private let keepCloudKeys: @Sendable ([MachinePublicKey]) async throws -> Void
    private let environment: SyncEnvironment
    /// What the branch's clock is to be corrected by, in milliseconds. The system's clock is left alone.
    private let offset = Mutex<Int64>(0)

    /// - Parameters:
    ///   - otherCloudKey: As good as `cloudKey`, while the cloud changes its key.
    ///   - storedKey: Reads the key again where it is kept, for when the cloud does not take this one any more.
    ///   - keepCloudKeys: Keeps the keys of the cloud, one or two, where they are read from the next time.
    public init(
        branch: ServerID, key: MachineKey, cloudKey: MachinePublicKey, otherCloudKey: MachinePublicKey? = nil,
        environment: SyncEnvironment = .system, storedKey: @escaping @Sendable () throws -> MachineKey? = { nil },
        keepCloudKeys: @escaping @Sendable ([MachinePublicKey]) async throws -> Void = { _ in }
    ) {
        self.branch = branch
        self.presentKey = Mutex(key)
        self.storedKey = storedKey
        self.cloudKeys = Mutex([cloudKey, otherCloudKey].compactMap { $0 })
        self.keepCloudKeys = keepCloudKeys
        self.environment = environment
    }

    private var key: MachineKey { self.presentKey.withLock { $0 } }

    /// Takes the key that is kept now, if it is another one: somebody has changed it while this process ran.
    /// - Returns: Whether it is.
    public func reloadKey() -> Bool {
        guard let stored = try? self.storedKey() else { return false }
        return self.presentKey.withLock { key in
            defer { key = stored }
            return key.publicKey != stored.publicKey
        }
    }

    /// What is sent to change the key: `next` is to follow the present one.
    public func offer(_ next: MachineKey) async throws -> KeyRequest {
        var generator = self.environment
        let seconds = self.now / 1_000
        let claims = KeyProofClaims(
            id: RecordUID(using: &generator).hex, issued: seconds, expires: seconds + KeyProofClaims.lifetimeSecondsMax,
            subject: "\(self.branch.rawValue)", follows: self.key.publicKey.thumbprint)
        let proof = try await claims.sign(with: next, keyID: KeyID(self.branch, next.publicKey).text)
        return KeyRequest(publicKey: next.publicKey.text, proof: proof)
    }

    private var now: Int64 { self.environment.wallTime() + self.offset.withLock { $0 } }

    /// How far the branch's clock is behind the cloud's, as far as it was told; 0 until it mattered.
    public var clockOffsetMilliseconds: Int64 { self.offset.withLock { $0 } }

    /// - Parameter trusting: Who joins knows no key of the cloud's yet, but a thumbprint.
    /// - Returns: The token for `request`, and the id that the answer must name.
    public func sign(_ request: SignedRequest, trusting thumbprints: [String]? = nil) async throws -> (token: String, id: String) {
        var generator = self.environment
        let id = RecordUID(using: &generator).hex
        let (seconds, key) = (self.now / 1_000, self.key)
        let claims = RequestClaims(
            id: id, issued: seconds, expires: seconds + RequestClaims.lifetimeSecondsMax, subject: "\(self.branch.rawValue)",
            method: request.method, path: request.path, digest: Digest.body(request.body), session: request.session?.number,
            epoch: request.session?.epoch, trusted: thumbprints ?? self.cloudKeys.withLock { $0.map(\.thumbprint) })
        return (try await claims.sign(with: key, keyID: KeyID(self.branch, key.publicKey).text), id)
    }

    /// Checks that the pinned cloud gave this answer, to this request.
    ///
    /// The time of an answer is not compared with the branch's clock, which may be wrong by years: that it names the
    /// request says that it is fresh.
    /// - Throws: `peerUnreachable`: an answer of somebody else is no answer.
    public func verify(_ token: String?, status: Int, body: [UInt8], request id: String) async throws {
        func refuse(_ detail: String) -> DataSyncError { DataSyncError(.peerUnreachable, operation: "answer", detail: detail) }
        guard let token else { throw refuse("the answer (HTTP \(status)) is not signed: something between this branch and the cloud answered") }
        let issued = UnverifiedTime.ofIssue(token) ?? 0
        let trusted = self.cloudKeys.withLock { $0 }
        var signer: MachinePublicKey?
        let claims: AnswerClaims
        do {
            claims = try await StrictVerifier<AnswerClaims>.verify(token, now: issued) { name in
                signer = trusted.first { KeyID(.cloud, $0).text == name }
                return signer
            }
        } catch is CancellationError { throw CancellationError() } catch {
            throw refuse("the answer is not signed by the cloud that this branch joined: is a proxy inspecting TLS, or was the cloud's key replaced?")
        }
        guard claims.id == id, claims.subject == "\(self.branch.rawValue)", claims.status == status, claims.digest == Digest.body(body) else {
            throw refuse("the answer belongs to another request, or was changed on its way")
        }
        // What is counted from it must not overflow.
        guard claims.time >= 0, StrictVerifier<AnswerClaims>.seconds.contains(claims.time / 1_000) else {
            throw refuse("the answer names a time that no clock shows")
        }
        self.cloudTime.withLock { $0 = claims.time }
        if let signer { await self.take([signer, claims.other.flatMap(MachinePublicKey.init(text:))].compactMap { $0 }, after: trusted) }
    }

    /// From now on the cloud's answers are taken by the key that has signed one, and by the other that this one names. No more than two:
    /// the one that is named no more is retired.
    private func take(_ keys: [MachinePublicKey], after trusted: [MachinePublicKey]) async {
        guard Set(keys) != Set(trusted) else { return }
        // What cannot be kept is not taken either: the next answer says the same.
        guard (try? await self.keepCloudKeys(keys)) != nil else { return }
        self.cloudKeys.withLock { if $0 == trusted { $0 = keys } }
    }

    private let cloudTime = Mutex<Int64?>(nil)

    /// Takes over the time that another identity of the same branch was told.
    public func adopt(timeOf other: BranchIdentity) {
        let time = other.cloudTime.withLock { $0 }
        self.cloudTime.withLock { $0 = time }
        _ = self.adoptCloudTime()
    }

    /// Corrects the time of further tokens by what the last verified answer said.
    /// - Returns: By how much, in milliseconds.
    public func adoptCloudTime() -> Int64 {
        guard let time = self.cloudTime.withLock({ $0 }) else { return 0 }
        let difference = time - self.environment.wallTime()
        self.offset.withLock { $0 = difference }
        return difference
    }
}

enum UnverifiedTime {
    /// The time that a token claims to be of, whoever made it.
    static func ofIssue(_ token: String) -> Int64? {
        struct Issued: Decodable { var iat: Int64 }
        let parts = token.split(separator: ".")
        guard parts.count == 3, let data = Base64URL.decode(String(parts[1])) else { return nil }
        return (try? JSONDecoder().decode(Issued.self, from: data))?.iat
    }
}

/// How the cloud knows who asks, and how it signs what it answers.
public struct CloudIdentity: Sendable {
    private let keys: @Sendable () async throws -> CloudKeys
    private let environment: SyncEnvironment

    /// A cloud whose key does not change.
    public init(key: MachineKey, environment: SyncEnvironment = .system) {
        self.init(environment: environment) { CloudKeys(present: key) }
    }

    /// - Parameter keys: Those that are to be used at the moment, such as ``CloudKeyRing/keys()``.
    public init(environment: SyncEnvironment = .system, keys: @escaping @Sendable () async throws -> CloudKeys) {
        self.keys = keys
        self.environment = environment
    }

    /// A request whose sender is known.
    public struct Caller: Sendable {
        public let branch: ServerID
        /// Of the request, to be named by the answer.
        public let id: String
        /// The session that the token was signed for.
        public let session: SessionID?
        /// That signed it.
        public let key: MachinePublicKey
        /// The thumbprints of the cloud's keys by which it takes the answer; nil where it does not say.
        public let trusted: [String]?
    }

    /// What says that an answer is the cloud's.
    public struct Signature: Sendable {
        public var token: String
        public var key: MachinePublicKey
    }

    /// What a token says of a request, before anything of its body is there.
    public struct Proof: Sendable {
        public let caller: Caller
        let digest: String
        let skew: DataSyncError?

        /// Whether the token is for this body, as sent.
        /// - Throws: `unauthorized`; `clockSkew` when only the time is wrong.
        public func check(_ body: [UInt8]) throws(DataSyncError) {
            guard self.digest == Digest.body(body) else { throw CloudIdentity.refusal }
            if let skew = self.skew { throw skew }
        }
    }

    private static var refusal: DataSyncError { DataSyncError(.unauthorized, operation: "token", detail: "the token does not fit the request") }

    /// Who made a request, if it has the body that its token is for: ``Proof/check(_:)`` says that.
    /// - Parameter publicKey: The key of a branch that has this thumbprint, or nil: looked up before any cryptography.
    /// - Throws: `unauthorized`.
    public func authenticate(
        _ token: String?, method: String, path: String, publicKey: (ServerID, _ thumbprint: String) async throws -> MachinePublicKey?
    ) async throws -> Proof {
        guard let token else { throw Self.refusal }
        let now = self.environment.wallTime() / 1_000
        var skew: DataSyncError?
        let verified: (claims: RequestClaims, key: MachinePublicKey)
        do { verified = try await self.claims(of: token, now: now, publicKey: publicKey) } catch let error as DataSyncError
            where error.code == .clockSkew
        {
            skew = error
            // The signature is right: read again by the token's own time, to be able to answer whom it names.
            verified = try await self.claims(of: token, now: UnverifiedTime.ofIssue(token) ?? 0, publicKey: publicKey)
        }
        let claims = verified.claims
        guard claims.method == method, claims.path == path, let branch = Int32(claims.subject).map(ServerID.init(rawValue:)), branch.isBranch,
            (claims.session == nil) == (claims.epoch == nil), (claims.trusted ?? []).count <= 2
        else { throw Self.refusal }
        let session = claims.session.map { SessionID(number: $0, epoch: claims.epoch ?? 0) }
        return Proof(
            caller: Caller(branch: branch, id: claims.id, session: session, key: verified.key, trusted: claims.trusted), digest: claims.digest,
            skew: skew)
    }

    /// Who made `request`, whose body is there.
    /// - Throws: `unauthorized`, or `clockSkew` when only the time is wrong.
    public func verify(
        _ token: String?, of request: SignedRequest, publicKey: (ServerID, _ thumbprint: String) async throws -> MachinePublicKey?
    ) async throws -> Caller {
        let proof = try await self.authenticate(token, method: request.method, path: request.path, publicKey: publicKey)
        try proof.check(request.body)
        return proof.caller
    }

    private func claims(
        of token: String, now: Int64, publicKey: (ServerID, _ thumbprint: String) async throws -> MachinePublicKey?
    ) async throws -> (claims: RequestClaims, key: MachinePublicKey) {
        var named: (server: ServerID, key: MachinePublicKey)?
        let claims = try await StrictVerifier<RequestClaims>.verify(token, now: now) { keyID in
            guard let id = KeyID(text: keyID), let key = try await publicKey(id.server, id.thumbprint), KeyID(id.server, key).text == keyID else {
                return nil
            }
            named = (id.server, key)
            return key
        }
        // The key says who signed; what the token says of itself must be the same.
        guard let named, claims.subject == "\(named.server.rawValue)" else {
            throw DataSyncError(.unauthorized, operation: "token", detail: "the token names another branch than its key")
        }
        return (claims, named.key)
    }

    /// The signature of an answer, by a key that `caller` knows if there is one.
    public func sign(status: Int, body: [UInt8], to caller: Caller) async throws -> Signature {
        let time = self.environment.wallTime()
        let (key, other) = try await self.keys().chosen(for: caller.trusted)
        let claims = AnswerClaims(
            id: caller.id, issued: time / 1_000, expires: time / 1_000 + AnswerClaims.lifetimeSecondsMax,
            subject: "\(caller.branch.rawValue)", status: status, digest: Digest.body(body), time: time, other: other?.text)
        return Signature(token: try await claims.sign(with: key, keyID: KeyID(.cloud, key.publicKey).text), key: key.publicKey)
    }
}

/// The `kid` of a machine's key: whose it is, and which.
struct KeyID {
    let server: ServerID
    let thumbprint: String
    let text: String

    init(_ server: ServerID, _ key: MachinePublicKey) {
        self.server = server
        self.thumbprint = key.thumbprint
        self.text = "\(server.rawValue)-\(key.thumbprint)"
    }

    init?(text: String) {
        let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { String($0) }
        guard parts.count == 2, let server = Int32(parts[0]), server >= 0 else { return nil }
        self.server = ServerID(rawValue: server)
        self.thumbprint = parts[1]
        self.text = text
    }
}
