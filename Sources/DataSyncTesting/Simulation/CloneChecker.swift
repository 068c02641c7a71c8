import DataSync

/// Verifies that two machines cannot go on taking turns as one branch. A value: events go in, what they violate comes out.
struct CloneChecker: Sendable {
    /// Whether all happens within the time in which turns are counted.
    let isDay: Bool
    private var turns: [ServerID: Turns] = [:]
    private(set) var violations: [HistoryChecker.Violation] = []

    private struct Turns {
        var newest: String?
        var seen: Set<String> = []
        /// How often a machine came back that another had followed.
        var returns = 0
    }

    init(isDay: Bool) { self.isDay = isDay }

    mutating func take(_ event: SimulationEvent) {
        switch event {
        case .opened(let branch, _, .some(let host)):
            var turns = self.turns[branch] ?? Turns()
            if host != turns.newest, turns.seen.contains(host) { turns.returns += 1 }
            turns.seen.insert(host)
            turns.newest = host
            self.turns[branch] = turns
            if self.isDay, turns.returns == ServerRow.takeoversMax + 1 {
                self.violations.append(HistoryChecker.Violation(.clones, "\(host) is back as branch \(branch) for the \(turns.returns)th time"))
            }
        case .readmitted(let branch): self.turns[branch] = nil
        default: break
        }
    }
}
