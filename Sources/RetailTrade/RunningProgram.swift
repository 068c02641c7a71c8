public import Foundation

/// One of the two programs, running, with what the system says of it.
public final class RunningProgram {
    /// What a process cost, from /proc.
    public struct Figures: Sendable {
        /// The peak (VmHWM).
        public var rssMiB = 0.0
        /// From exec to the line that says ready.
        public var startMilliseconds = 0.0
        public var cpuSeconds = 0.0

        public init() {}
    }

    /// The status that it exited with, or the signal that ended it.
    public enum Ending: Hashable, Sendable {
        case exit(Int32), signal(Int32)
    }

    private let process = Process()
    private let log: URL
    private let started = ContinuousClock.now
    private var startMilliseconds = 0.0

    /// - Parameters:
    ///   - environment: In addition to this process's own.
    ///   - log: A file name in `folder`; the program's standard error is appended to it.
    public init(_ path: String, _ arguments: [String], in folder: URL, log: String, environment: [String: String] = [:]) throws {
        self.log = folder.appending(path: log)
        self.process.executableURL = URL(filePath: path)
        self.process.arguments = arguments
        self.process.currentDirectoryURL = folder
        // What would print a backtrace outlives a program that is killed meanwhile, and whoever waits for the program waits for it too.
        let quiet = ["SWIFT_BACKTRACE": "enable=no"]
        self.process.environment = ProcessInfo.processInfo.environment.merging(quiet) { $1 }.merging(environment) { $1 }
        try Data().write(to: self.log)
        self.process.standardInput = FileHandle.nullDevice
        self.process.standardOutput = FileHandle.nullDevice
        self.process.standardError = try FileHandle(forWritingTo: self.log)
        try self.process.run()
    }

    public var pid: Int32 { self.process.processIdentifier }
    public var isRunning: Bool { self.process.isRunning }
    public var logText: String { (try? String(contentsOf: self.log, encoding: .utf8)) ?? "" }

    /// How it ended; nil while it runs.
    public var ending: Ending? {
        if self.process.isRunning { return nil }
        return self.process.terminationReason == .exit ? .exit(self.process.terminationStatus) : .signal(self.process.terminationStatus)
    }

    /// Stops it where it is (SIGSTOP), or has it go on (SIGCONT).
    public func freeze(_ isFrozen: Bool) {
        guard self.process.isRunning else { return }
        _ = Foundation.kill(self.process.processIdentifier, isFrozen ? SIGSTOP : SIGCONT)
    }

    /// Asks it to stop (SIGTERM) and waits.
    /// - Returns: Its exit status.
    @discardableResult
    public func stop() -> Int32 {
        if self.process.isRunning { self.process.terminate() }
        self.process.waitUntilExit()
        return self.process.terminationStatus
    }

    /// Waits until it has ended by itself.
    /// - Returns: The signal that ended it, or what it exited with.
    public func end(within seconds: Double = 600) async throws -> ProgramEnd {
        let start = ContinuousClock.now
        while self.process.isRunning {
            guard start.seconds < seconds else { throw TradeError("after \(Int(seconds)) s the program has not ended: \(self.logText.suffix(2_000))") }
            try await Task.sleep(for: .milliseconds(2))
        }
        return ProgramEnd(self.process)
    }

    public func send(_ signal: Int32) { _ = Foundation.kill(self.pid, signal) }

    /// Whether it stands still (SIGSTOP).
    public var isStopped: Bool {
        let stat = (try? String(contentsOfFile: "/proc/\(self.pid)/stat", encoding: .utf8)) ?? ""
        return stat.split(separator: ")").last?.first { $0 != " " } == "T"
    }

    /// Ends it as a power cut would (SIGKILL), and waits until it is gone.
    public func kill() {
        _ = Foundation.kill(self.process.processIdentifier, SIGKILL)
        self.process.waitUntilExit()
    }

    /// Waits for the line that says ready.
    /// - Returns: The members of the line, which must be written with `log.format: json`.
    @discardableResult
    public func waitUntilReady(within seconds: Double = 600) throws -> [String: Any] {
        while self.process.isRunning, self.started.seconds < seconds {
            for line in self.logText.split(separator: "\n") where line.contains("\"message\":\"ready\"") {
                if self.startMilliseconds == 0 { self.startMilliseconds = self.started.seconds * 1_000 }
                return (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]) ?? [:]
            }
            usleep(1_000)
        }
        throw TradeError("\(self.process.executableURL?.lastPathComponent ?? "") did not get ready: \(self.logText)")
    }

    public func readyPort() throws -> Int {
        guard let port = Int(try self.waitUntilReady()["port"] as? String ?? "") else { throw TradeError("no port in \(self.log.path)") }
        return port
    }

    /// Peak memory and processor time so far.
    public var figures: Figures {
        var figures = Figures()
        figures.startMilliseconds = self.startMilliseconds
        let status = (try? String(contentsOfFile: "/proc/\(self.pid)/status", encoding: .utf8)) ?? ""
        if let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }) {
            figures.rssMiB = (line.split(separator: " ").compactMap { Double($0) }.first ?? 0) / 1_024
        }
        let stat = (try? String(contentsOfFile: "/proc/\(self.pid)/stat", encoding: .utf8)) ?? ""
        // After the name in parentheses: utime and stime are the 12th and the 13th field, in hundredths of a second.
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        if fields.count > 12 { figures.cpuSeconds = ((Double(fields[11]) ?? 0) + (Double(fields[12]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK))) }
        return figures
    }
}

/// How a process ended.
public enum ProgramEnd: Hashable, Sendable {
    case exit(Int32)
    case signal(Int32)

    init(_ process: Process) {
        self = process.terminationReason == .uncaughtSignal ? .signal(process.terminationStatus) : .exit(process.terminationStatus)
    }
}

/// What a command that ran to its end printed, and how it ended.
public struct CommandResult: Sendable {
    public var end: ProgramEnd
    public var status: Int32
    public var output: String
    public var complaints: String

    public var lastLine: String { self.output.split(separator: "\n").last.map { String($0) } ?? "" }

    /// Runs a command to its end. What it complains of is kept in `complaints.log`, in `folder`.
    /// - Parameter input: Its standard input, which must be short.
    public static func of(
        _ path: String, _ arguments: [String], in folder: URL, environment: [String: String] = [:], input: String = ""
    ) throws -> CommandResult {
        let process = Process()
        let (standardInput, output) = (Pipe(), Pipe())
        // A file, not a second pipe: a command that fills the one while the other is read would wait for ever.
        let complaints = folder.appending(path: ".complaints-\(UUID().uuidString)")
        try Data().write(to: complaints)
        defer { try? FileManager.default.removeItem(at: complaints) }
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.currentDirectoryURL = folder
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = standardInput
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: complaints)
        try process.run()
        try? standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        try? standardInput.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let said = try Data(contentsOf: complaints)
        if !said.isEmpty { try append(said, to: folder.appending(path: "complaints.log")) }
        return CommandResult(
            end: ProgramEnd(process), status: process.terminationStatus, output: text, complaints: String(decoding: said, as: UTF8.self))
    }
}

/// Adds to a file, which is made where there is none.
public func append(_ data: Data, to file: URL) throws {
    let descriptor = open(file.path, O_WRONLY | O_APPEND | O_CREAT, 0o644)
    guard descriptor >= 0 else { throw TradeError("\(file.path) cannot be written to") }
    try FileHandle(fileDescriptor: descriptor, closeOnDealloc: true).write(contentsOf: data)
}

public struct TradeError: Error, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}

extension ContinuousClock.Instant {
    /// Since then.
    public var seconds: Double {
        let duration = self.duration(to: .now)
        return Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    }
}
