import DataSync
import DataSyncHTTP
@testable import DataSyncIdentity
@testable import DataSyncServer
import DataSyncTesting
import Foundation
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

// What the server does to connections, over real sockets.

private func request(_ path: String = "/health", method: String = "GET", headers: [String] = []) -> String {
    "\(method) \(path) HTTP/1.1\r\nHost: cloud\r\n" + headers.map { "\($0)\r\n" }.joined() + "\r\n"
}

@Test func aBodyThatStopsMidwayMeetsTheDeadline() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyDeadline = .milliseconds(200)
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(request("/datasync/v1/open", method: "POST", headers: ["Content-Length: 100"]) + "{\"protocol\"")
        #expect(try await connection.waitUntilClosed())
        #expect(connection.text.hasPrefix("HTTP/1.1 400 "), "\(connection.text)")
        #expect(connection.text.contains(#"{"error":"invalid"}"#))
    }
    #expect(cloud.log.count(of: "did not come in time") == 1)
}

/// However diligently somebody sends: the time for a body is absolute.
@Test func aBodyThatTricklesMeetsTheDeadline() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyDeadline = .milliseconds(300)
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(request("/datasync/v1/open", method: "POST", headers: ["Content-Length: 16000"]))
        connection.trickle()
        #expect(try await connection.waitUntilClosed(), "\(connection.text)")
        #expect(connection.text.hasPrefix("HTTP/1.1 400 "), "\(connection.text)")
    }
}

/// What was answered without its body being looked at: the rest of it may come, but not for ever.
@Test func whoGoesOnSendingWhatHasBeenAnsweredIsCutOff() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyDeadline = .milliseconds(300)
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(request("/nowhere", method: "POST", headers: ["Content-Length: 1000000"]))
        connection.trickle()
        #expect(try await connection.waitUntilClosed(), "\(connection.text)")
        #expect(connection.text.hasPrefix("HTTP/1.1 404 "), "\(connection.text)")
        // Who sends the rest in time keeps the connection.
        let kept = try await RawConnection.connect(port)
        try await kept.send(request("/nowhere", method: "POST", headers: ["Content-Length: 3"]) + "abc" + request())
        #expect(try await kept.wait(for: "200 OK"))
        await kept.close()
    }
}

/// Answers that nobody reads are in memory: one branch has room for so many, and each of them for a while.
@Test(.timeLimit(.minutes(30))) func whoDoesNotReadTheAnswersIsCutOff() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.bodyDeadline = .seconds(5)
    cloud.limits.bodyBytesPerSecondMin = 1 << 30
    cloud.limits.bodiesBytesMax = 40 << 20
    cloud.limits.inflatedBytesMax = 40 << 20
    let (writer, reader) = (try await cloud.enrol(7), try await cloud.enrol(8))
    let first = try await cloud.hub.open(Ask.open, from: 7).session
    _ = try await cloud.hub.push(Ask.push(first, (0..<8).map { _ in String(repeating: "x", count: 1_000_000) }), from: 7)
    let second = try await cloud.hub.open(Ask.open, from: 8).session
    let served = cloud
    try await served.serve { port async throws in
        func pull(_ session: SessionID, _ branch: TestBranch, isReading: Bool) async throws -> RawConnection {
            var question = Ask.pull(session)
            question.bytesMax = 8 << 20
            let body = question.body
            let token = try await branch.token("/v1/pull", body, session: session)
            let connection = try await RawConnection.connect(port, isReading: isReading)
            let headers = ["Authorization: Bearer \(token)", "Content-Length: \(body.count)"]
            try await connection.send(request("/datasync/v1/pull", method: "POST", headers: headers) + String(decoding: body, as: UTF8.self))
            return connection
        }
        func status(_ session: SessionID, _ branch: TestBranch) async throws -> String {
            let connection = try await pull(session, branch, isReading: true)
            #expect(try await connection.wait(for: "\r\n"))
            await connection.close()
            return String(connection.text.prefix(12))
        }
        var silent = [try await pull(second, reader, isReading: false)]
        // A second answer is more than a third of the room, while the first waits to be read. On a busy machine the first may
        // have been cut off before the second is asked for: then again.
        while try await status(second, reader) != "HTTP/1.1 503" { silent.append(try await pull(second, reader, isReading: false)) }
        #expect(try await status(first, writer) == "HTTP/1.1 200")
        // There is room again, although nobody has read.
        while try await status(second, reader) != "HTTP/1.1 200" {}
        for connection in silent { await connection.close() }
    }
}

@Test(arguments: ["", "GET /health HT", "GET /health HTTP/1.1\r\nHost: x\r\nX-Half"])
func aConnectionOnWhichNothingHappensIsClosed(start: String) async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.idleTimeout = .seconds(1)
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        // It may be closed already where the machine is busy.
        if !start.isEmpty { try? await connection.send(start) }
        #expect(try await connection.waitUntilClosed())
        #expect(connection.text == "")
    }
}

@Test func aKeptConnectionAnswersAgain() async throws {
    let cloud = try await makeNoteCloud()
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        for _ in 0..<3 { try await connection.send(request()) }
        #expect(try await connection.wait(for: "\"up\"}HTTP/1.1 200 OK"))
        await connection.close()
    }
}

/// Heads that no branch sends, and whether the server may still read them.
@Test(arguments: [
    ("many fields", (0..<65).map { "X-\($0): 1" }), ("one long field", ["X-Long: \(String(repeating: "x", count: 17 << 10))"]),
    ("many long fields", (0..<10).map { "X-\($0): \(String(repeating: "x", count: 2 << 10))" }),
    ("a negative length", ["Content-Length: -5"]), ("two lengths", ["Content-Length: 1", "Content-Length: 2"]),
    ("length and chunks", ["Content-Length: 5", "Transfer-Encoding: chunked"]), ("no field", ["this is no field"]),
])
func aHeadBeyondTheBoundsIsRefused(what: String, headers: [String]) async throws {
    let cloud = try await makeNoteCloud()
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(request("/datasync/v1/open", method: "POST", headers: headers))
        #expect(try await connection.waitUntilClosed(), "\(what): \(connection.text)")
        let isRefused = connection.text.isEmpty || connection.text.hasPrefix("HTTP/1.1 4")
        #expect(isRefused, "\(what): \(connection.text)")
        // The server is none the worse for it.
        let next = try await RawConnection.connect(port)
        try await next.send(request(headers: ["X-Fine: 1"]))
        #expect(try await next.wait(for: "200 OK"))
        await next.close()
    }
}

@Test(arguments: [
    "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", "\u{0}\u{0}\u{0}\u{0}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\nhello\r\n\r\n",
])
func bytesThatAreNoRequestHarmNobody(bytes: String) async throws {
    let cloud = try await makeNoteCloud()
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(bytes)
        await connection.close()
        let next = try await RawConnection.connect(port)
        try await next.send(request())
        #expect(try await next.wait(for: "200 OK"))
        await next.close()
    }
}

@Test func connectionsBeyondTheCapWaitForOneToEnd() async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.connectionsMax = 3
    try await cloud.serve { port async throws in
        var open: [RawConnection] = []
        for _ in 0..<3 {
            let connection = try await RawConnection.connect(port)
            try await connection.send(request())
            #expect(try await connection.wait(for: "200 OK"))
            open.append(connection)
        }
        let late = try await RawConnection.connect(port)
        try await late.send(request())
        for connection in open { #expect(connection.isOpen) }
        #expect(late.text == "")
        await open[0].close()
        #expect(try await late.wait(for: "200 OK"))
        for connection in open + [late] { await connection.close() }
    }
}

/// One address does not take the connections of all others.
@Test(arguments: [false, true])
func connectionsOfOneAddressAreCapped(isProxy: Bool) async throws {
    var cloud = try await makeNoteCloud()
    cloud.limits.connectionsPerAddressMax = 2
    cloud.proxies = isProxy ? ["127.0.0.1"] : []
    try await cloud.serve { port async throws in
        func connect(_ headers: [String] = []) async throws -> RawConnection {
            let connection = try await RawConnection.connect(port)
            // It may be closed already.
            try? await connection.send(request(headers: headers))
            return connection
        }
        let open = [try await connect(), try await connect()]
        for connection in open { #expect(try await connection.wait(for: "200 OK")) }
        let third = try await connect(["Connection: close"])
        if isProxy {
            #expect(try await third.wait(for: "200 OK"))
        } else {
            #expect(try await third.waitUntilClosed())
            #expect(third.text == "")
            for connection in open { #expect(connection.isOpen) }
            // Whose place is free again, another one has.
            await open[0].close()
            var text = ""
            while text.isEmpty {
                let fourth = try await connect(["Connection: close"])
                guard try await fourth.waitUntilClosed() else { break }
                text = fourth.text
            }
            #expect(text.hasPrefix("HTTP/1.1 200 OK"))
        }
        for connection in open + [third] { await connection.close() }
    }
}

@Test(arguments: [
    ("127.0.0.1", "127.0.0.1", true), ("127.0.0.1", "127.0.0.2", false), ("::ffff:10.0.0.1", "10.0.0.1", true),
    ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false), ("2001:db8::1", "2001:db8::ffff:1", true), ("2001:db8::1", "2001:db8:0:1::1", false), ("::1", "::2", true),
])
func addressesAreCountedByNetwork(one: String, other: String, isSame: Bool) throws {
    let networks = try [one, other].map { ConnectionsPerAddress.network(of: try SocketAddress(ipAddress: $0, port: 1)) }
    #expect((networks[0] == networks[1]) == isSame)
    #expect(networks.allSatisfy { $0 != nil })
}

@Test func aRequestUnderWayIsAnsweredBeforeTheServerStops() async throws {
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    let storage = cloud.hub.storage
    let (results, result) = AsyncStream.makeStream(of: String.self)
    try await cloud.application().test(.live) { client async throws in
        let port = try #require(client.port)
        let transport = HTTPTransport(cloud: try CloudEndpoint("http://localhost:\(port)"), identity: branch.identity, limits: .patient)
        let session = try await transport.open(Ask.open).session
        storage.hold()
        Task {
            do {
                let answer = try await transport.push(Ask.push(session, ["a"]))
                result.yield("\(answer.runs.flatMap(\.outcomes).map(\.disposition.name))")
            } catch { result.yield(String(reflecting: error)) }
        }
        try await storage.waitForArrival()
        Task {
            // When the port is closed, the server is on its way down.
            while let connection = try? await RawConnection.connect(port) { await connection.close() }
            storage.release()
        }
    }
    #expect(await results.first { _ in true } == #"["applied"]"#)
}

@Test(arguments: [([], "127.0.0.1"), (["127.0.0.1"], "10.9.9.9"), (["127.0.0.1", "10.9.9.9"], "203.0.113.5"), (["10.9.9.9"], "127.0.0.1")])
func onlyATrustedProxySaysWhereARequestCameFrom(trusted: [String], address: String) async throws {
    var cloud = try await makeNoteCloud()
    cloud.trustedProxies = Set(trusted)
    try await cloud.serve { port async throws in
        let connection = try await RawConnection.connect(port)
        try await connection.send(
            request(
                "/datasync/v1/open", method: "POST",
                headers: ["X-Forwarded-For: 1.1.1.1, 203.0.113.5, 10.9.9.9", "Content-Length: 2", "Connection: close"]) + "{}")
        #expect(try await connection.waitUntilClosed())
    }
    let refusals = cloud.log.all.filter { $0.contains("request refused") }
    #expect(refusals.count == 1)
    #expect(refusals.first?.contains("\"address\": \(address)") == true || refusals.first?.contains("address: \(address)") == true, "\(refusals)")
}

// MARK: - TLS

private let openssl = "/usr/bin/openssl"
private let curl = "/usr/bin/curl"

private func makeCertificate(_ folder: TemporaryFolder, host: String = "127.0.0.1") async throws -> TLSFiles {
    let files = TLSFiles(certificate: folder.path("cert.pem"), key: folder.path("key.pem"))
    try await Command.run(
        openssl,
        [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=datasync test",
            "-addext", "subjectAltName=IP:\(host)", "-keyout", files.key, "-out", files.certificate,
        ])
    return files
}

/// As certbot keeps them: what counts is who may read the file, and a link says nothing about that.
@Test(.enabled(if: Command.isThere(openssl) && Command.isThere(curl), "openssl and curl are needed"))
func aKeyMayLieBehindALink() async throws {
    let folder = try TemporaryFolder()
    var files = try await makeCertificate(folder)
    let key = files.key
    files.key = folder.path("link.pem")
    try FileManager.default.createSymbolicLink(atPath: files.key, withDestinationPath: key)
    let (cloud, linked) = (try await makeNoteCloud(), files)
    try await cloud.serve(tls: linked) { port async throws in
        let health = try await Command.run(curl, ["--silent", "--max-time", "600", "--cacert", linked.certificate, "https://127.0.0.1:\(port)/health"])
        #expect(String(decoding: health, as: UTF8.self) == #"{"status":"up"}"#)
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key)
    await #expect(throws: DataSyncError.self) { try await cloud.serve(tls: linked) { _ in } }
}

@Test(.enabled(if: Command.isThere(openssl) && Command.isThere(curl), "openssl and curl are needed"))
func theServerSpeaksTLSAndNothingOld() async throws {
    let folder = try TemporaryFolder()
    let files = try await makeCertificate(folder)
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.serve(tls: files) { port async throws in
        let base = ["--silent", "--max-time", "600", "--cacert", files.certificate]
        let health = try await Command.run(curl, base + ["https://127.0.0.1:\(port)/health"])
        #expect(String(decoding: health, as: UTF8.self) == #"{"status":"up"}"#)
        // A whole exchange.
        let claims = branch.claims("/v1/open", Ask.open.body)
        let head = folder.path("head")
        let answer = try await Command.run(
            curl,
            base + [
                "--header", "Authorization: Bearer \(try await branch.token(claims))", "--dump-header", head, "--data-binary", "@-",
                "https://127.0.0.1:\(port)/datasync/v1/open",
            ], input: Ask.open.body)
        let lines = try String(contentsOfFile: head, encoding: .utf8).split(separator: "\r\n")
        let signature = lines.first { $0.lowercased().hasPrefix("datasync-answer: ") }.map { String($0.dropFirst(17)) }
        try await branch.identity.verify(signature, status: 200, body: answer, request: claims.id)
        #expect(try OpenAnswer(body: answer).session.number == 1)
        // Not with an old version, not without TLS.
        await #expect(throws: Command.Failure.self) {
            try await Command.run(
                curl, base + ["--ciphers", "DEFAULT:@SECLEVEL=0", "--tlsv1.0", "--tls-max", "1.1", "https://127.0.0.1:\(port)/health"])
        }
        await #expect(throws: Command.Failure.self) { try await Command.run(curl, base + ["http://127.0.0.1:\(port)/health"]) }
    }
}

@Test(.enabled(if: Command.isThere(openssl), "openssl is needed"))
func aBranchDoesNotTalkToACertificateThatNobodyVouchesFor() async throws {
    let folder = try TemporaryFolder()
    let files = try await makeCertificate(folder)
    let cloud = try await makeNoteCloud()
    let branch = try await cloud.enrol(7)
    try await cloud.serve(tls: files) { port async throws in
        let transport = HTTPTransport(cloud: try CloudEndpoint("https://127.0.0.1:\(port)"), identity: branch.identity, limits: .patient)
        let error = await failure(transport)
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains("certificate") == true, "\(String(reflecting: error))")
    }
    #expect(try await cloud.hub.storage.withTransaction(.snapshot) { try await $0.server(7)?.session } == 0)
}

@Test func certificateFilesThatCannotBeUsedAreNamedAndNotShown() async throws {
    let folder = try TemporaryFolder()
    let cloud = try await makeNoteCloud()
    let secret = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIsecretsecretsecret\n-----END PRIVATE KEY-----\n"
    for text in [nil, "", "garbage", secret] {
        if let text {
            #expect(FileManager.default.createFile(atPath: folder.path("file.pem"), contents: Data(text.utf8), attributes: [.posixPermissions: 0o600]))
        }
        let files = TLSFiles(certificate: folder.path("file.pem"), key: folder.path("file.pem"))
        let error = #expect(throws: DataSyncError.self) { _ = try cloud.application(tls: files) }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.detail?.contains("http.tls_certificate") == true)
        #expect(!String(reflecting: error).contains("secret"))
    }
    // Whoever can read the key can be this cloud.
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder.path("file.pem"))
    let files = TLSFiles(certificate: folder.path("file.pem"), key: folder.path("file.pem"))
    let error = #expect(throws: DataSyncError.self) { _ = try cloud.application(tls: files) }
    #expect(error?.detail?.contains("chmod") == true)
}
