extension Hub {
    /// Tries a record at once: a parked or waiting one, which may count a refusal, or a dead one, which stays dead if it
    /// is refused again.
    /// - Returns: How it stands now.
    public func retryMemo(_ id: Int64, actor: String) async throws -> Outcome {
        let memo = try await self.heldMemo(id, operation: "retry")
        guard memo.holdsPayload else {
            throw DataSyncError(
                .invalidState, operation: "retry",
                detail: "record \(id) is not held here as it was sent (\(memo.reason)): send a corrected one, and discard this")
        }
        let outcome = try await self.retry(id, by: .person(actor))
        await self.environment.passes(.cloudDecisionRetried)
        guard let outcome else {
            throw DataSyncError(.storageBusy, operation: "retry", detail: "record \(id) is being tried by another process, or ended meanwhile")
        }
        return outcome
    }

    /// Decides that a record shall have no effect. Its entity goes on; its origin gets the entity's present state.
    public func discardMemo(_ id: Int64, actor: String) async throws {
        let held = try await self.heldMemo(id, operation: "discard")
        guard held.reason != .behind else {
            throw DataSyncError(
                .invalidState, operation: "discard", detail: "record \(id) waits behind an earlier one of its entity: decide about that one first")
        }
        try await self.unit { transaction in
            guard var memo = try await transaction.memo(id) else { throw Self.endedMeanwhile(id) }
            // A unit that runs again after a commit of unknown outcome finds that it is done.
            if memo.disposition == .discarded, memo.tries == held.tries + 1 { return }
            guard memo.disposition.isOpen || memo.disposition == .dead,
                try await transaction.beginTry(ofMemo: id, disposition: memo.disposition, tries: memo.tries)
            else { throw Self.endedMeanwhile(id) }
            memo.tries += 1
            if self.types[memo.line.type] != nil, memo.disposition.isOpen, !PlantedBug.isOn(.noCorrectionAfterDiscard) {
                // A dead record was corrected when it died.
                var unit = CloudUnit(hub: self, transaction: transaction)
                try await unit.lock([memo.entity])
                unit.correct(memo.entity, at: memo.line.sender)
                _ = try await unit.append()
            }
            memo.note(Outcome(.discarded, reason: .discarded, attempts: memo.attempts))
            memo.holdsPayload = false
            memo.record.payload = ""
            try await transaction.updateMemos([memo])
            try await transaction.wakeMemos(
                at: .cloud, from: memo.line.sender, of: memo.entity, time: self.databaseClock.age(in: transaction))
            try await transaction.appendAudit(self.audit(memo, action: "memo.discard", actor: actor))
            await self.environment.passes(.cloudDecisionBeforeCommit)
        }
        await self.environment.passes(.cloudDecisionAfterCommit)
    }

    private static func endedMeanwhile(_ id: Int64) -> DataSyncError {
        DataSyncError(.invalidState, operation: "discard", detail: "record \(id) ended meanwhile")
    }

    private func heldMemo(_ id: Int64, operation: StaticString) async throws -> Memo {
        guard let memo = try await self.storage.withTransaction(.snapshot, { try await $0.memo(id) }) else {
            throw DataSyncError(.notFound, operation: operation, detail: "there is no record \(id)")
        }
        guard memo.line.receiver == .cloud else {
            throw DataSyncError(
                .invalidState, operation: operation,
                detail: "record \(id) is held by branch \(memo.line.receiver): decide there, with datasync-local dead")
        }
        guard memo.disposition.isOpen || memo.disposition == .dead else {
            throw DataSyncError(.invalidState, operation: operation, detail: "record \(id) is \(memo.disposition.name): it has ended")
        }
        return memo
    }

    func audit(_ memo: Memo, action: String, actor: String) -> AuditEntry {
        AuditEntry(
            time: self.environment.wallTime(), actor: actor, action: action,
            subject: "record \(memo.record.origin)/\(memo.record.stream.epoch)/\(memo.line.type)/\(memo.record.synID)")
    }
}
