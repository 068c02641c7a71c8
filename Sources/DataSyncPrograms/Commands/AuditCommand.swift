package import ArgumentParser
import DataSync
import DataSyncSQL
import DataSyncServer
import Foundation

/// `audit`, of both programs: each database has a chain of its own.
package struct AuditCommand<Choice: ProgramChoice>: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "audit", abstract: "What people decided, and what befell identities: lists it, and finds out whether it was changed.",
            subcommands: [List.self, Verify.self])
    }

    package init() {}

    package struct List: AsyncParsableCommand {
        package static var configuration: CommandConfiguration { CommandConfiguration(commandName: "list", abstract: "Lists the latest lines.") }
        @OptionGroup var options: GlobalOptions
        @Flag(help: "One JSON object a line.") var json = false
        @Option(help: "So many, or with --after at most so many.") var limit = 100
        @Option(help: ArgumentHelp("From the line that follows this one on.", valueName: "line")) var after: Int64?

        package init() {}

        package func validate() throws {
            guard (1...1_000_000).contains(self.limit) else { throw ValidationError("--limit takes a number from 1 to 1000000") }
        }

        package func run() async throws {
            try await exiting {
                let storage = try self.options.start(Choice.program).storage()
                try await storage.checkSchema()
                var last: Int64
                if let after = self.after {
                    last = after
                } else {
                    last = max(0, (try await storage.withTransaction(.snapshot) { try await $0.auditHead() }?.sequence ?? 0) - Int64(self.limit))
                }
                var left = self.limit
                while left > 0 {
                    let (from, count) = (last, min(left, 500))
                    let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: from, limit: count) }
                    for row in rows { Terminal.say(self.json ? AuditLines.json(row) : AuditLines.text(row)) }
                    left -= rows.count
                    guard rows.count == count, let end = rows.last else { break }
                    last = end.sequence
                }
            }
        }
    }

    package struct Verify: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(
                commandName: "verify", abstract: "Goes through all lines, and names the first that is not as it was written.",
                discussion: """
                    What it prints at the end is the head of the chain. Whoever may write the database can write the whole chain anew; noted \
                    elsewhere, and given with --noted the next time, the head shows that too.
                    """)
        }
        @OptionGroup var options: GlobalOptions
        @Option(help: ArgumentHelp("A head that an earlier run printed.", valueName: "line:digest")) var noted: String?

        package init() {}

        package func run() async throws {
            try await exiting {
                let noted = self.noted.map { AuditHead($0) }
                if let noted, noted == nil {
                    throw DataSyncError(
                        .invalidInput, operation: "audit", detail: "--noted takes what an earlier `audit verify` printed, such as 17:4be0…, whole")
                }
                let storage = try self.options.start(Choice.program).storage()
                try await storage.checkSchema()
                let verdict = try await storage.verifyAudit(noted: noted ?? nil)
                guard let head = verdict.head else {
                    throw DataSyncError(
                        .invalidState, operation: "audit",
                        detail: "the audit is not as it was written: \(verdict.fault?.description ?? ""); lines 1 to \(verdict.intact) are intact")
                }
                Terminal.say("the audit is as it was written: \(verdict.intact) lines, head \(head)")
            }
        }
    }
}

private enum AuditLines {
    static func time(_ milliseconds: Int64) -> String {
        Date(timeIntervalSince1970: Double(milliseconds) / 1_000).formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    static func text(_ row: AuditRow) -> String {
        "\(row.sequence)  \(self.time(row.entry.time))  \(row.entry.actor)  \(row.entry.action)  \(row.entry.subject)"
    }

    static func json(_ row: AuditRow) -> String {
        var writer = JSONWriter()
        row.write(to: &writer)
        return writer.text
    }
}
