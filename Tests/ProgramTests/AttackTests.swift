import DataSync
import DataSyncIdentity
import Foundation
import FoundationNetworking
import RetailTrade
import Testing

extension WithPrograms {
    /// Attacks on a cloud that a branch works with: its records go on arriving, and the cloud's memory stays within bounds.
    @Suite struct AttackTests {
        /// A cloud with impatient settings, and the agent of branch 7.
        private struct Siege {
            let desk: Desk
            let cloud: RunningProgram
            let agent: RunningProgram
            let adminPort: Int

            func stop() {
                self.agent.stop()
                self.cloud.stop()
            }
        }

        private func besieged(_ body: (Siege) async throws -> Void) async throws {
            try await Programs.withFolder { folder in
                Self.allowManyDescriptors()
                let adminPort = try freePort()
                let desk = try await Desk(in: folder)
                for program in [Desk.Program.cloud, .local] { try desk.succeed(program, "init") }
                let cloud = try desk.start(.cloud, "serve", "--set", "admin.port=\(adminPort)", "--set", "http.idle=2s")
                defer { cloud.stop() }
                try cloud.waitUntilReady()
                try await desk.eventually("people are served too") { cloud.logText.contains("people log in here") }
                try desk.succeed(.local, "join", input: try desk.run(.cloud, "branch", "add", "7", "Market Street").lastLine)
                let agent = try desk.start(.local, "run")
                defer { agent.stop() }
                try agent.waitUntilReady()
                try await body(Siege(desk: desk, cloud: cloud, agent: agent, adminPort: adminPort))
            }
        }

        private static func allowManyDescriptors() {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            limit.rlim_cur = min(limit.rlim_max, 8_192)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }

        /// Lets the branch's application write one record after another while `shape` is sent to the cloud, and waits for each of them.
        /// - Parameters:
        ///   - seconds: At least so long.
        ///   - isEnough: And until this holds of what was counted.
        ///   - mebibytes: How much more memory the cloud may take than before.
        @discardableResult
        private func withstand(
            _ name: String, _ siege: Siege, port: Int, _ shape: Attack.Shape, seconds: Double, mebibytes: Double,
            until isEnough: (Attack.Counts) -> Bool = { _ in true }
        ) async throws -> Attack.Counts {
            try await self.carry(1, siege)
            let before = siege.cloud.figures.rssMiB
            let attack = Attack(port: port, shape)
            defer { attack.end() }
            // In full swing.
            try await siege.desk.eventually("the attack has begun") { attack.counts.opened >= shape.addresses }
            let start = ContinuousClock.now
            var (worst, count) = (0.0, 1)
            while count < 20 || start.seconds < seconds || (!isEnough(attack.counts) && start.seconds < 600) {
                let began = ContinuousClock.now
                count += 1
                try await self.carry(count, siege)
                worst = max(worst, began.seconds)
            }
            let (counts, after) = (attack.counts, siege.cloud.figures.rssMiB)
            print(
                """
                attack: \(name): \(count) records arrived in \(String(format: "%.1f", start.seconds)) s, the slowest in \(String(format: "%.2f", worst)) s; \
                \(counts.opened) connections made, \(counts.peak) at a time, \(counts.closed) closed by the cloud, \
                answers \(counts.answers.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }); \
                peak memory of the cloud \(Int(before)) MiB before, \(Int(after)) MiB after
                """)
            #expect(worst < 10)
            #expect(after - before < mebibytes)
            #expect(siege.cloud.isRunning && siege.agent.isRunning)
            // Nothing of it counted against a record.
            #expect(try await siege.desk.count("branch", "select count(*) from sync_data where fail_num > 0") == 0)
            return counts
        }

        private func carry(_ number: Int, _ siege: Siege) async throws {
            try await siege.desk.insert((1, "item:\(number)", "{\"upsert\":{\"id\":\(number),\"name\":\"soap\"}}"))
            try await siege.desk.eventually("record \(number) is at the cloud") {
                try await siege.desk.count("cloud", "select count(*) from item where id = \(number)") == 1
            }
        }

        private static func request(_ path: String, _ headers: [String], body: [UInt8] = []) -> [UInt8] {
            Array(("POST \(path) HTTP/1.1\r\nHost: cloud\r\n" + headers.map { "\($0)\r\n" }.joined() + "\r\n").utf8) + body
        }

        @Test func headsThatNeverEnd() async throws {
            try await self.besieged { siege in
                let opening = Self.request("/datasync/v1/push", ["X-Slow: "]).dropLast(4)
                let shape = Attack.Shape(addresses: 40, connectionsPerAddress: 30, opening: { _ in Array(opening) }, trickle: Array("a".utf8))
                let connections = shape.addresses * shape.connectionsPerAddress
                let counts = try await self.withstand("slow heads", siege, port: siege.desk.port, shape, seconds: 8, mebibytes: 128) {
                    $0.closed > connections
                }
                // Each of them is cut off, however diligently it sends.
                #expect(counts.closed > connections)
                #expect(counts.answers[200] == nil)
            }
        }

        @Test func bodiesThatNeverEnd() async throws {
            try await self.besieged { siege in
                let opening = Self.request("/datasync/v1/push", ["Authorization: Bearer a.b.c", "Content-Length: 8000000"])
                let shape = Attack.Shape(addresses: 40, connectionsPerAddress: 20, opening: { _ in opening }, trickle: Array(" ".utf8))
                try await self.withstand("slow bodies", siege, port: siege.desk.port, shape, seconds: 8, mebibytes: 128)
                // The same, of routes that nobody may use without a login.
                let other = Self.request("/v1/records", ["Authorization: Bearer a.b.c", "Content-Length: 8000000"])
                var people = shape
                people.opening = { _ in other }
                let siege = siege
                let attack = Attack(port: siege.adminPort, people)
                defer { attack.end() }
                try await siege.desk.eventually("somebody is refused") { attack.counts.answers.values.reduce(0, +) > 0 }
                #expect(attack.counts.answers[200] == nil)
            }
        }

        /// More than the cloud has places for.
        @Test func connectionsOnWhichNothingHappens() async throws {
            try await self.besieged { siege in
                let shape = Attack.Shape(addresses: 150, connectionsPerAddress: 20)
                let counts = try await self.withstand("idle connections", siege, port: siege.desk.port, shape, seconds: 8, mebibytes: 128) {
                    $0.opened >= 2_000 && $0.closed >= 1_000
                }
                #expect(counts.opened >= 2_000)
                #expect(counts.closed >= 1_000)
            }
        }

        /// From a branch that has joined: nobody else's body is inflated.
        @Test func bodiesThatBecomeHugeWhenInflated() async throws {
            try await self.besieged { siege in
                let own = ["--set", "storage.url=sqlite:./rogue.sqlite", "--set", "identity.key_file=./rogue.key"]
                try siege.desk.succeed(.local, ["init"] + own)
                try siege.desk.succeed(.local, ["join"] + own, input: try siege.desk.run(.cloud, "branch", "add", "8", "High Street").lastLine)
                let key = try MachineKey(file: siege.desk.folder.appending(path: "rogue.key").path)
                let identity = BranchIdentity(branch: 8, key: key, cloudKey: try MachineKey.generate().publicKey)
                // Zeros: the smaller of them becomes 30 MB of 30 KB, the larger 4 GB of 4 MB.
                var requests: [[UInt8]] = []
                for mebibytes in [30, 30, 30, 4_000] {
                    let bomb = siege.desk.folder.appending(path: "bomb-\(mebibytes).gz")
                    let made = try CommandResult.of("/bin/sh", ["-c", "head -c \(mebibytes)M /dev/zero | gzip > \(bomb.path)"], in: siege.desk.folder)
                    #expect(made.status == 0)
                    let body = [UInt8](try Data(contentsOf: bomb))
                    let token = try await identity.sign(SignedRequest(path: "/v1/push", body: body, session: nil)).token
                    let headers = ["Authorization: Bearer \(token)", "Content-Encoding: gzip", "Content-Length: \(body.count)"]
                    requests.append(Self.request("/datasync/v1/push", headers, body: body))
                }
                let bombs = requests
                let shape = Attack.Shape(addresses: 4, connectionsPerAddress: 10, opening: { bombs[$0 % bombs.count] }, isRepeating: true)
                // A third of the room for bodies, and half of the eight workers with 16 MiB each; twice that, for what allocators keep.
                let counts = try await self.withstand("bombs", siege, port: siege.desk.port, shape, seconds: 8, mebibytes: 256) {
                    $0.answers[413, default: 0] > 20
                }
                #expect(counts.answers[200] == nil)
                #expect(counts.answers[413, default: 0] > 20)
            }
        }

        @Test func aFloodOfLogins() async throws {
            try await self.besieged { siege in
                let password = "seven quiet kanarienvogel"
                try siege.desk.succeed(.cloud, ["user", "add", "ada", "--role", "admin", "--password-stdin"], input: password)
                let shape = Attack.Shape(
                    addresses: 60, connectionsPerAddress: 4,
                    opening: { index in
                        let name = index.isMultiple(of: 3) ? "ada" : "nobody-\(index)-\(Int.random(in: 0..<1_000_000))"
                        let body = Array(#"{"name":"\#(name)","password":"wrong wrong wrong"}"#.utf8)
                        return Self.request("/v1/login", ["Content-Type: application/json", "Content-Length: \(body.count)"], body: body)
                    }, isRepeating: true)
                // Two hashes of 128 MiB at a time.
                let counts = try await self.withstand("logins", siege, port: siege.adminPort, shape, seconds: 15, mebibytes: 256 + 128) {
                    $0.answers[429, default: 0] + $0.answers[503, default: 0] > 0
                }
                #expect(counts.answers[200] == nil)
                #expect(counts.answers[429, default: 0] + counts.answers[503, default: 0] > 0)
                // Whoever was guessed at is kept waiting for a while; all others are let in when it is over.
                try siege.desk.succeed(.cloud, ["user", "add", "bob", "--role", "viewer", "--password-stdin"], input: password)
                var request = URLRequest(url: URL(string: "http://127.0.0.1:\(siege.adminPort)/v1/login")!)
                request.httpMethod = "POST"
                request.timeoutInterval = 600
                request.httpBody = Data(#"{"name":"bob","password":"\#(password)"}"#.utf8)
                request.setValue("application/json", forHTTPHeaderField: "content-type")
                let login = request
                // Behind those who were let wait before him.
                try await siege.desk.eventually("bob is let in") {
                    let answer = try? await URLSession.shared.data(for: login)
                    return (answer?.1 as? HTTPURLResponse)?.statusCode == 200
                }
            }
        }
    }
}
