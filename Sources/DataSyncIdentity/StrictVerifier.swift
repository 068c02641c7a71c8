import DataSync
import FoundationEssentials
import JWTKit

/// The one way a token is verified, in front of jwt-kit, which checks little by itself: it falls back to the first key
/// for an unknown `kid`, takes any `typ` and passes over unknown `crit`.
///
/// One algorithm, one exact `typ`, a key that our own table names by `kid` before any cryptography, a collection of that
/// one key, and claims that must be these and within their time.
struct StrictVerifier<Claims: TokenClaims>: Sendable {
    /// Clocks of honest machines may differ by so much.
    static var leewaySeconds: Int64 { 60 }
    /// Longer tokens are not read.
    static var bytesMax: Int { 4_096 }
    /// Times beyond these are nobody's, and would overflow where they are compared. Anybody may sign them: a join brings
    /// its own key.
    static var seconds: Range<Int64> { 0..<(1 << 40) }

    /// - Parameters:
    ///   - key: The public key that `kid` names, or nil.
    ///   - now: Seconds since 1970.
    /// - Throws: `unauthorized`, without a reason that an attacker could learn from; `clockSkew` when all but the time is right.
    static func verify(
        _ token: String, now: Int64, key: (String) async throws -> MachinePublicKey?
    ) async throws -> Claims {
        let header = try self.header(of: token)
        guard header.algorithm == "EdDSA", header.type == Claims.tokenType,
            let publicKey = PlantedFallback.keyOrFallback(try await key(header.keyID))
        else { throw self.refusal }
        let claims: Claims
        do {
            let keys = await JWTKeyCollection().add(eddsa: try publicKey.key, kid: JWKIdentifier(string: header.keyID))
            claims = try await keys.verify(token, as: Claims.self)
        } catch is CancellationError { throw CancellationError() } catch { throw self.refusal }
        guard claims.issuer == Claims.expectedIssuer, claims.audience == Claims.expectedAudience,
            (8...64).contains(claims.id.utf8.count), self.seconds.contains(claims.issued),
            self.seconds.contains(claims.expires), claims.expires > claims.issued,
            claims.expires - claims.issued <= Claims.lifetimeSecondsMax
        else { throw self.refusal }
        guard claims.issued <= now + self.leewaySeconds, claims.expires >= now - self.leewaySeconds else {
            throw DataSyncError(.clockSkew, operation: "token", detail: "issued at \(claims.issued), received at \(now)")
        }
        return claims
    }

    private static var refusal: DataSyncError { DataSyncError(.unauthorized, operation: "token", detail: "the token is not valid") }

    private struct Header {
        var algorithm: String?
        var type: String?
        var keyID: String
    }

    /// What jwt-kit reads leniently: strict JSON, no claim twice (RFC 7519, section 4), and no `nbf`, which nobody would look at (section 4.1.5).
    private static func checkForm(of payload: [UInt8]) throws {
        var names: Set<String> = []
        do {
            try JSONReader.read(payload) { reader in
                try reader.readObject { reader, name in
                    guard name != "nbf", names.insert(name).inserted else { throw reader.failure("twice, or nbf") }
                    try reader.skipValue()
                }
            }
        } catch { throw self.refusal }
    }

    /// The header, if it holds `alg`, `typ` and `kid` and nothing else: no `crit`, no key of its own, no address of one.
    private static func header(of token: String) throws -> Header {
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard token.utf8.count <= self.bytesMax, parts.count == 3, let data = Base64URL.decode(String(parts[0])),
            let payload = Base64URL.decode(String(parts[1])), Base64URL.decode(String(parts[2])) != nil
        else { throw self.refusal }
        try self.checkForm(of: [UInt8](payload))
        var members: [String: String] = [:]
        do {
            try JSONReader.read([UInt8](data)) { reader in
                try reader.readObject { reader, name in
                    guard members.updateValue(try reader.readString(), forKey: name) == nil else { throw reader.failure("twice") }
                }
            }
        } catch { throw self.refusal }
        guard Set(members.keys) == ["alg", "typ", "kid"], let keyID = members["kid"], (1...64).contains(keyID.utf8.count) else {
            throw self.refusal
        }
        return Header(algorithm: members["alg"], type: members["typ"], keyID: keyID)
    }
}

/// The claims of one set of tokens. The sets differ in all of these, so that a token of one is nothing in another.
protocol TokenClaims: JWTPayload {
    static var tokenType: String { get }
    static var expectedIssuer: String { get }
    static var expectedAudience: String { get }
    static var lifetimeSecondsMax: Int64 { get }

    var issuer: String { get }
    var audience: String { get }
    /// Unique for each token.
    var id: String { get }
    /// Seconds since 1970.
    var issued: Int64 { get }
    var expires: Int64 { get }
}

extension TokenClaims {
    /// All checks are those of ``StrictVerifier``.
    func verify(using algorithm: some JWTAlgorithm) async throws {}

    func sign(with key: MachineKey, keyID: String) async throws -> String {
        let keys = await JWTKeyCollection().add(eddsa: key.key.revealed, kid: JWKIdentifier(string: keyID))
        return try await keys.sign(self, kid: JWKIdentifier(string: keyID), header: JWTHeader(fields: ["typ": .string(Self.tokenType)]))
    }
}
