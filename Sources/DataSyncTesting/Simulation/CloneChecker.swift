import DataSync

/// Verifies that two machines cannot go on taking turns as one branch. A value: events go in, what they violate comes out.
struct CloneChecker: Sendable {
    private var turns: [ServerID: Turns] = [:]
    private(set) var violations: [HistoryChecker.Violation] = []

    private struct Turns {
        var newest: String?
        var seen: Set<String> = []
        /// How often a machine came back that another had followed, and what the cloud's database had counted when it was the first.
        var returns = 0
        var start: Int64 = 0
    }

    /// In milliseconds. The cloud counts turns for ten minutes of running time from the first, of which a process may know two more than it has
    /// written down. It counts anew after that, from whenever it saw the next.
    private static let window: Int64 = 480_000

    mutating func take(_ event: SimulationEvent) {
        switch event {
        case .opened(let branch, _, .some(let host), let age):
            var turns = self.turns[branch] ?? Turns()
            if host != turns.newest, turns.seen.contains(host) {
                if turns.returns == 0 { turns.start = age }
                turns.returns += 1
            }
            turns.seen.insert(host)
            turns.newest = host
            self.turns[branch] = turns
            if turns.returns == ServerRow.takeoversMax + 1, age - turns.start <= Self.window {
                self.violations.append(HistoryChecker.Violation(.clones, "\(host) is back as branch \(branch) for the \(turns.returns)th time"))
            }
        case .readmitted(let branch): self.turns[branch] = nil
        default: break
        }
    }
}
