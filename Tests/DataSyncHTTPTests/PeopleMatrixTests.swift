import DataSync
@testable import DataSyncIdentity
@testable import DataSyncServer
import Foundation
import HTTPTypes
import Testing

// Everything that people may ask for, asked for as everybody. What is expected is written down here by hand: a route without a line fails.

private struct Line {
    /// Who is let in; empty for whoever comes.
    var roles: Set<String>
    var scope: Scope

    enum Scope { case seen, branch, all }

    static let open = Line(roles: [], scope: .seen)
    static func roles(_ words: String, _ scope: Scope = .seen) -> Line { Line(roles: Set(words.split(separator: " ").map { String($0) }), scope: scope) }
}

private let everybody = "viewer operator admin"
private let deciding = "operator admin"

private let cloudLines: [String: Line] = [
    "POST v1/login": .open, "POST v1/refresh": .open, "POST v1/setup": .open,
    "POST v1/logout": .roles(everybody), "GET v1/me": .roles(everybody), "POST v1/password": .roles(everybody),
    "GET v1/status": .roles(everybody), "GET v1/grants": .roles("admin", .all),
    "GET v1/branches": .roles(everybody), "POST v1/branches": .roles("admin", .all), "GET v1/branches/{branch}": .roles(everybody, .branch),
    "POST v1/branches/{branch}/suspend": .roles(deciding, .branch), "POST v1/branches/{branch}/resume": .roles(deciding, .branch),
    "POST v1/branches/{branch}/token": .roles("admin", .branch), "POST v1/branches/{branch}/replace": .roles("admin", .branch),
    "GET v1/records": .roles(everybody), "GET v1/records/{id}": .roles(everybody), "POST v1/records": .roles(deciding, .all),
    "POST v1/records/{id}/retry": .roles(deciding), "POST v1/records/{id}/discard": .roles(deciding),
    "GET v1/users": .roles("admin", .all), "POST v1/users": .roles("admin", .all), "POST v1/users/{name}/role": .roles("admin", .all),
    "POST v1/users/{name}/password": .roles("admin", .all), "POST v1/users/{name}/disable": .roles("admin", .all),
    "POST v1/users/{name}/enable": .roles("admin", .all), "POST v1/users/{name}/unlock": .roles("admin", .all),
    "GET v1/audit": .roles("admin", .all), "GET v1/audit/verify": .roles("admin", .all),
    "GET v1/key": .roles("admin", .all), "POST v1/key/rotate": .roles("admin", .all), "POST v1/key/activate": .roles("admin", .all),
    "POST v1/key/retire": .roles("admin", .all),
]

private let branchLines: [String: Line] = [
    "POST v1/login": .open, "POST v1/refresh": .open, "POST v1/setup": .open,
    "POST v1/logout": .roles("viewer operator admin application"), "GET v1/me": .roles("viewer operator admin application"),
    "POST v1/password": .roles("viewer operator admin application"),
    "GET v1/status": .roles(everybody), "GET v1/records": .roles(everybody), "GET v1/records/{id}": .roles(everybody),
    "POST v1/records": .roles("application operator admin"), "POST v1/records/{id}/retry": .roles(deciding), "POST v1/records/{id}/discard": .roles(deciding),
    "POST v1/sync": .roles(deciding),
    "GET v1/users": .roles("admin"), "POST v1/users": .roles("admin"), "POST v1/users/{name}/role": .roles("admin"),
    "POST v1/users/{name}/password": .roles("admin"), "POST v1/users/{name}/disable": .roles("admin"), "POST v1/users/{name}/enable": .roles("admin"),
    "POST v1/users/{name}/unlock": .roles("admin"), "GET v1/audit": .roles("admin"), "GET v1/audit/verify": .roles("admin"),
]

private enum Expected: Hashable {
    case unauthorized, forbidden, notFound
    /// Neither of them, and no fault of the server.
    case letIn
}

/// - Parameter branch: The one that the path names.
private func expected(_ line: Line, _ principal: Principal, at kind: PeopleKind, branch: Int32) -> Expected {
    if line.roles.isEmpty { return .letIn }
    let role: String
    switch principal {
    case .nobody, .garbage, .machine, .disabled, .loggedOut: return .unauthorized
    case .staffAdmin where kind == .operators, .operatorAdmin where kind == .staff, .application where kind == .operators: return .unauthorized
    case .staffAdmin, .operatorAdmin, .admin, .adminOfSeven: role = "admin"
    case .viewer, .viewerOfSeven: role = "viewer"
    case .deciding, .decidingForSeven: role = "operator"
    case .application: role = "application"
    }
    guard line.roles.contains(role) else { return .forbidden }
    let isOfSeven = kind == .operators && [.viewerOfSeven, .decidingForSeven, .adminOfSeven].contains(principal)
    switch line.scope {
    case .seen: return .letIn
    case .all: return isOfSeven ? .forbidden : .letIn
    case .branch: return isOfSeven && branch != 7 ? .notFound : .letIn
    }
}

private func check(_ answer: PeopleAnswer, _ expected: Expected, _ comment: Comment) {
    switch expected {
    case .unauthorized: #expect(answer.summary == "401 unauthorized", comment)
    case .forbidden: #expect(answer.summary == "403 forbidden", comment)
    case .notFound: #expect(answer.summary == "404 not_found", comment)
    case .letIn:
        // `unauthorized` is what those say who are asked without a name, a token or a password.
        #expect(![401, 403].contains(answer.status) || answer.status == 401 && comment.rawValue.contains("open"), comment)
        #expect(answer.status < 500, comment)
    }
    #expect(answer.headers[.cacheControl] == "no-store", comment)
}

@Suite struct PeopleMatrixTests {
    private func lines<People: PeopleSet>(_ table: [PeopleEndpoint<People>]) -> [String] { table.map { "\($0.method.rawValue) \($0.path)" } }

    @Test func everyRouteHasALineAndEveryLineARoute() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        #expect(self.lines(world.operatorTable).sorted() == cloudLines.keys.sorted())
        #expect(self.lines(world.staffTable).sorted() == branchLines.keys.sorted())
    }

    /// What the documents describe is what there is.
    @Test(arguments: [("openapi-admin.yaml", cloudLines.keys.sorted()), ("openapi-local.yaml", branchLines.keys.sorted())])
    func everyRouteIsDescribed(document: String, lines: [String]) throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "Docs/\(document)"), encoding: .utf8)
        var path = ""
        var described: [String] = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("  /v1/"), line.hasSuffix(":") { path = String(line.dropFirst(3).dropLast()) }
            if ["    get:", "    post:"].contains(line) { described.append("\(line.dropFirst(4).dropLast().uppercased()) \(path)") }
        }
        #expect(described.sorted() == lines)
    }

    @Test(arguments: Principal.allCases)
    func atTheCloudEverybodyGetsWhatIsTheirs(principal: Principal) async throws {
        var worlds = Worlds(principal, .operators)
        for (name, line) in cloudLines.sorted(by: { $0.key < $1.key }) {
            for branch in name.contains("{branch}") ? [7, 8, 9] : [7] as [Int32] {
                let (method, path) = Self.parts(name, branch: branch)
                let expected = expected(line, principal, at: .operators, branch: branch)
                let (world, token) = try await worlds.world(for: path, expecting: expected)
                defer { world.removeFiles() }
                let answer = try await world.atCloud { try await $0.people(method, path, token: token) }
                check(answer, expected, "\(line.roles.isEmpty ? "open " : "")\(name) \(branch) \(answer.summary)")
            }
        }
    }

    @Test(arguments: Principal.allCases)
    func atABranchEverybodyGetsWhatIsTheirs(principal: Principal) async throws {
        var worlds = Worlds(principal, .staff)
        for (name, line) in branchLines.sorted(by: { $0.key < $1.key }) {
            let (method, path) = Self.parts(name, branch: 7)
            let expected = expected(line, principal, at: .staff, branch: 7)
            let (world, token) = try await worlds.world(for: path, expecting: expected)
            let answer = try await world.atBranch { try await $0.people(method, path, token: token) }
            check(answer, expected, "\(line.roles.isEmpty ? "open " : "")\(name) \(answer.summary)")
        }
    }

    /// The worlds that one principal asks in: what is done changes one, so it gets a world of its own; what is refused does not.
    private struct Worlds {
        let principal: Principal
        let kind: PeopleKind
        var shared: (world: PeopleWorld, token: String?)?

        init(_ principal: Principal, _ kind: PeopleKind) {
            self.principal = principal
            self.kind = kind
        }

        mutating func world(for path: String, expecting expected: Expected) async throws -> (world: PeopleWorld, token: String?) {
            // A machine signs for one path.
            if let shared, expected != .letIn, self.principal != .machine { return shared }
            let world = try await PeopleWorld(hasKeyFile: path.contains("/key") && expected == .letIn)
            let made = (world, try await world.token(of: self.principal, at: self.kind, path: path))
            if expected != .letIn { self.shared = made }
            return made
        }
    }

    private static func parts(_ name: String, branch: Int32) -> (HTTPRequest.Method, String) {
        let words = name.split(separator: " ").map { String($0) }
        let path = words[1].replacing("{branch}", with: "\(branch)").replacing("{id}", with: "1").replacing("{name}", with: "nobody")
        return (HTTPRequest.Method(words[0])!, path)
    }
}
