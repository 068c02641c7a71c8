import Foundation
import Synchronization

/// Stands between a program and a server, on a port or on a Unix socket, and treats connections as bad networks do: cuts them
/// at any byte, in either direction or in one only, holds them, slows them down; or cuts them when a commit was asked for, so that
/// nobody knows whether it took place.
public final class FaultProxy: Sendable {
    /// What happens to one connection, after so many bytes in its direction.
    public enum Fault: CaseIterable, Sendable {
        case cut, reset, halfClose, blackhole, throttle
    }

    private struct State {
        var generator: any RandomNumberGenerator & Sendable
        /// Nothing is done to connections.
        var isCalm = true
        var counts: [Fault: Int] = [:]
        var commitCuts = 0
        var listener: CInt = -1
        var open = OpenDescriptors()
    }

    private let target: ProxyAddress
    private let bytesMax: Int
    private let faults: [Fault]
    private let commitCutChance: Double
    private let state: Mutex<State>

    /// Listens at once.
    /// - Parameters:
    ///   - generator: Decides when which connection is treated how.
    ///   - bytesMax: A connection is left alone for at most so many bytes in a direction.
    ///   - faults: What may happen to it then.
    ///   - commitCutChance: How often, from 0 to 1, a connection to a MySQL or MariaDB server is cut at a commit.
    public init(
        at address: ProxyAddress, to target: ProxyAddress, using generator: some RandomNumberGenerator & Sendable, bytesMax: Int = 2_000_000,
        faults: [Fault] = Fault.allCases, commitCutChance: Double = 0
    ) throws {
        self.target = target
        self.bytesMax = bytesMax
        self.faults = faults
        self.commitCutChance = commitCutChance
        self.state = Mutex(State(generator: generator))
        let listener = try Sockets.listen(at: address)
        self.state.withLock { $0.listener = listener }
        Thread.detachNewThread { self.accept(listener) }
    }

    /// Connections that were disturbed so far, each once in a direction; those cut at a commit are not among them.
    public var counts: [Fault: Int] { self.state.withLock { $0.counts } }

    /// Connections that were cut when a commit was asked for.
    public var commitCuts: Int { self.state.withLock { $0.commitCuts } }

    /// From now on connections are disturbed. Until then everything is passed on.
    public func disturb() { self.state.withLock { $0.isCalm = false } }

    /// From now on everything is passed on again, and nothing is held any more.
    public func heal() {
        self.state.withLock { state in
            state.isCalm = true
            // What was held is let go of: its ends find out.
            state.open.shutdownAll()
        }
    }

    public func stop() {
        self.heal()
        let listener = self.state.withLock { state in
            defer { state.listener = -1 }
            return state.listener
        }
        guard listener >= 0 else { return }
        Sockets.shutdown(listener)
        close(listener)
    }

    private func accept(_ listener: CInt) {
        while let client = Sockets.accept(listener) {
            guard let server = Sockets.connect(to: self.target) else {
                close(client)
                continue
            }
            self.state.withLock { state in
                state.open.add(client)
                state.open.add(server)
            }
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

    private func pump(_ connection: Connection, from source: CInt, to sink: CInt) {
        let plan = self.state.withLock { state in
            (
                // Small amounts are where most messages begin and end.
                bytes: Int(Double(self.bytesMax) * pow(Double.random(in: 0..<1, using: &state.generator), 4)),
                fault: self.faults.randomElement(using: &state.generator)!
            )
        }
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        var passed = 0
        var isThrottled = false
        var isHalfClosed = false
        while true {
            let count = read(source, &buffer, buffer.count)
            guard count > 0 else { break }
            let isCalm = self.state.withLock { $0.isCalm }
            if !isCalm, source == connection.client, let end = self.cutAtCommit(buffer[..<count]) {
                Sockets.write(buffer[..<end], to: sink)
                Sockets.shutdown(source)
                break
            }
            if !isCalm, !isThrottled, passed + count > plan.bytes {
                self.state.withLock { $0.counts[plan.fault, default: 0] += 1 }
                guard plan.fault == .throttle else {
                    isHalfClosed = plan.fault == .halfClose
                    self.end(source, sink, plan.fault, rest: buffer[..<max(0, plan.bytes - passed)])
                    break
                }
                isThrottled = true
            }
            if isThrottled, !isCalm { usleep(20_000) }
            guard Sockets.write(buffer[..<count], to: sink) else { break }
            passed += count
        }
        shutdown(sink, Int32(isHalfClosed ? SHUT_WR : SHUT_RDWR))
        if connection.end() {
            self.state.withLock { state in
                state.open.close(connection.client)
                state.open.close(connection.server)
            }
        }
    }

    private func end(_ source: CInt, _ sink: CInt, _ fault: Fault, rest: ArraySlice<UInt8>) {
        switch fault {
        case .throttle: return
        case .blackhole:
            // Nothing more arrives, and nobody is told: until the other side gives up, or all is healed.
            var buffer = [UInt8](repeating: 0, count: 16 << 10)
            while read(source, &buffer, buffer.count) > 0, !self.state.withLock({ $0.isCalm }) {}
        case .reset: Sockets.resetOnClose(sink)
        case .cut, .halfClose: Sockets.write(rest, to: sink)
        }
        if fault != .halfClose { Sockets.shutdown(source) }
    }

    /// Where to cut in front of, or behind, the packet that asks for a commit; nil where there is none, or nothing is to be cut.
    private func cutAtCommit(_ bytes: ArraySlice<UInt8>) -> Int? {
        guard self.commitCutChance > 0, let start = CommitPacket.start(in: bytes) else { return nil }
        return self.state.withLock { state in
            guard Double.random(in: 0..<1, using: &state.generator) < self.commitCutChance else { return nil }
            state.commitCuts += 1
            // Twice as often the server has all of it: then the commit takes place, and only its answer is lost.
            return Int.random(in: 0..<3, using: &state.generator) == 0 ? start : bytes.endIndex
        }
    }
}
