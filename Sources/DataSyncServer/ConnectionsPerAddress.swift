import Logging
import NIOCore
import Synchronization

/// How many connections each address has, so that one that holds as many as it can leaves room for all others.
///
/// An IPv6 address counts as its network of 64 bits: whoever has one has all of them.
final class ConnectionsPerAddress: Sendable {
    private let max: Int
    private let uncounted: Set<[UInt8]>
    private let logger: Logger
    private let open = Mutex<[[UInt8]: Int]>([:])

    /// - Parameter uncounted: Addresses behind which are many others: those of proxies.
    init(max: Int, uncounted: Set<String>, logger: Logger) {
        self.max = max
        self.uncounted = Set(uncounted.compactMap { try? SocketAddress(ipAddress: $0, port: 0) }.compactMap { Self.network(of: $0) })
        self.logger = logger
    }

    /// The bytes by which `address` is counted; nil for what is no IP address.
    static func network(of address: SocketAddress) -> [UInt8]? {
        let raw = address.withSockAddr { start, count in [UInt8](UnsafeRawBufferPointer(start: start, count: count)) }
        let bytes: ArraySlice<UInt8>
        // `sockaddr_in` and `sockaddr_in6`: behind family and port, and in the second behind the flow.
        switch address {
        case .v4: return Array(raw[4..<8])
        case .v6: bytes = raw[8..<24]
        case .unixDomainSocket: return nil
        }
        // IPv4 as a socket for both shows it.
        return bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]) ? Array(bytes.suffix(4)) : Array(bytes.prefix(8))
    }

    /// - Returns: What to give back to ``leave(_:)``, nil where nothing is counted.
    fileprivate func enter(_ address: SocketAddress?) throws(Full) -> [UInt8]? {
        guard let network = address.flatMap({ Self.network(of: $0) }), !self.uncounted.contains(network) else { return nil }
        let fits = self.open.withLock { open in
            guard open[network, default: 0] < self.max else { return false }
            open[network, default: 0] += 1
            return true
        }
        guard fits else {
            self.logger.debug("too many connections of one address", metadata: ["address": "\(address?.ipAddress ?? "")"])
            throw Full()
        }
        return network
    }

    fileprivate func leave(_ network: [UInt8]) {
        self.open.withLock { open in
            guard let count = open[network] else { return }
            open[network] = count > 1 ? count - 1 : nil
        }
    }

    fileprivate struct Full: Error {}

    func handler() -> some ChannelInboundHandler & RemovableChannelHandler { ConnectionCounter(self) }
}

/// Counts one connection while it is open, and closes it if there are too many.
private final class ConnectionCounter: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny
    typealias InboundOut = NIOAny

    private let connections: ConnectionsPerAddress
    private var network: [UInt8]?
    private var isCounted = false

    init(_ connections: ConnectionsPerAddress) { self.connections = connections }

    func handlerAdded(context: ChannelHandlerContext) { if context.channel.isActive { self.count(context) } }

    func channelActive(context: ChannelHandlerContext) {
        self.count(context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        if let network = self.network { self.connections.leave(network) }
        self.network = nil
        context.fireChannelInactive()
    }

    private func count(_ context: ChannelHandlerContext) {
        guard !self.isCounted else { return }
        self.isCounted = true
        do { self.network = try self.connections.enter(context.channel.remoteAddress) } catch { context.close(promise: nil) }
    }
}
