package import ArgumentParser
import DataSync
import Foundation
import Logging

/// The options that every command has.
package struct GlobalOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: ArgumentHelp("The configuration file (or DATASYNC_CONFIG).", valueName: "path"))
    package var config: String?

    @Option(help: ArgumentHelp("Where the tables are: sqlite:PATH or mysql://user@host/database (storage.url).", valueName: "url"))
    package var storage: String?

    @Option(name: .long, help: ArgumentHelp("Another setting, such as limits.batch_records=500. May be given again.", valueName: "key=value"))
    package var set: [String] = []

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical (log.level).", valueName: "level"))
    package var logLevel: String?

    package init() {}

    /// The file that is meant: what is said, or the program's name in the working directory if that is there.
    package func path(of program: SettingKey.Program) -> String? {
        if let path = self.config ?? ProcessInfo.processInfo.environment["DATASYNC_CONFIG"] { return path }
        let standard = Self.standardPath(of: program)
        return FileManager.default.fileExists(atPath: standard) ? standard : nil
    }

    package static func standardPath(of program: SettingKey.Program) -> String { "./\(program.rawValue).yaml" }

    /// What these options say, by dotted names.
    package func overrides() throws -> [String: String] {
        var values: [String: String] = [:]
        for assignment in self.set {
            let pair = assignment.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map { String($0) }
            guard pair.count == 2 else { throw ValidationError("--set takes key=value, not '\(assignment)'") }
            values[pair[0]] = pair[1]
        }
        if let storage { values["storage.url"] = storage }
        if let logLevel { values["log.level"] = logLevel }
        return values
    }

    /// Reads the settings and begins to log as they say. Once in a process.
    /// - Parameter overrides: What flags of the command itself say.
    package func start(_ program: SettingKey.Program, overrides: [String: String?] = [:]) throws -> Settings {
        let values = try self.overrides().merging(overrides.compactMapValues { $0 }) { $1 }
        let settings = try Settings(program: program, path: self.path(of: program), overrides: values)
        let (level, format) = (try settings.logLevel(), try settings.logFormat())
        LoggingSystem.bootstrap { LineLogHandler(label: $0, format: format, level: level) }
        return settings
    }
}

/// Who runs a command, for the audit log.
package func currentActor() -> String {
    let user = ProcessInfo.processInfo.userName
    return user.isEmpty ? "uid \(getuid())" : user
}
