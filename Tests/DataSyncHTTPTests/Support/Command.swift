import Foundation
import Synchronization

/// A program of the machine, such as gzip or openssl.
enum Command {
    struct Failure: Error {
        var status: Int32
        var output: String
    }

    static func isThere(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// Runs it, and returns what it wrote.
    @discardableResult
    static func run(_ path: String, _ arguments: [String], input: [UInt8]? = nil) async throws -> [UInt8] {
        let folder = try TemporaryFolder()
        let (output, source) = (folder.path("output"), folder.path("input"))
        try Data(input ?? []).write(to: URL(fileURLWithPath: source))
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: source))
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        process.standardError = FileHandle.nullDevice
        let status = try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Int32, any Error>) in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        let written = [UInt8](try Data(contentsOf: URL(fileURLWithPath: output)))
        guard status == 0 else { throw Failure(status: status, output: String(decoding: written, as: UTF8.self)) }
        return written
    }
}

/// A folder that goes away with this value.
final class TemporaryFolder: Sendable {
    let url: URL

    init() throws {
        self.url = FileManager.default.temporaryDirectory.appending(path: "datasync-http-\(UUID())")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: self.url) }

    func path(_ name: String) -> String { self.url.appending(path: name).path }
}
