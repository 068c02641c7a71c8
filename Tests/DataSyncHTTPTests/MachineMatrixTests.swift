import DataSync
@testable import DataSyncIdentity
@testable import DataSyncServer
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Synchronization
import Testing

// Every route of machines, asked as everybody. What is expected is written down here by hand: a route without a line fails.

/// Who asks for the sake of branch 7, or of another one.
private enum Asker: String, CaseIterable, CustomTestStringConvertible {
    case nobody, garbage, operatorAdmin, staffAdmin
    /// Branch 7; and with the key that it had before.
    case own, oldKey
    /// Branch 8, in the session of 7; and one that signs as 7 by the key of 8.
    case other, impostor
    case suspended, unknown

    var testDescription: String { self.rawValue }
}

/// What those get who have a key of a branch. Nobody else gets anything but 401, unsigned.
private struct Line {
    var own: String
    var other: String
    var suspended: String
}

private let lines: [String: Line] = [
    // Whoever opens names no session, and opens its own.
    "open": Line(own: "200 - signed", other: "200 - signed", suspended: "403 suspended signed"),
    "push": Line(own: "200 - signed", other: "409 fenced signed", suspended: "403 suspended signed"),
    "pull": Line(own: "200 - signed", other: "409 fenced signed", suspended: "403 suspended signed"),
    "acknowledge": Line(own: "200 - signed", other: "409 fenced signed", suspended: "403 suspended signed"),
    "recover": Line(own: "200 - signed", other: "409 fenced signed", suspended: "403 suspended signed"),
    "compare": Line(own: "200 - signed", other: "409 fenced signed", suspended: "403 suspended signed"),
    // An offer for one's own key.
    "key": Line(own: "200 - signed", other: "200 - signed", suspended: "403 suspended signed"),
    // Whose secret is wrong is a stranger, whatever key signs.
    "join": Line(own: "401 unauthorized", other: "401 unauthorized", suspended: "401 unauthorized"),
]

/// Notes what is registered.
private final class Registered: RouterMethods {
    typealias Context = ServerRequestContext

    let paths = Mutex<[String]>([])

    func on<Responder: HTTPResponder>(_ path: RouterPath, method: HTTPRequest.Method, responder _: Responder) -> Self
    where Responder.Context == Context {
        self.paths.withLock { $0.append("\(method.rawValue) \(path.description)") }
        return self
    }

    func add(middleware _: any MiddlewareProtocol<Request, Response, Context>) -> Self { self }
}

@Suite struct MachineMatrixTests {
    @Test func everyRouteHasALineAndEveryLineARoute() async throws {
        let cloud = try await makeNoteCloud()
        let registered = Registered()
        try MachineRoutes(hub: cloud.hub, identity: CloudIdentity(key: cloud.key), enrolment: cloud.enrolment).add(to: registered)
        #expect(registered.paths.withLock { $0.sorted() } == lines.keys.map { "POST /v1/\($0)" }.sorted())
    }

    @Test(arguments: Asker.allCases)
    fileprivate func everybodyGetsWhatIsTheirs(asker: Asker) async throws {
        for (route, line) in lines.sorted(by: { $0.key < $1.key }) {
            let world = try await PeopleWorld()
            defer { world.removeFiles() }
            let cloud = world.cloud
            try await cloud.hub.storage.withTransaction { try await $0.insertServer(ServerRow(id: 9, name: "branch 9", status: .active)) }
            let (seven, eight, nine) = (try await cloud.enrol(7), try await cloud.enrol(8), try await cloud.enrol(9))
            let oldKey = try TestBranch(7, cloud: cloud.key)
            let unknown = try TestBranch(10, cloud: cloud.key)
            // Who signs in the name of 7.
            let impostor = try TestBranch(7, cloud: cloud.key, key: eight.key)
            try await cloud.test { client async throws in
                let (session, sessionOfNine) = (try await client.open(seven), try await client.open(nine))
                try await cloud.enrolment.suspend(9, actor: "test")
                let (signer, named): (TestBranch?, SessionID) =
                    switch asker {
                    case .nobody, .garbage, .operatorAdmin, .staffAdmin: (nil, session)
                    case .own: (seven, session)
                    case .oldKey: (oldKey, session)
                    case .other: (eight, session)
                    case .impostor: (impostor, session)
                    case .suspended: (nine, sessionOfNine)
                    case .unknown: (unknown, session)
                    }
                let path = "/v1/\(route)"
                let isOfNoSession = ["open", "key", "join"].contains(route)
                let body = try await Self.body(route, named, by: signer ?? seven)
                let token: String? =
                    switch asker {
                    case .nobody: nil
                    case .garbage: "e30.e30.e30"
                    case .operatorAdmin: try await world.operatorToken(.admin)
                    case .staffAdmin: try await world.staffToken(.admin)
                    default: try await signer?.token(path, body, session: isOfNoSession ? nil : named)
                    }
                let expected =
                    switch asker {
                    case .own: line.own
                    case .other: line.other
                    case .suspended: line.suspended
                    default: "401 unauthorized"
                    }
                #expect(try await client.ask(path, body, token: token).summary == expected, "\(route)")
            }
            // Nobody but branch 7 has an effect in its name.
            #expect(try await cloud.notes().keys.sorted() == (asker == .own && route == "push" ? ["1"] : []), "\(route)")
        }
    }

    private static func body(_ route: String, _ session: SessionID, by signer: TestBranch) async throws -> [UInt8] {
        switch route {
        case "open": return Ask.open.body
        case "push": return Ask.push(session, ["a"]).body
        case "pull": return Ask.pull(session).body
        case "acknowledge": return AcknowledgeRequest(session: session, logEpoch: 1, positions: [:], outcomes: []).body
        case "recover": return RecoverRequest(session: session, epoch: 1, after: [:]).body
        case "compare": return CompareRequest(session: session, logEpoch: 1, type: 1).body
        case "key": return try await signer.identity.offer(try MachineKey.generate()).body
        default:
            let secret = Secret(String(repeating: "0", count: 32))
            return JoinRequest(secret: secret, publicKey: signer.key.publicKey.text, software: "x").body
        }
    }
}
