import Logging

extension Hub {
    /// Tells a branch whose database was restored what the cloud has received of it, and in the end counts a new epoch for it.
    ///
    /// The branch's numbers above its backup were given twice, so none of the old epoch is accepted after that.
    public func recover(_ request: RecoverRequest, from branch: ServerID) async throws -> RecoverAnswer {
        if request.isEnd { return RecoverAnswer(epoch: try await self.raiseEpoch(of: branch, beyond: request.epoch, request.session)) }
        return try await self.storage.withTransaction(.snapshot) { transaction in
            try await self.checkSession(branch, request.session, in: transaction)
            var answer = RecoverAnswer(epoch: request.session.epoch)
            var uids = 0
            for (type, number) in request.after.sorted(by: { $0.key < $1.key }) {
                let page = try await transaction.receipts(
                    from: branch, epoch: request.epoch, type: type, after: number, limit: Self.receiptsMax)
                // A message holds so many uids, of however many types they are.
                var fitting: [Receipt] = []
                for receipt in page {
                    guard uids == 0 || uids + receipt.uids.count <= Self.uidsMax else { break }
                    uids += receipt.uids.count
                    fitting.append(receipt)
                }
                if let first = fitting.first, let last = fitting.last {
                    answer.receipts += fitting
                    let line = MemoLine(receiver: .cloud, sender: branch, epoch: request.epoch, type: type)
                    answer.outcomes += try await transaction.memos(in: line, numbers: first.firstSynID...last.lastSynID, limit: .max).map {
                        NumberedOutcome(record: RecordNumber(type: type, epoch: request.epoch, number: $0.number), outcome: $0.outcome)
                    }
                }
                if fitting.count < page.count || page.count == Self.receiptsMax {
                    answer.hasMore = true
                    break
                }
            }
            return answer
        }
    }

    /// Most receipts of one type, and most uids of all of them, in one answer.
    private static var receiptsMax: Int { 8 }
    private static var uidsMax: Int { 10_000 }
    private static var epochMax: Int32 { 1 << 30 }

    private func raiseEpoch(of branch: ServerID, beyond epoch: Int32, _ session: SessionID) async throws -> Int32 {
        // Epochs are counted one by one: nobody comes near this, and the next must have room.
        guard epoch < Self.epochMax else { throw DataSyncError(.peerInvalid, operation: "recover", detail: "no branch has an epoch of \(epoch)") }
        let row = try await self.unit { transaction in
            try await self.fence(branch, session, in: transaction)
            guard var row = try await transaction.server(branch) else {
                throw DataSyncError(.unauthorized, operation: "recover", detail: "no such branch")
            }
            if !PlantedBug.isOn(.epochNotRaised) { row.epoch = max(row.epoch, epoch) + 1 }
            // Whatever is still on its way was sent in another epoch.
            row.session += 1
            row.nonce = nil
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "recover", detail: "the branch's row changed")
            }
            try await transaction.appendAudit(
                AuditEntry(
                    time: self.environment.wallTime(), actor: "branch \(branch)", action: "epoch \(row.epoch)",
                    subject: "the branch's database was restored from a backup"))
            return row
        }
        self.logger.warning(
            "a branch's database was restored from a backup: its streams begin anew", metadata: ["branch": "\(branch)", "epoch": "\(row.epoch)"])
        return row.epoch
    }

    // MARK: - A cloud that was restored

    /// How far counters jump, so that no number is given again that the lost database had given.
    static var restoreJump: Int { 1_000_000_000_000 }

    /// Says that the cloud's database was restored from a backup, before it serves again.
    ///
    /// The log takes a new epoch and goes on far above anything given out, and so do the sessions and the cloud's own streams. The
    /// branches send again what they keep and the cloud has lost.
    /// - Parameter actor: Who says so, for the audit log.
    /// - Returns: The new epoch of the log.
    @discardableResult
    public func declareRestored(by actor: String) async throws -> Int32 {
        let epoch = try await self.unit { transaction in
            let epoch = try await self.logEpoch(in: transaction) + 1
            try await transaction.putSetting(SettingName.logEpoch, String(epoch))
            for type in self.types.definitions.map(\.id).sorted() where !PlantedBug.isOn(.placesNotJumped) {
                _ = try await transaction.takeLogNumbers(ofType: type, count: Self.restoreJump)
            }
            for var row in try await transaction.servers() {
                if row.id.isCloud, !PlantedBug.isOn(.ownEpochNotRaised) { row.epoch += 1 }
                row.session += Int64(Self.restoreJump)
                row.nonce = nil
                guard try await transaction.replaceServer(row) else {
                    throw DataSyncError(.storageBusy, operation: "restored", detail: "a server's row changed: is a cloud still serving?")
                }
            }
            try await transaction.appendAudit(
                AuditEntry(
                    time: self.environment.wallTime(), actor: actor, action: "log epoch \(epoch)", subject: "the cloud's database was restored from a backup"))
            return epoch
        }
        self.logger.warning("the cloud was declared as restored", metadata: ["log_epoch": "\(epoch)"])
        return epoch
    }

    /// What a branch has read of the log must be in the log.
    ///
    /// - Parameter current: The epoch that the log has now.
    /// - Returns: Where it goes on, if the log has a newer epoch than the one it has read; nil if it has not.
    func checkCursors(
        _ cursors: [BusinessTypeID: Position], ofEpoch epoch: Int32, current: Int32, of branch: ServerID, in transaction: Storage.Transaction
    ) async throws -> [BusinessTypeID: Position]? {
        let read = cursors.filter { $0.value.number > 0 }
        let marks = try await transaction.logMarks(of: [.all, .only(branch)], at: read.mapValues(\.number))
        let strange = read.filter { marks[$0.key] != $0.value.fingerprint }
        if epoch == current {
            guard let (type, position) = strange.min(by: { $0.key < $1.key }), !PlantedBug.isOn(.restoredCloudNotSeen) else { return nil }
            self.logger.critical(
                "a branch has read what is not in the log: if the cloud's database was restored from a backup, run 'datasync-cloud restored'",
                metadata: ["branch": "\(branch)", "type": "\(type)", "place": "\(position.number)"])
            throw Self.lostLog
        }
        guard epoch < current else { throw Self.lostLog }
        if PlantedBug.isOn(.oldLogTrusted) { return read }
        var accepted = read.filter { strange[$0.key] == nil }
        // What is not there was lost, or something else was written in its place: as far as this branch has said, in this very
        // database, that it has it, it has it.
        for confirmation in try await transaction.confirmations() where confirmation.peer == branch && strange[confirmation.type] != nil {
            let place = confirmation.position.number
            guard let mark = try await transaction.logMarks(of: [.all, .only(branch)], at: [confirmation.type: place])[confirmation.type] else { continue }
            accepted[confirmation.type] = Position(number: place, fingerprint: mark)
        }
        self.logger.notice("a branch goes on in a new epoch of the log", metadata: ["branch": "\(branch)", "lost": "\(strange.count) types"])
        return accepted
    }

    private static var lostLog: DataSyncError {
        DataSyncError(
            .diverged, operation: "log",
            detail: "this branch has read records that the cloud's log does not hold: the cloud's database is an older copy, and has to be "
                + "declared as restored there ('datasync-cloud restored')")
    }
}
