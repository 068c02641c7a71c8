import Logging

extension Hub {
    /// Begins a session of `branch`, which fences all older ones.
    public func open(_ request: OpenRequest, from branch: ServerID) async throws -> OpenAnswer {
        guard request.protocolVersion == SyncProtocol.version else {
            throw DataSyncError(
                .unsupportedProtocol, operation: "open",
                detail: "the branch speaks version \(request.protocolVersion), this cloud version \(SyncProtocol.version)")
        }
        guard (16...64).contains(request.nonce.utf8.count), request.software.utf8.count <= 64, request.host.utf8.count <= 64 else {
            throw DataSyncError(.peerInvalid, operation: "open", detail: "the nonce or the name of the software or the host has the wrong length")
        }
        // Before anything else: a branch that has read what the cloud has lost must not write into a log that goes on differently.
        let accepted = try await self.storage.withTransaction(.snapshot) {
            try await self.checkCursors(request.cursors, ofEpoch: request.logEpoch, current: self.logEpoch(in: $0), of: branch, in: $0)
        }
        let row = try await self.unit { transaction -> ServerRow? in
            guard var row = try await transaction.server(branch) else {
                throw DataSyncError(.unauthorized, operation: "open", detail: "no such branch")
            }
            // A late copy of an opening must not look like a new agent: it would fence the live one.
            if row.status == .active, row.nonce == request.nonce, !PlantedBug.isOn(.lateOpenOpensAgain) { return row }
            row.session += 1
            try await self.checkSession(
                branch, SessionID(number: row.session - 1, epoch: row.epoch), in: transaction)
            let age = try await self.databaseClock.age(in: transaction)
            if row.takesOver(request.host, at: age) {
                try await self.lockClone(row, in: transaction)
                return nil
            }
            row.nonce = request.nonce
            row.version = request.software
            row.lastSeen = self.environment.wallTime()
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "open", detail: "the branch's row changed")
            }
            await self.environment.passes(.cloudOpenBeforeCommit)
            return row
        }
        await self.environment.passes(.cloudOpenAfterCommit)
        guard let row else {
            self.logger.critical("two machines take turns as one branch: it is suspended as a suspected clone", metadata: ["branch": "\(branch)"])
            throw DataSyncError(.suspended, operation: "open", detail: "the branch is suspended: another machine works with the same identity")
        }
        self.logger.info("session opened", metadata: ["branch": "\(branch)", "session": "\(row.session)", "epoch": "\(row.epoch)"])
        return try await self.storage.withTransaction(.snapshot) { transaction in
            let positions = try await transaction.positions(from: branch).mapValues { $0.mapValues(\.position) }
            return OpenAnswer(
                session: SessionID(number: row.session, epoch: row.epoch), logEpoch: try await self.logEpoch(in: transaction),
                positions: positions[row.epoch] ?? [:], types: self.types.definitions.map(TypeSummary.init),
                recordBytesMax: self.limits.recordBytesMax, time: self.environment.wallTime(),
                olderPositions: positions.filter { $0.key < row.epoch }, cursors: accepted)
        }
    }

    private func lockClone(_ row: ServerRow, in transaction: Storage.Transaction) async throws {
        var row = row
        row.session += 1
        row.status = .suspended
        guard try await transaction.replaceServer(row) else {
            throw DataSyncError(.storageBusy, operation: "open", detail: "the branch's row changed")
        }
        try await transaction.appendAudit(
            AuditEntry(
                time: self.environment.wallTime(), actor: "cloud", action: "suspend",
                subject: "branch \(row.id): suspected clone, two machines take turns with its identity"))
    }
}
