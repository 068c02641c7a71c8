import DataSync
@testable import DataSyncIdentity
import DataSyncCompression
import DataSyncServer
import DataSyncTesting
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Synchronization
import Testing

// What the cloud says to requests of every kind, without a socket.

extension NoteCloud {
    func test(_ body: @Sendable (any TestClientProtocol) async throws -> Void) async throws {
        try await self.application().test(.router, body)
    }
}

// MARK: - Who asks

/// How a request may fail to be an honest one of branch 7.
enum Forgery: String, CaseIterable, Sendable {
    case noToken, emptyToken, garbage, strangersKey, strangersKeyID, otherBranchsKeyID, subjectOfAnother, subjectOfTheCloud
    case otherPath, otherMethod, otherBody, noSubject, unknownBranch, branchWithoutKey, tooLongALife, noLife, wrongIssuer, wrongAudience
    case sessionWithoutEpoch, shortID, endOfTime, startOfTime, wholeOfTime, answerToken, basicAuthorization
}

@Test(arguments: Forgery.allCases)
func aForgedRequestIsRefusedAndToldNothing(forgery: Forgery) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    let stranger = try TestBranch(forgery == .unknownBranch ? 99 : forgery == .branchWithoutKey ? 8 : 7, cloud: cloud.key)
    let other = try await cloud.enrol(8)
    if forgery == .branchWithoutKey {
        try await cloud.hub.storage.withTransaction { transaction in
            guard var row = try await transaction.server(8) else { return }
            row.publicKey = nil
            #expect(try await transaction.replaceServer(row))
        }
    }
    let body = Ask.open.body
    var claims = branch.claims("/v1/open", body)
    var token: String?
    var headers: HTTPFields = [:]
    var sent = body
    switch forgery {
    case .noToken: token = nil
    case .emptyToken: token = ""
    case .garbage: token = "not.a.token"
    case .strangersKey: token = try await stranger.token(claims, keyID: KeyID(7, branch.key.publicKey).text)
    case .strangersKeyID, .unknownBranch, .branchWithoutKey: token = try await stranger.token("/v1/open", body)
    case .otherBranchsKeyID: token = try await branch.token(claims, keyID: KeyID(8, other.key.publicKey).text)
    case .subjectOfAnother: claims.subject = "8"
    case .subjectOfTheCloud: claims.subject = "0"
    case .noSubject: claims.subject = ""
    case .otherPath: claims.path = "/v1/push"
    case .otherMethod: claims.method = "GET"
    case .otherBody: sent = OpenRequest(nonce: "0123456789abcdeX", software: "test 1", types: []).body
    case .tooLongALife: claims.expires = claims.issued + 61
    case .noLife: claims.expires = claims.issued
    case .wrongIssuer: claims.issuer = "datasync-cloud"
    case .wrongAudience: claims.audience = "datasync-branch"
    case .sessionWithoutEpoch: claims.session = 1
    case .shortID: claims.id = "1"
    case .endOfTime: (claims.issued, claims.expires) = (.max - 30, .max)
    case .startOfTime: (claims.issued, claims.expires) = (.min, .min + 30)
    case .wholeOfTime: (claims.issued, claims.expires) = (.min, .max)
    case .answerToken:
        let caller = CloudIdentity.Caller(branch: 7, id: "0123456789", session: nil, key: branch.key.publicKey, trusted: nil)
        token = try await CloudIdentity(key: branch.key).sign(status: 200, body: body, to: caller).token
    case .basicAuthorization: headers[.authorization] = "Basic ZGF0YTpzeW5j"
    }
    let isMadeAbove: Set<Forgery> = [
        .noToken, .emptyToken, .garbage, .strangersKey, .strangersKeyID, .unknownBranch, .branchWithoutKey, .otherBranchsKeyID,
        .answerToken, .basicAuthorization,
    ]
    if !isMadeAbove.contains(forgery) { token = try await branch.token(claims) }
    let (request, sentToken, sentHeaders) = (sent, token, headers)
    try await cloud.test { client async throws in
        let asked = try await client.ask("/v1/open", request, token: sentToken, headers: sentHeaders)
        // Nothing is signed for a stranger, and nothing says what was wrong.
        #expect(asked.summary == "401 unauthorized")
        #expect(asked.body == Array(#"{"error":"unauthorized"}"#.utf8))
        #expect(try await client.open(branch).number == 1)
    }
    if let token, token.count > 20 { #expect(cloud.log.count(of: token) == 0) }
}

/// Whoever may sign a time, may sign the end of time: a join brings its own key.
@Test(
    arguments: [
        (Int64.max - 30, Int64.max), (Int64.min, Int64.min + 30), (Int64.min, Int64.max), (-1, 30), (1 << 40, (1 << 40) + 30),
    ] as [(Int64, Int64)])
func aStrangersTimesDoNotStopTheCloud(issued: Int64, expires: Int64) async throws {
    let cloud = try await makeNoteCloud()
    let stranger = try TestBranch(7, cloud: cloud.key)
    let body = JoinRequest(secret: Secret(String(repeating: "0", count: 32)), publicKey: stranger.key.publicKey.text, software: "x").body
    var claims = stranger.claims("/v1/join", body)
    (claims.issued, claims.expires) = (issued, expires)
    let token = try await stranger.token(claims)
    try await cloud.test { client async throws in
        #expect(try await client.ask("/v1/join", body, token: token).summary == "401 unauthorized")
    }
}

@Test(arguments: [-7_200, -200, 200, 7_200])
func aTokenOfAnotherTimeIsAnsweredWithTheTime(seconds: Int) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7, environment: .wrong(by: .seconds(seconds)))
    let body = Ask.open.body
    let claims = branch.claims("/v1/open", body)
    try await cloud.test { client async throws in
        let asked = try await client.ask("/v1/open", body, token: try await branch.token(claims))
        #expect(asked.summary == "401 clock_skew signed")
        try await branch.identity.verify(asked.signature, status: 401, body: asked.body, request: claims.id)
        #expect(abs(branch.identity.adoptCloudTime() + Int64(seconds) * 1_000) < 60_000)
    }
    #expect(try await cloud.hub.storage.withTransaction(.snapshot) { try await $0.server(7)?.session } == 0)
}

/// What the time is, is told to nobody else.
@Test func aStrangersTokenOfAnotherTimeIsAStrangersToken() async throws {
    let cloud = try await makeNoteCloud()
    _ = try await cloud.enrol(7)
    let stranger = try TestBranch(7, cloud: cloud.key, environment: .wrong(by: .seconds(7_200)))
    try await cloud.test { client async throws in
        let asked = try await client.ask("/v1/open", Ask.open.body, token: try await stranger.token("/v1/open", Ask.open.body))
        #expect(asked.summary == "401 unauthorized")
    }
}

// MARK: - What is asked

@Test func aReplayedRequestHasNoSecondEffect() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        let body = Ask.push(session, ["a", "b"]).body
        let token = try await branch.token("/v1/push", body, session: session)
        for attempt in 1...3 {
            let asked = try await client.ask("/v1/push", body, token: token)
            #expect(asked.summary == "200 - signed")
            #expect(try PushAnswer(body: asked.body).runs.flatMap(\.outcomes).map(\.isDuplicate) == [attempt > 1, attempt > 1])
        }
    }
    #expect(try await cloud.effects() == ["1": "1", "2": "1"])
}

@Test func aReplayedOpeningFencesNobody() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let body = Ask.open.body
        let token = try await branch.token("/v1/open", body)
        for _ in 0..<3 {
            let asked = try await client.ask("/v1/open", body, token: token)
            #expect(try OpenAnswer(body: asked.body).session.number == 1)
        }
    }
}

@Test func aTokenOfOneSessionDoesNotCarryABodyOfAnother() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        let body = Ask.push(session, ["a"]).body
        for signed in [nil, SessionID(number: 2, epoch: 1), SessionID(number: 1, epoch: 2)] {
            let asked = try await client.ask("/v1/push", body, token: try await branch.token("/v1/push", body, session: signed))
            #expect(asked.summary == "400 invalid signed")
        }
    }
    #expect(try await cloud.notes() == [:])
}

/// Whose records they are, the key says: a body cannot.
@Test func aBranchCannotPushAsAnother() async throws {
    let cloud = try await makeNoteCloud()
    let seven = try await cloud.enrol(7)
    let eight = try await cloud.enrol(8)
    try await cloud.test { client async throws in
        let session = try await client.open(seven)
        let body = Ask.push(session, ["a"]).body
        let asked = try await client.ask("/v1/push", body, token: try await eight.token("/v1/push", body, session: session))
        // Branch 8 has no session 1.
        #expect(asked.summary == "409 fenced signed")
    }
    #expect(try await cloud.notes() == [:])
}

@Test func aSuspensionHoldsFromTheNextRequestOn() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        try await cloud.enrolment.suspend(7, actor: "test")
        for (path, body) in [("/v1/push", Ask.push(session, ["a"]).body), ("/v1/pull", Ask.pull(session).body)] {
            let asked = try await client.ask(path, body, token: try await branch.token(path, body, session: session))
            #expect(asked.summary == "403 suspended signed")
        }
        let asked = try await client.ask("/v1/open", Ask.open.body, token: try await branch.token("/v1/open", Ask.open.body))
        #expect(asked.code == "suspended" || asked.status == 200, "\(asked.summary)")
        try await cloud.enrolment.resume(7, actor: "test")
        _ = try await client.ask("/v1/push", Ask.push(session, ["a"]), as: branch, session: session, PushAnswer.self)
    }
    #expect(try await cloud.notes() == ["1": "a"])
}

/// Also where there is nothing to be written: no records, or of types alone that the cloud does not know.
@Test func aPushThatWritesNothingIsRefusedLikeAnyOther() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        let another = SessionID(number: session.number + 1, epoch: session.epoch)
        func summaries(_ session: SessionID) async throws -> [String] {
            var unknown = Ask.push(session, ["a"])
            unknown.runs[0].type = 99
            var summaries: [String] = []
            for push in [PushRequest(session: session, runs: []), unknown] {
                let token = try await branch.token("/v1/push", push.body, session: session)
                summaries.append(try await client.ask("/v1/push", push.body, token: token).summary)
            }
            return summaries
        }
        #expect(try await summaries(session) == ["200 - signed", "200 - signed"])
        #expect(try await summaries(another) == ["409 fenced signed", "409 fenced signed"])
        try await cloud.enrolment.suspend(7, actor: "test")
        #expect(try await summaries(session) == ["403 suspended signed", "403 suspended signed"])
    }
}

/// Nothing is counted on from a number that a branch has sent, as if it could not be the last one that there is.
@Test func theLargestNumbersStopNoCloud() async throws {
    let cloud = try await makeNoteCloud()
    let (seven, eight) = (try await cloud.enrol(7), try await cloud.enrol(8))
    try await cloud.test { client async throws in
        // A clock that was further back than any: the cloud says later how long the record took.
        let session = try await client.open(seven)
        var push = Ask.push(session, ["a", "b"])
        push.runs[0].records = push.runs[0].records.enumerated().map { index, sent in
            guard case .record(var record) = sent else { return sent }
            record.createTime = index == 0 ? .max : .min
            return .record(record)
        }
        let pushed = try await client.ask("/v1/push", push, as: seven, session: session, PushAnswer.self)
        #expect(pushed.runs[0].outcomes.count == 2)
        let other = try await client.open(eight)
        let pulled = try await client.ask("/v1/pull", Ask.pull(other), as: eight, session: other, PullAnswer.self)
        let run = try #require(pulled.runs.first)
        for record in run.records {
            let position = Position(number: record.logSeq, fingerprint: record.mark)
            let question = AcknowledgeRequest(session: other, logEpoch: 1, positions: [1: position], outcomes: [])
            _ = try await client.ask("/v1/acknowledge", question, as: eight, session: other, AcknowledgeAnswer.self)
        }
        #expect(run.records.count == 2)
        // Numbers and epochs.
        let after = RecoverRequest(session: session, epoch: 1, after: [1: .max])
        #expect(try await client.ask("/v1/recover", after, as: seven, session: session, RecoverAnswer.self).receipts.isEmpty)
        for epoch: Int32 in [.max, .max - 1] {
            let end = RecoverRequest(session: session, epoch: epoch, after: [:], isEnd: true).body
            let asked = try await client.ask("/v1/recover", end, token: try await seven.token("/v1/recover", end, session: session))
            #expect(asked.summary == "400 invalid signed")
        }
    }
}

@Test(arguments: [
    (DataSyncError.Code.storageBusy, "503 busy"), (.storageUnavailable, "503 unavailable"), (.storageFailed, "503 unavailable"),
    (.commitUnknown, "503 busy"),
])
func whatAilsTheDatabaseIsNotExplained(code: DataSyncError.Code, summary: String) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        cloud.hub.storage.fail(
            with: DataSyncError(code, operation: "test", detail: "Duplicate entry 'ada@example.org'", retryAfter: .seconds(3)))
        let body = Ask.push(session, ["a"]).body
        let asked = try await client.ask("/v1/push", body, token: try await branch.token("/v1/push", body, session: session))
        #expect(asked.status == 503)
        #expect(asked.summary.hasPrefix(summary) || asked.code == "unavailable", "\(asked.summary)")
        #expect(asked.headers[.retryAfter] == "3")
        #expect(!String(decoding: asked.body, as: UTF8.self).contains("ada"))
    }
}

// MARK: - Bodies

@Test(arguments: [
    "", "x", "{}", "[]", "null", "{\"protocol\":1", "{\"protocol\":1,\"nonce\":1,\"software\":\"x\",\"types\":[]}",
    "{\"protocol\":1e99,\"nonce\":\"0123456789abcdef\",\"software\":\"x\",\"types\":[]}",
    "{\"protocol\":1,\"nonce\":\"short\",\"software\":\"x\",\"types\":[]}", "{\"a\":\"\u{1}\"}",
    String(repeating: "[", count: 10_000), "{\"a\":" + String(repeating: "{\"a\":", count: 40) + "1" + String(repeating: "}", count: 41),
])
func aBodyThatIsNoMessageIsInvalid(text: String) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let asked = try await client.ask("/v1/open", Array(text.utf8), token: try await branch.token("/v1/open", Array(text.utf8)))
        #expect(asked.summary == "400 invalid signed")
        #expect(asked.body == Array(#"{"error":"invalid"}"#.utf8))
    }
}

@Test func bytesThatAreNoTextAreInvalid() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    let body: [UInt8] = Array("{\"protocol\":1,\"nonce\":\"0123456789abcdef\",\"software\":\"".utf8) + [0xC3, 0x28] + Array("\",\"types\":[]}".utf8)
    try await cloud.test { client async throws in
        #expect(try await client.ask("/v1/open", body, token: try await branch.token("/v1/open", body)).summary == "400 invalid signed")
    }
}

@Test func millionsOfTinyElementsAreRefusedBeforeTheyAreMany() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        var request = Ask.pull(session)
        request.asked = Array(repeating: RecordNumber(type: 1, epoch: 1, number: 1), count: 20_001)
        let body = request.body
        let asked = try await client.ask("/v1/pull", body, token: try await branch.token("/v1/pull", body, session: session))
        #expect(asked.summary == "400 invalid signed")
    }
}

@Test(arguments: [true, false])
func aBodyAboveTheLimitIsRefused(saysItsLength: Bool) async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyBytesMax = 10_000
    let branch = try await cloud.enrol(7)
    let body = [UInt8](repeating: 0x20, count: 10_001)
    let token = try await branch.token("/v1/open", body)
    if saysItsLength {
        try await cloud.test { client async throws in
            #expect(try await client.ask("/v1/open", body, token: token).summary == "413 too_large")
            let full = Ask.open.body + [UInt8](repeating: 0x20, count: 10_000 - Ask.open.body.count)
            #expect(try await client.ask("/v1/open", full, token: try await branch.token("/v1/open", full)).summary == "200 - signed")
        }
    } else {
        try await cloud.serve { port async throws in
            let connection = try await RawConnection.connect(port)
            try await connection.send(
                "POST /datasync/v1/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(token)\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<3 { try await connection.send("1000\r\n\(String(repeating: " ", count: 4_096))\r\n") }
            #expect(try await connection.wait(for: "too_large"))
            #expect(connection.text.hasPrefix("HTTP/1.1 413 "))
            await connection.close()
        }
    }
}

/// Compressed bodies that are not what they should be, and what is said of them.
enum Squeeze: String, CaseIterable, Sendable {
    case honest, bombByRatio, bombBySize, garbage, truncated, trailing, twoMembers, empty, brotli, identity, twice, plainCalledGzip

    var summary: String {
        switch self {
        case .honest: "200 - signed"
        case .bombByRatio, .bombBySize: "413 too_large signed"
        default: "400 invalid signed"
        }
    }
}

@Test(arguments: Squeeze.allCases)
func aCompressedBodyIsInflatedWithinItsBounds(squeeze: Squeeze) async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.inflatedBytesMax = 16 << 20
    cloud.limits.inflationRatioMax = squeeze == .bombBySize ? 10_000 : 50
    let branch = try await cloud.enrol(7)
    let plain = Ask.open.body
    let honest = try Gzip.compress(plain)
    var encoding: String? = "gzip"
    let body: [UInt8]
    switch squeeze {
    case .honest: body = honest
    case .bombByRatio: body = try await deflated(plain + [UInt8](repeating: 0x20, count: 1 << 20))
    case .bombBySize: body = try await deflated(plain + [UInt8](repeating: 0x20, count: 17 << 20))
    case .garbage: body = Array("this is no gzip data, whatever it says".utf8)
    case .truncated: body = honest.dropLast(9)
    case .trailing: body = honest + [0]
    case .twoMembers: body = honest + honest
    case .empty: body = []
    case .brotli: (body, encoding) = (honest, "br")
    case .identity: (body, encoding) = (plain, "identity")
    case .twice: (body, encoding) = (honest, "gzip, gzip")
    case .plainCalledGzip: body = plain
    }
    let contentEncoding = encoding
    try await cloud.test { client async throws in
        // The digest is of what was sent.
        let token = try await branch.token("/v1/open", body)
        let asked = try await client.ask("/v1/open", body, token: token, headers: [.contentEncoding: contentEncoding ?? ""])
        #expect(asked.summary == squeeze.summary)
    }
}

/// At the best ratio that there is, as ``Gzip`` never does.
private func deflated(_ bytes: [UInt8]) async throws -> [UInt8] { try await Command.run("/usr/bin/gzip", ["-9c"], input: bytes) }

@Test func aBranchThatAcceptsItGetsACompressedAnswerSignedAsItInflates() async throws {
    let cloud = try await makeNoteCloud()
    let seven = try await cloud.enrol(7)
    let eight = try await cloud.enrol(8)
    try await cloud.test { client async throws in
        let session = try await client.open(seven)
        _ = try await client.ask("/v1/push", Ask.push(session, (0..<50).map { "note \($0)" }), as: seven, session: session, PushAnswer.self)
        let other = try await client.open(eight)
        let body = Ask.pull(other).body
        for header in ["gzip", "deflate, gzip;q=1.0, *;q=0.5", "br"] {
            let claims = eight.claims("/v1/pull", body, session: other)
            let asked = try await client.ask("/v1/pull", body, token: try await eight.token(claims), headers: [.acceptEncoding: header])
            let isCompressed = asked.headers[.contentEncoding] == "gzip"
            #expect(isCompressed == (header != "br"))
            let plain = isCompressed ? try Gzip.decompress(asked.body, bytesMax: 1 << 20, ratioMax: 100) : asked.body
            try await eight.identity.verify(asked.signature, status: 200, body: plain, request: claims.id)
            #expect(try PullAnswer(body: plain).runs.flatMap(\.records).count == 50)
        }
    }
}

@Test func answersAreJSONThatNobodyKeeps() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        for token in [nil, try await branch.token("/v1/open", Ask.open.body)] {
            let asked = try await client.ask("/v1/open", Ask.open.body, token: token)
            #expect(asked.headers[.contentType] == "application/json")
            #expect(asked.headers[.cacheControl] == "no-store")
            #expect(asked.headers[.server] == nil)
        }
    }
}

// MARK: - Routes

@Test(arguments: [
    ("/v1/nothing", HTTPRequest.Method.post), ("/v1/open", .get), ("/v1/push", .put), ("/v2/open", .post), ("/v1/open/", .delete), ("", .get),
    ("/v1/../health", .get), ("/v1/%2e%2e/open", .post),
])
func whatIsNoRouteIsNotFound(path: String, method: HTTPRequest.Method) async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let token = try await branch.token(path, Ask.open.body)
        let asked = try await client.ask(path, Ask.open.body, token: token, method: method)
        #expect(asked.status == 404 || asked.status == 405, "\(asked.summary)")
        #expect(asked.signature == nil)
    }
}

@Test func healthSaysThatTheProcessAnswersAndReadyWhetherItCanWork() async throws {
    let isReady = Mutex(true)
    let router = Router(context: ServerRequestContext.self)
    HTTPServer.addHealth(to: router) { isReady.withLock { ($0, $0 ? "well" : "the \"database\" is away") } }
    let application = try HTTPServer.make(
        router: router, at: ListenAddress(host: "127.0.0.1", port: 0), tls: nil, logger: LogLines().logger)
    try await application.test(.router) { client async throws in
        @Sendable func get(_ uri: String) async throws -> String {
            let response = try await client.executeRequest(uri: uri, method: .get, headers: [:], body: nil)
            return "\(response.status.code) \(String(buffer: response.body))"
        }
        #expect(try await get("/health") == #"200 {"status":"up"}"#)
        #expect(try await get("/ready") == #"200 {"status":"ready","detail":"well"}"#)
        isReady.withLock { $0 = false }
        #expect(try await get("/health") == #"200 {"status":"up"}"#)
        #expect(try await get("/ready") == #"503 {"status":"not ready","detail":"the \"database\" is away"}"#)
    }
}

// MARK: - Bounds

/// Two bodies of this size are not held at a time; who is sent away hears when to come back.
@Test func whatDoesNotFitIntoMemoryIsSentAway() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyBytesMax = 10_000
    cloud.limits.bodiesBytesMax = 10_000
    // The keys are looked up once: while the storage is held nobody could look.
    cloud.environment.runningTime = { .zero }
    let branch = try await cloud.enrol(7)
    let storage = cloud.hub.storage
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        let body = Ask.pull(session).body + [UInt8](repeating: 0x20, count: 9_000)
        @Sendable func pull() async throws -> Asked {
            try await client.ask("/v1/pull", body, token: try await branch.token("/v1/pull", body, session: session))
        }
        #expect(try await pull().status == 200)
        storage.hold()
        async let held = pull()
        try await storage.waitForArrival()
        let refused = try await pull()
        #expect(refused.summary == "503 busy")
        #expect(refused.headers[.retryAfter] == "2")
        storage.release()
        #expect(try await held.status == 200)
        #expect(try await pull().status == 200)
    }
}

/// What somebody sends who is not known takes no room, however much it is and however long it takes.
@Test func strangersTakeNoRoom() async throws {
    var limited = try await makeNoteCloud()
    limited.limits.bodyBytesMax = 10_000
    limited.limits.bodiesBytesMax = 10_000
    let cloud = limited
    let branch = try await cloud.enrol(7)
    let stranger = try TestBranch(7, cloud: cloud.key)
    let body = Ask.open.body + [UInt8](repeating: 0x20, count: 9_000)
    try await cloud.serve { port async throws in
        var connections: [RawConnection] = []
        for token in ["x.y.z", try await stranger.token("/v1/open", body)] {
            let connection = try await RawConnection.connect(port)
            try await connection.send(
                "POST /datasync/v1/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(token)\r\nContent-Length: 9000\r\n\r\n"
                    + String(repeating: " ", count: 8_000))
            connections.append(connection)
        }
        // One that joins has room for a join.
        let joining = try await RawConnection.connect(port)
        try await joining.send("POST /datasync/v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        #expect(try await joining.wait(for: "too_large"))
        let claims = branch.claims("/v1/open", body)
        let honest = try await RawConnection.connect(port)
        try await honest.send(
            "POST /datasync/v1/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(try await branch.token(claims))\r\nContent-Length: \(body.count)\r\n\r\n"
                + String(decoding: body, as: UTF8.self))
        #expect(try await honest.wait(for: "\r\n\r\n"))
        #expect(honest.text.hasPrefix("HTTP/1.1 200 "), "\(honest.text)")
        for connection in connections {
            #expect(connection.isOpen)
            #expect(connection.text == "")
            // It is let through to its end, so that it reads that it is nobody.
            try await connection.send(String(repeating: " ", count: 1_000))
            #expect(try await connection.wait(for: "unauthorized"))
        }
        for connection in connections + [joining, honest] { await connection.close() }
    }
}

/// A cloud with one worker, which is at work for as long as the storage is held.
private func withBusyWorker(
    waiters: Int, wait: Duration,
    _ body: @escaping @Sendable (any TestClientProtocol, TestBranch, SessionID, _ release: @escaping @Sendable () -> Void) async throws -> Void
) async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.workersMax = 1
    cloud.limits.waitersMax = waiters
    cloud.limits.workWait = wait
    // The keys are looked up once: while the storage is held nobody could look.
    cloud.environment.runningTime = { .zero }
    let branch = try await cloud.enrol(7)
    let storage = cloud.hub.storage
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        _ = try await client.ask("/v1/pull", Ask.pull(session), as: branch, session: session, PullAnswer.self)
        storage.hold()
        async let held = client.ask("/v1/pull", Ask.pull(session), as: branch, session: session, PullAnswer.self)
        try await storage.waitForArrival()
        do { try await body(client, branch, session) { storage.release() } } catch {
            storage.release()
            throw error
        }
        storage.release()
        _ = try await held
        _ = try await client.ask("/v1/pull", Ask.pull(session), as: branch, session: session, PullAnswer.self)
    }
}

@Test func whoeverFindsAllWorkersBusyIsSentAway() async throws {
    try await withBusyWorker(waiters: 1, wait: .milliseconds(500)) { client, branch, session, _ async throws in
        let body = Ask.pull(session).body
        let refused = try await client.ask("/v1/pull", body, token: try await branch.token("/v1/pull", body, session: session))
        #expect(refused.summary == "503 busy signed")
        #expect(refused.headers[.retryAfter] == "2")
    }
}

/// A queue that grows is no help to anybody: one may wait, and of two the other one hears at once that it may not.
@Test(.timeLimit(.minutes(30))) func noMoreWaitThanMay() async throws {
    try await withBusyWorker(waiters: 1, wait: .seconds(600)) { client, branch, session, release async throws in
        let body = Ask.pull(session).body
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<2 {
                let token = try await branch.token("/v1/pull", body, session: session)
                group.addTask { try await client.ask("/v1/pull", body, token: token).summary }
            }
            #expect(try await group.next() == "503 busy signed")
            release()
            #expect(try await group.next() == "200 - signed")
        }
    }
}

/// However many requests one branch sends at a time: half of the workers are there for the others.
@Test(.timeLimit(.minutes(30))) func oneBranchLeavesWorkersToTheOthers() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.workersMax = 4
    // The keys are looked up once: while the storage is held nobody could look.
    cloud.environment.runningTime = { .zero }
    let branches = [try await cloud.enrol(7), try await cloud.enrol(8)]
    let storage = cloud.hub.storage
    try await cloud.test { client async throws in
        var sessions: [SessionID] = []
        for branch in branches {
            sessions.append(try await client.open(branch))
            _ = try await client.ask("/v1/pull", Ask.pull(sessions.last!), as: branch, session: sessions.last!, PullAnswer.self)
        }
        let (first, second) = (sessions[0], sessions[1])
        storage.hold()
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<3 {
                let body = Ask.pull(first).body
                let token = try await branches[0].token("/v1/pull", body, session: first)
                group.addTask { try await client.ask("/v1/pull", body, token: token).summary }
            }
            #expect(try await group.next() == "503 busy signed")
            let body = Ask.pull(second).body
            let token = try await branches[1].token("/v1/pull", body, session: second)
            group.addTask { try await client.ask("/v1/pull", body, token: token).summary }
            try await storage.waitForArrival()
            storage.release()
            for _ in 0..<3 { #expect(try await group.next() == "200 - signed") }
        }
    }
}

/// What a body becomes when it is inflated is in memory for those who are at work, and for nobody who waits.
@Test(.timeLimit(.minutes(30))) func aBodyIsInflatedAtWorkAlone() async throws {
    try await withBusyWorker(waiters: 1, wait: .milliseconds(300)) { client, branch, session, release async throws in
        // Whoever looks into it sees at once that it is nothing.
        let body = Array("this is no gzip".utf8)
        @Sendable func summary() async throws -> String {
            let token = try await branch.token("/v1/pull", body, session: session)
            return try await client.ask("/v1/pull", body, token: token, headers: [.contentEncoding: "gzip"]).summary
        }
        #expect(try await summary() == "503 busy signed")
        release()
        // The worker has its request to finish first.
        var last = try await summary()
        while last == "503 busy signed" { last = try await summary() }
        #expect(last == "400 invalid signed")
    }
}

/// A branch learns the time from whatever it is told.
@Test func everySignedAnswerSaysWhatTimeItIs() async throws {
    var cloud = try await makeNoteCloud()
    cloud.environment = .wrong(by: .seconds(30))
    let branch = try await cloud.enrol(7)
    let key = cloud.key.publicKey
    try await cloud.test { client async throws in
        let session = try await client.open(branch)
        let other = SessionID(number: 99, epoch: 1)
        let asked: [(String, any WireMessage, SessionID?, Int)] = [
            ("/v1/open", Ask.open, nil, 200), ("/v1/pull", Ask.pull(session), session, 200), ("/v1/pull", Ask.pull(other), other, 409),
            ("/v1/pull", Ask.pull(session), nil, 400), ("/v1/key", KeyRequest(publicKey: "", proof: ""), nil, 400),
        ]
        for (path, message, session, status) in asked {
            let body = message.body
            let before = SyncEnvironment.system.wallTime()
            let answer = try await client.ask(path, body, token: try await branch.token(path, body, session: session))
            #expect(answer.status == status)
            let after = SyncEnvironment.system.wallTime()
            let claims = try await StrictVerifier<AnswerClaims>.verify(try #require(answer.signature), now: after / 1_000) { _ in key }
            #expect((before + 30_000...after + 30_000).contains(claims.time), "\(path)")
        }
    }
}

/// A branch has so many requests in a minute, and not another branch's. What is not proven to be its own does not count.
@Test func aBranchHasAQuotaOfRequests() async throws {
    var limited = try await makeNoteCloud()
    limited.limits.branchRequestsPerMinute = 60
    let time = Mutex(Duration.seconds(100))
    limited.environment.runningTime = { time.withLock { $0 } }
    let cloud = limited
    let (seven, eight) = (try await cloud.enrol(7), try await cloud.enrol(8))
    let stranger = try TestBranch(7, cloud: cloud.key)
    try await cloud.test { client async throws in
        let body = Ask.open.body
        for _ in 0..<60 {
            _ = try await client.ask("/v1/open", body, token: try await stranger.token("/v1/open", body))
            _ = try await client.ask("/v1/open", body + [0x20], token: try await seven.token("/v1/open", body))
        }
        for _ in 0..<60 { _ = try await client.open(seven) }
        for _ in 0..<3 {
            let claims = seven.claims("/v1/open", body)
            let refused = try await client.ask("/v1/open", body, token: try await seven.token(claims))
            #expect(refused.summary == "429 over_quota signed")
            #expect(refused.headers[.retryAfter] == "1")
            try await seven.identity.verify(refused.signature, status: 429, body: refused.body, request: claims.id)
            let error = try ErrorAnswer(body: refused.body).error(operation: "open")
            #expect(error.code == .overQuota && (error.retryAfter ?? .zero) > .zero)
        }
        _ = try await client.open(eight)
        // Once, however often it asks.
        #expect(cloud.log.count(of: "more than its quota") == 1)
        #expect(cloud.log.count(of: "over_quota") + cloud.log.count(of: "overQuota") == 0)
        time.withLock { $0 += .milliseconds(500) }
        _ = try await client.open(seven)
        #expect(try await client.ask("/v1/open", body, token: try await seven.token("/v1/open", body)).status == 429)
        time.withLock { $0 += .seconds(60) }
        for _ in 0..<60 { _ = try await client.open(seven) }
        #expect(try await client.ask("/v1/open", body, token: try await seven.token("/v1/open", body)).status == 429)
        #expect(cloud.log.count(of: "more than its quota") == 2)
    }
}

/// Bytes are those of the bodies as they are sent. Nothing of a body that was refused has an effect, and sent again it has one.
@Test func aBranchHasAQuotaOfBytes() async throws {
    var limited = try await makeNoteCloud()
    (limited.limits.bodyBytesMax, limited.limits.branchBytesPerDay) = (10_000, 10_000)
    let time = Mutex(Duration.seconds(100))
    limited.environment.runningTime = { time.withLock { $0 } }
    let cloud = limited
    let seven = try await cloud.enrol(7)
    try await cloud.test { client async throws in
        let session = try await client.open(seven)
        @Sendable func push(_ first: Int64) async throws -> String {
            let body = Ask.push(session, ["a"], first: first).body
            let full = body + [UInt8](repeating: 0x20, count: 9_000 - body.count)
            return try await client.ask("/v1/push", full, token: try await seven.token("/v1/push", full, session: session)).summary
        }
        #expect(try await push(1) == "200 - signed")
        // What is left of the day has no room for it, and yet it is taken: or a large body would never be.
        #expect(try await push(2) == "200 - signed")
        #expect(try await push(3) == "429 over_quota signed")
        #expect(try await cloud.notes().count == 2)
        time.withLock { $0 += .seconds(86_400) }
        #expect(try await push(3) == "200 - signed")
        #expect(try await cloud.effects() == ["1": "1", "2": "1", "3": "1"])
    }
}

@Test func limitsThatContradictEachOtherAreRefused() throws {
    var limits = ServerLimits()
    try limits.validate(SyncLimits())
    limits.inflatedBytesMax = SyncLimits().batchBytesMax * 2 - 1
    #expect(throws: DataSyncError.self) { try limits.validate(SyncLimits()) }
    limits = ServerLimits()
    limits.bodyBytesMax = limits.bodiesBytesMax + 1
    #expect(throws: DataSyncError.self) { try limits.validate(SyncLimits()) }
    limits = ServerLimits()
    limits.workersMax = 0
    #expect(throws: DataSyncError.self) { try limits.validate(SyncLimits()) }
    for count in [0, 59, 1_000_001] {
        limits = ServerLimits()
        limits.branchRequestsPerMinute = count
        #expect(throws: DataSyncError.self) { try limits.validate(SyncLimits()) }
    }
    for count in [0, limits.bodyBytesMax - 1, 1 << 51] {
        limits = ServerLimits()
        limits.branchBytesPerDay = count
        #expect(throws: DataSyncError.self) { try limits.validate(SyncLimits()) }
    }
}
