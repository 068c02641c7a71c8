import Foundation
import RetailTrade
import Testing

/// The tests that run the two programs as processes: one after the other, since each of them is many processes.
@Suite(.serialized) enum WithPrograms {}

/// Where the two programs are, and where there is real data.
enum Programs {
    /// Beside the tests: they are built together.
    static let folder = Bundle.main.bundleURL.path.hasSuffix(".xctest") ? Bundle.main.bundleURL.deletingLastPathComponent().path : Bundle.main.bundleURL.path

    static let repository = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The small set that the project carries.
    static let demoData = repository.appending(path: "Scripts/demo-data")

    /// A year of trade, which the project does not carry; `DATASYNC_TEST_DATA` says where it is.
    static let yearData = URL(
        filePath: ProcessInfo.processInfo.environment["DATASYNC_TEST_DATA"] ?? repository.appending(path: "../shared/data").path)
    static let hasYearData = FileManager.default.fileExists(atPath: yearData.appending(path: "orders.csv").path)
    static let yearHint: Comment = "SKIPPED: there is no year of trade at \(yearData.path); set DATASYNC_TEST_DATA to the folder with orders.csv"

    static let hasMariaDB = ["/usr/sbin/mariadbd", "/usr/bin/mariadbd"].contains { FileManager.default.isExecutableFile(atPath: $0) }
    static let mariaDBHint: Comment = "SKIPPED: mariadbd is not installed; Scripts/test installs it"

    /// A folder of its own with a short path, for a socket may be in it; removed when `body` ends well, else left for whoever
    /// wants to know why.
    static func withFolder<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
        let folder = URL(filePath: "/tmp/ds-\(UUID().uuidString.prefix(8).lowercased())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        let result = try await body(folder)
        // Logs, what commands said, and the files of databases.
        let secrets = try CommandResult.of(self.repository.appending(path: "Scripts/check-secrets").path, [folder.path], in: folder.deletingLastPathComponent())
        guard secrets.status == 0 else { throw TradeError("a secret was written down: \(secrets.complaints)") }
        try? FileManager.default.removeItem(at: folder)
        return result
    }
}
