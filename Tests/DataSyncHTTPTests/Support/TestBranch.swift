import DataSync
@testable import DataSyncIdentity
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

/// A branch that signs as it likes, to see what the cloud says to it.
struct TestBranch: Sendable {
    let id: ServerID
    let key: MachineKey
    let identity: BranchIdentity
    let environment: SyncEnvironment

    init(_ id: ServerID, cloud: MachineKey, key: MachineKey? = nil, environment: SyncEnvironment = .system) throws {
        self.id = id
        self.key = try key ?? MachineKey.generate()
        self.environment = environment
        self.identity = BranchIdentity(branch: id, key: self.key, cloudKey: cloud.publicKey, environment: environment)
    }

    /// The claims of an honest request, to be spoilt by a test.
    func claims(_ path: String, _ body: [UInt8], session: SessionID? = nil) -> RequestClaims {
        let now = self.environment.wallTime() / 1_000
        return RequestClaims(
            id: UUID().uuidString, issued: now, expires: now + 60, subject: "\(self.id.rawValue)", method: "POST", path: path,
            digest: Digest.body(body), session: session?.number, epoch: session?.epoch)
    }

    func token(_ claims: RequestClaims, keyID: String? = nil) async throws -> String {
        try await claims.sign(with: self.key, keyID: keyID ?? KeyID(self.id, self.key.publicKey).text)
    }

    /// An honest token for `message`.
    func token(_ path: String, _ body: [UInt8], session: SessionID? = nil) async throws -> String {
        try await self.token(self.claims(path, body, session: session))
    }
}

/// What the cloud answered.
struct Asked: Sendable {
    var status: Int
    var headers: HTTPFields
    var body: [UInt8]

    var signature: String? { self.headers[HTTPField.Name("datasync-answer")!] }
    /// The error that it is, if it is one.
    var code: String? { (try? ErrorAnswer(body: self.body))?.code }

    /// Status and code in short, and whether it is signed: `401 unauthorized`, `401 clock_skew signed`.
    var summary: String { "\(self.status) \(self.code ?? "-")\(self.signature == nil ? "" : " signed")" }
}

extension TestClientProtocol {
    func ask(
        _ path: String, _ body: [UInt8], token: String?, headers: HTTPFields = [:], method: HTTPRequest.Method = .post
    ) async throws -> Asked {
        var headers = headers
        if let token { headers[.authorization] = "Bearer \(token)" }
        let response = try await self.executeRequest(
            uri: "/datasync\(path)", method: method, headers: headers, body: body.isEmpty ? nil : ByteBuffer(bytes: body))
        return Asked(status: response.status.code, headers: response.headers, body: [UInt8](response.body.readableBytesView))
    }

    /// Asks honestly, and checks that the cloud signed what it answered.
    func ask<Answer: WireMessage>(
        _ path: String, _ message: some WireMessage, as branch: TestBranch, session: SessionID? = nil, _: Answer.Type
    ) async throws -> Answer {
        let body = message.body
        let claims = branch.claims(path, body, session: session)
        let asked = try await self.ask(path, body, token: try await branch.token(claims))
        #expect(asked.status == 200, "\(asked.summary)")
        try await branch.identity.verify(asked.signature, status: asked.status, body: asked.body, request: claims.id)
        return try Answer(body: asked.body)
    }

    func open(_ branch: TestBranch) async throws -> SessionID {
        try await self.ask("/v1/open", Ask.open, as: branch, OpenAnswer.self).session
    }
}
