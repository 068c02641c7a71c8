import Crypto
import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Foundation
import JWTKit
import Testing

// Three sets of tokens: each opens its own endpoints, whatever else is alike.

/// One of the three sets, as a verifier and as a maker of tokens.
private enum TokenSet: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case machines, operators, staff

    static let now: Int64 = 1_700_000_000

    var testDescription: String { self.rawValue }

    /// A right token of this set.
    func token(_ key: MachineKey, keyID: String, now: Int64 = Self.now) async throws -> String {
        switch self {
        case .machines:
            let claims = RequestClaims(
                id: "0123456789abcdef", issued: now, expires: now + 60, subject: "7", method: "POST", path: "/v1/push",
                digest: Digest.body(Array("body".utf8)), session: 3, epoch: 1)
            return try await claims.sign(with: key, keyID: keyID)
        case .operators:
            let claims = OperatorClaims(id: "0123456789abcdef", issued: now, subject: "7", generation: 1, login: "0123456789abcdef")
            return try await TokenAuthority<OperatorSet>(key: key, keyID: keyID).sign(claims).revealed
        case .staff:
            let claims = StaffClaims(id: "0123456789abcdef", issued: now, subject: "7", generation: 1, login: "0123456789abcdef")
            return try await TokenAuthority<StaffSet>(key: key, keyID: keyID).sign(claims).revealed
        }
    }

    /// Whether this set's verifier takes a token. Its ring holds `key` under `keyID`.
    func takes(_ token: String, key: MachineKey, keyID: String, now: Int64 = Self.now) async throws -> Bool {
        do {
            switch self {
            case .machines: _ = try await StrictVerifier<RequestClaims>.verify(token, now: now) { $0 == keyID ? key.publicKey : nil }
            case .operators: _ = try await TokenAuthority<OperatorSet>(key: key, keyID: keyID).verify(token, now: now)
            case .staff: _ = try await TokenAuthority<StaffSet>(key: key, keyID: keyID).verify(token, now: now)
            }
            return true
        } catch let error as DataSyncError {
            #expect(error.code == .unauthorized)
            return false
        }
    }
}

/// How far the rings of two sets are alike.
private enum Likeness: String, CaseIterable, Sendable {
    case nothing, keyIDs, keys, both
}

@Test(arguments: TokenSet.allCases, TokenSet.allCases)
private func aTokenOpensItsOwnSetAlone(of: TokenSet, at: TokenSet) async throws {
    for likeness in Likeness.allCases {
        let first = try MachineKey.generate()
        let second = of == at || likeness == .keys || likeness == .both ? first : try MachineKey.generate()
        let firstID = "\(of.rawValue)-key"
        let secondID = of == at || likeness == .keyIDs || likeness == .both ? firstID : "\(at.rawValue)-key"
        let token = try await of.token(first, keyID: firstID)
        #expect(try await at.takes(token, key: second, keyID: secondID) == (of == at), "\(likeness)")
    }
}

/// Each thing by which the sets differ is enough by itself.
@Test func everythingThatTellsTheSetsApartIsLookedAt() async throws {
    let signing = Curve25519.Signing.PrivateKey()
    let key = MachineKey(EdDSA.PrivateKey(backing: signing))
    let authority = TokenAuthority<StaffSet>(key: key, keyID: "k")
    func token(
        type: String = StaffClaims.tokenType, issuer: String = StaffClaims.expectedIssuer, audience: String = StaffClaims.expectedAudience
    ) throws -> String {
        let header = #"{"alg":"EdDSA","kid":"k","typ":"\#(type)"}"#
        let payload =
            #"{"iss":"\#(issuer)","aud":"\#(audience)","jti":"0123456789abcdef","iat":1700000000,"exp":1700000600,"sub":"ada","gen":1,"sid":"0123456789abcdef"}"#
        let signed = Base64URL.encode(Data(header.utf8)) + "." + Base64URL.encode(Data(payload.utf8))
        return signed + "." + Base64URL.encode(try signing.signature(for: Data(signed.utf8)))
    }
    _ = try await authority.verify(try token(), now: TokenSet.now)
    for wrong in [
        try token(type: OperatorClaims.tokenType), try token(issuer: OperatorClaims.expectedIssuer), try token(audience: OperatorClaims.expectedAudience),
        try token(type: RequestClaims.tokenType), try token(issuer: RequestClaims.expectedIssuer), try token(audience: RequestClaims.expectedAudience),
    ] {
        await #expect(throws: DataSyncError.self) { _ = try await authority.verify(wrong, now: TokenSet.now) }
    }
}

@Test func aTokenOfSomebodyIsGoodForTenMinutes() async throws {
    let key = try MachineKey.generate()
    for set in [TokenSet.operators, .staff] {
        let token = try await set.token(key, keyID: "k")
        for (seconds, isGood) in [(-61, false), (-60, true), (600, true), (660, true), (661, false)] as [(Int64, Bool)] {
            #expect(try await set.takes(token, key: key, keyID: "k", now: TokenSet.now + seconds) == isGood)
        }
    }
}

/// What differs from a right token in anything is no token. As many as the environment says (`DATASYNC_TOKEN_MUTATIONS`), else fewer.
@Test(arguments: 0..<4)
func noMutatedTokenIsTaken(part: Int) async throws {
    let count = ProcessInfo.processInfo.environment["DATASYNC_TOKEN_MUTATIONS"].flatMap { Int($0) } ?? 8_000
    var generator = SeededGenerator(seed: 83 + UInt64(part))
    let key = try MachineKey.generate()
    var right: [TokenSet: String] = [:]
    for set in TokenSet.allCases { right[set] = try await set.token(key, keyID: "k") }
    var tried = 0
    for _ in 0..<count / 4 {
        let set = TokenSet.allCases.randomElement(using: &generator)!
        let token = TokenMutation.of(right[set]!, others: right.values.sorted(), using: &generator)
        guard token != right[set] else { continue }
        tried += 1
        for verifier in TokenSet.allCases where verifier != set || token != right[verifier] {
            // A mutation may be the right token of another set.
            guard token != right[verifier] else { continue }
            guard verifier == set || tried.isMultiple(of: 16) else { continue }
            #expect(try await !verifier.takes(token, key: key, keyID: "k"), "\(token)")
        }
    }
    #expect(tried > count / 5)
}

/// Changes a token as an attacker would, or as chance does.
enum TokenMutation {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func of(_ token: String, others: [String], using generator: inout SeededGenerator) -> String {
        var bytes = Array(token.utf8)
        switch Int.random(in: 0..<12, using: &generator) {
        case 0, 1:
            // Another character of the alphabet.
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = self.alphabet.randomElement(using: &generator)!
            }
        case 2: bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...127, using: &generator)
        case 3: bytes.removeSubrange(self.range(bytes, &generator))
        case 4: bytes.insert(contentsOf: bytes[self.range(bytes, &generator)], at: Int.random(in: 0...bytes.count, using: &generator))
        case 5: bytes.insert(UInt8.random(in: 0...127, using: &generator), at: Int.random(in: 0...bytes.count, using: &generator))
        case 6: bytes = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator)))
        case 7:
            // Parts of several tokens.
            let parts = (0..<3).map { index in
                let source = others.randomElement(using: &generator)!.split(separator: ".", omittingEmptySubsequences: false)
                return String(source[min(index, source.count - 1)])
            }
            bytes = Array(parts.joined(separator: ".").utf8)
        case 8: return self.inHeader(token, using: &generator)
        case 9: return self.inPayload(token, using: &generator)
        case 10:
            // The last character carries bits that nothing is made of.
            bytes[bytes.count - 1] = self.alphabet.randomElement(using: &generator)!
        default:
            let parts = token.split(separator: ".").map { String($0) }.shuffled(using: &generator)
            bytes = Array(parts.joined(separator: ".").utf8)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func range(_ bytes: [UInt8], _ generator: inout SeededGenerator) -> Range<Int> {
        let start = Int.random(in: 0..<bytes.count, using: &generator)
        return start..<min(bytes.count, start + Int.random(in: 1...8, using: &generator))
    }

    private static func inHeader(_ token: String, using generator: inout SeededGenerator) -> String {
        let parts = token.split(separator: ".").map { String($0) }
        let header = String(decoding: Base64URL.decode(parts[0]) ?? Data(), as: UTF8.self)
        let changed = [
            header.replacing("EdDSA", with: "none"), header.replacing("EdDSA", with: "HS256"), header.replacing("\"k\"", with: "\"K\""),
            header.replacing("\"k\"", with: "\"\""), header.replacing("+jwt", with: "+JWT"), header.replacing("{", with: "{\"crit\":[\"exp\"],"),
            header.replacing("{", with: "{\"jku\":\"https://evil.example\","), header.replacing("{", with: "{\"alg\":\"none\","), " " + header, header + " ",
            header.replacing("operator", with: "staff"), header.replacing("staff", with: "operator"), header.replacing(":", with: ": "),
        ].randomElement(using: &generator)!
        guard changed != header else { return token + "." }
        return [Base64URL.encode(Data(changed.utf8)), parts[1], parts[2]].joined(separator: ".")
    }

    private static func inPayload(_ token: String, using generator: inout SeededGenerator) -> String {
        let parts = token.split(separator: ".").map { String($0) }
        let payload = String(decoding: Base64URL.decode(parts[1]) ?? Data(), as: UTF8.self)
        let changed = [
            payload.replacing("\"7\"", with: "\"8\""), payload.replacing("1700000", with: "1800000"), payload.replacing("}", with: ",\"admin\":true}"),
            payload.replacing("people", with: "machines"), payload.replacing("{", with: "{\"sub\":\"8\","), payload + " ",
        ].randomElement(using: &generator)!
        guard changed != payload else { return token + "." }
        return [parts[0], Base64URL.encode(Data(changed.utf8)), parts[2]].joined(separator: ".")
    }
}
