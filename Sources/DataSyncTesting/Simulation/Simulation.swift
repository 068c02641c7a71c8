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

    public var isGreen: Bool { self.violations.isEmpty }
}

/// Plays a fleet from a seed: first things go wrong, then everything heals, and then it must come to rest and keep every promise.
public enum Simulation {
    /// - Parameter keepsHistory: Whether the report holds all that happened.
    public static func run(seed: UInt64, keepsHistory: Bool = false) throws -> SimulationReport {
        let executor = SimulatedExecutor(seed: seed)
        let log = SimulationLog()
        let plan = SimulationPlan(using: executor)
        let fleet = try SimulatedFleet(executor: executor, plan: plan, log: log)
        var checker = HistoryChecker(SimulatedType.definitions)
        fleet.disturb()
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
        if isAtRest {
            Self.checkQuiet(fleet, &checker)
        } else {
            for what in unfinished { checker.add(HistoryChecker.Violation(.liveness, what)) }
        }
        for event in log.events { checker.take(event) }
        if isAtRest { checker.finish(fleet.rest) }
        let report = SimulationReport(
            seed: seed, violations: checker.violations, events: log.events.count, faults: log.faults, steps: executor.steps,
            digest: executor.digest, history: keepsHistory ? log.events : [])
        fleet.end()
        return report
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
        runOn(10_000_000)
        if fleet.picture != before { checker.add(HistoryChecker.Violation(.quiet, "something is written after everything was done")) }
        let (asked, done) = (fleet.network.requests - requests, fleet.cycles - cycles)
        // The cloud asks about each dead record of a branch by itself, once a minute.
        if asked > done + fleet.branches.count + fleet.deadElsewhere {
            checker.add(HistoryChecker.Violation(.quiet, "\(asked) requests in \(done) cycles with nothing to do"))
        }
    }
}
