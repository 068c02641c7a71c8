import Logging
import Synchronization

extension Hub {
    /// Hands out what is new for `branch`, read from one state of the database. An idle pull writes nothing.
    public func pull(_ request: PullRequest, from branch: ServerID) async throws -> PullAnswer {
        guard request.recordsMax > 0, request.bytesMax > 0, request.recordBytesMax > 0 else {
            throw DataSyncError(.peerInvalid, operation: "pull", detail: "a limit is not positive")
        }
        let early =
            PlantedBug.isOn(.outcomesReadBefore)
            ? try await self.storage.withTransaction(.snapshot) { try await self.outcomes(of: request.asked, from: branch, in: $0) } : nil
        let (hasOwnRows, isFull) = try await self.storage.withTransaction(.snapshot) { transaction in
            try await self.checkSession(branch, request.session, in: transaction)
            let tails = try await transaction.logTails(of: [.all, .only(branch)])
            return (
                try await transaction.hasOutboxRows(after: try await transaction.outboxFrontier()),
                request.cursors.contains { (tails[$0.key] ?? 0) - $0.value.number >= Int64(self.limits.batchRecordsMax) }
            )
        }
        // What the cloud's applications wrote meanwhile, as much as this pull can hand out. Where the log holds enough for
        // it, the timer numbers the rest.
        var hasMoreRows = hasOwnRows
        if hasOwnRows, !isFull {
            do { hasMoreRows = try await self.numberOwnRows(unitsMax: 1) } catch let error as DataSyncError {
                // What is in the log can be handed out all the same.
                self.logger.warning("the cloud's own rows could not be numbered", metadata: ["error": "\(String(reflecting: error))"])
            }
        }
        try await self.noteSeen(branch, request.session)
        await self.environment.passes(.cloudPullBeforeRead)
        let answer = try await self.storage.withTransaction(.snapshot) { transaction in
            try await self.checkSession(branch, request.session, in: transaction)
            let logEpoch = try await self.logEpoch(in: transaction)
            guard request.logEpoch == logEpoch else {
                throw DataSyncError(.fenced, operation: "pull", detail: "the log has a new epoch: open a session")
            }
            _ = try await self.checkCursors(request.cursors, ofEpoch: request.logEpoch, current: logEpoch, of: branch, in: transaction)
            var answer = try await self.read(request, for: branch, in: transaction)
            answer.hasMore = answer.hasMore || hasMoreRows
            answer.outcomes = if let early { early } else { try await self.outcomes(of: request.asked, from: branch, in: transaction) }
            let age = try await self.databaseClock.age(in: transaction)
            answer.asked = try await transaction.memosToAsk(at: branch, time: age, limit: self.limits.askedMax).map {
                RecordNumber(type: $0.line.type, epoch: $0.line.epoch, number: $0.number)
            }
            return answer
        }
        await self.environment.passes(.cloudPullBeforeReply)
        return answer
    }

    private func read(
        _ request: PullRequest, for branch: ServerID, in transaction: Storage.Transaction
    ) async throws -> PullAnswer {
        let tails = try await transaction.logTails(of: [.all, .only(branch)])
        let waiting = self.types.definitions.map(\.id).filter { type in
            guard let cursor = request.cursors[type], let tail = tails[type] else { return false }
            return tail > cursor.number
        }
        var reading = LogReading(
            cursors: request.cursors, recordsMax: min(request.recordsMax, self.limits.batchRecordsMax),
            bytesMax: min(request.bytesMax, self.limits.batchBytesMax))
        // One slot in ten is kept for the type whose next record has waited longest.
        let ageingShare = waiting.count > 1 ? reading.recordsLeft / self.limits.ageingSlotEvery : 0
        for type in waiting where reading.recordsLeft > ageingShare && reading.bytesLeft > 0 {
            try await self.read(
                type, limit: reading.recordsLeft - ageingShare, for: branch, request, into: &reading, in: transaction)
        }
        if let oldest = try await self.oldest(of: waiting, for: branch, request, reading, in: transaction) {
            try await self.read(oldest, limit: reading.recordsLeft, for: branch, request, into: &reading, in: transaction)
        }
        return PullAnswer(
            runs: waiting.compactMap { reading.run(of: $0) },
            hasMore: waiting.contains { (tails[$0] ?? 0) > reading.position(of: $0).number })
    }

    /// Of the types that were not read to their end, the one whose next record is oldest, if there is room for more.
    private func oldest(
        of types: [BusinessTypeID], for branch: ServerID, _ request: PullRequest, _ reading: LogReading,
        in transaction: Storage.Transaction
    ) async throws -> BusinessTypeID? {
        guard reading.recordsLeft > 0, reading.bytesLeft > 0 else { return nil }
        var best: (type: BusinessTypeID, time: Int64)?
        for type in types where !reading.isAtEnd(of: type) {
            let page = try await self.page(of: type, after: reading.position(of: type).number, limit: 1, bytesMax: 1, for: branch, request, in: transaction)
            if let time = page.records.first?.record.createTime, time < best?.time ?? .max { best = (type, time) }
        }
        return best?.type
    }

    private func read(
        _ type: BusinessTypeID, limit: Int, for branch: ServerID, _ request: PullRequest, into reading: inout LogReading,
        in transaction: Storage.Transaction
    ) async throws {
        var left = limit
        // Own records are read over. A branch that pushed a million orders must not be kept waiting for all of them.
        for _ in 0..<20 where left > 0 && reading.bytesLeft > 0 && !reading.isAtEnd(of: type) {
            let page = try await self.page(
                of: type, after: reading.position(of: type).number, limit: max(left, 100), bytesMax: reading.bytesLeft,
                for: branch, request, in: transaction)
            let owner = LogOwner(origin: branch, epoch: request.session.epoch)
            left -= reading.take(page, of: type, limit: left, owner: owner, recordBytesMax: request.recordBytesMax)
        }
    }

    /// The next records for `branch` over both of its audiences, own ones without their payload.
    private func page(
        of type: BusinessTypeID, after place: Int64, limit: Int, bytesMax: Int, for branch: ServerID,
        _ request: PullRequest, in transaction: Storage.Transaction
    ) async throws -> LogPage {
        let own = LogOwner(origin: branch, epoch: request.session.epoch)
        var pages: [LogPage] = []
        for audience in [Audience.all, .only(branch)] + (PlantedBug.isOn(.audienceNotChecked) ? self.foreignAudiences(for: branch) : []) {
            pages.append(
                try await transaction.logPage(
                    ofType: type, audience: audience, after: place, limit: limit, bytesMax: bytesMax, own: own))
        }
        return LogPage.merged(pages)
    }

    /// Once a minute, so that an operator sees which branches are alive.
    private func noteSeen(_ branch: ServerID, _ session: SessionID) async throws {
        let now = self.environment.runningTime()
        let isDue = self.seen.withLock { seen in
            if let last = seen[branch], now - last < .seconds(60) { return false }
            seen[branch] = now
            return true
        }
        if isDue { try await self.unit { try await self.fence(branch, session, in: $0) } }
    }
}
