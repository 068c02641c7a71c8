import DataSyncTesting
import Testing

/// A few seeds of the simulation on every run; `Scripts/simulate` plays as many as one likes.
@Suite struct SimulationTests {
    @Test(arguments: 0..<5) func companiesKeepTheirPromises(tenth: UInt64) throws {
        for seed in tenth * 10..<tenth * 10 + 10 {
            let report = try Simulation.run(seed: seed)
            #expect(report.violations == [], "replay: Scripts/simulate --seeds 1 --from \(seed)")
            #expect(report.events > 50, "seed \(seed) is a company that does nothing")
        }
    }
}
