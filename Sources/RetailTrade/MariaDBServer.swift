public import Foundation

/// A private MariaDB server on a socket and in a folder of its own, which can be killed and started again.
public final class MariaDBServer: @unchecked Sendable {  // used by one task, or one thread, at a time
    private let folder: URL
    private let options: [String]
    private var process: Process?
    /// What its data are on, if that can be full.
    public let disk: SmallDisk?

    public var isRunning: Bool { self.process?.isRunning ?? false }

    /// The path must be short: a Unix socket's name has at most 107 bytes.
    public var socket: String { self.folder.appending(path: "s").path }

    /// Creates the data directory and starts the server.
    /// - Parameters:
    ///   - folder: Where nothing is yet.
    ///   - diskMebibytes: The size of a ``SmallDisk`` for its data; nil for none, and none is made where nothing can be mounted.
    public init(folder: URL, options: [String] = [], diskMebibytes: Int? = nil) throws {
        self.folder = folder
        // It refuses to run as root unless it is told to.
        self.options = (geteuid() == 0 ? ["--user=root"] : []) + options
        try FileManager.default.createDirectory(at: folder.appending(path: "data"), withIntermediateDirectories: true)
        self.disk = diskMebibytes.flatMap { try? SmallDisk(at: folder.appending(path: "data"), mebibytes: $0) }
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
                "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=\(self.disk == nil ? 256 : 96)M", "--max-allowed-packet=64M", "--max-connections=300",
            ] + self.options
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
        let start = ContinuousClock.now
        while start.seconds < 600, process.isRunning {
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

    /// Copies its data, while it does not run.
    func copyData(to copy: URL) throws {
        try? FileManager.default.removeItem(at: copy)
        try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
        try self.copy(from: self.folder.appending(path: "data"), to: copy)
    }

    /// Puts a copy in the place of its data, while it does not run.
    func putBackData(from copy: URL) throws {
        let data = self.folder.appending(path: "data")
        // The folder itself may be where a disk is mounted.
        for name in try FileManager.default.contentsOfDirectory(atPath: data.path) { try FileManager.default.removeItem(at: data.appending(path: name)) }
        try self.copy(from: copy, to: data)
    }

    private func copy(from source: URL, to target: URL) throws {
        let result = try CommandResult.of("/usr/bin/env", ["cp", "-a", "\(source.path)/.", target.path], in: self.folder)
        guard result.status == 0 else { throw TradeError("the data of a database could not be copied: \(result.complaints)") }
    }

    /// Stops it where it is (SIGSTOP), or has it go on (SIGCONT).
    public func freeze(_ isFrozen: Bool) {
        guard let process = self.process, process.isRunning else { return }
        _ = Foundation.kill(process.processIdentifier, isFrozen ? SIGSTOP : SIGCONT)
    }

    /// Runs statements as somebody who may do everything.
    public func administer(_ statements: String) throws {
        let result = try CommandResult.of(
            "/usr/bin/env", ["mariadb", "--no-defaults", "--socket=\(self.socket)", "-u", "root", "-e", statements], in: self.folder)
        guard result.status == 0 else { throw TradeError("\(statements): \(result.complaints)") }
    }

    /// Begins to hold a connection as the company's applications do, for a while.
    func occupy(seconds: Double) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["mariadb", "--no-defaults", "--socket=\(self.socket)", "-u", "retail", "-e", "do sleep(\(seconds))"]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    public func stop() {
        self.process?.terminate()
        self.process?.waitUntilExit()
        self.process = nil
    }
}
