import Logging
import Synchronization

extension Agent {
    /// Writes down that this agent has come up, before it does anything that may end it.
    func countStart() async throws {
        guard !self.state.withLock({ $0.start.isCounted }) else { return }
        let isCareful = try await self.unit { try await $0.countStart(SettingName.starts) }
        self.state.withLock { state in
            state.start.isCounted = true
            state.start.isCareful = isCareful
        }
        if isCareful {
            self.logger.error("this agent ended again and again before it got through a cycle: it applies records one by one to find out why")
        }
    }

    /// Writes down that this agent got through a cycle, and found what ended those before it.
    func endStart() async throws {
        guard self.state.withLock({ !$0.start.isOver && $0.resting.isEmpty }) else { return }
        try await self.unit { try await $0.removeSetting(SettingName.starts) }
        self.state.withLock { state in
            state.start.isOver = true
            state.start.isCareful = false
        }
    }

    enum Beginning {
        case begin
        /// It ended this agent whenever it was applied.
        case giveUp
        /// Its type is left alone for a while.
        case rest
    }

    /// Commits that a record is begun with.
    /// - Parameter name: Of the setting for what is begun with in its line.
    func beginAlone(_ name: String, _ record: RecordNumber, _ report: inout CycleReport) async throws -> Beginning {
        let now = self.environment.runningTime()
        if self.state.withLock({ $0.resting[record.type] ?? .zero }) > now { return .rest }
        let verdict = try await self.unit { transaction in
            try await transaction.beginAlone(
                name, epoch: record.epoch, number: record.number, age: self.databaseClock.age(in: transaction), self.loneWatch, at: now)
        }
        switch verdict {
        case .begin: return .begin
        case .giveUp:
            self.logger.critical(
                "a record ended this agent whenever it was applied: it is set aside as dead",
                metadata: ["record": "\(record.type)/\(record.number)"])
            return .giveUp
        case .rest(let wait):
            let until = self.environment.runningTime() + wait
            self.state.withLock { $0.resting[record.type] = until }
            report.stopped[record.type] = Self.restReason
            return .rest
        }
    }

    /// Takes back that a record was begun with: it did not end this agent.
    func endAlone(_ name: String) async throws { try await self.unit { try await $0.removeSetting(name) } }

    /// Takes back that records were begun with which this agent lived through.
    func endOwed() async throws {
        for name in self.loneWatch.owed.sorted() {
            try await self.endAlone(name)
            self.loneWatch.hasEnded(name)
        }
    }

    static var restReason: String { "its records end this agent, one after the other" }
}
