import DataSync
@testable import DataSyncIdentity
@testable import DataSyncServer
import DataSyncTesting
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Testing

// What people get over HTTP, and what does not get in.

@Suite struct PeopleRoutesTests {
    private static let password = PeopleWorld.password.revealed

    private static func login(_ name: String, _ password: String = Self.password) -> String { #"{"name":"\#(name)","password":"\#(password)"}"# }

    @Test func aLoginFromBeginningToEnd() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let setup = try await world.operators.register.makeSetupToken(by: "root")
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            let first = try await client.people(.post, "v1/setup", #"{"token":"\#(setup.text)","name":"ada","password":"\#(Self.password)"}"#)
            #expect(first.status == 204)
            let answer = try await client.people(.post, "v1/login", Self.login("ada"))
            #expect(answer.status == 200)
            #expect(answer.member("token_type") == "Bearer")
            #expect(answer.member("expires_in") == "600")
            let token = try #require(answer.member("access_token"))
            let me = try await client.people(.get, "v1/me", token: token)
            #expect(me.text == #"{"name":"ada","role":"admin"}"#)
            let refresh = try #require(answer.member("refresh_token"))
            let renewed = try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(refresh)"}"#)
            #expect(renewed.status == 200)
            #expect(try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(refresh)"}"#).summary == "401 unauthorized")
            #expect(try await client.people(.get, "v1/me", token: token).summary == "401 unauthorized")
            let again = try #require(try await client.people(.post, "v1/login", Self.login("ada")).member("access_token"))
            #expect(try await client.people(.post, "v1/logout", token: again).status == 204)
            #expect(try await client.people(.get, "v1/me", token: again).summary == "401 unauthorized")
        }
    }

    @Test(arguments: [
        ("", 400), ("{}", 400), ("[]", 400), ("null", 400), (#"{"name":"ada"}"#, 400), (#"{"name":"ada","password":"x","admin":true}"#, 400),
        (#"{"name":"ada","name":"eve","password":"x"}"#, 400), (#"{"name":["ada"],"password":"x"}"#, 400), (#"{"name":null,"password":"x"}"#, 400),
        (#"{"name":"ada","password":"\ud800"}"#, 400), (#"{"name":"ada","password":"x"}"#, 401), (#"{"name":"","password":""}"#, 401),
        (#"{"name":"ada' or '1'='1","password":"x"}"#, 401), (#"{"name":"\u0000","password":"\u0000"}"#, 401),
    ])
    func whatIsNoLoginIsRefused(body: String, status: Int) async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        _ = try await world.operatorToken(.admin)
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            let answer = try await client.people(.post, "v1/login", body)
            #expect(answer.summary == (status == 400 ? "400 invalid" : "401 unauthorized"))
        }
    }

    @Test func bodiesAreBoundedAndOfOneKind() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.operatorToken(.admin)
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            let large = Self.login("ada", String(repeating: "x", count: 5_000))
            #expect(try await client.people(.post, "v1/login", large).summary == "413 too_large")
            #expect(try await client.people(.post, "v1/login", Self.login("ada"), type: "text/plain").summary == "400 invalid")
            #expect(try await client.people(.post, "v1/login", Self.login("ada"), type: nil).summary == "400 invalid")
            #expect(try await client.people(.post, "v1/login", Self.login("ada"), headers: [.contentEncoding: "gzip"]).summary == "400 invalid")
            #expect(try await client.people(.post, "v1/login", Self.login("ada"), type: "application/json; charset=utf-8").status == 200)
            // Nobody's body is read before it is known whose it is.
            #expect(try await client.people(.post, "v1/users", String(repeating: "x", count: 100_000)).summary == "401 unauthorized")
            #expect(try await client.people(.post, "v1/users", String(repeating: "x", count: 100_000), token: token).summary == "413 too_large")
        }
    }

    @Test func weakPasswordsAreNamedByAWord() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.operatorToken(.admin)
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            for (password, reason) in [("short", "too_short"), ("password1234", "common"), ("aaaaaaaaaaaaaaa", "repeated"), ("abcdefghijklmno", "sequence")] {
                let body = #"{"name":"eve","role":"viewer","password":"\#(password)"}"#
                let answer = try await client.people(.post, "v1/users", body, token: token)
                #expect(answer.text == #"{"error":"weak_password","reason":"\#(reason)"}"#)
            }
            let added = #"{"name":"eve","role":"viewer","branches":[7],"password":"\#(Self.password)"}"#
            #expect(try await client.people(.post, "v1/users", added, token: token).status == 201)
            #expect(try await client.people(.post, "v1/users", added, token: token).summary == "409 conflict")
            let list = try await client.people(.get, "v1/users", token: token)
            #expect(list.text.contains(#""name":"eve","role":"viewer","branches":[7],"state":"active""#))
            #expect(!list.text.contains("scrypt"))
            #expect(try await client.people(.post, "v1/users/eve/disable", token: token).status == 204)
            #expect(try await client.people(.post, "v1/users/ada/disable", token: token).summary == "409 conflict")
            #expect(try await client.people(.post, "v1/users/nobody/enable", token: token).summary == "404 not_found")
            #expect(try await client.people(.get, "v1/me", token: token).status == 200)
        }
        let staff = try await world.staffToken(.admin)
        try await world.atBranch { (client: any TestClientProtocol) async throws -> Void in
            let body = #"{"name":"eve","role":"viewer","branches":[7],"password":"\#(Self.password)"}"#
            #expect(try await client.people(.post, "v1/users", body, token: staff).summary == "400 invalid")
        }
    }

    @Test func somebodySeesTheirBranchesAlone() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        for branch in [7, 8] as [ServerID] { try await world.addDeadRecord(of: branch) }
        let seven = try await world.operatorToken(.operator, [7])
        let eight = try await world.operatorToken(.viewer, [8], name: "bob")
        let all = try await world.operatorToken(.operator, name: "eve")
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            func ids(_ path: String, _ token: String, _ name: String) async throws -> [Int] {
                let answer = try await client.people(.get, path, token: token)
                let object = try #require(try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: Any])
                return (object[name] as? [[String: Any]])?.compactMap { $0["id"] as? Int } ?? []
            }
            #expect(try await ids("v1/branches", all, "branches") == [7, 8])
            #expect(try await ids("v1/branches", seven, "branches") == [7])
            #expect(try await ids("v1/records", all, "records") == [1, 2])
            #expect(try await ids("v1/records", seven, "records") == [1])
            #expect(try await ids("v1/records?limit=1", all, "records") == [1])
            #expect(try await ids("v1/records?limit=1&after=1", all, "records") == [2])
            // Where a page ends tells nothing of what is not seen.
            for (path, ids, next) in [
                ("v1/records?limit=1", "2", "2"), ("v1/records?limit=1&after=2", "", nil), ("v1/records?limit=2", "2", nil),
            ] as [(String, String, String?)] {
                let answer = try await client.people(.get, path, token: eight)
                #expect(answer.text.contains("\"id\":\(ids),") == !ids.isEmpty, "\(answer.text)")
                #expect(!answer.text.contains("\"id\":1,"))
                #expect(answer.member("next") == next)
            }
            for path in ["v1/records?limit=0", "v1/records?limit=x", "v1/records?all=yes", "v1/records?after=-1"] {
                #expect(try await client.people(.get, path, token: all).summary == "400 invalid")
            }
            #expect(try await client.people(.get, "v1/records/1", token: seven).member("entity") == "note:1")
            #expect(try await client.people(.get, "v1/records/2", token: all).status == 200)
            // Another branch's record is one that does not exist.
            let other = try await client.people(.get, "v1/records/2", token: seven)
            let none = try await client.people(.get, "v1/records/99", token: seven)
            #expect(other.summary == "404 not_found")
            #expect(other.text == none.text)
            for what in ["retry", "discard"] {
                #expect(try await client.people(.post, "v1/records/2/\(what)", token: seven).text == none.text)
                #expect(try await client.people(.post, "v1/records/x/\(what)", token: seven).text == none.text)
            }
            #expect(try await client.people(.post, "v1/records/1/discard", token: seven).status == 204)
            #expect(try await client.people(.post, "v1/records/1/discard", token: seven).summary == "409 conflict")
            #expect(try await client.people(.post, "v1/branches/7/suspend", token: seven).status == 204)
            #expect(try await client.people(.post, "v1/branches/7/suspend", token: seven).summary == "409 conflict")
            #expect(try await client.people(.post, "v1/branches/8/suspend", token: seven).summary == "404 not_found")
        }
        let audit = try await world.auditAtCloud()
        #expect(audit.contains("operator ada: branch.suspend branch 7"))
        #expect(audit.contains { $0.hasPrefix("operator ada: memo.discard record 7/") })
    }

    @Test func anApplicationEnqueues() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.staffToken(.application, name: "till")
        try await world.atBranch { (client: any TestClientProtocol) async throws -> Void in
            let record = #"{"type":1,"key":"note:1","payload":{"upsert": {"id": 1, "amount": 1.005}}}"#
            #expect(try await client.people(.post, "v1/records", record, token: token).status == 201)
            for wrong in [
                #"{"type":0,"key":"note:1","payload":{}}"#, #"{"type":1,"key":"","payload":{}}"#, #"{"type":1,"key":"note:1","payload":"text"}"#,
                #"{"type":1,"key":"note:1"}"#, #"{"type":1,"key":"note:1","payload":{},"syn_id":5}"#, #"{"type":99999999999,"key":"n","payload":{}}"#,
            ] { #expect(try await client.people(.post, "v1/records", wrong, token: token).summary == "400 invalid", "\(wrong)") }
            #expect(try await client.people(.post, "v1/sync", token: token).summary == "403 forbidden")
        }
        let rows = try await world.local.withTransaction(.snapshot) { try await $0.outboxRows([1]) }
        let audit = try await world.local.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }
        #expect(audit.last.map { "\($0.entry.actor): \($0.entry.action) \($0.entry.subject)" } == "staff till: record.put records of type 1")
        // As it was written, to the last digit.
        #expect(rows.first?.payload == #"{"upsert": {"id": 1, "amount": 1.005}}"#)
        #expect(try await world.local.withTransaction(.snapshot) { try await $0.hasOutboxRows(after: 1) } == false)
    }

    /// That the cloud does not let the branch in is not that whoever asks the branch is not let in.
    @Test func whatTheCloudRefusesTheBranchIsNotRefusedToItsPeople() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.staffToken(.operator)
        try await world.atBranch { (client: any TestClientProtocol) async throws -> Void in
            #expect(try await client.people(.post, "v1/records/1/retry", token: token).text == #"{"message":"retry"}"#)
            #expect(try await client.people(.post, "v1/records/401/retry", token: token).summary == "503 unavailable")
            #expect(try await client.people(.post, "v1/records/404/retry", token: token).summary == "404 not_found")
        }
    }

    /// However many wait for the agent: who does not is answered at once.
    @Test(.timeLimit(.minutes(30))) func whoWaitsForTheAgentHoldsUpNobodyElse() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        var tokens: [String] = []
        for name in ["ada", "eve", "bob", "zoe", "kim"] { tokens.append(try await world.staffToken(.operator, name: name)) }
        let (all, waiting, late) = (tokens, tokens.dropLast(), try #require(tokens.last))
        try await world.atBranch { (client: any TestClientProtocol) async throws -> Void in
            try await withThrowingTaskGroup(of: String.self) { group in
                // One person has four places, and all together sixteen.
                for token in waiting {
                    for _ in 0..<4 {
                        group.addTask { try await client.people(.post, "v1/records/999/retry", token: token).summary }
                        try await world.asked.wait()
                    }
                    guard token == waiting.first else { continue }
                    let fifth = try await client.people(.post, "v1/records/999/retry", token: token)
                    #expect(fifth.summary == "503 busy")
                    #expect(fifth.headers[.retryAfter] == "5")
                }
                #expect(try await client.people(.post, "v1/sync", token: late).summary == "503 busy")
                for token in all {
                    for path in ["v1/status", "v1/records"] {
                        let answer = try await client.people(.get, path, token: token)
                        #expect(answer.status == 200, "\(answer.text)")
                    }
                }
                for _ in 0..<16 { world.answer.signal() }
                for try await summary in group { #expect(summary == "200 -") }
            }
            #expect(try await client.people(.post, "v1/sync", token: late).status == 200)
        }
    }

    @Test func theAuditIsShownAndVerified() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let token = try await world.operatorToken(.admin)
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            let lines = try await client.people(.get, "v1/audit", token: token)
            #expect(lines.text.contains(#""action":"person.add""#))
            #expect(lines.text.contains(#""action":"login""#))
            let verdict = try await client.people(.get, "v1/audit/verify", token: token)
            #expect(verdict.member("intact") == "2")
            let head = try #require(verdict.member("head"))
            #expect(try await client.people(.get, "v1/audit/verify?noted=\(head)", token: token).member("fault") == nil)
            #expect(try await client.people(.get, "v1/audit/verify?noted=1:\(head.dropFirst(2))", token: token).member("fault") != nil)
            #expect(try await client.people(.get, "v1/audit/verify?noted=x", token: token).summary == "400 invalid")
        }
    }

    @Test func theCloudsKeyIsChangedInThreeSteps() async throws {
        let world = try await PeopleWorld(hasKeyFile: true)
        defer { world.removeFiles() }
        let token = try await world.operatorToken(.admin)
        try await world.atCloud { (client: any TestClientProtocol) async throws -> Void in
            #expect(try await client.people(.get, "v1/key", token: token).member("phase") == "settled")
            #expect(try await client.people(.post, "v1/key/activate", token: token).summary == "409 conflict")
            let next = try await client.people(.post, "v1/key/rotate", token: token).member("key")
            #expect(try await client.people(.get, "v1/key", token: token).member("phase") == "announced")
            #expect(try await client.people(.post, "v1/key/activate", token: token).member("key") == next)
            // Two branches have not seen it.
            #expect(try await client.people(.post, "v1/key/retire", token: token).summary == "409 conflict")
            #expect(try await client.people(.post, "v1/key/retire", #"{"force":true}"#, token: token).member("key") == next)
        }
    }

    /// A hundred that try to log in, while a branch syncs: the branch is answered each time, and no more is hashed than the queue holds.
    @Test func aFloodOfLoginsTakesNothingFromBranches() async throws {
        // What one address may try grows with the time that passes: none does.
        var environment = SyncEnvironment.system
        let now = environment.wallTime()
        (environment.runningTime, environment.wallTime) = ({ .zero }, { now })
        let world = try await PeopleWorld(cost: 10, environment: environment)
        defer { world.removeFiles() }
        _ = try await world.operatorToken(.admin)
        let before = world.hasher.runs
        let branch = try await world.cloud.enrol(7)
        let router = try world.cloud.router()
        PeopleRoutes(login: world.operators, endpoints: world.operatorTable, trustedProxies: ["127.0.0.1"], logger: world.cloud.log.logger).add(to: router)
        let statuses = try await Application(router: router, logger: world.cloud.log.logger).test(.router) { client in
            try await withThrowingTaskGroup(of: Int?.self) { group in
                for _ in 0..<100 { group.addTask { try await client.people(.post, "v1/login", Self.login("ada", "not the password")).status } }
                group.addTask {
                    for _ in 0..<20 { _ = try await client.open(branch) }
                    return nil
                }
                return try await group.reduce(into: [Int]()) { statuses, status in if let status { statuses.append(status) } }
            }
        }
        #expect(statuses.count == 100)
        #expect(Set(statuses).isSubset(of: [401, 429, 503]))
        #expect(statuses.count { $0 == 401 } <= 20)
        // One address: a quarter of the places at a time, and twenty in all.
        #expect(world.hasher.runs - before <= 20)
    }

    /// What was secret in all this is in no answer but its own, in no log and in no table.
    @Test func nothingSecretIsWrittenDown() async throws {
        let world = try await PeopleWorld()
        defer { world.removeFiles() }
        let setup = try await world.operators.register.makeSetupToken(by: "root")
        let canaries = try await world.atCloud { client in
            var canaries = [Self.password, "a secret that is wrong", setup.secret.revealed]
            _ = try await client.people(.post, "v1/setup", #"{"token":"\#(setup.text)","name":"ada","password":"\#(Self.password)"}"#)
            _ = try await client.people(.post, "v1/setup", #"{"token":"\#(setup.text)","name":"ada","password":"\#(Self.password)"}"#)
            _ = try await client.people(.post, "v1/login", Self.login("ada", "a secret that is wrong"))
            _ = try await client.people(.post, "v1/login", Self.login("a secret that is wrong", "a secret that is wrong"))
            let answer = try await client.people(.post, "v1/login", Self.login("ada"))
            let (token, refresh) = (try #require(answer.member("access_token")), try #require(answer.member("refresh_token")))
            canaries += [token, refresh, String(refresh.suffix(64))]
            _ = try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(refresh)"}"#)
            _ = try await client.people(.post, "v1/refresh", #"{"refresh_token":"\#(refresh)"}"#)
            _ = try await client.people(.post, "v1/logout", token: token)
            return canaries
        }
        let state = try await world.cloud.hub.storage.withTransaction(.snapshot) { transaction in
            var dumped = ""
            for row in try await transaction.persons(.operators) { dump(row, to: &dumped) }
            for row in try await transaction.auditRows(after: 0, limit: 100) { dump(row, to: &dumped) }
            dump(try await transaction.settings(withPrefix: ""), to: &dumped)
            return dumped
        }
        #expect(state.contains("ada"))
        for canary in canaries {
            #expect(!state.contains(canary))
            #expect(!world.cloud.log.all.contains { $0.contains(canary) })
        }
        // Nor is the hash shown by what shows everything else.
        #expect(!state.contains("$scrypt$"))
    }
}

extension PeopleWorld {
    func auditAtCloud() async throws -> [String] {
        try await self.cloud.hub.storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }.map {
            "\($0.entry.actor): \($0.entry.action) \($0.entry.subject)"
        }
    }

    /// One that the cloud holds.
    func addDeadRecord(of branch: ServerID) async throws {
        let record = SyncRecord(
            stream: StreamID(origin: branch, epoch: 1, type: 1), synID: 1, uid: RecordUID(high: 1, low: UInt64(branch.rawValue)), key: "note:1",
            target: .cloud, createTime: 1, client: nil, payload: "{}")
        let memo = Memo(
            line: MemoLine(receiver: .cloud, sender: branch, epoch: 1, type: 1), number: 1, scope: .cloud, record: record, holdsPayload: true,
            disposition: .dead, reason: .refused, attempts: 3, tries: 3, nextTry: 0, created: 1)
        try await self.cloud.hub.storage.withTransaction { try await $0.insertMemos([memo]) }
    }
}
