import ArgumentParser
import Foundation
import RetailTrade

extension Torture {
    /// The cloud on a cluster of three nodes, which are killed, paused, left without quorum, and lost.
    func tryGalera(seed: UInt64) async throws {
        let trial = GaleraTrial(
            data: try RetailData(folder: URL(filePath: self.data)), folder: URL(filePath: self.work), programs: self.programs, seed: seed,
            recordsMin: 20_000)
        let outcome = try await trial.run()
        let comparison = outcome.comparison
        for line in (outcome.mishaps + comparison.differences + comparison.doubled).prefix(40) { print(line) }
        print(
            "galera: fences=\(outcome.fences.held)/\(outcome.fences.rounds) stale_reads=\(outcome.staleReads) doubled_requests=\(outcome.doubledRequests) "
                + "acknowledged_lost=\(outcome.acknowledgedLost) forgotten=\(outcome.forgotten) own_forgotten=\(outcome.ownForgotten.records) "
                + "own_products=\(outcome.ownForgotten.products) rows_compared=\(comparison.rows)")
        print(
            "galera: kills=\(outcome.kills) pauses=\(outcome.pauses) quorum_losses=\(outcome.quorumLosses) crashes=\(outcome.crashes) "
                + "records=\(outcome.records) lost=\(outcome.missing + outcome.dead + outcome.acknowledgedLost) doubled=\(comparison.doubled.count) "
                + "diverged=\(comparison.differences.count - outcome.missing)")
        guard outcome.isGood else { throw ExitCode.failure }
    }
}
