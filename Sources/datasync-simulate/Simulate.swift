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

    @Option(help: "How many seeds to play; 100 where no time is given either.")
    var seeds: Int?

    @Option(help: "Play until so many minutes have passed.")
    var minutes: Double?

    @Option(help: "Play every n-th seed three times, to see that it is the same run each time and whatever the clocks say; 0 for none.")
    var again: UInt64 = 50

    @Option(help: "The first seed.")
    var from: UInt64 = 0

    @Option(help: "Play every n-th seed only, so that several processes can share the work.")
    var every: UInt64 = 1

    @Flag(help: "Print all that happened.")
    var history = false

    @Flag(help: "End at the first seed that is red.")
    var stop = false

    @Flag(help: "Say which seed is played.")
    var progress = false

    @Flag(help: "Print the names of the bugs that Scripts/mutants can plant, and end.")
    var listBugs = false

    mutating func validate() throws {
        guard self.seeds ?? 1 > 0, self.every > 0, self.minutes ?? 1 > 0 else { throw ValidationError("--seeds, --minutes and --every must be positive") }
    }

    func run() throws {
        if self.listBugs { return Simulation.plantedBugs.forEach { print($0) } }
        // Sets and dictionaries are read in the same order in every process: the same seed is the same run.
        if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
            setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
            var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
            execv("/proc/self/exe", &arguments)
        }
        var (played, failures, events, faults) = (0, 0, 0, 0)
        let start = ContinuousClock.now
        let end = self.seeds ?? (self.minutes == nil ? 100 : Int(Int32.max))
        for seed in stride(from: self.from, to: self.from + UInt64(end), by: Int(self.every)) {
            if let minutes, start.duration(to: .now) >= .seconds(60 * minutes) { break }
            if self.progress {
                print("playing \(seed)")
                // It is read after this was ended, too.
                fflush(nil)
            }
            var report = try Simulation.run(seed: seed, keepsHistory: self.history)
            if self.again > 0, seed % self.again == self.again - 1 { report.violations += try Simulation.violationsOfRepetition(of: report) }
            played += 1
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
        print("simulate: seeds=\(played) failures=\(failures) events=\(events) faults=\(faults)")
        if failures > 0 { throw ExitCode(1) }
    }
}
