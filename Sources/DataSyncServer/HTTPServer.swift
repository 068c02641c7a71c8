public import DataSync
import DataSyncIdentity
import Foundation
public import Hummingbird
import HummingbirdCore
import HummingbirdTLS
public import Logging
import NIOCore
import NIOSSL
import Synchronization

/// Where a server listens.
public struct ListenAddress: Hashable, Sendable {
    public var host: String
    /// 0: a free one is chosen, and said when the server listens.
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}

/// Files in PEM form.
public struct TLSFiles: Hashable, Sendable {
    /// The server's certificate, and those between it and a root.
    public var certificate: String
    public var key: String
    /// The group of settings that name them, for who has to mend them.
    public var settings: String

    public init(certificate: String, key: String, settings: String = "http") {
        self.certificate = certificate
        self.key = key
        self.settings = settings
    }
}

/// A request's context with the address that it came from.
public struct ServerRequestContext: RequestContext, CallerAddressContext {
    public var coreContext: CoreRequestContextStorage
    public let callerAddress: String?
    let channel: any Channel

    public init(source: ApplicationRequestContextSource) {
        self.coreContext = .init(source: source)
        self.channel = source.channel
        self.callerAddress = source.channel.remoteAddress?.ipAddress
    }
}

/// An HTTP server with a bound on everything that a stranger could use up: connections, headers, silence, answers that nobody reads. The bodies
/// are bounded where they are read.
public enum HTTPServer {
    /// - Parameters:
    ///   - tls: Nil for plain HTTP, for a loopback address or behind a proxy that ends TLS.
    ///   - proxies: Addresses whose connections are not counted (``ServerLimits/connectionsPerAddressMax``): many others are behind them.
    ///   - listening: Called once, with the port, when requests are accepted.
    /// - Throws: `invalidConfiguration` for a certificate or key that cannot be used.
    public static func make(
        router: Router<ServerRequestContext>, at address: ListenAddress, tls: TLSFiles?, limits: ServerLimits = ServerLimits(),
        proxies: Set<String> = [], logger: Logger, listening: @escaping @Sendable (Int) -> Void = { _ in }
    ) throws(DataSyncError) -> Application<some HTTPResponder<ServerRequestContext>> {
        let connections = ConnectionsPerAddress(max: limits.connectionsPerAddressMax, uncounted: proxies, logger: logger)
        let channel = HTTP1Channel.Configuration(
            additionalChannelHandlers: [connections.handler(), AnsweredInTime(limits)],
            idleTimeout: .seconds(limits.idleTimeout.components.seconds),
            httpDecoderConfiguration: .init(
                maxHeaderFieldSize: limits.headerBytesMax, maxHeaderListSize: limits.headerBytesMax,
                maxHeaderFieldCount: limits.headersMax))
        let plain = HTTPServerBuilder.http1(configuration: channel)
        let server: HTTPServerBuilder
        if let tls { server = try self.encrypted(plain, tls) } else { server = plain }
        return Application(
            router: router, server: server,
            configuration: ApplicationConfiguration(
                address: .hostname(address.host, port: address.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(limits.connectionsMax, logger: logger)),
            onServerRunning: { channel in listening(channel.localAddress?.port ?? 0) }, logger: logger)
    }

    private static func encrypted(_ plain: HTTPServerBuilder, _ files: TLSFiles) throws(DataSyncError) -> HTTPServerBuilder {
        guard !FilePermissions.letEverybodyIn(to: files.key) else {
            throw DataSyncError(
                .invalidConfiguration, operation: "tls", detail: "\(files.key): everybody on this machine can read this key: chmod o-rwx it, and replace it")
        }
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(files.certificate)
            guard !chain.isEmpty else { throw NIOSSLError.failedToLoadCertificate }
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: files.key, format: .pem)))
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = ["http/1.1"]
            return try .tls(plain, tlsConfiguration: configuration)
        } catch {
            throw DataSyncError(
                .invalidConfiguration, operation: "tls",
                detail: "\(files.settings).tls_certificate or \(files.settings).tls_key cannot be used: \(error). Both must be PEM files that this "
                    + "user can read",
                underlying: error)
        }
    }

    /// What a server that could not listen ended with: `addressUnavailable` where waiting may help, else `invalidConfiguration`.
    public static func failure(_ error: any Error, listeningAt address: ListenAddress) -> DataSyncError {
        let mayPass = [EADDRINUSE, EADDRNOTAVAIL].contains((error as? IOError)?.errnoCode)
        return DataSyncError(
            mayPass ? .addressUnavailable : .invalidConfiguration, operation: "listen",
            detail: "the server cannot listen at \(address.host):\(address.port): \(error)", underlying: error)
    }

    /// Adds `GET /health`, which says that the process answers, and `GET /ready`, which asks `isReady`.
    /// - Parameter lifetime: For how long an answer of `isReady` is given to all who ask. Anybody may, so what costs something is asked seldom.
    public static func addHealth(
        to router: Router<ServerRequestContext>, goodFor lifetime: Duration = .zero, environment: SyncEnvironment = .system,
        isReady: @escaping @Sendable () async -> (Bool, String)
    ) {
        let readiness = Readiness(goodFor: lifetime, environment: environment, ask: isReady)
        router.get("health") { _, _ in Self.json(.ok, #"{"status":"up"}"#) }
        router.get("ready") { _, _ in
            let (ready, detail) = try await readiness.answer()
            var writer = JSONWriter()
            writer.object { writer in
                writer.member("status", ready ? "ready" : "not ready")
                writer.member("detail", detail)
            }
            return Self.json(ready ? .ok : .serviceUnavailable, writer.text)
        }
    }

    private static func json(_ status: HTTPResponse.Status, _ text: String) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}

/// Whether a program can work, as it was found a moment ago: one asks at a time, whoever and however many want to know.
private final class Readiness: Sendable {
    private let lifetime: Duration
    private let environment: SyncEnvironment
    private let ask: @Sendable () async -> (Bool, String)
    private let last = Mutex<(answer: (Bool, String), time: Duration)?>(nil)
    private let turn = AsyncSemaphore(1)

    init(goodFor lifetime: Duration, environment: SyncEnvironment, ask: @escaping @Sendable () async -> (Bool, String)) {
        self.lifetime = lifetime
        self.environment = environment
        self.ask = ask
    }

    private var known: (Bool, String)? {
        let now = self.environment.runningTime()
        return self.last.withLock { last in last.flatMap { now - $0.time < self.lifetime ? $0.answer : nil } }
    }

    func answer() async throws -> (Bool, String) {
        guard self.lifetime > .zero else { return await self.ask() }
        if let known { return known }
        try await self.turn.wait()
        defer { self.turn.signal() }
        // Somebody may have asked meanwhile.
        if let known { return known }
        let answer = await self.ask()
        let now = self.environment.runningTime()
        self.last.withLock { $0 = (answer, now) }
        return answer
    }
}
