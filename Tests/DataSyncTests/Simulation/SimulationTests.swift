import DataSyncTesting
import Testing

/// A few seeds of the simulation on every run; `Scripts/simulate` plays as many as one likes.
@Suite struct SimulationTests {
    @Test(arguments: 0..<4) func companiesKeepTheirPromises(third: UInt64) throws {
        for seed in third * 3..<third * 3 + 3 {
            let report = try Simulation.run(seed: seed)
            #expect(report.violations == [], "replay: Scripts/simulate --seeds 1 --from \(seed)")
            #expect(report.events > 50, "seed \(seed) is a company that does nothing")
        }
    }
}
