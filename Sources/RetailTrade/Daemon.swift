public import Foundation

/// A program that runs until it is stopped or killed, and can be started again as often as one likes.
public final class Daemon: @unchecked Sendable {  // used by one task, or one thread, at a time
    private let executable: String
    private let arguments: [String]
    private let folder: URL
    /// Begins the names of its logs: each run has one.
    private let name: String
    private var runs = 0
    public private(set) var program: RunningProgram?

    public init(_ executable: String, _ arguments: [String], in folder: URL, name: String) {
        self.executable = executable
        self.arguments = arguments
        self.folder = folder
        self.name = name
    }

    public func start(_ more: [String] = [], environment: [String: String] = [:]) throws {
        self.runs += 1
        self.program = try RunningProgram(
            self.executable, self.arguments + more, in: self.folder, log: "\(self.name)\(self.runs).log", environment: environment)
    }

    @discardableResult
    public func stop() -> Int32 {
        defer { self.program = nil }
        return self.program?.stop() ?? 0
    }

    /// Ends it as a power cut would (SIGKILL).
    public func kill() {
        self.program?.kill()
        self.program = nil
    }
}
