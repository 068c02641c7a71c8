import HTTPTypes
import NIOCore
import NIOHTTPTypes

/// Closes a connection whose other end does not read its answer, or goes on sending the body of a request that has been answered.
///
/// Both times are absolute: somebody who reads or sends a byte now and then gets no more of it. Silence between requests, and heads that come in
/// pieces, are seen by the server's own handler.
final class AnsweredInTime: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let limits: ServerLimits
    /// Requests that came, and were answered: who does not wait for an answer may send the next one before.
    private var begun = 0
    private var answered = 0
    private var isBodyArriving = false
    private var deadline: Scheduled<Void>?
    private var room: HeldRoom?

    init(_ limits: ServerLimits) { self.limits = limits }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head:
            self.begun += 1
            self.isBodyArriving = true
        case .body: break
        case .end:
            self.isBodyArriving = false
            if self.answered == self.begun { self.cancel() }
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch self.unwrapOutboundIn(data) {
        case .head(let head):
            let bytes = head.headerFields[.contentLength].flatMap { Int($0) } ?? 0
            self.close(context, after: self.limits.bodyDeadline + .seconds(bytes / self.limits.bodyBytesPerSecondMin))
            context.write(data, promise: promise)
        case .body: context.write(data, promise: promise)
        case .end:
            let written = promise ?? context.eventLoop.makePromise()
            written.futureResult.assumeIsolated().whenComplete { _ in
                self.answered += 1
                self.room = nil
                self.cancel()
                if self.isBodyArriving, self.answered == self.begun { self.close(context, after: self.limits.bodyDeadline) }
            }
            context.write(data, promise: written)
        }
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard let room = event as? HeldRoom else { return context.triggerUserOutboundEvent(event, promise: promise) }
        self.room = room
        promise?.succeed()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.cancel()
        self.room = nil
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.cancel() }

    private func close(_ context: ChannelHandlerContext, after time: Duration) {
        self.cancel()
        self.deadline = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(time)) { context.close(promise: nil) }
    }

    private func cancel() {
        self.deadline?.cancel()
        self.deadline = nil
    }
}

/// Room for bytes in memory, given back when nobody refers to it any more. Sent down a connection as an event it is held until the next answer has
/// left, or the connection has ended.
final class HeldRoom: Sendable {
    private let release: @Sendable () -> Void

    init(_ release: @escaping @Sendable () -> Void) { self.release = release }

    deinit { self.release() }
}
