import Foundation

/// One of the two programs, running, with what the system says of it.
final class RunningProgram {
    private let process = Process()
    private let log: URL
    private let started = ContinuousClock.now
    private var startMilliseconds = 0.0

    init(_ path: String, _ arguments: [String], in folder: URL, log: String) throws {
        self.log = folder.appending(path: log)
        try Data().write(to: self.log)
        self.process.executableURL = URL(filePath: path)
        self.process.arguments = arguments
        self.process.currentDirectoryURL = folder
        self.process.standardError = try FileHandle(forWritingTo: self.log)
        try self.process.run()
    }

    func stop() {
        self.process.terminate()
        self.process.waitUntilExit()
    }

    /// Waits for the line that says ready.
    @discardableResult
    func waitUntilReady() throws -> [String: Any] {
        while self.process.isRunning, self.started.seconds < 30 {
            let text = try String(contentsOf: self.log, encoding: .utf8)
            for line in text.split(separator: "\n") where line.contains("\"message\":\"ready\"") {
                if self.startMilliseconds == 0 { self.startMilliseconds = self.started.seconds * 1_000 }
                return (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]) ?? [:]
            }
            usleep(1_000)
        }
        throw BenchError("\(self.process.executableURL?.lastPathComponent ?? "") did not get ready: \((try? String(contentsOf: self.log, encoding: .utf8)) ?? "")")
    }

    func readyPort() throws -> Int {
        guard let port = Int(try self.waitUntilReady()["port"] as? String ?? "") else { throw BenchError("no port in \(self.log.path)") }
        return port
    }

    /// Peak memory and processor time so far, from /proc.
    var figures: Round.Program {
        let pid = self.process.processIdentifier
        var program = Round.Program(startMilliseconds: self.startMilliseconds)
        let status = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
        if let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }) {
            program.rssMiB = (line.split(separator: " ").compactMap { Double($0) }.first ?? 0) / 1_024
        }
        let stat = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
        // After the name in parentheses: utime and stime are the 12th and the 13th field, in hundredths of a second.
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        if fields.count > 12 { program.cpuSeconds = ((Double(fields[11]) ?? 0) + (Double(fields[12]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK))) }
        return program
    }

    /// Runs a command to its end and returns what it printed.
    static func output(_ path: String, _ arguments: [String], in folder: URL) throws -> String {
        let process = Process()
        let (output, errors) = (Pipe(), Pipe())
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.currentDirectoryURL = folder
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw BenchError("\(path) \(arguments.joined(separator: " ")): \(complaints)") }
        return text.split(separator: "\n").last.map { String($0) } ?? ""
    }
}
