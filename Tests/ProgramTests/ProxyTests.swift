import Foundation
import Synchronization
import Testing

@testable import RetailTrade

/// What the proxies do to connections and exchanges, with plain sockets before and behind them. What must come after something else
/// waits for just that: nothing here sleeps.
@Suite struct HTTPFaultProxyTests {
    @Test func whatIsWholePassesUnchanged() throws {
        let server = try PlainServer { request in
            request == "chunks" ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" : PlainServer.answer(request)
        }
        let (proxy, port) = try self.proxy([.cutAnswer(after: 0)], to: [server])
        defer { proxy.stop() }
        let client = try PlainClient(port)
        // Calm at first, and several exchanges on one connection.
        #expect(client.ask("one") == "answer to one")
        #expect(client.ask("chunks")?.hasSuffix("\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") == true)
        #expect(client.ask("") == "answer to ")
        #expect(server.requests == ["one", "chunks", ""])
        #expect(proxy.counts == [:])
    }

    @Test func aClientThatWaitsToBeAskedForItsBodyIsAsked() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([], to: [server])
        defer { proxy.stop() }
        let client = try PlainClient(port)
        client.write("POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        // The server has its own word for it, which is passed over.
        #expect(client.read("HTTP/1.1 100 Continue\r\n\r\n".utf8.count) == "HTTP/1.1 100 Continue\r\n\r\n")
        client.write("abc")
        #expect(client.answer() == "answer to abc")
    }

    @Test func aReplicaThatIsDownIsPassedOver() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([], to: [server], and: [.port(try freePort()), .port(try freePort())])
        defer { proxy.stop() }
        let client = try PlainClient(port)
        for number in 1...6 { #expect(client.ask("\(number)") == "answer to \(number)") }
        let (alone, alonePort) = try self.proxy([], to: [], and: [.port(try freePort())])
        defer { alone.stop() }
        #expect(try PlainClient(alonePort).ask("x")?.contains("502 Bad Gateway") == true)
    }

    @Test func bothCopiesArriveAtBothReplicasAtTheSameInstant() throws {
        // Each answers when the other has its copy too: one after the other would never end.
        let meeting = Meeting(of: 2)
        let servers = try (1...2).map { _ in
            try PlainServer { request in
                meeting.meet()
                return PlainServer.answer(request)
            }
        }
        let (proxy, port) = try self.proxy([.duplicate], to: servers)
        defer { proxy.stop() }
        proxy.disturb()
        #expect(try PlainClient(port).ask("pay") == "answer to pay")
        for server in servers { #expect(server.requests == ["pay"]) }
        #expect(proxy.counts == ["doubled": 1])
    }

    @Test func oneReplicaGetsBothCopies() throws {
        let meeting = Meeting(of: 2)
        let server = try PlainServer { request in
            meeting.meet()
            return PlainServer.answer(request)
        }
        let (proxy, port) = try self.proxy([.duplicate], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        #expect(try PlainClient(port).ask("pay") == "answer to pay")
        #expect(server.requests == ["pay", "pay"])
    }

    /// Whether it is the request or the answer that is held tells whose request the server sees first.
    @Test(arguments: [(.holdRequest(others: 1), ["newer", "held"]), (.holdAnswer(others: 1), ["held", "newer"])] as [(HTTPFaultProxy.Fault, [String])])
    func whatIsHeldComesAfterWhatIsNewer(_ trouble: HTTPFaultProxy.Fault, requests: [String]) throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([trouble, .none], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        let (held, newer) = (try PlainClient(port), try PlainClient(port))
        held.send("held")
        proxy.waitUntilHolding(1)
        #expect(newer.ask("newer") == "answer to newer")
        #expect(held.answer() == "answer to held")
        #expect(server.requests == requests)
    }

    @Test func aLateRequestArrivesWhenItsClientHasLongGone() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([.lateRequest(others: 2), .none, .none], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        let client = try PlainClient(port)
        #expect(client.ask("late") == nil)
        proxy.waitUntilHolding(1)
        let newer = try PlainClient(port)
        #expect(newer.ask("newer") == "answer to newer")
        #expect(server.requests == ["newer"])
        #expect(newer.ask("newest") == "answer to newest")
        server.waitFor(3)
        #expect(server.requests == ["newer", "newest", "late"])
    }

    @Test func whatIsHeldIsLetGoOfWhenAllIsHealed() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([.holdRequest(others: 100), .holdAnswer(others: 100)], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        let (first, second) = (try PlainClient(port), try PlainClient(port))
        first.send("first")
        proxy.waitUntilHolding(1)
        second.send("second")
        proxy.waitUntilHolding(2)
        proxy.heal()
        #expect(first.answer() == "answer to first")
        #expect(second.answer() == "answer to second")
    }

    @Test func twoExchangesGetEachOthersAnswers() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([.swapAnswers, .none], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        let (first, second) = (try PlainClient(port), try PlainClient(port))
        first.send("first")
        proxy.waitUntilHolding(1)
        #expect(second.ask("second") == "answer to first")
        #expect(first.answer() == "answer to second")
    }

    @Test(arguments: [true, false])
    func somebodyElseAnswers(hasArrived: Bool) throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy(
            [.impostor(.captivePortal, hasArrived: hasArrived), .impostor(.badGateway, hasArrived: hasArrived)], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        #expect(try PlainClient(port).ask("one")?.contains("200 OK\r\nContent-Type: text/html") == true)
        #expect(try PlainClient(port).ask("two")?.hasPrefix("HTTP/1.1 502") == true)
        #expect(server.requests == (hasArrived ? ["one", "two"] : []))
        #expect(proxy.counts == ["impostors": 2])
    }

    @Test func aRequestEndsInItsMiddle() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([.cutRequest(after: 0.9)], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        #expect(try PlainClient(port).ask(String(repeating: "x", count: 1_000)) == nil)
        server.waitFor(broken: 1)
        #expect(server.requests == [])
    }

    @Test func anAnswerEndsInItsMiddle() throws {
        let server = try PlainServer()
        let (proxy, port) = try self.proxy([.cutAnswer(after: 0.5)], to: [server])
        defer { proxy.stop() }
        proxy.disturb()
        let client = try PlainClient(port)
        client.send("x")
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nanswer to x"
        #expect(client.rest() == String(decoding: whole.utf8.prefix(whole.utf8.count / 2), as: UTF8.self))
        #expect(server.requests == ["x"])
    }

    @Test func theSameSeedMakesTheSameFaults() {
        func faults(_ seed: UInt64) -> [HTTPFaultProxy.Fault] {
            var dice = Dice(seed: seed)
            return (0..<1_000).map { _ in .random(0.5, using: &dice) }
        }
        #expect(faults(1) == faults(1))
        #expect(faults(1) != faults(2))
        #expect(Set(faults(1).map(\.kind)) == [nil, "doubled", "held", "late", "swapped", "impostors", "halves"])
        #expect((400...600).contains(faults(1).count { $0 != .none }))
    }

    /// Does `faults` to the exchanges, in this order, and nothing to those after them.
    private func proxy(
        _ faults: [HTTPFaultProxy.Fault], to servers: [PlainServer], and others: [ProxyAddress] = []
    ) throws -> (HTTPFaultProxy, Int) {
        let port = try freePort()
        let next = Counter()
        let proxy = try HTTPFaultProxy(at: .port(port), to: servers.map { .port($0.port) } + others, seed: 1, holdMax: .seconds(60)) { _ in
            let index = next.next()
            return index < faults.count ? faults[index] : .none
        }
        return (proxy, port)
    }
}

@Suite struct FaultProxyTests {
    @Test func aCommitIsKnownByItsPacket() {
        let packet: [UInt8] = [7, 0, 0, 0, 3] + Array("commit".utf8)
        #expect(CommitPacket.start(in: packet[...]) == 0)
        #expect(CommitPacket.start(in: [9, 9] + packet) == 2)
        #expect(CommitPacket.start(in: ([7, 0, 0, 0, 3] + Array("COMMIT".utf8))[...]) == 0)
        #expect(CommitPacket.start(in: (packet + [1])[...]) == nil)
        #expect(CommitPacket.start(in: ([8, 0, 0, 0, 3] + Array("commit".utf8))[...]) == nil)
        #expect(CommitPacket.start(in: ([7, 0, 0, 0, 3] + Array("select".utf8))[...]) == nil)
        #expect(CommitPacket.start(in: []) == nil)
    }

    /// Whether the server has the whole of it or nothing, the client is told as much: nothing.
    @Test func aConnectionIsCutWithACommitOnItsWay() throws {
        let packet = "\u{7}\0\0\0\u{3}commit"
        var received: Set<String> = []
        for seed in 1...20 {
            let server = try PlainServer.Listener()
            let port = try freePort()
            let proxy = try FaultProxy(
                at: .port(port), to: .port(server.port), using: Dice(seed: UInt64(seed)), bytesMax: 1 << 40, commitCutChance: 1)
            defer { proxy.stop() }
            proxy.disturb()
            let client = try PlainClient(port)
            client.write("insert")
            let connection = server.accept()
            #expect(connection.read(6) == "insert")
            client.write(packet)
            #expect(client.rest() == "")
            received.insert(connection.rest())
            #expect(proxy.commitCuts == 1)
            #expect(proxy.counts == [:])
        }
        #expect(received == ["", packet])
    }

    @Test(arguments: FaultProxy.Fault.allCases)
    func aDisturbedConnectionEndsOrIsSlow(fault: FaultProxy.Fault) throws {
        let server = try PlainServer()
        let port = try freePort()
        let proxy = try FaultProxy(at: .port(port), to: .port(server.port), using: Dice(seed: 1), bytesMax: 0, faults: [fault])
        defer { proxy.stop() }
        let client = try PlainClient(port)
        for number in 1...3 { #expect(client.ask("\(number)") == "answer to \(number)") }
        #expect(proxy.counts == [:])
        proxy.disturb()
        client.send("4")
        if fault == .blackhole {
            while proxy.counts.isEmpty { sched_yield() }
            proxy.heal()
        }
        #expect(client.answer() == (fault == .throttle ? "answer to 4" : nil))
        #expect(server.requests.count == (fault == .throttle ? 4 : 3))
        #expect(Set(proxy.counts.keys) == [fault])
    }
}

// MARK: - Plain sockets

/// Answers each request with what it is told to, and remembers in which order they came.
private final class PlainServer: Sendable {
    let port: Int
    private let listener: Listener
    private let seen = Seen()

    init(_ answer: @escaping @Sendable (String) -> String = PlainServer.answer) throws {
        let listener = try Listener()
        self.listener = listener
        self.port = listener.port
        Thread.detachNewThread { [seen] in
            while let descriptor = Sockets.accept(listener.descriptor) {
                Thread.detachNewThread {
                    var reader = HTTPMessageReader(descriptor)
                    while let bytes = reader.request() {
                        let request = PlainClient.body(bytes)
                        seen.note(request)
                        Sockets.write(Array(answer(request).utf8)[...], to: descriptor)
                    }
                    seen.noteEnd()
                    close(descriptor)
                }
            }
        }
    }

    deinit { Sockets.shutdown(self.listener.descriptor) }

    static func answer(_ request: String) -> String {
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: \(request.utf8.count + 10)\r\n\r\nanswer to \(request)"
    }

    /// Their bodies.
    var requests: [String] { self.seen.requests }

    func waitFor(_ count: Int) { self.seen.wait { $0.requests.count >= count } }
    /// Waits until so many connections have ended.
    func waitFor(broken count: Int) { self.seen.wait { $0.ended >= count } }

    /// Listens, and no more.
    final class Listener: Sendable {
        let port: Int
        let descriptor: CInt

        init() throws {
            self.port = try freePort()
            self.descriptor = try Sockets.listen(at: .port(self.port))
        }

        deinit { close(self.descriptor) }

        func accept() -> PlainClient { PlainClient(descriptor: Sockets.accept(self.descriptor) ?? -1) }
    }

    private final class Seen: @unchecked Sendable {  // everything is read and written under the condition's lock
        private let condition = NSCondition()
        private var state = (requests: [String](), ended: 0)

        var requests: [String] { self.condition.withLock { self.state.requests } }
        func note(_ request: String) { self.change { $0.requests.append(request) } }
        func noteEnd() { self.change { $0.ended += 1 } }

        func wait(until isDone: ((requests: [String], ended: Int)) -> Bool) {
            self.condition.withLock { while !isDone(self.state) { self.condition.wait() } }
        }

        private func change(_ body: (inout (requests: [String], ended: Int)) -> Void) {
            self.condition.withLock {
                body(&self.state)
                self.condition.broadcast()
            }
        }
    }
}

private final class PlainClient {
    private let descriptor: CInt
    private var reader: HTTPMessageReader

    init(descriptor: CInt) {
        self.descriptor = descriptor
        self.reader = HTTPMessageReader(descriptor)
    }

    convenience init(_ port: Int) throws { self.init(descriptor: try #require(Sockets.connect(to: .port(port)))) }

    deinit { close(self.descriptor) }

    func write(_ text: String) { Sockets.write(Array(text.utf8)[...], to: self.descriptor) }
    func send(_ body: String) { self.write("POST / HTTP/1.1\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)") }

    /// The body of an ordinary answer, else the whole of it; nil where none came.
    func answer() -> String? {
        self.reader.answer().map { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            return text.hasPrefix("HTTP/1.1 200 OK\r\nContent-Length: ") ? Self.body(bytes) : text
        }
    }

    func ask(_ body: String) -> String? {
        self.send(body)
        return self.answer()
    }

    func read(_ count: Int) -> String {
        var bytes = [UInt8](repeating: 0, count: count)
        let received = recv(self.descriptor, &bytes, count, Int32(MSG_WAITALL))
        return String(decoding: bytes.prefix(max(0, received)), as: UTF8.self)
    }

    /// All that comes until the end.
    func rest() -> String {
        var text = ""
        while true {
            let piece = self.read(1)
            if piece.isEmpty { return text }
            text += piece
        }
    }

    static func body(_ message: [UInt8]) -> String {
        String(decoding: message, as: UTF8.self).components(separatedBy: "\r\n\r\n").dropFirst().joined(separator: "\r\n\r\n")
    }
}

/// Whoever comes waits until all are there.
private final class Meeting: @unchecked Sendable {  // everything is read and written under the condition's lock
    private let condition = NSCondition()
    private var missing: Int

    init(of count: Int) { self.missing = count }

    func meet() {
        self.condition.withLock {
            self.missing -= 1
            self.condition.broadcast()
            while self.missing > 0 { self.condition.wait() }
        }
    }
}

private final class Counter: Sendable {
    private let value = Mutex(0)

    func next() -> Int {
        self.value.withLock { value in
            defer { value += 1 }
            return value
        }
    }
}
