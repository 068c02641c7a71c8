import ArgumentParser
import DataSync
import DataSyncPrograms
import DataSyncSQL
import Foundation

extension Local {
    struct Reconcile: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compares this branch's tables with those of the cloud, and says where they differ.",
            discussion: """
                Without --from nothing is changed. With it, the present state of that side is sent to the other one for each entity that differs: \
                from the cloud to this branch alone, or from this branch to the cloud, where it is a change like any other. Exits 1 if a difference is left.
                """)
        @OptionGroup var options: GlobalOptions
        @Option(help: "Whose state the other side gets where they differ: cloud or branch.") var from: String?
        @Option(help: "Wait at most so long for the running agent.") var timeout = "10m"
        @Flag(help: "As one JSON object.") var json = false
        @Argument(help: "Business types, by name or number; without any, all.") var types: [String] = []

        func run() async throws {
            try await exiting {
                let local = try LocalProgram(try options.start(.local))
                guard let timeout = Duration(setting: timeout) else { throw ValidationError("--timeout takes a time such as 60s") }
                let repair = from.flatMap { ReconcileRepair(rawValue: $0) }
                guard from == nil || repair != nil else { throw ValidationError("--from takes 'cloud' or 'branch'") }
                let definitions = local.settings.types.map(\.definition)
                let ids = try types.map { name in
                    guard let known = definitions.first(where: { $0.name == name || "\($0.id)" == name }) else {
                        throw DataSyncError(.notFound, operation: "reconcile", detail: "there is no business type '\(name)'")
                    }
                    return known.id.rawValue
                }
                let reply = try await local.ask(
                    AgentRequest(.reconcile, types: ids, repair: repair, actor: currentActor()), timeout: timeout)
                if let error = reply.error(operation: "reconcile") { throw error }
                guard let report = reply.reconciled else {
                    throw DataSyncError(.invalidState, operation: "reconcile", detail: "the running agent is older than this command, and does not know it")
                }
                Terminal.say(try json ? Self.json(report) : Self.text(report))
                if !report.isDone { throw ExitCode(ExitStatus.failure.rawValue) }
            }
        }

        private static func json(_ report: ReconcileReport) throws -> String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(report), as: UTF8.self)
        }

        private static func text(_ report: ReconcileReport) -> String {
            guard !report.differences.isEmpty else { return report.summary }
            let names = Dictionary(report.types.map { ($0.type, $0.name) }) { first, _ in first }
            let rows = report.differences.map { difference in
                [names[difference.type] ?? "\(difference.type)", difference.entity, self.words(difference)]
            }
            let listed = Terminal.table(["TYPE", "ENTITY", "WHAT"], rows)
            let all = report.types.reduce(0) { $0 + $1.different + $1.heldUp }
            return listed + (all > rows.count ? "\n… and \(all - rows.count) more" : "") + "\n" + report.summary
        }

        private static func words(_ difference: ReconcileReport.Difference) -> String {
            let what =
                switch difference.kind {
                case .differs: "differs"
                case .onlyHere: "only here"
                case .onlyAtCloud: "only at the cloud"
                case .heldUp:
                    "a record is \(difference.held ?? "undecided") "
                        + (difference.heldAt == "here" ? "here" : "at the cloud") + (difference.memo.map { ", number \($0) of `dead list --all`" } ?? "")
                }
            return difference.isRepaired ? "\(what): sent again" : what
        }
    }
}
