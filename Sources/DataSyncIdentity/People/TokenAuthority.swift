import DataSync
import JWTKit

/// What an access token says: who, since when, of which login.
struct PersonClaims<People: PeopleSet>: TokenClaims {
    static var tokenType: String { "datasync-\(People.kind.rawValue)+jwt" }

    static var expectedIssuer: String {
        switch People.kind {
        case .operators: "datasync-cloud-people"
        case .staff: "datasync-branch-people"
        }
    }

    static var expectedAudience: String {
        switch People.kind {
        case .operators: "datasync-cloud-admin"
        case .staff: "datasync-branch-local"
        }
    }

    static var lifetimeSecondsMax: Int64 { 600 }

    var issuer: String
    var audience: String
    var id: String
    var issued: Int64
    var expires: Int64
    /// The person's name.
    var subject: String
    /// Of the person: another one is worth nothing.
    var generation: Int64
    /// The login that it was given for.
    var login: String

    enum CodingKeys: String, CodingKey {
        case issuer = "iss", audience = "aud", id = "jti", issued = "iat", expires = "exp", subject = "sub", generation = "gen", login = "sid"
    }

    init(id: String, issued: Int64, subject: String, generation: Int64, login: String) {
        self.issuer = Self.expectedIssuer
        self.audience = Self.expectedAudience
        self.id = id
        self.issued = issued
        self.expires = issued + Self.lifetimeSecondsMax
        self.subject = subject
        self.generation = generation
        self.login = login
    }
}

typealias OperatorClaims = PersonClaims<OperatorSet>
typealias StaffClaims = PersonClaims<StaffSet>

/// Signs and verifies the access tokens of one set, by a key of its own. That of another set is another type.
public struct TokenAuthority<People: PeopleSet>: Sendable {
    private let key: MachineKey
    let keyID: String

    /// - Parameter key: Of this set alone: neither a machine's nor the other set's.
    public init(key: MachineKey) { self.init(key: key, keyID: "\(People.kind.rawValue)-\(key.publicKey.thumbprint)") }

    init(key: MachineKey, keyID: String) {
        self.key = key
        self.keyID = keyID
    }

    /// How long a token is good.
    static var lifetime: Duration { .seconds(PersonClaims<People>.lifetimeSecondsMax) }

    func sign(_ claims: PersonClaims<People>) async throws -> Secret<String> { Secret(try await claims.sign(with: self.key, keyID: self.keyID)) }

    /// - Parameter now: Seconds since 1970.
    /// - Throws: `unauthorized`, whatever is wrong.
    func verify(_ token: String, now: Int64) async throws -> PersonClaims<People> {
        do {
            return try await StrictVerifier<PersonClaims<People>>.verify(token, now: now) { $0 == self.keyID ? self.key.publicKey : nil }
        } catch is DataSyncError {
            // Nor whether only the time is wrong: people have no clock to be told of.
            throw DataSyncError(.unauthorized, operation: "token", detail: "the token is not valid")
        }
    }
}
