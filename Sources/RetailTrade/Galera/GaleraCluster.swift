import Foundation

/// One node of a ``GaleraCluster``: a private MariaDB server in a folder of its own.
final class GaleraNode: @unchecked Sendable {  // used by one task, or one thread, at a time
    let number: Int
    let folder: URL
    fileprivate let port: Int
    private let receivers: (increments: Int, snapshots: Int)
    private var process: Process?

    fileprivate init(number: Int, in parent: URL) throws {
        self.number = number
        self.folder = parent.appending(path: "n\(number)")
        self.port = try freePort()
        self.receivers = (try freePort(), try freePort())
        try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
    }

    /// The path must be short: a Unix socket's name has at most 107 bytes.
    var socket: String { self.folder.appending(path: "s").path }
    var data: URL { self.folder.appending(path: "data") }
    var isRunning: Bool { self.process?.isRunning ?? false }
    private var log: URL { self.folder.appending(path: "error.log") }

    private func arguments(_ cluster: GaleraCluster) -> [String] {
        let options = [
            "base_port=\(self.port)", "gmcast.listen_addr=tcp://127.0.0.1:\(self.port)", "ist.recv_addr=127.0.0.1:\(self.receivers.increments)",
            "gcache.size=128M",
        ]
        return [
            "mariadbd", "--no-defaults", "--datadir=\(self.data.path)", "--socket=\(self.socket)", "--skip-networking",
            "--pid-file=\(self.folder.path)/pid", "--skip-log-bin", "--binlog-format=ROW",
            // Replication counts as a binary log: the business's triggers would need an account that may do everything.
            "--log-bin-trust-function-creators=1", "--innodb-autoinc-lock-mode=2",
            "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M", "--max-allowed-packet=64M", "--max-connections=300", "--wsrep-on=ON",
            "--wsrep-provider=\(GaleraCluster.library)", "--wsrep-cluster-name=retail", "--wsrep-node-name=n\(self.number)",
            "--wsrep-node-address=127.0.0.1", "--wsrep-cluster-address=\(cluster.address)", "--wsrep-provider-options=\(options.joined(separator: ";"))",
            "--wsrep-sst-method=rsync", "--wsrep-sst-receive-address=127.0.0.1:\(self.receivers.snapshots)",
        ] + GaleraCluster.userOptions
    }

    /// Starts the server.
    /// - Parameters:
    ///   - position: How far its data are, where it was killed: only what came since is sent to it.
    ///   - isFirst: Whether it begins a cluster, which the others join.
    fileprivate func start(in cluster: GaleraCluster, at position: GaleraPosition? = nil, isFirst: Bool = false) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            self.arguments(cluster) + ["--log-error=\(self.log.path)"] + (isFirst ? ["--wsrep-new-cluster"] : [])
            + (position.map { ["--wsrep-start-position=\($0.text)"] } ?? [])
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
    }

    /// Whether the server is in step with a cluster of so many nodes.
    fileprivate func isSynced(with count: Int) -> Bool {
        self.status("wsrep_local_state_comment") == "Synced" && self.status("wsrep_ready") == "ON" && self.status("wsrep_cluster_size") == "\(count)"
    }

    fileprivate func wait(_ what: String, until isSo: () -> Bool) throws {
        let start = ContinuousClock.now
        while !isSo() {
            guard self.isRunning, start.seconds < 120 else { throw TradeError("node \(self.number) is not \(what): see \(self.log.path)") }
            usleep(200_000)
        }
    }

    /// A status variable; nil where the server does not answer.
    func status(_ name: String) -> String? {
        guard self.isRunning, let result = try? self.client("show status like '\(name)'"), result.status == 0 else { return nil }
        return result.lastLine.split(separator: "\t").last.map { String($0) }
    }

    /// Runs statements as somebody who may do everything.
    fileprivate func administer(_ statements: String) throws {
        let result = try self.client(statements)
        guard result.status == 0 else { throw TradeError("\(statements): \(result.complaints)") }
    }

    private func client(_ statements: String) throws -> CommandResult {
        try CommandResult.of(
            "/usr/bin/env", ["mariadb", "--no-defaults", "--socket=\(self.socket)", "-u", "root", "--connect-timeout=5", "-N", "-e", statements],
            in: self.folder)
    }

    /// Ends it as a power cut would (SIGKILL).
    fileprivate func kill() {
        guard let process = self.process else { return }
        _ = Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        self.process = nil
    }

    /// Stops it where it is (SIGSTOP), or has it go on (SIGCONT).
    fileprivate func freeze(_ isFrozen: Bool) {
        guard let process = self.process, process.isRunning else { return }
        _ = Foundation.kill(process.processIdentifier, isFrozen ? SIGSTOP : SIGCONT)
    }

    fileprivate func stop() {
        guard let process = self.process else { return }
        _ = Foundation.kill(process.processIdentifier, SIGCONT)
        process.terminate()
        let start = ContinuousClock.now
        while process.isRunning, start.seconds < 20 { usleep(20_000) }
        self.kill()
    }

    /// How far the data of a node are that was killed.
    fileprivate func position(in cluster: GaleraCluster) throws -> GaleraPosition {
        let log = self.folder.appending(path: "recover.log")
        try? FileManager.default.removeItem(at: log)
        let result = try CommandResult.of(
            "/usr/bin/env", self.arguments(cluster) + ["--log-error=\(log.path)", "--wsrep-recover"], in: self.folder)
        let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
        guard let found = text.ranges(of: "Recovered position: ").last,
            let position = GaleraPosition(String(text[found.upperBound...].prefix { !$0.isWhitespace }))
        else { throw TradeError("node \(self.number) cannot say how far it is, and ended with \(result.status): see \(log.path)") }
        return position
    }
}

/// How far a node has got: a history, and a place in it.
struct GaleraPosition: Comparable, Sendable {
    var history: String
    var place: Int

    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let place = Int(text[text.index(after: colon)...]) else { return nil }
        self.history = String(text[..<colon])
        self.place = place
    }

    var text: String { "\(self.history):\(self.place)" }

    static func < (left: Self, right: Self) -> Bool { left.place < right.place }
}

/// Three MariaDB servers that are one Galera cluster, on the loopback interface, which can be killed, stopped and put back to older data.
///
/// Linux only, with Debian's packages `mariadb-server`, `galera-4` and `rsync`. Root runs the servers as the user `mysql`, who must be able to
/// get to the folder: their `rsync` refuses to write as root.
final class GaleraCluster: @unchecked Sendable {  // used by one task, or one thread, at a time
    let nodes: [GaleraNode]
    private let folder: URL

    static let library = "/usr/lib/galera/libgalera_smm.so"
    fileprivate static var userOptions: [String] { geteuid() == 0 ? ["--user=mysql"] : [] }
    fileprivate var address: String { "gcomm://" + self.nodes.map { "127.0.0.1:\($0.port)" }.joined(separator: ",") }

    /// Creates the data directory once, so that nobody has to be sent all of it, and starts all nodes.
    init(folder: URL) throws {
        self.folder = folder
        self.nodes = try (1...3).map { try GaleraNode(number: $0, in: folder) }
        let first = self.nodes[0]
        try FileManager.default.createDirectory(at: first.data, withIntermediateDirectories: true)
        try self.handOver()
        let result = try CommandResult.of(
            "/usr/bin/env",
            ["mariadb-install-db", "--no-defaults", "--datadir=\(first.data.path)", "--auth-root-authentication-method=normal", "--skip-test-db"]
                + Self.userOptions, in: folder)
        guard result.status == 0 else { throw TradeError("mariadb-install-db failed: \(result.output)\(result.complaints)") }
        try first.start(in: self, isFirst: true)
        try self.waitUntilSynced()
        first.stop()
        for node in self.nodes.dropFirst() { try self.copy(first.data, to: node.data) }
        try self.start(from: first, at: [:])
    }

    /// Starts `first` as a cluster of its own, and the others, which join it.
    private func start(from first: GaleraNode, at positions: [Int: GaleraPosition]) throws {
        try self.begin(with: first, at: positions[first.number])
        let others = self.nodes.filter { $0 !== first }
        for node in others { try node.start(in: self, at: positions[node.number]) }
        try self.waitUntilSynced()
    }

    /// Waits until all nodes that run are one cluster. All are asked: one that was paused may not have noticed yet that it was left behind, and
    /// another not yet that it is back.
    private func waitUntilSynced() throws {
        for node in self.nodes where node.isRunning {
            try node.wait("in step with the others") { node.isSynced(with: self.nodes.count { $0.isRunning }) }
        }
    }

    /// Whoever runs the servers owns the folders.
    private func handOver() throws {
        guard geteuid() == 0 else { return }
        let result = try CommandResult.of("/usr/bin/env", ["chown", "-R", "mysql", self.folder.path], in: URL(filePath: "/"))
        guard result.status == 0 else { throw TradeError("the folder cannot be given to mysql: \(result.complaints)") }
    }

    private func copy(_ source: URL, to target: URL) throws {
        try? FileManager.default.removeItem(at: target)
        let result = try CommandResult.of("/usr/bin/env", ["cp", "-a", source.path, target.path], in: URL(filePath: "/"))
        guard result.status == 0 else { throw TradeError("\(source.path) cannot be copied: \(result.complaints)") }
        // What was sent last, and which cluster this was of: neither is of the copy.
        for name in ["galera.cache", "gvwstate.dat"] { try? FileManager.default.removeItem(at: target.appending(path: name)) }
    }

    // MARK: - What is done to nodes

    /// Ends a node as a power cut would.
    func kill(_ node: GaleraNode) { node.kill() }

    /// Starts a node that was killed; it gets from the others what it has missed.
    func rejoin(_ node: GaleraNode) throws {
        try node.start(in: self, at: try node.position(in: self))
        try self.waitUntilSynced()
    }

    /// Stops a node where it is for so long that the others go on without it; it joins them again by itself.
    func pause(_ node: GaleraNode, seconds: Double) throws {
        node.freeze(true)
        Thread.sleep(forTimeInterval: seconds)
        node.freeze(false)
        do { try self.waitUntilSynced() } catch {
            // Nodes that cannot find their place again end.
            guard !node.isRunning else { throw error }
            try self.rejoin(node)
        }
    }

    /// Kills all nodes but one, which has no quorum then and refuses everything, for so long.
    func loseQuorum(leaving survivor: GaleraNode, seconds: Double) throws {
        for node in self.nodes where node !== survivor { node.kill() }
        try survivor.wait("without quorum") { survivor.status("wsrep_cluster_status").map { $0 != "Primary" } ?? false }
        Thread.sleep(forTimeInterval: seconds)
        // What an operator does who knows that the others are gone.
        try survivor.administer("set global wsrep_provider_options = 'pc.bootstrap=YES'")
        try self.waitUntilSynced()
        for node in self.nodes where node !== survivor { try self.rejoin(node) }
    }

    /// Ends all nodes at once.
    func killAll() { for node in self.nodes { node.kill() } }

    /// Of a cluster whose nodes were all killed, the node that has most, and how far each is.
    func mostAdvanced() throws -> (node: GaleraNode, positions: [Int: GaleraPosition]) {
        var positions: [Int: GaleraPosition] = [:]
        for node in self.nodes { positions[node.number] = try node.position(in: self) }
        guard let best = positions.max(by: { $0.value < $1.value }) else { throw TradeError("a cluster without nodes") }
        return (self.nodes[best.key - 1], positions)
    }

    /// Starts one node as a cluster of its own, after all were killed.
    func begin(with node: GaleraNode, at position: GaleraPosition?) throws {
        let state = node.data.appending(path: "grastate.dat")
        let text = try String(contentsOf: state, encoding: .utf8).replacing("safe_to_bootstrap: 0", with: "safe_to_bootstrap: 1")
        try text.write(to: state, atomically: false, encoding: .utf8)
        try node.start(in: self, at: position, isFirst: true)
        try self.waitUntilSynced()
    }

    /// Copies the data of a node that was killed.
    func keep(_ node: GaleraNode, at copy: URL) throws { try self.copy(node.data, to: copy) }

    /// Puts all nodes back to a copy of one, and starts them as a new cluster.
    func restore(_ copy: URL) throws {
        for node in self.nodes {
            node.kill()
            try self.copy(copy, to: node.data)
        }
        let (first, positions) = try self.mostAdvanced()
        try self.start(from: first, at: positions)
    }

    /// Ends all nodes in good order.
    func stop() { for node in self.nodes { node.stop() } }
}
