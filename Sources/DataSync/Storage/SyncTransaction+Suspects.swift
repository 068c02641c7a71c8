extension SyncTransaction {
    /// Which of the records that a unit refuses are suspects.
    ///
    /// - Parameters:
    ///   - refused: Of the line's type, in order, of which nothing has passed.
    ///   - position: The last number of the line that was received before this unit.
    ///   - hasSuspects: Whether the line's sender has suspects of any type here.
    func suspicion(
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
