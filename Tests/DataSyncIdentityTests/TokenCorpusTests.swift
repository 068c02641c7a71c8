import Crypto
import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Foundation
import JWTKit
import Testing

// Tokens, and what this library said of each, for another implementation to judge: Scripts/check-tokens.

private let corpusFile = ProcessInfo.processInfo.environment["DATASYNC_TOKEN_CORPUS"]
private let corpusSeed = ProcessInfo.processInfo.environment["DATASYNC_TOKEN_SEED"].flatMap { UInt64($0) } ?? 97

private typealias Members = [(name: String, json: String)]

private enum CorpusSet: String, CaseIterable {
    case request, answer, key, operators, staff

    var type: any TokenClaims.Type {
        switch self {
        case .request: RequestClaims.self
        case .answer: AnswerClaims.self
        case .key: KeyProofClaims.self
        case .operators: OperatorClaims.self
        case .staff: StaffClaims.self
        }
    }

    var own: Members {
        switch self {
        case .request: [("htm", #""POST""#), ("htp", #""/v1/push""#), ("bod", #""x""#), ("ses", "3"), ("epo", "1")]
        case .answer: [("sta", "200"), ("bod", #""x""#), ("tim", "1700000000000")]
        case .key: [("fol", #""0123456789abcdef""#)]
        case .operators, .staff: [("gen", "1"), ("sid", #""0123456789abcdef""#)]
        }
    }

    /// Claims that may be there, or not.
    var optional: Members {
        switch self {
        case .request: [("cks", #"["0123456789abcdef"]"#), ("cks", "[]"), ("cks", "null")]
        case .answer: [("oth", #""x""#), ("oth", "null")]
        case .key, .operators, .staff: []
        }
    }

    /// The claims of a right token.
    func payload(issued: Int64, expires: Int64, subject: String = #""7""#, id: String = #""0123456789abcdef""#) -> Members {
        [
            ("iss", "\"\(self.type.expectedIssuer)\""), ("aud", "\"\(self.type.expectedAudience)\""), ("jti", id), ("iat", "\(issued)"),
            ("exp", "\(expires)"), ("sub", subject),
        ] + self.own
    }

    /// What is read of a token, or nil where it is refused. People's tokens are of one key, the first.
    func read(_ token: String, now: Int64, ring: KeyRing) async throws -> Data? {
        func strictly<Claims: TokenClaims>(_ type: Claims.Type) async throws -> Data {
            try JSONEncoder().encode(try await StrictVerifier<Claims>.verify(token, now: now) { ring.machine($0)?.publicKey })
        }
        let first = ring.keys[0]
        do {
            switch self {
            case .request: return try await strictly(RequestClaims.self)
            case .answer: return try await strictly(AnswerClaims.self)
            case .key: return try await strictly(KeyProofClaims.self)
            case .operators:
                return try JSONEncoder().encode(try await TokenAuthority<OperatorSet>(key: first.machine, keyID: first.id).verify(token, now: now))
            case .staff: return try JSONEncoder().encode(try await TokenAuthority<StaffSet>(key: first.machine, keyID: first.id).verify(token, now: now))
            }
        } catch is DataSyncError { return nil }
    }

    /// As the product signs one.
    func made(by key: CorpusKey, issued: Int64) async throws -> String {
        switch self {
        case .request:
            let claims = RequestClaims(
                id: "0123456789abcdef", issued: issued, expires: issued + 60, subject: "7", method: "POST", path: "/v1/push", digest: "x", session: nil,
                epoch: nil, trusted: ["0123456789abcdef", "fedcba9876543210"])
            return try await claims.sign(with: key.machine, keyID: key.id)
        case .answer:
            let claims = AnswerClaims(
                id: "0123456789abcdef", issued: issued, expires: issued + 60, subject: "7", status: 409, digest: "x", time: issued * 1_000, other: nil)
            return try await claims.sign(with: key.machine, keyID: key.id)
        case .key:
            let claims = KeyProofClaims(id: "0123456789abcdef", issued: issued, expires: issued + 60, subject: "7", follows: "0123456789abcdef")
            return try await claims.sign(with: key.machine, keyID: key.id)
        case .operators:
            let claims = OperatorClaims(id: "0123456789abcdef", issued: issued, subject: "ada", generation: 4, login: "0123456789abcdef")
            return try await TokenAuthority<OperatorSet>(key: key.machine, keyID: key.id).sign(claims).revealed
        case .staff:
            let claims = StaffClaims(id: "0123456789abcdef", issued: issued, subject: "ada", generation: 4, login: "0123456789abcdef")
            return try await TokenAuthority<StaffSet>(key: key.machine, keyID: key.id).sign(claims).revealed
        }
    }
}

private struct CorpusKey {
    let id: String
    let signing: Curve25519.Signing.PrivateKey

    /// A key that the seed decides.
    init(id: String, using generator: inout SeededGenerator) throws {
        self.id = id
        self.signing = try Curve25519.Signing.PrivateKey(rawRepresentation: (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }

    var machine: MachineKey { MachineKey(EdDSA.PrivateKey(backing: self.signing)) }
}

private struct KeyRing {
    let keys: [CorpusKey]

    func machine(_ id: String) -> MachineKey? { self.keys.first { $0.id == id }?.machine }
}

private func text(_ members: Members) -> String { "{" + members.map { "\"\($0.name)\":\($0.json)" }.joined(separator: ",") + "}" }

private func signed(_ header: some Sequence<UInt8>, _ payload: some Sequence<UInt8>, _ key: CorpusKey) throws -> String {
    let content = Base64URL.encode(Data(header)) + "." + Base64URL.encode(Data(payload))
    return content + "." + Base64URL.encode(try key.signing.signature(for: Data(content.utf8)))
}

/// `members` with another value of `name`, or without it.
private func with(_ members: Members, _ name: String, _ json: String?) -> Members {
    json.map { json in members.map { $0.name == name ? (name, json) : $0 } } ?? members.filter { $0.name != name }
}

/// Writes the lines of one set: a token, what is known of it, and what the verifier said.
private struct CorpusWriter {
    let set: CorpusSet
    let ring: KeyRing
    let stranger: CorpusKey
    var generator: SeededGenerator
    var lines: [Data] = []
    var accepted = 0

    static let now: Int64 = 1_700_000_000

    var key: CorpusKey { self.ring.keys[0] }
    var life: Int64 { self.set.type.lifetimeSecondsMax }
    var header: Members { [("alg", #""EdDSA""#), ("kid", "\"\(self.key.id)\""), ("typ", "\"\(self.set.type.tokenType)\"")] }
    var payload: Members { self.set.payload(issued: Self.now, expires: Self.now + self.life) }

    mutating func write(_ kind: String, _ token: String, now: Int64 = Self.now) async throws {
        let read = try await self.set.read(token, now: now, ring: self.ring)
        // People's tokens are of one key.
        let keys = self.set == .operators || self.set == .staff ? [self.key] : self.ring.keys
        var line: [String: Any] = [
            "set": self.set.rawValue, "kind": kind, "typ": self.set.type.tokenType, "iss": self.set.type.expectedIssuer,
            "aud": self.set.type.expectedAudience, "lifetime": self.life, "now": now, "accepted": read != nil, "token": token,
            "keys": Dictionary(uniqueKeysWithValues: keys.map { ($0.id, $0.machine.publicKey.text) }),
        ]
        if let read {
            line["claims"] = try JSONSerialization.jsonObject(with: read)
            self.accepted += 1
        }
        self.lines.append(try JSONSerialization.data(withJSONObject: line, options: [.sortedKeys, .withoutEscapingSlashes]))
    }

    mutating func write(_ kind: String, header: Members? = nil, payload: Members? = nil, now: Int64 = Self.now) async throws {
        try await self.write(kind, try signed(text(header ?? self.header).utf8, text(payload ?? self.payload).utf8, self.key), now: now)
    }

    mutating func writeAll() async throws {
        try await self.writeGood()
        try await self.writeHeaders()
        try await self.writeClaims()
        try await self.writeTimes()
        try await self.writeTexts()
        try await self.writeSpellings()
        try await self.writeSignatures()
        try await self.writeOtherSets()
        try await self.writeMutations()
    }

    private mutating func writeGood() async throws {
        try await self.write("good: as the product signs", try await self.set.made(by: self.key, issued: Self.now))
        for index in 0..<100 {
            let life = Int64.random(in: 1...self.life, using: &self.generator)
            let subject = [#""7""#, #""ada""#, #""Ü\u00fc\ud83d\ude00😀""#, #""""#, #""\u0000""#].randomElement(using: &self.generator)!
            let id = [#""01234567""#, "\"" + String(repeating: "x", count: 64) + "\"", #""éééé""#].randomElement(using: &self.generator)!
            var members = self.set.payload(issued: Self.now, expires: Self.now + life, subject: subject, id: id)
            if let optional = self.set.optional.randomElement(using: &self.generator), Bool.random(using: &self.generator) { members.append(optional) }
            if index.isMultiple(of: 5) { members.append(("x", #"{"a":[1,2.5e3,null,true,"b"]}"#)) }
            members.shuffle(using: &self.generator)
            let now = Self.now + Int64.random(in: -60...life + 60, using: &self.generator)
            let header = self.header.shuffled(using: &self.generator)
            try await self.write("good", header: header, payload: members, now: now)
        }
        for kind in ["other people's claim", "a number too large for anybody"] {
            try await self.write("good: \(kind)", payload: self.payload + [("admin", kind.count.isMultiple(of: 2) ? "true" : "1e400")])
        }
    }

    private mutating func writeHeaders() async throws {
        let key = "\"\(self.key.id)\""
        for json in [
            #""none""#, #""None""#, #""HS256""#, #""HS512""#, #""ES256""#, #""RS256""#, #""PS256""#, #""Ed25519""#, #""Ed448""#, #""eddsa""#, #""EDDSA""#,
            #""""#,
            "null", "1", #"["EdDSA"]"#, #""EdDSA ""#, nil,
        ] as [String?] { try await self.write("alg", header: with(self.header, "alg", json)) }
        for json in [
            #""other""#, #""second""#, #""\#(self.key.id.uppercased())""#, #""""#, "null", "1", #"["\#(self.key.id)"]"#, #""../keys/k""#,
            #""\#(self.key.id)\u0000""#,
            "\"" + String(repeating: "k", count: 65) + "\"", nil,
        ] as [String?] { try await self.write("kid", header: with(self.header, "kid", json)) }
        let types = CorpusSet.allCases.map { "\"\($0.type.tokenType)\"" }.filter { $0 != "\"\(self.set.type.tokenType)\"" }
        for json in types + [
            #""JWT""#, #""at+jwt""#, "\"\(self.set.type.tokenType.uppercased())\"", "\"application/\(self.set.type.tokenType)\"",
            "\"\(self.set.type.tokenType) \"", #""""#,
            "null", "[]", nil,
        ] as [String?] { try await self.write("typ", header: with(self.header, "typ", json)) }
        let x = self.stranger.machine.publicKey.text
        let jwk = #"{"kty":"OKP","crv":"Ed25519","x":"\#(x)"}"#
        for (name, json) in [
            ("crit", #"["exp"]"#), ("crit", #"["b64"]"#), ("crit", "[]"), ("b64", "false"), ("jwk", jwk), ("jku", #""https://evil.example/keys""#),
            ("x5u", #""https://evil.example/c""#),
            ("x5c", "[]"), ("x5t", #""x""#), ("cty", #""JWT""#), ("zip", #""DEF""#), ("enc", #""A256GCM""#), ("epk", jwk), ("p2c", "1"), ("x", #""x""#),
            ("iss", #""x""#),
        ] {
            try await self.write("more in the header: \(name)", header: self.header + [(name, json)])
            try await self.write("more in the header, first: \(name)", header: [(name, json)] + self.header)
            // By the key that it brings.
            let header = self.header + [(name, json)]
            try await self.write("more in the header, a stranger's: \(name)", try signed(text(header).utf8, text(self.payload).utf8, self.stranger))
        }
        for name in ["alg", "kid", "typ"] {
            let value = self.header.first { $0.name == name }!
            try await self.write("a member of the header twice, alike", header: self.header + [value])
            for json in [#""none""#, #""other""#, #""JWT""#] {
                try await self.write("a member of the header twice", header: self.header + [(name, json)])
                try await self.write("a member of the header twice, first", header: [(name, json)] + self.header)
            }
        }
        let good = text(self.header)
        for (kind, header) in [
            ("spaces", good.replacing(":", with: " : ").replacing(",", with: "\n,\t")), ("spaces around", " \r\n" + good + "\n"),
            ("a comma more", good.replacing("}", with: ",}")),
            ("more after it", good + "{}"), ("none", ""), ("null", "null"), ("an array", "[\(good)]"), ("a string", "\"x\""),
            ("an escape", good.replacing("\"kid\"", with: #""k\u0069d""#)),
            ("an escape in a value", good.replacing("EdDSA", with: #"E\u0064DSA"#)), ("twice by an escape", good.replacing("{", with: #"{"\u0061lg":"none","#)),
            ("a comment", good.replacing("{", with: "{/**/")), ("single quotes", good.replacing("\"", with: "'")), ("a mark of order", "\u{FEFF}" + good),
            ("a zero byte", good + "\0"),
            ("nested", good.replacing(key, with: #"{"kid":\#(key)}"#)),
        ] { try await self.write("text of the header: \(kind)", try signed(header.utf8, text(self.payload).utf8, self.key)) }
    }

    private mutating func writeClaims() async throws {
        let values: [String?] = [
            nil, "null", "true", "false", "0", "-1", "1", "1.5", "1.0", "-0.0", "1e3", "7", "\"7\"", "2147483647", "2147483648", "-2147483649",
            "9223372036854775807",
            "9223372036854775808", "-9223372036854775808", "18446744073709551616", "1e400", "1e18", "1e19", "1700000000", "\"1700000000\"", "1700000000.0",
            "1700000000.5", "1.7e9",
            "17000000000e-1", "1700000060.0", "1700000030", #""""#, #""x""#, #""\ud800""#, #""\udc00\ud800""#, #""é""#, "[]", "{}", "[\"x\"]", "[null]", "[1]",
            "[[]]",
            #""1234567""#, "\"" + String(repeating: "x", count: 65) + "\"", "\"" + String(repeating: "é", count: 33) + "\"",
            "\"" + String(repeating: "é", count: 32) + "\"",
            #""datasync-branch""#, #""datasync-cloud""#, #""datasync-cloud-people""#, #""datasync-cloud-admin""#, #""datasync-branch-people""#,
            #""datasync-branch-local""#,
            "[\"\(self.set.type.expectedAudience)\"]", "[\"\(self.set.type.expectedAudience)\",\"x\"]", "\"\(self.set.type.expectedIssuer) \"",
            "\"\(self.set.type.expectedIssuer.uppercased())\"",
        ]
        let own = self.set.payload(issued: Self.now, expires: Self.now + self.life)
        for name in Set(own.map(\.name) + self.set.optional.map(\.name)).sorted() {
            for json in values {
                let payload = own.contains { $0.name == name } ? with(own, name, json) : own + (json.map { [(name, $0)] } ?? [])
                try await self.write("claim \(name)", payload: payload)
            }
            let first = own.first { $0.name == name }?.json ?? "null"
            try await self.write("a claim twice, alike", payload: own + [(name, first)])
            for json in ["null", "\"8\"", "1700000001"] {
                try await self.write("a claim twice", payload: own + [(name, json)])
                try await self.write("a claim twice, first", payload: [(name, json)] + own)
                try await self.write("a claim twice by an escape", payload: own + [(#"\u00\#(String(name.utf8.first!, radix: 16))"# + name.dropFirst(), json)])
            }
        }
        for (name, json) in [
            ("nbf", "0"), ("nbf", "1699999999"), ("nbf", "1800000000"), ("nbf", "null"), ("nbf", "\"x\""), ("cnf", "{}"), ("ISS", "\"x\""), ("iss ", "\"x\""),
            ("", "1"),
        ] {
            try await self.write("another claim: \(name)", payload: own + [(name, json)])
        }
    }

    private mutating func writeTimes() async throws {
        for (issued, expires) in [
            (0, self.life), (0, 0), (0, 1), (1, 0), (0, self.life + 1), (0, -1), (-self.life, 0), (-60, self.life - 60), (60, self.life + 60),
            (61, self.life + 61), (-120, -60), (-119, -59),
            (-121, -61), (0, 86_400),
        ] as [(Int64, Int64)] {
            for now in [-61, -60, -59, -1, 0, 1, 59, 60, 61, self.life - 1, self.life, self.life + 1, self.life + 59, self.life + 60, self.life + 61, 86_400]
                as [Int64]
            {
                try await self.write(
                    "times", payload: self.set.payload(issued: Self.now + issued, expires: Self.now + expires), now: Self.now + now)
            }
        }
        for (issued, expires) in [
            (0, 1), (0, 60), (-1, 59), ((1 << 40) - 60, (1 << 40) - 1), ((1 << 40) - 1, 1 << 40), (1 << 40, (1 << 40) + 60), (.max - 60, .max),
            (.min, .min + 60), (.min, .max),
            (1_700_000_000_000, 1_700_000_000_060),
        ] as [(Int64, Int64)] {
            for now in [issued, expires, Self.now, 0] where now >= 0 && now < 1 << 41 {
                try await self.write("times that are nobody's", payload: self.set.payload(issued: issued, expires: expires), now: now)
            }
        }
    }

    /// Payloads that are no JSON, or no strict one.
    private mutating func writeTexts() async throws {
        let good = text(self.payload)
        func opening(_ more: String) -> String { "{" + more + "," + good.dropFirst() }
        for (kind, payload) in [
            ("spaces", good.replacing(":", with: " : ").replacing(",", with: "\n,\t")), ("spaces around", " \r\n" + good + "\n"),
            ("another space", "\u{A0}" + good),
            ("a comma more", good.replacing("}", with: ",}")), ("more after it", good + " x"), ("two", good + good), ("a zero byte", good + "\0"),
            ("a mark of order", "\u{FEFF}" + good),
            ("none", ""), ("null", "null"), ("an array", "[\(good)]"), ("a string", "\"x\""), ("a number", "1"), ("empty", "{}"),
            ("cut off", String(good.dropLast())),
            ("not a number", opening(#""x":NaN"#)), ("infinity", opening(#""x":-Infinity"#)), ("a leading zero", opening(#""x":01"#)),
            ("a plus", opening(#""x":+1"#)),
            ("a point alone", opening(#""x":1."#)), ("no digit before the point", opening(#""x":.5"#)), ("hexadecimal", opening(#""x":0x10"#)),
            ("a minus alone", opening(#""x":-"#)),
            ("no digit after e", opening(#""x":1e"#)), ("a tab in a text", opening("\"x\":\"a\tb\"")), ("a line's end in a text", opening("\"x\":\"a\nb\"")),
            ("an unknown escape", opening(#""x":"\q""#)), ("a short escape", opening(#""x":"\u00""#)), ("a lone surrogate", opening(#""x":"\ud800""#)),
            ("a lone surrogate in a name", opening(#""\udfff":1"#)), ("a pair of surrogates", opening(#""x":"\ud83d\ude00""#)),
            ("words in capitals", opening(#""x":True"#)),
            ("no quotes", opening("x:1")), ("single quotes", opening("'x':1")), ("a comment", opening("/* */\"x\":1")),
            ("a line of comment", opening("//\n\"x\":1")),
            ("twice within", opening(#""x":{"a":1,"a":2}"#)), ("twice what is unknown", opening(#""x":1,"x":1"#)),
            ("a name that is not a text", opening("1:1")),
            ("a very long number", opening("\"x\":" + String(repeating: "9", count: 1_000))), ("an exponent", opening(#""x":1e999999999"#)),
            ("normal forms", opening("\"\u{E9}\":1,\"e\u{301}\":1")),
        ] { try await self.write("text of the payload: \(kind)", try signed(text(self.header).utf8, payload.utf8, self.key)) }
        for depth in [1, 30, 31, 32, 33, 100, 500, 1_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] where depth * (open.count + close.count) < 2_200 {
                let nest = String(repeating: open, count: depth) + (open == "[" ? "" : "1") + String(repeating: close, count: depth)
                try await self.write("nesting", payload: self.payload + [("x", nest)])
            }
        }
        for bytes in [[0xFF], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82]] as [[UInt8]] {
            let payload = Array(#"{"x":""#.utf8) + bytes + Array(#"","#.utf8) + Array(good.utf8.dropFirst())
            try await self.write("bytes that are no UTF-8", try signed(text(self.header).utf8, payload, self.key))
            let header = Array(text(self.header).utf8.dropLast()) + Array(#","x":""#.utf8) + bytes + Array(#""}"#.utf8)
            try await self.write("bytes in the header that are no UTF-8", try signed(header, text(self.payload).utf8, self.key))
        }
        for encoding in [String.Encoding.utf16LittleEndian, .utf16BigEndian, .utf16, .utf32LittleEndian, .utf32BigEndian] {
            try await self.write("another encoding of the payload", try signed(text(self.header).utf8, good.data(using: encoding)!, self.key))
            try await self.write("another encoding of the header", try signed(text(self.header).data(using: encoding)!, good.utf8, self.key))
        }
        for count in [1_000, 2_000, 2_500, 2_700, 2_800, 2_900, 3_000, 5_000] {
            try await self.write("size", payload: self.payload + [("x", "\"" + String(repeating: "x", count: count) + "\"")])
        }
    }

    /// The same token written in another way.
    private mutating func writeSpellings() async throws {
        let token = try signed(text(self.header).utf8, text(self.payload + [("x", #""🟰>>>???""#)]).utf8, self.key)
        let parts = token.split(separator: ".").map { String($0) }
        func joined(_ index: Int, _ change: (String) -> String) -> String {
            parts.enumerated().map { $0.offset == index ? change($0.element) : $0.element }.joined(separator: ".")
        }
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for index in 0..<3 {
            for (kind, spelled) in [
                ("padding", joined(index) { $0 + "=" }), ("more padding", joined(index) { $0 + "==" }),
                ("the other alphabet", joined(index) { $0.replacing("-", with: "+").replacing("_", with: "/") }),
                ("a space", joined(index) { $0 + " " }), ("a space before", joined(index) { " " + $0 }), ("a line's end", joined(index) { $0 + "\n" }),
                ("a tab within", joined(index) { $0.prefix(4) + "\t" + $0.dropFirst(4) }),
                ("a character less", joined(index) { String($0.dropLast()) }), ("a character more", joined(index) { $0 + "A" }),
                ("a dot more", joined(index) { $0 + "." }), ("empty", joined(index) { _ in "" }),
                ("no ASCII", joined(index) { $0 + "é" }), ("a zero byte", joined(index) { $0 + "\0" }), ("a star", joined(index) { $0 + "*" }),
            ] { try await self.write("spelling: \(kind)", spelled) }
            for character in alphabet { try await self.write("spelling: last character", joined(index) { $0.dropLast() + String(character) }) }
        }
        for (kind, spelled) in [
            ("a part less", parts.prefix(2).joined(separator: ".")), ("no dots", parts.joined()), ("a scheme", "Bearer " + token), ("quotes", "\"\(token)\""),
            ("nothing", ""), ("dots", ".."),
            ("five parts", token + "." + parts[0] + "." + parts[1]),
            ("JSON", #"{"protected":"\#(parts[0])","payload":"\#(parts[1])","signature":"\#(parts[2])"}"#),
        ] { try await self.write("spelling: \(kind)", spelled) }
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [0, 0, 2], [1, 1, 2], [0, 1, 1]] {
            try await self.write("parts in another order", order.map { parts[$0] }.joined(separator: "."))
        }
    }

    private mutating func writeSignatures() async throws {
        let header = text(self.header)
        let content = Base64URL.encode(Data(header.utf8)) + "." + Base64URL.encode(Data(text(self.payload).utf8))
        let right = [UInt8](try self.key.signing.signature(for: Data(content.utf8)))
        func token(_ signature: some Sequence<UInt8>) -> String { content + "." + Base64URL.encode(Data(signature)) }
        for count in [0, 1, 31, 32, 63] { try await self.write("signature cut off", token(right.prefix(count))) }
        try await self.write("signature with more", token(right + [0]))
        try await self.write("signature twice", token(right + right))
        try await self.write("signature of zeros", token([UInt8](repeating: 0, count: 64)))
        try await self.write("signature in its other order", token(right[32...] + right[..<32]))
        // The same point and the same number, which has a second spelling: itself and the order of the group.
        let order: [UInt8] = [
            0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ]
        var (again, carry) = (right, 0)
        for index in 0..<32 {
            let sum = Int(right[32 + index]) + Int(order[index]) + carry
            again[32 + index] = UInt8(truncatingIfNeeded: sum)
            carry = sum >> 8
        }
        try await self.write("signature with another number that counts as the same", token(again))
        for index in 0..<64 {
            var flipped = right
            flipped[index] ^= 1 << UInt8.random(in: 0..<8, using: &self.generator)
            try await self.write("signature with a bit turned", token(flipped))
        }
        try await self.write("signature of a stranger", token(try self.stranger.signing.signature(for: Data(content.utf8))))
        try await self.write("signature by the second key", token(try self.ring.keys[1].signing.signature(for: Data(content.utf8))))
        try await self.write("signature of the payload alone", token(try self.key.signing.signature(for: Data(text(self.payload).utf8))))
        try await self.write("signature of something else", token(try self.key.signing.signature(for: Data((content + ".").utf8))))
        for (name, json) in [("HS256", #""HS256""#), ("none", #""none""#), ("EdDSA", #""EdDSA""#)] {
            let content = Base64URL.encode(Data(text(with(self.header, "alg", json)).utf8)) + "." + Base64URL.encode(Data(text(self.payload).utf8))
            let secret = SymmetricKey(data: self.key.signing.publicKey.rawRepresentation)
            let code = HMAC<SHA256>.authenticationCode(for: Data(content.utf8), using: secret)
            try await self.write("alg \(name), a code by the public key", content + "." + Base64URL.encode(Data(code)))
            try await self.write("alg \(name), no signature", content + ".")
        }
    }

    /// Other sets' tokens, by the same key under the same name.
    private mutating func writeOtherSets() async throws {
        for other in CorpusSet.allCases where other != self.set {
            try await self.write("of the set \(other.rawValue)", try await other.made(by: self.key, issued: Self.now))
            let issuer = "\"\(other.type.expectedIssuer)\"", audience = "\"\(other.type.expectedAudience)\"", type = "\"\(other.type.tokenType)\""
            let claims = other.payload(issued: Self.now, expires: Self.now + 60) + self.set.own.filter { own in !other.own.contains { $0.name == own.name } }
            for (kind, header, payload) in [
                ("type", with(self.header, "typ", type), self.payload), ("issuer", self.header, with(self.payload, "iss", issuer)),
                ("audience", self.header, with(self.payload, "aud", audience)),
                ("issuer and audience", self.header, with(with(self.payload, "iss", issuer), "aud", audience)), ("claims", self.header, claims),
                ("everything", with(self.header, "typ", type), claims),
            ] { try await self.write("\(kind) of the set \(other.rawValue)", header: header, payload: payload) }
        }
        // Another key under the name, the right key under another.
        for key in self.ring.keys.dropFirst() + [self.stranger] {
            try await self.write("by another key", try signed(text(self.header).utf8, text(self.payload).utf8, key))
            try await self.write(
                "by another key under its own name", try signed(text(with(self.header, "kid", "\"\(key.id)\"")).utf8, text(self.payload).utf8, key))
            try await self.write("another key's name", try signed(text(with(self.header, "kid", "\"\(key.id)\"")).utf8, text(self.payload).utf8, self.key))
        }
    }

    private mutating func writeMutations() async throws {
        let right = try await self.set.made(by: self.key, issued: Self.now)
        var others: [String] = []
        for other in CorpusSet.allCases { others.append(try await other.made(by: self.key, issued: Self.now)) }
        for _ in 0..<400 { try await self.write("changed by chance", TokenMutation.of(right, others: others, using: &self.generator)) }
    }
}

@Test(.enabled(if: corpusFile != nil, "SKIPPED: DATASYNC_TOKEN_CORPUS names no file; Scripts/check-tokens does"))
func aCorpusOfTokensIsWritten() async throws {
    var generator = SeededGenerator(seed: corpusSeed)
    var data = Data()
    for set in CorpusSet.allCases {
        let names = ["first", "second", String(repeating: "k", count: 65)]
        let ring = KeyRing(keys: try names.map { try CorpusKey(id: $0, using: &generator) })
        let stranger = try CorpusKey(id: "stranger", using: &generator)
        var writer = CorpusWriter(set: set, ring: ring, stranger: stranger, generator: generator)
        try await writer.writeAll()
        #expect(writer.accepted > 100)
        generator = writer.generator
        for line in writer.lines { data += line + Data("\n".utf8) }
    }
    try data.write(to: URL(filePath: try #require(corpusFile)))
}
