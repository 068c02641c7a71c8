import ArgumentParser
import DataSyncTesting

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Plays simulated fleets, one for each seed, and says which of them broke a promise.
@main
struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "datasync-simulate", abstract: "Plays simulated companies under faults, each from a seed, and checks every promise.")

    @Option(help: "How many seeds to play.")
    var seeds = 100

    @Option(help: "The first seed.")
    var from: UInt64 = 0

    @Option(help: "Play every n-th seed only, so that several processes can share the work.")
    var every: UInt64 = 1

    @Flag(help: "Print all that happened.")
    var history = false

    @Flag(help: "End at the first seed that is red.")
    var stop = false

    mutating func validate() throws {
        guard self.seeds > 0, self.every > 0 else { throw ValidationError("--seeds and --every must be positive") }
    }

    func run() throws {
        // Sets and dictionaries are read in the same order in every process: the same seed is the same run.
        if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
            setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
            var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
            execv("/proc/self/exe", &arguments)
        }
        var (failures, events, faults) = (0, 0, 0)
        for seed in stride(from: self.from, to: self.from + UInt64(self.seeds), by: Int(self.every)) {
            let report = try Simulation.run(seed: seed, keepsHistory: self.history)
            events += report.events
            faults += report.faults
            for event in report.history { print(event) }
            if self.history { print("seed \(seed): digest \(String(report.digest, radix: 16)), \(report.steps) steps") }
            guard !report.isGreen else { continue }
            failures += 1
            print("seed \(seed) is red:")
            for violation in report.violations { print("    \(violation)") }
            print("replay: Scripts/simulate --seeds 1 --from \(seed)")
            if self.stop { break }
        }
        print("simulate: seeds=\(self.seeds) failures=\(failures) events=\(events) faults=\(faults)")
        if failures > 0 { throw ExitCode(1) }
    }
}
