import DataSync
import DataSyncPrograms
import DataSyncSQL
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// What is wrong is said, with what to do about it and the documented exit status, and nothing is lost by it.
    @Suite struct BadInputTests {
        private static func withType(_ route: String, _ table: String) -> String {
            "storage:\n  url: sqlite:./branch.sqlite\ntypes:\n  - {id: 1, name: item, priority: 1, route: \(route), tables: [\(table)]}\n"
        }

        @Test(arguments: [
            ("storage:\n  url: sqlite:./branch.sqlite\n bad indentation: [", "is not YAML"),
            ("storage:\n  urll: sqlite:./branch.sqlite\n", "unknown key 'storage.urll': is 'storage.url' meant?"),
            ("http:\n  port: 80\n", "it belongs to the other program"),
            ("storage:\n  url: postgres://x\n", "must be sqlite:PATH or mysql://user@host/database"),
            ("storage:\n  url: sqlite:./branch.sqlite\nlimits:\n  batch_records: many\n", "limits.batch_records"),
            ("storage:\n  url: sqlite:./branch.sqlite\nlimits:\n  record_bytes: 99999999\n", "record"),
            ("storage:\n  url: sqlite:./branch.sqlite\nschedule:\n  interval: soon\n", "schedule.interval"),
            ("storage:\n  url: sqlite:./branch.sqlite\nschedule:\n  watch: 0s\n", "schedule.watch is '0s', which is not a time of at least 1ms"),
            ("storage:\n  url: sqlite:./branch.sqlite\nschedule:\n  backoff: 0s\n", "schedule.backoff is '0s', which is not a time of at least 1ms"),
            ("storage:\n  url: sqlite:./branch.sqlite\nschedule:\n  backoff_max: 500ms\n", "schedule.backoff_max is '500ms', which is not at least"),
            ("storage:\n  url: sqlite:./branch.sqlite\nschedule:\n  alarm: 0s\n", "schedule.alarm is '0s', which is not a time of at least 1s"),
            ("storage:\n  url: sqlite:./branch.sqlite\nhttp:\n  deadline: 0s\n", "http.deadline is '0s', which is not a time of at least 1s"),
            ("storage:\n  url: sqlite:./branch.sqlite\nlocal:\n  trusted_proxies: [127.0.0.1, proxy.lan]\n", "local.trusted_proxies is '127.0.0.1, proxy.lan'"),
            ("storage:\n  url: sqlite:./branch.sqlite\ntypes:\n  - id: 1\n", "is missing"),
            (Self.withType("everywhere", "{table: item, key: [id], columns: [name]}"), "is none of up, origin, all"),
            (Self.withType("all", "{table: goods, key: [id], columns: [name]}"), "there is no such table"),
            (Self.withType("all", "{table: item, key: [id], columns: [title]}"), "it has no column 'title'"),
            ("- just\n- a list\n", "must be a mapping"),
        ])
        func aWrongConfigurationIsRefusedWithItsPlace(text: String, message: String) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.local, "init")
                try desk.write(text, to: "datasync-local.yaml")
                let result = try desk.run(.local, "config", "check")
                #expect(result.status == 78)
                #expect(result.complaints.contains(message), "\(result.complaints)")
                #expect(!result.complaints.contains("Error("), "an error's insides were shown: \(result.complaints)")
            }
        }

        @Test(arguments: ["0s", "500ms"])
        func aTimeWithoutWhichTheCloudWouldCloseEveryConnectionIsRefused(idle: String) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.cloud, "init")
                // `serve` reads it in the same place; accepted by mistake, it would serve and never end.
                let result = try desk.run(.cloud, "config", "check", "--set", "http.idle=\(idle)")
                #expect(result.status == 78)
                #expect(result.complaints.contains("http.idle is '\(idle)', which is not a time of at least 1s"), "\(result.complaints)")
            }
        }

        /// Passwords would be readable on the way.
        @Test(arguments: [(Desk.Program.cloud, "admin"), (.local, "local")])
        func aListenerForPeopleThatOthersReachNeedsTLS(program: Desk.Program, group: String) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(program, "init")
                for host in ["0.0.0.0", "192.0.2.1", "::", "shop.example"] {
                    let result = try desk.run(program, "config", "check", "--set", "\(group).port=8081", "--set", "\(group).host=\(host)")
                    #expect(result.status == 78)
                    #expect(result.complaints.contains("\(group).host is \(host), which others reach, and there is no TLS"), "\(result.complaints)")
                }
                #expect(try desk.run(program, "config", "check", "--set", "\(group).port=8081").status == 0)
                let half = try desk.run(program, "config", "check", "--set", "\(group).port=8081", "--set", "\(group).tls_key=x.pem")
                #expect(half.complaints.contains("belong together"), "\(half.complaints)")
            }
        }

        /// Records would be readable on the way, unless somebody says that a proxy sees to it.
        @Test func aCloudThatOthersReachNeedsTLS() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.cloud, "init")
                for host in ["0.0.0.0", "192.0.2.1", "::", "shop.example"] {
                    for command in [["config", "check"], ["serve", "--host", host]] {
                        let result = try desk.run(.cloud, command + ["--set", "http.host=\(host)"])
                        #expect(result.status == 78)
                        #expect(result.complaints.contains("http.host is \(host), which others reach, and there is no TLS"), "\(result.complaints)")
                    }
                    let proxied = try desk.run(.cloud, "config", "check", "--set", "http.host=\(host)", "--set", "http.tls_at_proxy=true")
                    #expect(proxied.status == 0, "\(proxied.complaints)")
                }
            }
        }

        /// Which of the listeners it is that cannot be had.
        @Test(arguments: [(Desk.Program.cloud, "admin", "serve"), (.local, "local", "run")])
        func aListenerForPeopleThatCannotBeHadIsNamed(program: Desk.Program, group: String, command: String) async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                let port = try freePort()
                if program == .cloud { cloud.stop() }
                defer { cloud.stop() }
                for name in ["x.pem", "y.pem"] { try desk.write("no certificate", to: name) }
                let certificate = ["--set", "\(group).tls_certificate=x.pem", "--set", "\(group).tls_key=y.pem"]
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: folder.appending(path: "y.pem").path)
                let wrong = try desk.run(program, [command, "--set", "\(group).port=\(port)"] + certificate)
                #expect(wrong.status == 78)
                #expect(wrong.complaints.contains("\(group).tls_certificate or \(group).tls_key cannot be used"), "\(wrong.complaints)")
                let taken = try desk.run(program, [command, "--set", "\(group).port=\(port)", "--set", "\(group).host=127.255.255.254.1"])
                #expect(taken.status == 78)
                #expect(taken.complaints.contains("cannot listen at 127.255.255.254.1:\(port)"), "\(taken.complaints)")
            }
        }

        /// Whoever holds the port may let go of it: a service manager starts the program again.
        @Test func aPortThatSomebodyElseHasIsWorthTryingAgain() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                let second = try desk.run(.cloud, "serve")
                #expect(second.status == 69)
                #expect(second.complaints.contains("cannot listen at 127.0.0.1:\(desk.port)"), "\(second.complaints)")
                let agent = try desk.run(.local, "run", "--set", "health.port=\(desk.port)")
                #expect(agent.status == 69)
                #expect(agent.complaints.contains("cannot listen at 127.0.0.1:\(desk.port)"), "\(agent.complaints)")
                // No wait opens a name that is nobody's.
                #expect(try desk.run(.cloud, "serve", "--host", "not a name").status == 78)
            }
        }

        @Test func aMissingFileAndAnUnknownSettingAreNamed() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let missing = try desk.run(.local, "status", "--config", "nowhere.yaml")
                #expect(missing.status == 78)
                #expect(missing.complaints.contains("nowhere.yaml cannot be read"))
                let unknown = try desk.run(.local, "status", "--set", "limits.batch=5")
                #expect(unknown.status == 78)
                #expect(unknown.complaints.contains("limits.batch"))
                #expect(try desk.run(.local, "fly").status == 64)
            }
        }

        @Test func aPasswordThatOthersCanReadIsRefused() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                try desk.write("storage:\n  url: mysql://u@localhost/d\n  password: hunter2\n", to: "datasync-local.yaml")
                try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder.appending(path: "datasync-local.yaml").path)
                let result = try desk.run(.local, "status")
                #expect(result.status == 78)
                #expect(result.complaints.contains("chmod 600"))
                #expect(!result.complaints.contains("hunter2"))
            }
        }

        @Test func noTextShowsThePasswordThatIsSet() async throws {
            try await Programs.withFolder { folder in
                let path = folder.appending(path: "datasync-local.yaml").path
                let text = Data("storage:\n  url: mysql://u@localhost/d\n  password: hunter2\n".utf8)
                #expect(FileManager.default.createFile(atPath: path, contents: text, attributes: [.posixPermissions: 0o600]))
                let settings = try Settings(program: .local, path: path, overrides: [:])
                let storage = try settings.storage()
                var dumped = ""
                dump((settings, storage), to: &dumped)
                #expect(dumped.contains("datasync-local.yaml"))
                for shown in [dumped, "\(settings)", String(reflecting: settings), "\(storage)", storage.database.name] { #expect(!shown.contains("hunter2")) }
            }
        }

        @Test func aDatabaseURLIsNotRepeated() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let result = try desk.run(.local, "status", "--storage", "postgres://u:hunter2@localhost/d")
                #expect(result.status == 78)
                #expect(result.complaints.contains("mysql://user@host/database"))
                #expect(!result.complaints.contains("hunter2"))
            }
        }

        @Test func beforeInitAndBeforeJoinWhatIsMissingIsSaid() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let bare = try desk.run(.local, "status")
                #expect(bare.status == 78)
                #expect(bare.complaints.contains("run init"))
                _ = try desk.run(.local, "init")
                let alone = try desk.run(.local, "run")
                #expect(alone.status == 78)
                #expect(alone.complaints.contains("datasync-local join"))
                // Idempotent.
                #expect(try desk.run(.local, "init").status == 0)
            }
        }

        @Test func aDatabaseOfANewerVersionIsRefused() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                _ = try desk.run(.local, "init")
                try await desk.database("branch") { _ = try await $0.execute("update sync_config set value = '99' where name = 'schema.version'", []) }
                #expect(try await desk.count("branch", "select count(*) from sync_config where value = '99'") == 1)
                for arguments in [["init"], ["status"], ["run"]] {
                    let result = try CommandResult.of("\(Programs.folder)/datasync-local", arguments, in: folder)
                    #expect(result.status == 78)
                    #expect(result.complaints.contains("install the newer one"), "\(arguments): \(result.complaints)")
                }
            }
        }

        @Test func aDatabaseThatIsDownIsSaidToBe() async throws {
            try await Programs.withFolder { folder in
                _ = try await Desk(in: folder, branchURL: "mysql://root@localhost/shop?socket=\(folder.path)/none")
                for arguments in [["init"], ["status"], ["run"]] {
                    let result = try CommandResult.of("\(Programs.folder)/datasync-local", arguments, in: folder)
                    #expect(result.status == 69, "\(arguments): \(result.status) \(result.complaints)")
                    #expect(result.complaints.contains("cannot be reached") || result.complaints.contains("connect"), "\(result.complaints)")
                }
            }
        }

        @Test func aCloudThatCannotBeReachedCostsNothing() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                try desk.open().stop()
                #expect(try desk.run(.local, "put", "--type", "item", "--key", "item:1", input: "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}").status == 0)
                let sync = try desk.run(.local, "sync")
                #expect(sync.status == 69, "\(sync.complaints)")
                #expect(sync.complaints.contains("127.0.0.1:\(desk.port)"), "\(sync.complaints)")
                let cloud = try desk.start(.cloud, "serve", log: "again.log")
                defer { cloud.stop() }
                try cloud.waitUntilReady()
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try await desk.count("cloud", "select count(*) from item where name = 'soap'") == 1)
            }
        }

        @Test func anotherKeyIsRefusedAndNothingMoves() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                _ = try desk.run(.local, "put", "--type", "item", "--key", "item:1", input: "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}")
                let key = folder.appending(path: "datasync.key")
                let own = try Data(contentsOf: key)
                // A key made for another branch.
                try await Programs.withFolder { other in
                    let stranger = try await Desk(in: other)
                    try stranger.open().stop()
                    try FileManager.default.removeItem(at: key)
                    try FileManager.default.copyItem(at: other.appending(path: "datasync.key"), to: key)
                }
                let sync = try desk.run(.local, "sync")
                #expect(sync.status == 77 || sync.status == 69, "\(sync.status)")
                #expect(!sync.complaints.isEmpty)
                #expect(try await desk.count("cloud", "select count(*) from item") == 0)
                try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key.path)
                let open = try desk.run(.local, "sync")
                #expect(open.status == 78)
                #expect(open.complaints.contains("chmod 600"), "\(open.complaints)")
                try own.write(to: key)
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: key.path)
                #expect(try desk.run(.local, "sync").status == 0)
                #expect(try await desk.count("cloud", "select count(*) from item") == 1)
            }
        }

        @Test func whatPutRefusesIsNotInTheOutbox() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder, limits: ["record_bytes: 2000", "batch_bytes: 100000", "chunk_bytes: 50000"])
                let cloud = try desk.open()
                defer { cloud.stop() }
                let cases: [(type: String, key: String, payload: String, message: String)] = [
                    ("item", "item:1", "this is not JSON", "an object was expected"),
                    ("item", "item:1", "{\"upsert\":{\"id\":1}}", "name"),
                    ("item", "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\",\"secret\":\"s3cr3t\"}}", "secret"),
                    ("item", "item:2", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}", "name another entity than --key"),
                    ("item", "item:1", "{\"upsert\":{\"id\":1,\"name\":\"\(String(repeating: "x", count: 3_000))\"}}", "2000"),
                    ("unheard-of", "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}", "unheard-of"),
                ]
                for (type, key, payload, message) in cases {
                    let result = try desk.run(.local, "put", "--type", type, "--key", key, input: payload)
                    #expect(result.status == 65 || result.status == 66, "\(payload.prefix(40)): \(result.status)")
                    #expect(result.complaints.contains(message), "\(result.complaints)")
                    #expect(!result.complaints.contains("s3cr3t"))
                }
                #expect(try await desk.count("branch", "select count(*) from sync_data") == 0)
                // An application that inserts too much by itself is refused by the table.
                await #expect(throws: SQLError.self) {
                    try await desk.insert((1, "item:1", String(repeating: "x", count: 3_000)))
                }
            }
        }

        @Test func recordsThatNobodyChecksHarmOnlyThemselves() async throws {
            try await Programs.withFolder { folder in
                let desk = try await Desk(in: folder)
                let cloud = try desk.open()
                defer { cloud.stop() }
                let agent = try desk.start(.local, "run")
                defer { agent.stop() }
                try agent.waitUntilReady()
                try await desk.insert(
                    (1, "item:1", "{\"upsert\":{\"id\":1,\"name\":\"soap\"}}"), (1, "item:2", "not JSON, secret s3cr3t"),
                    (1, "item:3", "{\"upsert\":{\"id\":3,\"name\":\"a name of more than twenty characters\"}}"),
                    (1, "item:4", "{\"upsert\":{\"id\":5,\"name\":\"another's key\"}}"), (99, "thing:1", "{}"),
                    (1, "item:6", "{\"upsert\":{\"id\":6,\"name\":\"tea\"}}"))
                try await desk.eventually("three records are dead at the branch's row") {
                    try await desk.count("branch", "select count(*) from sync_data where fail_num = 3") == 3
                }
                #expect(try await desk.count("cloud", "select count(*) from item") == 2)
                // What the cloud does not know stays here, visibly, and is tried again when it does.
                #expect(try await desk.count("branch", "select count(*) from sync_data where business_type = 99 and state = 0 and fail_num = 0") == 1)
                let status = try desk.run(.local, "status")
                #expect(status.output.contains("99"), "\(status.output)")
                let dead = try desk.run(.cloud, "dead", "list")
                for name in ["item:2", "item:3", "item:4"] { #expect(dead.output.contains(name)) }
                for text in [dead.output, status.output, agent.logText, cloud.logText] { #expect(!text.contains("s3cr3t")) }
            }
        }

        /// A file system that is full for a while: the cloud says so, counts nothing, and goes on when there is room again.
        @Test(.enabled(if: geteuid() == 0, "SKIPPED: only root may mount a small file system"))
        func aFullDiskIsTheSystemsFault() async throws {
            try await Programs.withFolder { folder in
                let mount = folder.appending(path: "small")
                try FileManager.default.createDirectory(at: mount, withIntermediateDirectories: true)
                let mounted = try CommandResult.of("/usr/bin/env", ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount.path], in: folder)
                guard mounted.status == 0 else {
                    print("aFullDiskIsTheSystemsFault: SKIPPED, nothing can be mounted here: \(mounted.complaints)")
                    return
                }
                defer { _ = try? CommandResult.of("/usr/bin/env", ["umount", "-l", mount.path], in: folder) }
                let desk = try await Desk(in: folder)
                _ = try desk.run(.cloud, "init")
                for suffix in ["", "-wal", "-shm"] where FileManager.default.fileExists(atPath: folder.appending(path: "cloud.sqlite\(suffix)").path) {
                    try FileManager.default.moveItem(
                        at: folder.appending(path: "cloud.sqlite\(suffix)"), to: mount.appending(path: "cloud.sqlite\(suffix)"))
                }
                try FileManager.default.createSymbolicLink(
                    at: folder.appending(path: "cloud.sqlite"), withDestinationURL: mount.appending(path: "cloud.sqlite"))
                let cloud = try desk.open()
                defer { cloud.stop() }
                let filler = mount.appending(path: "filler")
                _ = try CommandResult.of("/usr/bin/env", ["dd", "if=/dev/zero", "of=\(filler.path)", "bs=4k"], in: folder)
                try await desk.database("branch") { connection in
                    for id in 1...200 {
                        _ = try await connection.execute(
                            "insert into sync_data (business_type, data_from_detail, data_detail) values (1, ?, ?)",
                            [.text("item:\(id)"), .text("{\"upsert\":{\"id\":\(id),\"name\":\"soap\"}}")])
                    }
                }
                let full = try desk.run(.local, "sync")
                #expect(full.status != 0 || full.output.contains("stopped"), "\(full.output) \(full.complaints)")
                #expect(try await desk.count("branch", "select count(*) from sync_data where fail_num > 0") == 0)
                try FileManager.default.removeItem(at: filler)
                try await desk.eventually("everything arrives when there is room") {
                    _ = try desk.run(.local, "sync")
                    return try await desk.count("cloud", "select count(*) from item") == 200
                }
                #expect(try await desk.count("branch", "select count(*) from sync_data where fail_num > 0") == 0)
            }
        }
    }
}
