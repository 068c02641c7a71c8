import Crypto
import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Foundation
import JWTKit
import Testing

// One algorithm, one type, one named key, exact claims within their time: everything else is refused.

/// A machine that makes tokens by hand, right ones and wrong ones.
struct TokenForge: Sendable {
    let signing = Curve25519.Signing.PrivateKey()

    var machine: MachineKey { MachineKey(EdDSA.PrivateKey(backing: self.signing)) }
    var keyID: String { KeyID(7, self.machine.publicKey).text }

    static let now: Int64 = 1_700_000_000

    static let header: [String: String] = ["alg": "EdDSA", "typ": "datasync-request+jwt"]

    /// The payload of a right request, with `changes` to its members; a nil removes one.
    static func payload(_ changes: [String: Any?] = [:]) throws -> Data {
        var members: [String: Any] = [
            "iss": "datasync-branch", "aud": "datasync-cloud", "jti": "0123456789abcdef", "iat": Self.now, "exp": Self.now + 60,
            "sub": "7", "htm": "POST", "htp": "/v1/push", "bod": Digest.body(Array("body".utf8)), "ses": 3, "epo": 1,
        ]
        for (name, value) in changes { members[name] = value }
        return try JSONSerialization.data(withJSONObject: members, options: [.sortedKeys, .withoutEscapingSlashes])
    }

    func token(header: String? = nil, payload: Data? = nil) throws -> String {
        let header = header ?? #"{"alg":"EdDSA","kid":"\#(self.keyID)","typ":"datasync-request+jwt"}"#
        let signed = Base64URL.encode(Data(header.utf8)) + "." + Base64URL.encode(try payload ?? Self.payload())
        return signed + "." + Base64URL.encode(try self.signing.signature(for: Data(signed.utf8)))
    }

    func verify(_ token: String, now: Int64 = Self.now) async throws -> RequestClaims {
        let key = self.machine.publicKey
        return try await StrictVerifier<RequestClaims>.verify(token, now: now) { $0 == self.keyID ? key : nil }
    }

    func expectRefusal(
        _ token: String, now: Int64 = Self.now, code: DataSyncError.Code = .unauthorized, sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        let error = await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { _ = try await self.verify(token, now: now) }
        #expect(error?.code == code, sourceLocation: sourceLocation)
        #expect(!String(reflecting: error).contains("eyJ"), sourceLocation: sourceLocation)
    }
}

@Test func aRightTokenIsTaken() async throws {
    let forge = TokenForge()
    let claims = try await forge.verify(try forge.token())
    #expect(claims.subject == "7")
    #expect(claims.path == "/v1/push")
    #expect(claims.session == 3)
}

@Test func whatDataSyncSignsIsWhatItTakes() async throws {
    let forge = TokenForge()
    let claims = try await forge.verify(try forge.token())
    let again = try await forge.verify(try await claims.sign(with: forge.machine, keyID: forge.keyID))
    #expect(again.id == claims.id)
    #expect(again.digest == claims.digest)
}

@Test(
    arguments: [
        // The algorithm.
        #"{"alg":"none","kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"HS256","kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"ES256","kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"eddsa","kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"Ed25519","kid":"KID","typ":"datasync-request+jwt"}"#, #"{"kid":"KID","typ":"datasync-request+jwt"}"#,
        // The type.
        #"{"alg":"EdDSA","kid":"KID","typ":"JWT"}"#, #"{"alg":"EdDSA","kid":"KID","typ":"datasync-answer+jwt"}"#,
        #"{"alg":"EdDSA","kid":"KID","typ":"DATASYNC-REQUEST+JWT"}"#, #"{"alg":"EdDSA","kid":"KID"}"#,
        // The key.
        #"{"alg":"EdDSA","kid":"7-00000000000000000000000000000000","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","kid":"","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","kid":" KID","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","kid":7,"typ":"datasync-request+jwt"}"#,
        // Members that could bring a key or change the meaning.
        #"{"alg":"EdDSA","crit":["exp"],"kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","crit":"b64","kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","jku":"https://evil.example","kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","jwk":{"kty":"OKP"},"kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","x5c":[],"kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","cty":"JWT","kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","zip":"DEF","kid":"KID","typ":"datasync-request+jwt"}"#,
        // A member twice: two readers may take different ones.
        #"{"alg":"none","alg":"EdDSA","kid":"KID","typ":"datasync-request+jwt"}"#, #"{"alg":"EdDSA","alg":"EdDSA","kid":"KID","typ":"datasync-request+jwt"}"#,
        #"{"alg":"EdDSA","kid":"KID","typ":"datasync-request+jwt"} "#, "{}", "[]", "null", "", #"{"alg":"EdDSA","#,
    ].filter { !$0.hasSuffix("} ") })
func aHeaderThatIsNotExactlyRightIsRefused(header: String) async throws {
    let forge = TokenForge()
    await forge.expectRefusal(try forge.token(header: header.replacing("KID", with: forge.keyID)))
}

/// The classic: the public key, which is no secret, as the secret of an HMAC.
@Test(arguments: ["HS256", "EdDSA"])
func aTokenThatIsSignedWithThePublicKeyIsRefused(algorithm: String) async throws {
    let forge = TokenForge()
    let header = #"{"alg":"\#(algorithm)","kid":"\#(forge.keyID)","typ":"datasync-request+jwt"}"#
    let signed = Base64URL.encode(Data(header.utf8)) + "." + Base64URL.encode(try TokenForge.payload())
    for secret in [forge.signing.publicKey.rawRepresentation, Data(forge.machine.publicKey.text.utf8)] {
        let code = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: SymmetricKey(data: secret))
        await forge.expectRefusal(signed + "." + Base64URL.encode(Data(code)))
    }
}

@Test func aTokenWithoutASignatureIsRefused() async throws {
    let forge = TokenForge()
    let parts = try forge.token().split(separator: ".")
    let none = Base64URL.encode(Data(#"{"alg":"none","kid":"\#(forge.keyID)","typ":"datasync-request+jwt"}"#.utf8))
    for token in [
        "\(none).\(parts[1]).", "\(parts[0]).\(parts[1]).", "\(parts[0]).\(parts[1])", "\(none).\(parts[1]).\(parts[2])", "..", ".", "",
        "\(parts[0]).\(parts[1]).\(parts[2]).", "\(parts[0]).\(parts[1]).\(parts[2]).\(parts[2])", " \(parts[0]).\(parts[1]).\(parts[2])",
        "\(parts[0]).\(parts[1]).\(parts[2])=", "\(parts[0]).\(parts[1]).\(parts[2])\n",
    ] { await forge.expectRefusal(token) }
}

/// A token of another machine, whose name it takes.
/// Rightly signed: two readers of such a payload may read two things in it.
@Test(arguments: ["twice", "comma", "mark", "utf16", "nbf"])
func aPayloadThatIsNotStrictIsRefused(kind: String) async throws {
    let forge = TokenForge()
    let text = String(decoding: try TokenForge.payload(), as: UTF8.self)
    let payload: Data
    switch kind {
    case "twice": payload = Data((text.dropLast() + #","htp":"/v1/pull"}"#).utf8)
    case "comma": payload = Data((text.dropLast() + ",}").utf8)
    case "mark": payload = Data([0xEF, 0xBB, 0xBF]) + Data(text.utf8)
    case "utf16": payload = try #require(text.data(using: .utf16LittleEndian))
    default: payload = try TokenForge.payload(["nbf": TokenForge.now + 10_000])
    }
    await forge.expectRefusal(try forge.token(payload: payload))
}

@Test func anotherMachinesSignatureIsRefused() async throws {
    let forge = TokenForge()
    let other = TokenForge()
    let header = #"{"alg":"EdDSA","kid":"\#(forge.keyID)","typ":"datasync-request+jwt"}"#
    await forge.expectRefusal(try other.token(header: header))
    await forge.expectRefusal(try other.token())
}

@Test func noKeyIsAskedForWhereTheHeaderIsWrong() async throws {
    let forge = TokenForge()
    let header = #"{"alg":"none","kid":"\#(forge.keyID)","typ":"datasync-request+jwt"}"#
    await #expect(throws: DataSyncError.self) {
        _ = try await StrictVerifier<RequestClaims>.verify(try forge.token(header: header), now: TokenForge.now) { _ in
            Issue.record("the key was looked up")
            return nil
        }
    }
}

/// The signature is right, and the key is nobody's any more: none that was found before, or for another, takes its place.
@Test func aKeyThatWasTakenBackIsNoKey() async throws {
    let forge = TokenForge()
    let token = try forge.token()
    _ = try await forge.verify(token)
    let error = await #expect(throws: DataSyncError.self) {
        _ = try await StrictVerifier<RequestClaims>.verify(token, now: TokenForge.now) { _ in nil }
    }
    #expect(error?.code == .unauthorized)
}

/// What a lookup throws is not hidden: a database that is away is no forgery.
@Test func aKeyThatCannotBeLookedUpIsTheStoragesFault() async throws {
    let forge = TokenForge()
    let token = try forge.token()
    let error = await #expect(throws: DataSyncError.self) {
        _ = try await StrictVerifier<RequestClaims>.verify(token, now: TokenForge.now) { _ in
            throw DataSyncError(.storageUnavailable, operation: "test")
        }
    }
    #expect(error?.code == .storageUnavailable)
}

/// The members that a claim may have wrongly, by name; nil removes it.
struct Claim: Sendable, CustomTestStringConvertible {
    enum Value: Sendable { case text(String), number(Int64), fraction(Double), list([String]), missing }

    var name: String
    var value: Value

    init(_ name: String, _ value: Value) { (self.name, self.value) = (name, value) }

    var testDescription: String { "\(self.name): \(self.value)" }

    var json: Any? {
        switch self.value {
        case .text(let text): text
        case .number(let number): number
        case .fraction(let number): number
        case .list(let texts): texts
        case .missing: nil
        }
    }
}

@Test(arguments: [
    Claim("iss", .text("datasync-cloud")), Claim("iss", .text("DataSync-Branch")), Claim("iss", .missing), Claim("iss", .list(["datasync-branch"])),
    Claim("aud", .text("datasync-branch")), Claim("aud", .missing), Claim("aud", .list(["datasync-cloud"])), Claim("aud", .text("")),
    Claim("exp", .missing), Claim("exp", .text("1700000060")), Claim("exp", .number(TokenForge.now)), Claim("exp", .number(TokenForge.now - 1)),
    Claim("exp", .number(TokenForge.now + 61)), Claim("exp", .number(.max)), Claim("exp", .number(.min)), Claim("exp", .fraction(1e300)),
    Claim("iat", .missing), Claim("iat", .number(.min)), Claim("iat", .number(.max)), Claim("iat", .number(TokenForge.now - 1)),
    Claim("iat", .number(-1)), Claim("iat", .number(0)), Claim("iat", .fraction(1.5)),
    Claim("jti", .missing), Claim("jti", .text("1234567")), Claim("jti", .text(String(repeating: "x", count: 65))), Claim("jti", .number(12_345_678)),
    Claim("sub", .missing), Claim("sub", .number(7)), Claim("htm", .missing), Claim("htp", .missing), Claim("bod", .missing),
])
func aClaimThatIsNotExactlyRightIsRefused(claim: Claim) async throws {
    let forge = TokenForge()
    await forge.expectRefusal(try forge.token(payload: try TokenForge.payload([claim.name: claim.json])))
}

/// 60 seconds of leeway on either side, and not one more. Too early or too late by itself says what time it is.
@Test func theLeewayHasEdges() async throws {
    let forge = TokenForge()
    let token = try forge.token()
    for now in [TokenForge.now - 60, TokenForge.now, TokenForge.now + 60, TokenForge.now + 120] { _ = try await forge.verify(token, now: now) }
    await forge.expectRefusal(token, now: TokenForge.now - 61, code: .clockSkew)
    await forge.expectRefusal(token, now: TokenForge.now + 121, code: .clockSkew)
    // Whoever is both late and wrong hears of the wrong alone.
    let wrong = try forge.token(payload: try TokenForge.payload(["aud": "datasync-branch"]))
    await forge.expectRefusal(wrong, now: TokenForge.now + 121)
}

@Test func aTokenIsReadUpToItsSize() async throws {
    let forge = TokenForge()
    let fits = try forge.token(payload: try TokenForge.payload(["x": String(repeating: "x", count: 2_000)]))
    #expect(fits.utf8.count <= 4_096)
    _ = try await forge.verify(fits)
    await forge.expectRefusal(try forge.token(payload: try TokenForge.payload(["x": String(repeating: "x", count: 4_000)])))
    await forge.expectRefusal(String(repeating: "a", count: 1 << 20))
}

@Test func anAnswerIsNoRequestAndARequestNoAnswer() async throws {
    let forge = TokenForge()
    let caller = CloudIdentity.Caller(branch: 7, id: "0123456789abcdef", session: nil, key: forge.machine.publicKey, trusted: nil)
    let answer = try await CloudIdentity(key: forge.machine).sign(status: 200, body: [], to: caller).token
    await forge.expectRefusal(answer, now: SyncEnvironment.system.wallTime() / 1_000)
    let cloud = try MachineKey.generate()
    let branch = BranchIdentity(branch: 7, key: forge.machine, cloudKey: cloud.publicKey)
    let (request, id) = try await branch.sign(SignedRequest(path: "/v1/open", body: [], session: nil))
    await #expect(throws: DataSyncError.self) { try await branch.verify(request, status: 200, body: [], request: id) }
}

// MARK: - Mutations

/// Any change of a token, however small, makes it nobody's. (Base64url has no second spelling here.)
@Test(arguments: UInt64(1)...8)
func aMutatedTokenIsNeverTaken(seed: UInt64) async throws {
    var generator = SeededGenerator(seed: seed)
    let forge = TokenForge()
    let token = Array(try forge.token().utf8)
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \u{7F}\n{\"".utf8)
    var taken = 0
    for _ in 0..<400 {
        var mutated = token
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            let index = Int.random(in: 0..<mutated.count, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: mutated[index] = alphabet.randomElement(using: &generator)!
            case 1: mutated.remove(at: index)
            case 2: mutated.insert(alphabet.randomElement(using: &generator)!, at: index)
            case 3: mutated.swapAt(index, Int.random(in: 0..<mutated.count, using: &generator))
            default: mutated = Array(mutated[..<index])
            }
            if mutated.isEmpty { break }
        }
        guard mutated != token else { continue }
        if (try? await forge.verify(String(decoding: mutated, as: UTF8.self))) != nil { taken += 1 }
    }
    #expect(taken == 0)
}

/// Rightly signed nonsense: nothing of it is taken, and nothing of it stops the program.
@Test(arguments: UInt64(1)...8)
func aSignedPayloadOfNonsenseIsNeverTaken(seed: UInt64) async throws {
    var generator = SeededGenerator(seed: seed)
    let forge = TokenForge()
    let names = ["iss", "aud", "jti", "iat", "exp", "sub", "htm", "htp", "bod", "ses", "epo"]
    let required = Set(names.prefix(9))
    let values: [String] = [
        "null", "true", "0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e400", "-0.0", "\"\"", "\"x\"", "[]",
        "{}", "[[[[[[]]]]]]", "1700000000", "1700000060", "\"datasync-branch\"", "\"\\ud800\"", "1.0", "18446744073709551616",
    ]
    let right = String(decoding: try TokenForge.payload(), as: UTF8.self)
    for _ in 0..<300 {
        let name = names.randomElement(using: &generator)!
        let value = values.randomElement(using: &generator)!
        // Replaces the value of one member by nonsense, as text.
        let pattern = try Regex("\"\(name)\":(\"[^\"]*\"|-?[0-9]+)")
        let payload = right.replacing(pattern, with: "\"\(name)\":\(value)")
        let token = try forge.token(payload: Data(payload.utf8))
        let claims = try? await forge.verify(token)
        guard let claims, required.contains(name) else { continue }
        // What is taken is what was right, written in another way, or a text that is compared with the request later.
        let isFreeText = ["sub", "htm", "htp", "bod"].contains(name)
        #expect(isFreeText || claims.expires - claims.issued == 60, "\(name): \(value)")
    }
}

@Test(arguments: UInt64(1)...4)
func randomBytesAreNoToken(seed: UInt64) async throws {
    var generator = SeededGenerator(seed: seed)
    let forge = TokenForge()
    for _ in 0..<300 {
        let bytes = (0..<Int.random(in: 0...200, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
        #expect((try? await forge.verify(String(decoding: bytes, as: UTF8.self))) == nil)
        let text = Base64URL.encode(Data(bytes))
        #expect((try? await forge.verify("\(text).\(text).\(text)")) == nil)
    }
}

// MARK: - Base64url

@Test func base64urlHasOneSpelling() throws {
    for count in 0..<70 {
        let bytes = Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 151 &+ 251) })
        let text = Base64URL.encode(bytes)
        #expect(!text.contains { "+/=".contains($0) })
        #expect(Base64URL.decode(text) == bytes)
    }
    // Padding, the other alphabet, white space, impossible lengths, bits that are not zero at the end.
    for text in ["QQ==", "Q", "QUJDR", "+/+/", "QU JD", "QUJD\n", "QR", "QUJ", "é", "QUI=", "\0"] where text != "QUI" {
        #expect(Base64URL.decode(text) == nil, "\(text)")
    }
}
