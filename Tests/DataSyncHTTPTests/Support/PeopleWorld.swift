import DataSync
@testable import DataSyncIdentity
@testable import DataSyncServer
import DataSyncTesting
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

/// Somebody who asks for something.
enum Principal: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case nobody, garbage, machine, staffAdmin, operatorAdmin
    /// Of the set that is asked.
    case viewer, viewerOfSeven, deciding, decidingForSeven, admin, adminOfSeven, application, disabled, loggedOut

    var testDescription: String { self.rawValue }
}

/// A cloud and a branch in memory, with people at both.
struct PeopleWorld: Sendable {
    static let password: Secret<String> = "seven quiet kanarienvogel"

    let cloud: NoteCloud
    let keyFile: String
    let operators: PeopleLogin<ControlledStorage, OperatorSet>
    let staff: PeopleLogin<InMemoryStorage, StaffSet>
    let local: InMemoryStorage
    let hasher: PasswordHasher
    /// The agent of the branch, where somebody asks about record 999: says that it was asked, and answers when it is let.
    let asked = AsyncSemaphore(0)
    let answer = AsyncSemaphore(0)

    /// - Parameters:
    ///   - cost: Of a password, in powers of two.
    ///   - hasKeyFile: Whether the cloud's key lies in a file: to write one waits for the disk.
    ///   - environment: Of the operators' logins.
    init(cost: Int = 2, hasKeyFile: Bool = false, environment: SyncEnvironment = .system) async throws {
        self.cloud = try await makeNoteCloud()
        self.local = InMemoryStorage()
        self.hasher = PasswordHasher(cost: PasswordCost(logRounds: cost))
        self.keyFile = FileManager.default.temporaryDirectory.appending(path: "datasync-people-\(UUID()).key").path
        if hasKeyFile { try self.cloud.key.write(to: self.keyFile) }
        // The same key in all rings: what tells the sets apart is not that.
        self.operators = PeopleLogin(
            register: PeopleRegister(storage: self.cloud.hub.storage, hasher: self.hasher, environment: environment),
            authority: TokenAuthority(key: self.cloud.key), logger: self.cloud.log.logger)
        self.staff = PeopleLogin(
            register: PeopleRegister(storage: self.local, hasher: self.hasher), authority: TokenAuthority(key: self.cloud.key),
            logger: self.cloud.log.logger)
        let key = self.cloud.key.publicKey.text
        try await self.cloud.hub.storage.withTransaction { transaction in
            try await transaction.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: key))
        }
    }

    func removeFiles() {
        for path in [self.keyFile, MachineKey.nextFile(of: self.keyFile)] { try? FileManager.default.removeItem(atPath: path) }
    }

    var operatorTable: [PeopleEndpoint<OperatorSet>] {
        OperatorEndpoints(
            login: self.operators, hub: self.cloud.hub, enrolment: self.cloud.enrolment,
            keys: CloudKeyRing(storage: self.cloud.hub.storage, file: self.keyFile), status: { _ in "{}" }, grants: { "" }, put: { _, _ in }
        ).all
    }

    var staffTable: [PeopleEndpoint<StaffSet>] {
        let (storage, asked, answer) = (self.local, self.asked, self.answer)
        return StaffEndpoints(
            login: self.staff, storage: self.local, limits: SyncLimits(), names: [1: "note"], status: { "{}" },
            ask: { request in
                switch request.memo {
                case 999:
                    asked.signal()
                    try await answer.wait()
                    return AgentReply(succeeded: true, message: "at last")
                case 401: return AgentReply(DataSyncError(.unauthorized, operation: "agent"))
                case 404: return AgentReply(DataSyncError(.notFound, operation: "agent"))
                default: return AgentReply(succeeded: true, message: request.verb.rawValue)
                }
            },
            put: { row, actor in
                try await storage.withTransaction { transaction in
                    try await Outbox.enqueue(row, limits: SyncLimits(), in: transaction)
                    try await PutTrace.note(row.type, by: actor, environment: .system, in: transaction)
                }
            }
        ).all
    }

    private func application<Storage: SyncStorage, People: PeopleSet>(
        _ login: PeopleLogin<Storage, People>, _ table: [PeopleEndpoint<People>]
    ) -> some ApplicationProtocol where Storage.Transaction: PersonTable {
        let router = Router(context: ServerRequestContext.self)
        PeopleRoutes(login: login, endpoints: table, logger: self.cloud.log.logger).add(to: router)
        return Application(router: router, logger: self.cloud.log.logger)
    }

    func atCloud<Result>(_ body: @escaping @Sendable (any TestClientProtocol) async throws -> Result) async throws -> Result {
        try await self.application(self.operators, self.operatorTable).test(.router) { try await body($0) }
    }

    func atBranch<Result>(_ body: @escaping @Sendable (any TestClientProtocol) async throws -> Result) async throws -> Result {
        try await self.application(self.staff, self.staffTable).test(.router) { try await body($0) }
    }

    // MARK: - Principals

    func operatorToken(_ role: OperatorSet.Role, _ branches: [ServerID]? = nil, name: String = "ada") async throws -> String {
        try await self.operators.register.add(name, role: role, branches: branches, password: Self.password, by: "test")
        return try await self.operators.logIn(name, Self.password, from: "192.0.2.1").accessToken.revealed
    }

    func staffToken(_ role: StaffSet.Role, name: String = "ada") async throws -> String {
        try await self.staff.register.add(name, role: role, password: Self.password, by: "test")
        return try await self.staff.logIn(name, Self.password, from: "192.0.2.1").accessToken.revealed
    }

    /// The token of a principal that asks at the cloud; nil for none.
    func token(of principal: Principal, at kind: PeopleKind, path: String) async throws -> String? {
        let isCloud = kind == .operators
        func own(_ operatorRole: OperatorSet.Role, _ staffRole: StaffSet.Role, _ branches: [ServerID]? = nil) async throws -> String {
            isCloud ? try await self.operatorToken(operatorRole, branches) : try await self.staffToken(staffRole)
        }
        switch principal {
        case .nobody: return nil
        case .garbage: return "e30.e30.e30"
        case .machine: return try await TestBranch(7, cloud: self.cloud.key, key: self.cloud.key).token("/" + path, [])
        case .staffAdmin: return try await self.staffToken(.admin, name: "eve")
        case .operatorAdmin: return try await self.operatorToken(.admin, name: "eve")
        case .viewer: return try await own(.viewer, .viewer)
        case .viewerOfSeven: return try await own(.viewer, .viewer, [7])
        case .deciding: return try await own(.operator, .operator)
        case .decidingForSeven: return try await own(.operator, .operator, [7])
        case .admin: return try await own(.admin, .admin)
        case .adminOfSeven: return try await own(.admin, .admin, [7])
        case .application: return try await self.staffToken(.application, name: "till")
        case .disabled:
            let token = try await own(.operator, .operator)
            if isCloud { try await self.operators.register.disable("ada", by: "test") } else { try await self.staff.register.disable("ada", by: "test") }
            return token
        case .loggedOut:
            let token = try await own(.operator, .operator)
            if isCloud {
                try await self.operators.logOut(try await self.operators.verify(token))
            } else {
                try await self.staff.logOut(try await self.staff.verify(token))
            }
            return token
        }
    }
}

struct PeopleAnswer: Sendable {
    var status: Int
    var headers: HTTPFields
    var text: String

    func member(_ name: String) -> String? {
        (try? JSONSerialization.jsonObject(with: Data(self.text.utf8)) as? [String: Any])?[name].map { "\($0)" }
    }

    /// Such as `403 forbidden`.
    var summary: String { "\(self.status) \(self.member("error") ?? "-")" }
}

extension TestClientProtocol {
    func people(
        _ method: HTTPRequest.Method, _ path: String, _ body: String? = nil, token: String? = nil, type: String? = "application/json",
        headers: HTTPFields = [:]
    ) async throws -> PeopleAnswer {
        var headers = headers
        if let token { headers[.authorization] = "Bearer \(token)" }
        if body != nil, let type { headers[.contentType] = type }
        let response = try await self.executeRequest(
            uri: "/\(path)", method: method, headers: headers, body: body.map { ByteBuffer(string: $0) })
        let answer = PeopleAnswer(status: response.status.code, headers: response.headers, text: String(buffer: response.body))
        // Whatever is asked for: no password and no hash, and tokens from those alone who are there to give them.
        var secrets = ["kanarienvogel", "$scrypt$", "PRIVATE KEY", "dss1."]
        if !["v1/login", "v1/refresh", "v1/setup"].contains(path) { secrets += ["eyJ", "dsr1."] }
        if !["/branches", "/token", "/replace"].contains(where: { path.hasSuffix($0) }) { secrets.append("dsj1.") }
        for secret in secrets { #expect(!answer.text.contains(secret) && !answer.headers.contains { $0.value.contains(secret) }, "\(method) \(path)") }
        return answer
    }
}
