extension Hub {
    /// Takes in what became of pulled records at `branch`.
    ///
    /// Nothing rests on it: the branch's own position says what it has. It is what an operator sees.
    public func acknowledge(_ request: AcknowledgeRequest, from branch: ServerID) async throws -> AcknowledgeAnswer {
        guard request.outcomes.count <= self.limits.batchRecordsMax + self.limits.askedMax else {
            throw DataSyncError(.tooLarge, operation: "acknowledge", detail: "too many outcomes in one request")
        }
        try await self.unit { transaction in
            try await self.fence(branch, request.session, in: transaction)
            let now = self.environment.wallTime()
            for (type, position) in request.positions.sorted(by: { $0.key < $1.key }) where self.types[type] != nil {
                let last = try await self.delivered(type, at: position.number, to: branch, in: transaction)
                try await transaction.putConfirmation(
                    Confirmation(
                        peer: branch, type: type, epoch: request.logEpoch, position: position, time: now,
                        lag: last.map { now.elapsed(since: $0.record.createTime) } ?? 0))
            }
            let byLine = Dictionary(grouping: request.outcomes) {
                MemoLine(receiver: branch, sender: .cloud, epoch: $0.record.epoch, type: $0.record.type)
            }
            for (line, outcomes) in byLine {
                // Of an older epoch of the log only what is known: its places are no longer those of the same records.
                try await self.note(outcomes, in: line, knownOnly: line.epoch != request.logEpoch, in: transaction)
            }
            await self.environment.passes(.cloudAcknowledgeBeforeCommit)
        }
        await self.environment.passes(.cloudAcknowledgeAfterCommit)
        return AcknowledgeAnswer()
    }

    /// Keeps a row of `sync_memo` for each record that the branch did not simply apply.
    private func note(
        _ outcomes: [NumberedOutcome], in line: MemoLine, knownOnly: Bool, in transaction: Storage.Transaction
    ) async throws {
        let now = try await self.databaseClock.now(in: transaction)
        let known = try await transaction.memos(in: line, numbers: outcomes.map(\.record.number))
        var byNumber = Dictionary(known.map { ($0.number, $0) }) { first, _ in first }
        var inserts: [Memo] = []
        var updates: [Memo] = []
        for numbered in outcomes {
            let number = numbered.record.number
            if var memo = byNumber[number] {
                memo.note(numbered.outcome)
                memo.nextTry = memo.timeToAsk(after: now.age)
                updates.append(memo)
            } else {
                // Only what is for this branch can be refused by it.
                guard !knownOnly, numbered.outcome.disposition != .applied,
                    let delivered = try await self.delivered(line.type, at: number, to: line.receiver, in: transaction)
                else { continue }
                var memo = Memo(
                    line: line, number: number, scope: delivered.scope, record: delivered.record, holdsPayload: false,
                    disposition: numbered.outcome.disposition, reason: numbered.outcome.reason,
                    detail: numbered.outcome.detail, attempts: numbered.outcome.attempts, nextTry: now.age, created: now.wall)
                memo.record.payload = ""
                inserts.append(memo)
                byNumber[number] = memo
            }
            if let memo = byNumber[number], memo.record.origin.isCloud {
                try await self.show(numbered.outcome, inOwnRowOf: memo, in: transaction)
            }
        }
        if !inserts.isEmpty { try await transaction.insertMemos(inserts) }
        if !updates.isEmpty { try await transaction.updateMemos(updates) }
    }

    /// The record at a place of the log, if it is for `branch`.
    private func delivered(
        _ type: BusinessTypeID, at place: Int64, to branch: ServerID, in transaction: Storage.Transaction
    ) async throws -> LogRecord? {
        for audience in [Audience.all, .only(branch)] {
            if let record = try await transaction.logRecord(ofType: type, audience: audience, at: place) { return record }
        }
        return nil
    }

    /// `fail_num` of a row that went to many branches shows the greatest, the reason the worst.
    private func show(_ outcome: Outcome, inOwnRowOf memo: Memo, in transaction: Storage.Transaction) async throws {
        let name = EntityName(type: memo.line.type, key: memo.record.key)
        guard let row = try await transaction.outboxRow(name, uid: memo.record.uid),
            outcome.attempts > row.attempts || (outcome.reason.rawValue > row.reason.rawValue && !outcome.disposition.isSettled)
                || outcome.disposition == .dead
        else { return }
        try await transaction.updateOutbox([
            OutboxSettlement(
                id: row.id, type: row.head.type, synID: row.synID, state: .settled,
                attempts: max(row.attempts, outcome.attempts), reason: outcome.reason,
                detail: outcome.detail.map { "at branch \(memo.line.receiver): \($0)" } ?? "at branch \(memo.line.receiver)")
        ])
    }
}
