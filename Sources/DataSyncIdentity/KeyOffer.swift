public import DataSync

/// What a branch sends to change its key: the new one, and a token by which it says that it is to follow the one that signs the request.
public struct KeyRequest: WireMessage {
    public var publicKey: String
    /// A token of ``KeyProofClaims``, signed by the new key.
    public var proof: String

    public init(publicKey: String, proof: String) {
        self.publicKey = publicKey
        self.proof = proof
    }

    public init(from reader: inout JSONReader) throws {
        var (publicKey, proof): (String?, String?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "public_key": publicKey = try reader.readString()
            case "proof": proof = try reader.readString()
            default: try reader.skipValue()
            }
        }
        guard let publicKey, let proof, publicKey.utf8.count <= 64, proof.utf8.count <= 2_048 else {
            throw reader.failure("'public_key' and 'proof' are needed, with at most 64 and 2048 bytes")
        }
        self.init(publicKey: publicKey, proof: proof)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("public_key", self.publicKey)
            writer.member("proof", self.proof)
        }
    }

    /// Whether the owner of `key` has signed that it is to follow the key of `caller`.
    ///
    /// The time is that of the token itself: it says which key follows which, and does nothing without the signature of the old one.
    func isProven(by key: MachinePublicKey, of caller: CloudIdentity.Caller) async -> Bool {
        // It has signed the request itself: this is its first use.
        if key == caller.key { return true }
        let name = KeyID(caller.branch, key).text
        let issued = UnverifiedTime.ofIssue(self.proof) ?? 0
        guard let claims = try? await StrictVerifier<KeyProofClaims>.verify(self.proof, now: issued, key: { $0 == name ? key : nil }) else { return false }
        return claims.subject == "\(caller.branch.rawValue)" && claims.follows == caller.key.thumbprint
    }
}

extension KeyRequest: CustomStringConvertible {
    public var description: String { "KeyRequest(\(MachinePublicKey(text: self.publicKey)?.thumbprint ?? "no key"))" }
}

/// That the new key is known. There is nothing else to say.
public struct KeyAnswer: WireMessage {
    public init() {}
    public init(from reader: inout JSONReader) throws { try reader.readObject { reader, _ in try reader.skipValue() } }
    public func write(to writer: inout JSONWriter) { writer.object { _ in } }
}

/// What a new key signs: whose it is, and which key it is to follow.
struct KeyProofClaims: TokenClaims {
    static let tokenType = "datasync-key+jwt"
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
    /// The thumbprint of the key that it follows.
    var follows: String

    enum CodingKeys: String, CodingKey {
        case issuer = "iss", audience = "aud", id = "jti", issued = "iat", expires = "exp", subject = "sub", follows = "fol"
    }
}
