import Synchronization

/// What some switches of ``PlantedBug`` need.
extension Hub {
    /// Moves the positions over the records at `indices` in a transaction of its own.
    func movePositions(over indices: [Int], of work: PushWork) async throws {
        try await self.unit { transaction in
            let received = try await transaction.positions(from: work.branch, epoch: work.session.epoch).mapValues(\.position)
            for (type, position) in try work.split(indices, at: received).positions {
                _ = try await transaction.movePosition(
                    from: work.branch, epoch: work.session.epoch, type: type, expected: received[type]?.number ?? 0, to: position)
            }
        }
    }

    /// Whether this process has not told `branch` before how a record has ended.
    func isToldFirst(_ outcome: Outcome, of record: RecordNumber, to branch: ServerID) -> Bool {
        #if PLANTED_BUGS
            guard outcome.disposition.isSettled else { return true }
            return self.told.withLock { $0[branch, default: []].insert(record).inserted }
        #else
            return true
        #endif
    }

    func foreignAudiences(for branch: ServerID) -> [Audience] {
        (1...8).map { ServerID(rawValue: $0) }.filter { $0 != branch }.map { Audience.server($0) }
    }
}
