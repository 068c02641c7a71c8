import ArgumentParser
import DataSync
import Foundation
import RetailTrade

/// Keeps both programs and MariaDB under load while everything fails at random, and compares everything at the end. Run by `Scripts/torture`.
@main
struct Torture: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datasync-torture", abstract: "Everything fails while a company trades.")

    @Option(help: "Where the two programs are.") var programs: String
    @Option(help: "The folder with the data.") var data: String
    @Option(help: "An empty folder with a short path.") var work: String
    @Option(help: "How long, before everything may come to rest.") var minutes = 5
    @Flag(help: "Databases are not put back to copies.") var withoutRestores = false
    @Option(help: "Decides what fails, and when; not how the processes are scheduled.") var seed: UInt64?
    @Flag(help: "The cloud on a Galera cluster of three nodes, for as long as that takes; --minutes does not count.") var galera = false

    func run() async throws {
        // With its detail: what goes wrong here is nobody's secret.
        do { try await self.play() } catch let error as DataSyncError { throw TradeError(String(reflecting: error)) }
    }

    private func play() async throws {
        let seed = self.seed ?? UInt64.random(in: 1...1_000_000)
        print("torture: seed \(seed)")
        if self.galera { return try await self.tryGalera(seed: seed) }
        let siege = Siege(
            data: try RetailData(folder: URL(filePath: self.data)), folder: URL(filePath: self.work), programs: self.programs, seed: seed, killsMin: 1,
            duration: .seconds(60 * self.minutes), means: .everything, isRestoring: !self.withoutRestores)
        let outcome = try await siege.run()
        let comparison = outcome.comparison
        for line in (outcome.mishaps + comparison.differences + comparison.doubled).prefix(40) { print(line) }
        let missing = comparison.differences.count { $0.contains(" is missing ") }
        print("torture: \(outcome.kinds) gone=\(outcome.gone) lost_and_back=\(outcome.lostAndBack) rows_compared=\(comparison.rows)")
        print(
            "torture: kills=\(outcome.programKills + outcome.databaseKills) cuts=\(outcome.cuts) records=\(outcome.up + outcome.down) "
                + "lost=\(missing + outcome.dead) doubled=\(comparison.doubled.count) diverged=\(comparison.differences.count - missing)")
        guard comparison.isEqual, outcome.dead == 0, outcome.mishaps.isEmpty else { throw ExitCode.failure }
    }
}
