import DataSync
import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A server that answers each request with whatever bytes a test wants, HTTP or not.
final class RawServer: Sendable {
    enum Reply: Sendable {
        case bytes(String, closing: Bool)
        case close
        case silence
        /// The bytes, and then one more every few milliseconds, for ever.
        case trickle(String)
    }

    private let channel: any Channel
    fileprivate let requests = Mutex<[String]>([])
    private let connections = Mutex(0)

    var port: Int { self.channel.localAddress?.port ?? 0 }
    /// The heads of all requests so far.
    var heads: [String] { self.requests.withLock { $0 } }
    var connectionCount: Int { self.connections.withLock { $0 } }

    private init(_ channel: any Channel) { self.channel = channel }

    static func serving(
        _ reply: @escaping @Sendable (_ head: String) -> Reply, _ body: (RawServer) async throws -> Void
    ) async throws {
        let server = Mutex<RawServer?>(nil)
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                server.withLock { $0 }?.connections.withLock { $0 += 1 }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        RequestReader { head in
                            server.withLock { $0 }?.requests.withLock { $0.append(head) }
                            return reply(head)
                        })
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let made = RawServer(channel)
        server.withLock { $0 = made }
        do { try await body(made) } catch {
            try? await channel.close()
            throw error
        }
        try? await channel.close()
    }

    private final class RequestReader: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let reply: (String) -> Reply
        private var received: [UInt8] = []

        init(reply: @escaping (String) -> Reply) { self.reply = reply }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.received += self.unwrapInboundIn(data).readableBytesView
            while let head = self.takeRequest() { self.write(self.reply(head), to: context.channel) }
        }

        func errorCaught(context: ChannelHandlerContext, error _: any Error) { context.close(promise: nil) }

        private func takeRequest() -> String? {
            let text = String(decoding: self.received, as: UTF8.self)
            guard let end = text.range(of: "\r\n\r\n") else { return nil }
            let head = String(text[..<end.lowerBound])
            let length =
                head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("content-length:") }
                .flatMap { Int($0.split(separator: ":")[1].filter { $0 != " " }) } ?? 0
            guard self.received.count >= head.utf8.count + 4 + length else { return nil }
            self.received.removeFirst(head.utf8.count + 4 + length)
            return head
        }

        private func write(_ reply: Reply, to channel: any Channel) {
            switch reply {
            case .silence: break
            case .close: channel.close(promise: nil)
            case .bytes(let text, let closing):
                channel.writeAndFlush(ByteBuffer(string: text)).whenComplete { _ in if closing { channel.close(promise: nil) } }
            case .trickle(let text):
                channel.writeAndFlush(ByteBuffer(string: text), promise: nil)
                channel.eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(20), delay: .milliseconds(20)) { task in
                    guard channel.isActive else { return task.cancel() }
                    channel.writeAndFlush(ByteBuffer(string: " "), promise: nil)
                }
            }
        }
    }
}

/// A connection that sends whatever bytes a test wants.
final class RawConnection: Sendable {
    private let channel: any Channel
    private let received: Received

    private final class Received: Sendable {
        let bytes = Mutex<[UInt8]>([])
        let arrivals = AsyncSemaphore(0)
    }

    private init(_ channel: any Channel, _ received: Received) {
        self.channel = channel
        self.received = received
    }

    /// - Parameter isReading: Whether it reads what it is sent; else the other side can send as much as the system keeps for it.
    static func connect(_ port: Int, isReading: Bool = true) async throws -> RawConnection {
        let received = Received()
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).channelOption(.autoRead, value: isReading)
        // Or the system takes in megabytes for it.
        let channel = try await (isReading ? bootstrap : bootstrap.channelOption(.socketOption(.so_rcvbuf), value: 8_192))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Collector(received)) }
            }
            .connect(host: "127.0.0.1", port: port).get()
        channel.closeFuture.whenComplete { _ in received.arrivals.signal() }
        return RawConnection(channel, received)
    }

    var text: String { String(decoding: self.received.bytes.withLock { $0 }, as: UTF8.self) }
    var isOpen: Bool { self.channel.isActive }

    func send(_ text: String) async throws { try await self.channel.writeAndFlush(ByteBuffer(string: text)) }

    /// Sends a space every few milliseconds until the connection is closed.
    func trickle() {
        let channel = self.channel
        channel.eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(20), delay: .milliseconds(20)) { task in
            guard channel.isActive else { return task.cancel() }
            channel.writeAndFlush(ByteBuffer(string: " "), promise: nil)
        }
    }

    func close() async { try? await self.channel.close() }

    /// Waits until the other side has closed.
    /// - Returns: Whether it did, within a time that is only there to end a hang.
    func waitUntilClosed() async throws -> Bool { try await self.wait { !self.isOpen } }

    func wait(for text: String) async throws -> Bool { try await self.wait { self.text.contains(text) } }

    private func wait(until isTrue: @escaping @Sendable () -> Bool) async throws -> Bool {
        let received = self.received
        let isDone = try await withTimeout(.seconds(600)) {
            while !isTrue() { try await received.arrivals.wait() }
            return true
        }
        return isDone ?? false
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let received: Received

        init(_ received: Received) { self.received = received }

        func channelRead(context _: ChannelHandlerContext, data: NIOAny) {
            let bytes = self.unwrapInboundIn(data)
            self.received.bytes.withLock { $0 += bytes.readableBytesView }
            self.received.arrivals.signal()
        }

        func errorCaught(context: ChannelHandlerContext, error _: any Error) { context.close(promise: nil) }
    }
}
