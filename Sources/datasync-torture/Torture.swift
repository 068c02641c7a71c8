import ArgumentParser
import Foundation
import RetailTrade

/// Keeps both programs and MariaDB under load, kills and cuts at random, and compares everything at the end. Run by `Scripts/torture`.
@main
struct Torture: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datasync-torture", abstract: "Kills and cuts while a company trades.")

    @Option(help: "Where the two programs are.") var programs: String
    @Option(help: "The folder with the data.") var data: String
    @Option(help: "An empty folder with a short path.") var work: String
    @Option(help: "How long, before everything may come to rest.") var minutes = 5
    @Option(help: "Decides what is killed and cut, and when; not how the processes are scheduled.") var seed: UInt64?

    func run() async throws {
        let seed = self.seed ?? UInt64.random(in: 1...1_000_000)
        print("torture: seed \(seed)")
        let siege = Siege(
            data: try RetailData(folder: URL(filePath: self.data)), folder: URL(filePath: self.work), programs: self.programs, seed: seed, killsMin: 1,
            duration: .seconds(60 * self.minutes), isCutting: true)
        let outcome = try await siege.run()
        let comparison = outcome.comparison
        for difference in (comparison.differences + comparison.doubled).prefix(20) { print(difference) }
        let lost = comparison.differences.count { $0.contains(" is missing ") } + outcome.dead
        let diverged = comparison.differences.count - comparison.differences.count { $0.contains(" is missing ") }
        print("torture: \(outcome.databaseKills) of the kills were of databases; \(comparison.rows) rows compared")
        print(
            "torture: kills=\(outcome.programKills + outcome.databaseKills) cuts=\(outcome.cuts) records=\(outcome.up + outcome.down) "
                + "lost=\(lost) doubled=\(comparison.doubled.count) diverged=\(diverged)")
        guard comparison.isEqual, outcome.dead == 0 else { throw ExitCode.failure }
    }
}
