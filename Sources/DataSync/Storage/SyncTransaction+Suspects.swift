extension SyncTransaction {
    /// Of the records that a unit sets aside, those that are refused alike while nothing passes.
    ///
    /// - Parameters:
    ///   - passing: The types of which the unit applies a record.
    ///   - received: Where the lines stood before the unit.
    /// - Returns: With them, the types whose suspects are at fault after all.
    /// - Throws: ``ChunkSetback`` where there is no room for all of them.
    func suspects(
        among setAside: [Int: Outcome], at indices: [Int], of work: some ReceivedWork, passing: Set<BusinessTypeID>,
        received: [BusinessTypeID: Int64], hasSuspects: Bool, limits: SyncLimits
    ) async throws -> (indices: Set<Int>, cleared: Set<BusinessTypeID>) {
        var (suspects, cleared): (Set<Int>, Set<BusinessTypeID>) = ([], [])
        let refused = setAside.sorted { $0.key < $1.key }.compactMap { index, outcome in
            Suspicion.Refused(index: index, entity: work.entity(at: index), outcome: outcome)
        }
        for (type, refused) in Dictionary(grouping: refused, by: \.entity.type) where !passing.contains(type) && !work.passed.contains(type) {
            let verdict = try await self.suspicion(
                of: refused, in: work.line(type), after: received[type] ?? 0, hasSuspects: hasSuspects,
                mayComeMore: work.hasMore(of: type, after: indices, than: Set(refused.map(\.entity))), limits: limits)
            if let index = verdict.firstWithoutRoom { throw ChunkSetback.suspected(type, index) }
            if verdict.clearsHeld { cleared.insert(type) }
            suspects.formUnion(verdict.suspects)
        }
        return (suspects, cleared)
    }

    /// Which of the records that a unit refuses are suspects.
    ///
    /// - Parameters:
    ///   - refused: Of the line's type, in order, of which nothing has passed.
    ///   - position: The last number of the line that was received before this unit.
    ///   - hasSuspects: Whether the line's sender has suspects of any type here.
    private func suspicion(
        of refused: [Suspicion.Refused], in line: MemoLine, after position: Int64, hasSuspects: Bool, mayComeMore: Bool, limits: SyncLimits
    ) async throws -> Suspicion.Verdict {
        let held =
            hasSuspects ? try await self.suspects(at: line.receiver, from: line.sender, type: line.type, limit: limits.suspectsMax) : []
        // Records that come one by one are each the only one that is tried: the one before them is the other.
        let before = held.isEmpty ? try await self.memos(in: line, numbers: [position]).first : nil
        return Suspicion.verdict(
            on: refused, held: held, before: before, mayComeMore: mayComeMore, suspectsMax: limits.suspectsMax)
    }

    /// What `fault` makes of a record that was tried again.
    func outcome(of fault: RecordFault, for memo: Memo, now: Moment, limits: SyncLimits) async throws -> Outcome {
        let age = now.age - memo.since
        let outcome = Outcome(fault, attemptsBefore: memo.attempts, isTooOld: age > limits.waitingAgeMax.milliseconds)
        guard outcome.attempts > memo.attempts, memo.disposition.isOpen, outcome.reason != .dependencyTooOld else { return outcome }
        let line = memo.line
        let suspects = try await self.suspects(at: line.receiver, from: line.sender, type: line.type, limit: limits.suspectsMax)
        var isTooOld = age > limits.suspectAgeMax.milliseconds
        if isTooOld {
            // A quota without room for what comes next has stopped the type as well: then, too, nothing new can show whose fault it is.
            let usage = try await self.openUsage(at: line.receiver, from: line.sender, type: line.type)
            isTooOld =
                usage.records + limits.chunkRecordsMax <= limits.openRecordsMax && usage.bytes + limits.chunkBytesMax <= limits.openBytesMax
        }
        return Suspicion.outcome(of: outcome, for: memo, suspects: suspects, isTooOld: isTooOld, suspectsMax: limits.suspectsMax)
    }
}
