import Foundation
import Synchronization

/// Many connections at once that do what no honest client does, from addresses of this machine that are not the branch's.
///
/// One thread holds all of them. Whoever is cut off comes again.
final class Attack: Sendable {
    struct Shape: Sendable {
        /// From 127.0.1.1 on.
        var addresses: Int
        var connectionsPerAddress: Int
        /// Sent when a connection is made, by its number.
        var opening: @Sendable (Int) -> [UInt8] = { _ in [] }
        /// Sent again and again, every 50 milliseconds.
        var trickle: [UInt8] = []
        /// Whether the opening is sent again when it has been answered.
        var isRepeating = false
    }

    struct Counts: Sendable {
        var opened = 0
        /// By the other side.
        var closed = 0
        /// The most at a time.
        var peak = 0
        /// Answers, by status.
        var answers: [Int: Int] = [:]
    }

    private let counted = Mutex(Counts())
    private let isOver = Atomic(false)
    private let isEnded = DispatchSemaphore(value: 0)

    var counts: Counts { self.counted.withLock { $0 } }

    init(port: Int, _ shape: Shape) {
        Thread.detachNewThread {
            Attacker(port: port, shape).run(until: { self.isOver.load(ordering: .acquiring) }, count: { work in self.counted.withLock { work(&$0) } })
            self.isEnded.signal()
        }
    }

    func end() {
        self.isOver.store(true, ordering: .releasing)
        self.isEnded.wait()
    }
}

private struct Attacker {
    private struct Connection {
        var descriptor: CInt = -1
        var unsent: ArraySlice<UInt8> = []
        var received: [UInt8] = []
        /// When it is made again.
        var after = ContinuousClock.now
    }

    private let port: Int
    private let shape: Attack.Shape
    private var connections: [Connection]

    init(port: Int, _ shape: Attack.Shape) {
        self.port = port
        self.shape = shape
        self.connections = Array(repeating: Connection(), count: shape.addresses * shape.connectionsPerAddress)
    }

    func run(until isOver: () -> Bool, count: ((inout Attack.Counts) -> Void) -> Void) {
        var attacker = self
        while !isOver() { attacker.pass(count) }
        for connection in attacker.connections where connection.descriptor >= 0 { close(connection.descriptor) }
    }

    /// All of them once, within about 50 milliseconds.
    private mutating func pass(_ count: ((inout Attack.Counts) -> Void) -> Void) {
        for index in self.connections.indices where self.connections[index].descriptor < 0 && self.connections[index].after <= .now {
            self.connect(index)
            if self.connections[index].descriptor >= 0 { count { $0.opened += 1 } }
        }
        let open = self.connections.indices.filter { self.connections[$0].descriptor >= 0 }
        count { $0.peak = max($0.peak, open.count) }
        let start = ContinuousClock.now
        repeat {
            var polls = open.compactMap { index -> pollfd? in
                let connection = self.connections[index]
                return pollfd(fd: connection.descriptor, events: Int16(POLLIN) | (connection.unsent.isEmpty ? 0 : Int16(POLLOUT)), revents: 0)
            }
            poll(&polls, nfds_t(polls.count), 20)
            for (place, index) in open.enumerated() where polls[place].revents != 0 && self.connections[index].descriptor >= 0 { self.serve(index, count) }
        } while start.duration(to: .now) < .milliseconds(50)
        guard !self.shape.trickle.isEmpty else { return }
        for index in open where self.connections[index].descriptor >= 0 && self.connections[index].unsent.isEmpty {
            self.connections[index].unsent = self.shape.trickle[...]
            self.send(index)
        }
    }

    private mutating func connect(_ index: Int) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return }
        let host = index / self.shape.connectionsPerAddress
        // Of the 16 bits behind 127: none of them 127.0.0.1.
        let own = Self.address(0x7F00_0101 + UInt32(host / 200) << 8 + UInt32(host % 200), port: 0)
        let isMade = withUnsafePointer(to: own) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } == 0
        }
        let result = withUnsafePointer(to: Self.address(0x7F00_0001, port: UInt16(self.port))) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard isMade, result == 0 || errno == EINPROGRESS else {
            close(descriptor)
            self.connections[index].after = .now + .milliseconds(200)
            return
        }
        self.connections[index] = Connection(descriptor: descriptor, unsent: self.shape.opening(index)[...])
    }

    private static func address(_ address: UInt32, port: UInt16) -> sockaddr_in {
        var result = sockaddr_in()
        result.sin_family = sa_family_t(AF_INET)
        result.sin_port = port.bigEndian
        result.sin_addr.s_addr = address.bigEndian
        return result
    }

    private mutating func serve(_ index: Int, _ count: ((inout Attack.Counts) -> Void) -> Void) {
        self.send(index)
        var bytes = [UInt8](repeating: 0, count: 4_096)
        while true {
            let got = recv(self.connections[index].descriptor, &bytes, bytes.count, 0)
            if got > 0 {
                self.connections[index].received += bytes[..<got]
                continue
            }
            if got < 0, errno == EAGAIN { break }
            close(self.connections[index].descriptor)
            self.note(index, count)
            self.connections[index] = Connection(after: .now + .milliseconds(100))
            count { $0.closed += 1 }
            return
        }
        self.note(index, count)
    }

    /// Counts the answers that have come whole, by their lengths.
    private mutating func note(_ index: Int, _ count: ((inout Attack.Counts) -> Void) -> Void) {
        while true {
            let text = String(decoding: self.connections[index].received, as: UTF8.self)
            guard let end = text.range(of: "\r\n\r\n"), let status = Int(text.dropFirst("HTTP/1.1 ".count).prefix(3)) else { return }
            let head = text[..<end.lowerBound]
            let field = head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("content-length:") }
            let length = field.flatMap { Int($0.split(separator: ":")[1].filter { $0 != " " }) } ?? 0
            let whole = head.utf8.count + 4 + length
            guard self.connections[index].received.count >= whole else { return }
            self.connections[index].received.removeFirst(whole)
            count { $0.answers[status, default: 0] += 1 }
            if self.shape.isRepeating { self.connections[index].unsent = self.shape.opening(index)[...] }
        }
    }

    private mutating func send(_ index: Int) {
        while !self.connections[index].unsent.isEmpty {
            let unsent = self.connections[index].unsent
            let sent = unsent.withUnsafeBytes { Foundation.send(self.connections[index].descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
            guard sent > 0 else { return }
            self.connections[index].unsent = unsent.dropFirst(sent)
        }
    }
}
