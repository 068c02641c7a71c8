import DataSync
import DataSyncSQL
import Foundation
import FoundationNetworking
import RetailTrade
import Testing

extension WithPrograms {
    /// People who log in, from the command line to the listener.
    @Suite struct UserCommandTests {
        private static let password = "seven quiet kanarienvogel"

        private static func ask(_ port: Int, _ path: String, _ body: String? = nil, token: String? = nil, from: String? = nil) async throws -> (
            status: Int, text: String
        ) {
            var request = URLRequest(url: URL(string: "http://127.0.0.1:\(port)/\(path)")!)
            // A login on a busy machine waits for whatever else there is to do.
            request.timeoutInterval = 600
            if let body {
                request.httpMethod = "POST"
                request.httpBody = Data(body.utf8)
                request.setValue("application/json", forHTTPHeaderField: "content-type")
            }
            if let from { request.setValue(from, forHTTPHeaderField: "x-forwarded-for") }
            if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "authorization") }
            let (data, response) = try await URLSession.shared.data(for: request)
            return ((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
        }

        private static func logIn(_ port: Int, _ name: String) async throws -> String {
            let answer = try await self.ask(port, "v1/login", #"{"name":"\#(name)","password":"\#(self.password)"}"#)
            let object = try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: Any]
            return try #require(object?["access_token"] as? String, "\(answer)")
        }

        @Test func peopleAreLetInAndShutOut() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                for program in [Desk.Program.cloud, .local] {
                    _ = try desk.run(program, "init")
                    #expect(try desk.run(program, "user", "list").output.contains("Nobody is let in yet"))
                    let added = try desk.run(program, "user", "add", "ada", "--role", "admin", "--password-stdin", input: Self.password + "\n")
                    #expect(added.status == 0, "\(added.complaints)")
                    let weak = try desk.run(program, "user", "add", "eve", "--role", "viewer", "--password-stdin", input: "password1234\n")
                    #expect(weak.status == 65)
                    #expect(!weak.complaints.contains("password1234"))
                    #expect(try desk.run(program, "user", "add", "eve", "--role", "king", "--password-stdin", input: Self.password).status == 64)
                    #expect(try desk.run(program, "user", "disable", "ada").complaints.contains("is the last administrator"))
                    #expect(try desk.run(program, "user", "setup").status == 1)
                    #expect(try desk.run(program, "user", "add", "eve", "--role", "viewer", "--password-stdin", input: Self.password).status == 0)
                    #expect(try desk.run(program, "user", "role", "eve", "--role", "operator").status == 0)
                    #expect(try desk.run(program, "user", "disable", "eve").status == 0)
                    #expect(try desk.run(program, "user", "disable", "nobody").status == 66)
                    let list = try desk.run(program, "user", "list", "--json").output
                    #expect(list.contains(#""name":"eve","role":"operator","state":"disabled""#), "\(list)")
                    #expect(!list.contains("scrypt"))
                    let audit = try desk.run(program, "audit", "list").output
                    #expect(audit.contains("person.role"))
                    #expect(try desk.run(program, "audit", "verify").status == 0)
                }
                #expect(try desk.run(.local, "user", "role", "eve", "--role", "viewer", "--branches", "7").status == 64)
                #expect(try await desk.count("cloud", "select count(*) from sync_person where password like '$scrypt$ln=17,r=8,p=1$%'") == 2)
                // Nothing is asked where there is no terminal.
                #expect(try desk.run(.cloud, "user", "passwd", "ada").status != 0)
            }
        }

        /// Both listeners, and an application whose record goes up: the token of one is nothing at the other.
        @Test func anApplicationEnqueuesOverHTTPAndAnOperatorSeesIt() async throws {
            try await Programs.withFolder { folder in
                let (adminPort, localPort) = (try freePort(), try freePort())
                let desk = try await Desk(in: folder, local: "local:\n  port: \(localPort)\n  trusted_proxies: ['::ffff:127.0.0.1']\n")
                for (program, arguments) in [(Desk.Program.cloud, "admin"), (.local, "admin"), (.local, "application")] {
                    _ = try desk.run(program, "init")
                    let name = arguments == "admin" ? "ada" : "till"
                    #expect(try desk.run(program, "user", "add", name, "--role", arguments, "--password-stdin", input: Self.password).status == 0)
                }
                let cloud = try desk.start(.cloud, "serve", "--set", "admin.port=\(adminPort)")
                defer { cloud.stop() }
                try cloud.waitUntilReady()
                let join = try desk.run(.local, "join", input: try desk.run(.cloud, "branch", "add", "7", "Market Street").lastLine)
                #expect(join.status == 0, "\(join.complaints)")
                let agent = try desk.start(.local, "run")
                defer { agent.stop() }
                try agent.waitUntilReady()
                try await desk.eventually("both listeners are there") { [cloud, agent].allSatisfy { $0.logText.contains("people log in here") } }
                let till = try await Self.logIn(localPort, "till")
                let record = #"{"type":1,"key":"item:1","payload":{"upsert":{"id":1,"name":"soap"}}}"#
                #expect(try await Self.ask(localPort, "v1/records", record, token: till).status == 201)
                let wrong = #"{"type":1,"key":"item:2","payload":{"upsert":{"id":1,"name":"soap"}}}"#
                #expect(try await Self.ask(localPort, "v1/records", wrong, token: till).status == 400)
                try await desk.eventually("the record is at the cloud") { try await desk.count("cloud", "select count(*) from item") == 1 }
                let (operatorToken, staffToken) = (try await Self.logIn(adminPort, "ada"), try await Self.logIn(localPort, "ada"))
                #expect(try await Self.ask(adminPort, "v1/branches", token: operatorToken).text.contains("Market Street"))
                #expect(try await Self.ask(adminPort, "v1/status", token: operatorToken).text.contains(#""log":1"#))
                #expect(try await Self.ask(localPort, "v1/status", token: staffToken).text.contains(#""branch":7"#))
                let synced = try await Self.ask(localPort, "v1/sync", "", token: staffToken)
                #expect(synced.status == 200, "\(synced)")
                // Behind a proxy that is named, everybody is who they are; elsewhere nobody says so.
                for port in [adminPort, localPort] {
                    let wrong = #"{"name":"ada","password":"not the password"}"#
                    #expect(try await Self.ask(port, "v1/login", wrong, from: "203.0.113.5").status == 401)
                }
                #expect(try desk.run(.local, "audit", "list").output.contains("address 203.0.113.5  login.refused"))
                #expect(!(try desk.run(.cloud, "audit", "list").output.contains("203.0.113.5")))
                for (port, path, token) in [
                    (adminPort, "v1/branches", staffToken), (adminPort, "v1/me", till), (localPort, "v1/status", operatorToken), (localPort, "v1/status", "x"),
                ] { #expect(try await Self.ask(port, path, token: token).status == 401) }
                #expect(try desk.run(.cloud, "user", "add", "bob", "--role", "admin", "--password-stdin", input: Self.password).status == 0)
                #expect(try desk.run(.cloud, "user", "disable", "ada").status == 0)
                #expect(try await Self.ask(adminPort, "v1/branches", token: operatorToken).status == 401)
                for log in [cloud.logText, agent.logText] {
                    for secret in [Self.password, operatorToken, staffToken, till] { #expect(!log.contains(secret)) }
                }
            }
        }
    }
}
