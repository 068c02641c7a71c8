public import Foundation

/// A private MariaDB server on a socket and in a folder of its own, which can be killed and started again.
public final class MariaDBServer: @unchecked Sendable {  // started and killed by one task
    private let folder: URL
    private let options: [String]
    private var process: Process?

    /// The path must be short: a Unix socket's name has at most 107 bytes.
    public var socket: String { self.folder.appending(path: "s").path }

    /// Creates the data directory and starts the server.
    /// - Parameter folder: Where nothing is yet.
    public init(folder: URL, options: [String] = []) throws {
        self.folder = folder
        // It refuses to run as root unless it is told to.
        self.options = (geteuid() == 0 ? ["--user=root"] : []) + options
        try FileManager.default.createDirectory(at: folder.appending(path: "data"), withIntermediateDirectories: true)
        let result = try CommandResult.of(
            "/usr/bin/env",
            [
                "mariadb-install-db", "--no-defaults", "--datadir=\(folder.path)/data", "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ] + (geteuid() == 0 ? ["--user=root"] : []), in: folder)
        guard result.status == 0 else { throw TradeError("mariadb-install-db failed: \(result.output)\(result.complaints)") }
        try self.start()
    }

    /// Starts the server and waits until it answers.
    public func start() throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            [
                "mariadbd", "--no-defaults", "--datadir=\(self.folder.path)/data", "--socket=\(self.socket)", "--skip-networking",
                "--pid-file=\(self.folder.path)/pid", "--log-error=\(self.folder.path)/error.log", "--skip-log-bin",
                "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M", "--max-allowed-packet=64M", "--max-connections=300",
            ] + self.options
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
        let start = ContinuousClock.now
        while start.seconds < 60, process.isRunning {
            let ping = try CommandResult.of(
                "/usr/bin/env", ["mariadb-admin", "--no-defaults", "--socket=\(self.socket)", "-u", "root", "ping"], in: self.folder)
            if ping.status == 0 { return }
            usleep(50_000)
        }
        throw TradeError("the private MariaDB did not start: see \(self.folder.path)/error.log")
    }

    /// Ends it as a power cut would (SIGKILL).
    public func kill() {
        guard let process = self.process else { return }
        _ = Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        self.process = nil
    }

    public func stop() {
        self.process?.terminate()
        self.process?.waitUntilExit()
        self.process = nil
    }
}
