import DataSync

/// What one seed came to.
public struct SimulationReport: Sendable {
    public var seed: UInt64
    public var violations: [HistoryChecker.Violation]
    public var events: Int
    public var faults: Int
    public var steps: Int
    /// Of every choice that was made: the same for the same seed and the same code.
    public var digest: UInt64
    public var history: [SimulationEvent]
    /// What every server holds at the end.
    public var rest: SimulatedRest

    public init(
        seed: UInt64, violations: [HistoryChecker.Violation], events: Int, faults: Int, steps: Int, digest: UInt64, history: [SimulationEvent],
        rest: SimulatedRest
    ) {
        self.seed = seed
        self.violations = violations
        self.events = events
        self.faults = faults
        self.steps = steps
        self.digest = digest
        self.history = history
        self.rest = rest
    }

    public var isGreen: Bool { self.violations.isEmpty }
}

/// Plays a fleet from a seed: first things go wrong, then everything heals, and then it must come to rest and keep every promise.
public enum Simulation {
    /// What `Scripts/mutants` plants, by name.
    public static var plantedBugs: [String] { PlantedBug.allCases.map(\.rawValue) }

    /// - Parameters:
    ///   - keepsHistory: Whether the report holds all that happened.
    ///   - clockShift: What all clocks are off by, besides what the seed says, in milliseconds.
    public static func run(seed: UInt64, keepsHistory: Bool = false, clockShift: Int64 = 0) throws -> SimulationReport {
        let executor = SimulatedExecutor(seed: seed)
        let log = SimulationLog()
        let plan = SimulationPlan(using: executor)
        let fleet = try SimulatedFleet(executor: executor, plan: plan, log: log, clockShift: clockShift)
        var checker = HistoryChecker(SimulatedType.definitions, plan.limits)
        fleet.disturb()
        // In every fourth company a database is put back to a backup, or two are, or a branch's machine is copied.
        let misfortunes = SimulatedFleet.Misfortune.allCases
        if seed % 4 == 3 { fleet.plan(misfortunes[Int(seed / 4) % misfortunes.count]) }
        executor.run(stepsMax: 2_000_000) { executor.now >= plan.faultTime }
        fleet.heal()
        var unfinished: [String] = []
        // Waits after failures take up to five minutes, and a late copy of a request up to two.
        let lastMoment = executor.now + 1_500_000_000
        var isAtRest = false
        while !isAtRest, executor.now < lastMoment {
            let next = executor.now + 1_000_000
            executor.run(stepsMax: 1_000_000) { executor.now >= next }
            fleet.keepRunning()
            unfinished = fleet.unfinished()
            isAtRest = unfinished.isEmpty
        }
        fleet.isAtRest = isAtRest
        if isAtRest {
            Self.checkQuiet(fleet, &checker)
            Self.checkComparisons(fleet, &checker)
        } else {
            for what in unfinished { checker.add(HistoryChecker.Violation(.liveness, what)) }
        }
        if var restores = fleet.restoreChecker() {
            // Numbers, places and effects begin anew where a database does, so what counts is what is there in the end.
            if isAtRest { restores.check() }
            var clones = CloneChecker()
            for event in log.events { clones.take(event) }
            for violation in restores.violations + clones.violations { checker.add(violation) }
        } else {
            for event in log.events { checker.take(event) }
            if isAtRest { checker.finish(fleet.rest) }
        }
        let report = SimulationReport(
            seed: seed, violations: checker.violations, events: log.events.count, faults: log.faults, steps: executor.steps,
            digest: executor.digest, history: keepsHistory ? log.events : [], rest: fleet.rest)
        fleet.end()
        return report
    }

    /// Plays a seed twice more: as it is, and with all clocks ten years ahead. Both times the same must happen.
    public static func violationsOfRepetition(of report: SimulationReport) throws -> [HistoryChecker.Violation] {
        let again = try self.run(seed: report.seed)
        let shifted = try self.run(seed: report.seed, clockShift: 10 * 365 * 86_400_000)
        return HistoryChecker.violations(of: report, again: again, shifted: shifted)
    }

    /// Has every branch compare what it holds with the cloud.
    private static func checkComparisons(_ fleet: SimulatedFleet, _ checker: inout HistoryChecker) {
        fleet.beginComparing()
        let lastMoment = fleet.executor.now + 600_000_000
        while !fleet.hasCompared, fleet.executor.now < lastMoment {
            let next = fleet.executor.now + 1_000_000
            fleet.executor.run(stepsMax: 1_000_000) { fleet.executor.now >= next }
            fleet.keepRunning()
        }
        for fault in fleet.comparisonFaults() { checker.add(HistoryChecker.Violation(.convergence, fault)) }
    }

    /// Lets what was said last be heard, and then sees whether anything else is written or asked.
    private static func checkQuiet(_ fleet: SimulatedFleet, _ checker: inout HistoryChecker) {
        func runOn(_ microseconds: Int64) {
            let end = fleet.executor.now + microseconds
            fleet.executor.run(stepsMax: 1_000_000) { fleet.executor.now >= end }
        }
        // Requests that were delayed are still on their way.
        runOn(125_000_000)
        let (before, requests, cycles) = (fleet.picture, fleet.network.requests, fleet.cycles)
        // Each rests for half a minute at most.
        runOn(40_000_000)
        let after = fleet.picture
        for what in before.keys.sorted() where before[what] != after[what] {
            checker.add(HistoryChecker.Violation(.quiet, "\(what) are written after everything was done"))
        }
        let (asked, done) = (fleet.network.requests - requests, fleet.cycles - cycles)
        // The cloud asks about each dead record of a branch by itself, once a minute.
        if asked > done + fleet.branches.count + fleet.deadElsewhere {
            checker.add(HistoryChecker.Violation(.quiet, "\(asked) requests in \(done) cycles with nothing to do"))
        }
    }
}
