import DataSync
@testable import DataSyncHTTP
@testable import DataSyncIdentity
import DataSyncCompression
import Foundation
import HTTPTypes
import Hummingbird
import Synchronization
import Testing

// What a branch makes of answers that are not the cloud's, or not what they should be.

@Test(arguments: [
    (200, "the answer (HTTP 200) is not the cloud's"), (401, "has it joined this cloud"), (404, "is cloud.url right"),
    (500, "(HTTP 500) is not the cloud's"), (502, "a proxy before the cloud cannot reach it"), (503, "a proxy"),
])
func anAnswerThatNobodySignedIsNoAnswer(status: Int, hint: String) async throws {
    let fake = try FakeCloud()
    try await fake.serve { _ in
        FakeCloud.response(
            status, Array("<html><body>Bad Gateway</body></html>".utf8), headers: [.contentType: "text/html", .retryAfter: "7"])
    } _: { port async throws in
        let error = await failure(try fake.transport(port))
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains(hint) == true, "\(error?.detail ?? "")")
        #expect(error?.retryAfter == .seconds(7))
    }
}

@Test func aProxyCannotSendABranchAwayForEver() async throws {
    let fake = try FakeCloud()
    try await fake.serve { _ in
        FakeCloud.response(503, [], headers: [.retryAfter: "999999999"])
    } _: { port async throws in
        #expect(await failure(try fake.transport(port))?.retryAfter == .seconds(3_600))
    }
}

@Test(arguments: [301, 302, 307, 308])
func aRedirectIsNotFollowed(status: Int) async throws {
    let fake = try FakeCloud()
    try await RawServer.serving { _ in
        .bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", closing: true)
    } _: { elsewhere in
        let target = "http://127.0.0.1:\(elsewhere.port)/datasync/v1/open"
        try await fake.serve { _ in
            FakeCloud.response(status, [], headers: [.location: target])
        } _: { port async throws in
            let error = await failure(try fake.transport(port))
            #expect(error?.code == .peerUnreachable)
            #expect(error?.detail?.contains("redirect (HTTP \(status))") == true, "\(error?.detail ?? "")")
        }
        #expect(elsewhere.connectionCount == 0)
    }
}

/// How somebody on the way may spoil an answer of the true cloud.
enum Tampering: String, CaseIterable, Sendable {
    case anotherKey, anotherRequest, anotherBranch, changedBody, changedStatus, cutBody, addedBody, brokenToken, requestToken
}

@Test(arguments: Tampering.allCases)
func aTamperedAnswerIsNoAnswer(tampering: Tampering) async throws {
    let fake = try FakeCloud()
    let earlier = Mutex<HTTPFields?>(nil)
    let body = FakeCloud.openAnswer.body
    let name = HTTPField.Name("datasync-answer")!
    try await fake.serve { question in
        if earlier.withLock({ $0 == nil }) {
            let honest = try await fake.answer(question, body: body)
            earlier.withLock { $0 = honest.headers }
            return honest
        }
        switch tampering {
        case .anotherKey: return try await fake.answer(question, body: body, key: try MachineKey.generate())
        case .anotherRequest: return FakeCloud.response(200, body, headers: earlier.withLock { $0 ?? [:] })
        case .anotherBranch:
            let caller = CloudIdentity.Caller(branch: 8, id: try await fake.caller(of: question).id, session: nil, key: fake.branch.key.publicKey, trusted: nil)
            let signature = try await CloudIdentity(key: fake.key).sign(status: 200, body: body, to: caller).token
            return FakeCloud.response(200, body, headers: [name: signature])
        case .changedBody:
            let text = String(decoding: body, as: UTF8.self).replacing("\"number\":1", with: "\"number\":2")
            return try await fake.answer(question, body: Array(text.utf8), signedBody: body)
        case .changedStatus: return try await fake.answer(question, status: 200, signedStatus: 409, body: body)
        case .cutBody: return try await fake.answer(question, body: Array(body.dropLast()), signedBody: body)
        case .addedBody: return try await fake.answer(question, body: body + [0x20], signedBody: body)
        case .brokenToken: return FakeCloud.response(200, body, headers: [name: "e30.e30.e30"])
        case .requestToken: return FakeCloud.response(200, body, headers: [name: question.token])
        }
    } _: { port async throws in
        let transport = try fake.transport(port)
        #expect(try await transport.open(Ask.open) == FakeCloud.openAnswer)
        let error = await failure(transport)
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains("eyJ") == false)
    }
}

@Test func whatTheCloudSignedButNobodyCanReadIsThePeersFault() async throws {
    let fake = try FakeCloud()
    for body in ["", "<html></html>", "{}", "{\"session\":", "[]", "{\"session\":{\"number\":\"1\",\"epoch\":1}}"] {
        try await fake.serve {
            try await fake.answer($0, body: Array(body.utf8))
        } _: { port async throws in
            let error = await failure(try fake.transport(port))
            #expect(error?.code == .peerInvalid, "\(body): \(String(reflecting: error))")
        }
    }
}

@Test func theSignatureAndNotTheContentTypeSaysWhoseAnswerItIs() async throws {
    let fake = try FakeCloud()
    try await fake.serve {
        try await fake.answer($0, body: FakeCloud.openAnswer.body, contentType: "text/html; charset=gbk")
    } _: { port async throws in
        #expect(try await fake.transport(port).open(Ask.open) == FakeCloud.openAnswer)
    }
}

@Test func membersThatABranchDoesNotKnowArePassedOver() async throws {
    let fake = try FakeCloud()
    let text = String(decoding: FakeCloud.openAnswer.body, as: UTF8.self)
    let body = Array("{\"new\":{\"a\":[1,{}]},\(text.dropFirst())".utf8)
    try await fake.serve {
        try await fake.answer($0, body: body)
    } _: { port async throws in
        #expect(try await fake.transport(port).open(Ask.open) == FakeCloud.openAnswer)
    }
}

@Test func anErrorThatABranchDoesNotKnowIsThatTheCloudIsAway() async throws {
    let fake = try FakeCloud()
    let body = Array(#"{"error":"teapot","retry_after_ms":5000}"#.utf8)
    try await fake.serve {
        try await fake.answer($0, status: 418, body: body)
    } _: { port async throws in
        let error = await failure(try fake.transport(port))
        #expect(error?.code == .peerUnreachable)
        #expect(error?.retryAfter == .seconds(5))
    }
}

// MARK: - Bytes that are no answer

// A head that ends between its first line and its last is not among these: URLSession of Swift 6.3 on Linux ends the whole
// process then ("Transfer completed, but there's no response"). Nothing is lost by that, and whoever supervises the agent
// starts it again.

@Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"session\"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "HTTP/1.1 20", "SSH-2.0-OpenSSH_9.6\r\n", "",
])
func aServerThatClosesMidAnswerGaveNone(bytes: String) async throws {
    let fake = try FakeCloud()
    try await RawServer.serving { _ in
        .bytes(bytes, closing: true)
    } _: { server in
        let error = await failure(try fake.transport(server.port))
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.isEmpty == false)
    }
}

@Test func aClosedPortIsSaidToBeOne() async throws {
    let fake = try FakeCloud()
    let port = Mutex(0)
    try await RawServer.serving { _ in
        .close
    } _: { server in
        port.withLock { $0 = server.port }
    }
    let error = await failure(try fake.transport(port.withLock { $0 }))
    #expect(error?.code == .peerUnreachable)
    #expect(error?.detail?.contains("nobody listens") == true, "\(error?.detail ?? "")")
}

/// Two ways to keep a branch waiting for ever; the second defeats every timeout between two pieces.
@Test(arguments: [false, true])
func anAnswerThatNeverEndsMeetsTheDeadline(trickles: Bool) async throws {
    let fake = try FakeCloud()
    var limits = HTTPLimits.patient
    limits.exchange = .milliseconds(300)
    let transportLimits = limits
    try await RawServer.serving { _ in
        trickles ? .trickle("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") : .silence
    } _: { server in
        let transport = try fake.transport(server.port, transportLimits)
        let error = await failure(transport)
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains("no answer within") == true, "\(error?.detail ?? "")")
    }
}

@Test func anAnswerThatIsTooLongIsBrokenOff() async throws {
    let fake = try FakeCloud()
    var limits = HTTPLimits.patient
    limits.answerBytesMax = 100_000
    let transportLimits = limits
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
    try await RawServer.serving { _ in
        .bytes(head + String(repeating: "x", count: 200_000), closing: false)
    } _: { server in
        let error = await failure(try fake.transport(server.port, transportLimits))
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains("longer than 100000 bytes") == true, "\(error?.detail ?? "")")
    }
}

/// The size that counts is the inflated one, since URLSession inflates by itself.
@Test func anAnswerThatInflatesTooFarIsBrokenOff() async throws {
    let fake = try FakeCloud()
    var limits = HTTPLimits.patient
    limits.answerBytesMax = 100_000
    let transportLimits = limits
    let bomb = try Gzip.compress([UInt8](repeating: 0x20, count: 4 << 20))
    try await fake.serve { _ in
        FakeCloud.response(200, bomb, headers: [.contentEncoding: "gzip"])
    } _: { port async throws in
        let error = await failure(try fake.transport(port, transportLimits))
        #expect(error?.code == .peerUnreachable)
    }
}

@Test func aCompressedAnswerIsVerifiedAsItInflates() async throws {
    let fake = try FakeCloud()
    let body = FakeCloud.openAnswer.body + [UInt8](repeating: 0x20, count: 5_000)
    try await fake.serve { question in
        var response = try await fake.answer(question, body: body)
        response.headers[.contentEncoding] = "gzip"
        response.body = .init(byteBuffer: ByteBuffer(bytes: try Gzip.compress(body)))
        return response
    } _: { port async throws in
        #expect(try await fake.transport(port).open(Ask.open) == FakeCloud.openAnswer)
    }
}

// MARK: - What a branch sends

@Test func everyRequestHasATokenOfItsOwnAndTheConnectionIsKept() async throws {
    let fake = try FakeCloud()
    try await RawServer.serving { _ in
        .bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", closing: false)
    } _: { server in
        let transport = try fake.transport(server.port)
        for _ in 0..<5 { _ = await failure(transport) }
        let tokens = server.heads.flatMap { $0.split(separator: "\r\n") }.filter { $0.lowercased().hasPrefix("authorization: bearer ") }
        #expect(Set(tokens).count == 5)
        #expect(server.connectionCount == 1)
        #expect(server.heads.allSatisfy { $0.hasPrefix("POST /datasync/v1/open HTTP/1.1") })
        #expect(server.heads.allSatisfy { !$0.lowercased().contains("cookie") })
    }
}

@Test func aPrefixOfTheAddressIsNotSigned() async throws {
    let fake = try FakeCloud()
    try await RawServer.serving { _ in
        .bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", closing: false)
    } _: { server in
        for prefix in ["/shop/eu", "/shop/eu/"] {
            let endpoint = try CloudEndpoint("http://localhost:\(server.port)\(prefix)")
            _ = await failure(HTTPTransport(cloud: endpoint, identity: fake.branch.identity, limits: .patient))
        }
        #expect(server.heads.allSatisfy { $0.hasPrefix("POST /shop/eu/datasync/v1/open HTTP/1.1") }, "\(server.heads)")
        let token = server.heads.first?.split(separator: "\r\n").first { $0.hasPrefix("Authorization: Bearer ") }
        let payload = token.flatMap { Base64URL.decode(String($0.split(separator: ".")[1])) }.map { String(decoding: $0, as: UTF8.self) }
        #expect(payload?.contains(#""htp":"\/v1\/open""#) == true || payload?.contains(#""htp":"/v1/open""#) == true, "\(payload ?? "")")
    }
}

@Test func largeBodiesAreSentCompressedAndSmallOnesAsTheyAre() async throws {
    let fake = try FakeCloud()
    let seen = Mutex<[(String?, Int)]>([])
    let large = Ask.push(SessionID(number: 1, epoch: 1), (0..<50).map { "text number \($0)" })
    try await fake.serve { question in
        seen.withLock { $0.append((question.headers[.contentEncoding], question.request.body.count)) }
        if question.headers[.contentEncoding] == "gzip" {
            #expect(try Gzip.decompress(question.request.body, bytesMax: 1 << 20, ratioMax: 50) == large.body)
        }
        return try await fake.answer(question, body: PushAnswer(runs: []).body)
    } _: { port async throws in
        let transport = try fake.transport(port)
        _ = try await transport.push(large)
        _ = try await transport.push(Ask.push(SessionID(number: 1, epoch: 1), []))
    }
    let sent = seen.withLock { $0 }
    #expect(sent.map(\.0) == ["gzip", nil])
    #expect(sent[0].1 < large.body.count / 2)
}

// MARK: - Clocks

@Test(arguments: [-5 * 3_600, 5 * 3_600, -20 * 365 * 86_400])
func aBranchWhoseClockIsWrongWorksByTheCloudsTime(seconds: Int) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7, environment: .wrong(by: .seconds(seconds)))
    try await cloud.serve { port async throws in
        let transport = HTTPTransport(cloud: try CloudEndpoint("http://127.0.0.1:\(port)"), identity: branch.identity, limits: .patient)
        #expect(branch.identity.clockOffsetMilliseconds == 0)
        let session = try await transport.open(Ask.open).session
        #expect(abs(branch.identity.clockOffsetMilliseconds + Int64(seconds) * 1_000) < 60_000)
        _ = try await transport.push(Ask.push(session, ["a"]))
    }
    // It was told once, and needed no second telling.
    #expect(cloud.log.count(of: "clockSkew") == 1)
    #expect(try await cloud.notes() == ["1": "a"])
}

@Test func aCloudThatAlwaysFindsTheTimeWrongIsAskedTwice() async throws {
    let fake = try FakeCloud()
    let count = Mutex(0)
    let answer = ErrorAnswer(DataSyncError(.clockSkew, operation: "test"))
    try await fake.serve { question in
        count.withLock { $0 += 1 }
        return try await fake.answer(question, status: answer.status, body: answer.body)
    } _: { port async throws in
        #expect(await failure(try fake.transport(port))?.code == .clockSkew)
    }
    #expect(count.withLock { $0 } == 2)
}

/// Else anybody on the way could turn a branch's clock.
@Test func theTimeOfAnUnsignedAnswerIsNotTaken() async throws {
    let fake = try FakeCloud()
    let stranger = try MachineKey.generate()
    let answer = ErrorAnswer(DataSyncError(.clockSkew, operation: "test"))
    try await fake.serve { question in
        try await fake.answer(question, status: answer.status, body: answer.body, key: stranger)
    } _: { port async throws in
        #expect(await failure(try fake.transport(port))?.code == .peerUnreachable)
        #expect(fake.branch.identity.clockOffsetMilliseconds == 0)
    }
}

// MARK: - Addresses

@Test(arguments: [
    "https://cloud.example", "https://cloud.example:8443/shop", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080/x",
])
func anAddressIsTaken(text: String) throws { #expect(try CloudEndpoint(text).url.absoluteString == text) }

@Test(arguments: [
    "http://cloud.example", "http://10.0.0.1:8080", "http://127.0.0.1.example.com", "http://localhost.example.com", "http://0.0.0.0",
    "ftp://cloud.example", "cloud.example", "https://", "https://user:secret@cloud.example", "https://cloud.example?key=1",
    "https://cloud.example#x", "", "/datasync", "http://127.0.0.1@cloud.example",
])
func anAddressIsRefused(text: String) {
    let error = #expect(throws: DataSyncError.self) { try CloudEndpoint(text) }
    #expect(error?.code == .invalidConfiguration)
    #expect(!String(reflecting: error).contains("secret"))
}

@Test func plainHTTPToAnotherMachineMustBeAskedFor() throws {
    #expect(try !CloudEndpoint("http://10.0.0.1:8080", allowsPlainHTTP: true).isLoopback)
}
