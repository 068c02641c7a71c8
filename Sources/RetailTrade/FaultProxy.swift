import Foundation
import Synchronization

/// Stands between a program and a server, on a port or on a Unix socket, and treats connections as bad networks do: cuts them
/// at any byte, in either direction or in one only, holds them, slows them down.
public final class FaultProxy: Sendable {
    public enum Address: Sendable {
        /// Of 127.0.0.1.
        case port(Int)
        case socket(String)
    }

    /// What happens to one connection, after so many bytes in its direction.
    private enum Fault: CaseIterable {
        case cut, reset, halfClose, blackhole, throttle
    }

    private struct State {
        var generator: any RandomNumberGenerator & Sendable
        /// Nothing is done to connections.
        var isCalm = true
        var cuts = 0
        var listener: CInt = -1
        var open: Set<CInt> = []
    }

    private let target: Address
    private let bytesMax: Int
    private let state: Mutex<State>

    /// Listens at once.
    /// - Parameters:
    ///   - generator: Decides when which connection is treated how.
    ///   - bytesMax: A connection is left alone for at most so many bytes in a direction.
    public init(
        at address: Address, to target: Address, using generator: some RandomNumberGenerator & Sendable, bytesMax: Int = 2_000_000
    ) throws {
        self.target = target
        self.bytesMax = bytesMax
        self.state = Mutex(State(generator: generator))
        let listener = try Self.withAddress(address) { family, pointer, length in
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
            var yes: CInt = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
            if case .socket(let path) = address { unlink(path) }
            guard bind(descriptor, pointer, length) == 0, listen(descriptor, 256) == 0 else {
                throw TradeError("the proxy cannot listen at \(address): \(String(cString: strerror(errno)))")
            }
            return descriptor
        }
        self.state.withLock { $0.listener = listener }
        Thread.detachNewThread { self.accept(listener) }
    }

    /// Connections that were cut, held or half closed so far.
    public var cuts: Int { self.state.withLock { $0.cuts } }

    /// From now on connections are disturbed. Until then everything is passed on.
    public func disturb() { self.state.withLock { $0.isCalm = false } }

    /// From now on everything is passed on again, and nothing is held any more.
    public func heal() {
        self.state.withLock { state in
            state.isCalm = true
            // What was held is let go of: its ends find out.
            for descriptor in state.open { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }

    public func stop() {
        self.heal()
        let listener = self.state.withLock { state in
            defer { state.listener = -1 }
            return state.listener
        }
        guard listener >= 0 else { return }
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    private func accept(_ listener: CInt) {
        while true {
            let client = Foundation.accept(listener, nil, nil)
            guard client >= 0 else {
                if errno == EINTR || errno == ECONNABORTED || errno == EMFILE { continue }
                return
            }
            guard let server = try? self.connect() else {
                close(client)
                continue
            }
            self.state.withLock { $0.open.formUnion([client, server]) }
            let connection = Connection(client: client, server: server)
            Thread.detachNewThread { self.pump(connection, from: client, to: server) }
            Thread.detachNewThread { self.pump(connection, from: server, to: client) }
        }
    }

    /// Both ends of a connection, closed when both directions have ended.
    private final class Connection: Sendable {
        let client: CInt
        let server: CInt
        private let left = Mutex(2)

        init(client: CInt, server: CInt) {
            self.client = client
            self.server = server
        }

        /// Whether this was the second direction.
        func end() -> Bool {
            self.left.withLock { left in
                left -= 1
                return left == 0
            }
        }
    }

    private func connect() throws -> CInt {
        try Self.withAddress(self.target) { family, pointer, length in
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
            guard Foundation.connect(descriptor, pointer, length) == 0 else {
                close(descriptor)
                throw TradeError("nobody listens behind the proxy")
            }
            return descriptor
        }
    }

    private func pump(_ connection: Connection, from source: CInt, to sink: CInt) {
        let plan = self.state.withLock { state in
            (
                // Small amounts are where most messages begin and end.
                bytes: Int(Double(self.bytesMax) * pow(Double.random(in: 0..<1, using: &state.generator), 4)),
                fault: Fault.allCases.randomElement(using: &state.generator)!
            )
        }
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        var passed = 0
        var isThrottled = false
        while true {
            let count = read(source, &buffer, buffer.count)
            guard count > 0 else { break }
            let isCalm = self.state.withLock { $0.isCalm }
            var length = count
            if !isCalm, !isThrottled, passed + count > plan.bytes {
                self.state.withLock { $0.cuts += 1 }
                length = max(0, plan.bytes - passed)
                switch plan.fault {
                case .throttle:
                    isThrottled = true
                    length = count
                case .blackhole:
                    // Nothing more arrives, and nobody is told: until the other side gives up, or all is healed.
                    while read(source, &buffer, buffer.count) > 0, !self.state.withLock({ $0.isCalm }) {}
                    length = -1
                case .reset:
                    var option = linger(l_onoff: 1, l_linger: 0)
                    setsockopt(sink, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
                    length = -1
                case .cut, .halfClose:
                    _ = Self.writeAll(sink, buffer, length)
                    length = -1
                }
                if length < 0 {
                    if plan.fault != .halfClose { shutdown(source, Int32(SHUT_RDWR)) }
                    break
                }
            }
            if isThrottled, !isCalm { usleep(20_000) }
            guard Self.writeAll(sink, buffer, length) else { break }
            passed += count
        }
        shutdown(sink, Int32(plan.fault == .halfClose ? SHUT_WR : SHUT_RDWR))
        if connection.end() {
            self.state.withLock { $0.open.subtract([connection.client, connection.server]) }
            close(connection.client)
            close(connection.server)
        }
    }

    private static func writeAll(_ descriptor: CInt, _ bytes: [UInt8], _ count: Int) -> Bool {
        var sent = 0
        while sent < count {
            let written = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress! + sent, count - sent, Int32(MSG_NOSIGNAL)) }
            guard written > 0 else { return false }
            sent += written
        }
        return true
    }

    private static func withAddress<Result>(
        _ address: Address, _ body: (CInt, UnsafePointer<sockaddr>, socklen_t) throws -> Result
    ) throws -> Result {
        switch address {
        case .port(let port):
            var inet = sockaddr_in()
            inet.sin_family = sa_family_t(AF_INET)
            inet.sin_port = in_port_t(port).bigEndian
            inet.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            return try withUnsafePointer(to: &inet) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body(AF_INET, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        case .socket(let path):
            var unix = sockaddr_un()
            unix.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(path.utf8CString)
            guard bytes.count <= MemoryLayout.size(ofValue: unix.sun_path) else { throw TradeError("\(path) is too long for a socket") }
            withUnsafeMutableBytes(of: &unix.sun_path) { $0.copyBytes(from: bytes.map { UInt8(bitPattern: $0) }) }
            return try withUnsafePointer(to: &unix) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body(AF_UNIX, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
        }
    }
}
