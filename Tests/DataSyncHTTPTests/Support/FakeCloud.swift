import DataSync
import DataSyncHTTP
import DataSyncIdentity
import DataSyncServer
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization
import Testing

/// Something that answers in the cloud's place, with the cloud's key or without.
struct FakeCloud: Sendable {
    /// One request as it came.
    struct Question: Sendable {
        var request: SignedRequest
        var token: String
        var headers: HTTPFields
    }

    let key: MachineKey
    let branch: TestBranch

    init() throws {
        self.key = try MachineKey.generate()
        self.branch = try TestBranch(7, cloud: self.key)
    }

    /// Who asks, if the token fits the question.
    func caller(of question: Question) async throws -> CloudIdentity.Caller {
        try await CloudIdentity(key: self.key).verify(question.token, of: question.request) { _, _ in self.branch.key.publicKey }
    }

    /// An answer that is signed as it should be, unless the arguments say otherwise.
    func answer(
        _ question: Question, status: Int = 200, signedStatus: Int? = nil, body: [UInt8], signedBody: [UInt8]? = nil,
        key: MachineKey? = nil, contentType: String = "application/json"
    ) async throws -> Response {
        let caller = try await self.caller(of: question)
        let signature = try await CloudIdentity(key: key ?? self.key).sign(
            status: signedStatus ?? status, body: signedBody ?? body, to: caller
        ).token
        return Self.response(status, body, headers: [.contentType: contentType, HTTPField.Name("datasync-answer")!: signature])
    }

    static func response(_ status: Int, _ body: [UInt8], headers: HTTPFields = [:]) -> Response {
        Response(status: .init(code: status), headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: body)))
    }

    /// Answers as `respond` says while `body` runs.
    func serve(
        _ respond: @escaping @Sendable (Question) async throws -> Response,
        _ body: @escaping @Sendable (_ port: Int) async throws -> Void
    ) async throws {
        let router = Router(context: ServerRequestContext.self)
        router.post("datasync/v1/:operation") { request, context in
            let bytes = [UInt8](try await request.body.collect(upTo: 32 << 20).readableBytesView)
            let path = "/v1/\(context.parameters.get("operation") ?? "")"
            let token = String(request.headers[.authorization]?.dropFirst("Bearer ".count) ?? "")
            let session = path == "/v1/open" || path == "/v1/join" ? nil : SessionID(number: 1, epoch: 1)
            return try await respond(
                Question(
                    request: SignedRequest(path: path, body: bytes, session: session), token: token, headers: request.headers))
        }
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let application = try HTTPServer.make(
            router: router, at: ListenAddress(host: "127.0.0.1", port: 0), tls: nil, limits: .patient,
            logger: LogLines().logger, listening: { continuation.yield($0) })
        try await serving(application, ports, body)
    }

    func transport(_ port: Int, _ limits: HTTPLimits = .patient) throws -> HTTPTransport {
        HTTPTransport(cloud: try CloudEndpoint("http://127.0.0.1:\(port)"), identity: self.branch.identity, limits: limits)
    }

    static let openAnswer = OpenAnswer(
        session: SessionID(number: 1, epoch: 1), logEpoch: 1, positions: [:], types: [], recordBytesMax: 1 << 20, time: 1)
}

/// How opening a session fails.
func failure(_ transport: HTTPTransport, sourceLocation: SourceLocation = #_sourceLocation) async -> DataSyncError? {
    await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { _ = try await transport.open(Ask.open) }
}
