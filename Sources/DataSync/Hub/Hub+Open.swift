import Logging

extension Hub {
    /// Begins a session of `branch`, which fences all older ones.
    public func open(_ request: OpenRequest, from branch: ServerID) async throws -> OpenAnswer {
        guard request.protocolVersion == SyncProtocol.version else {
            throw DataSyncError(
                .unsupportedProtocol, operation: "open",
                detail: "the branch speaks version \(request.protocolVersion), this cloud version \(SyncProtocol.version)")
        }
        guard (16...64).contains(request.nonce.utf8.count), request.software.utf8.count <= 64 else {
            throw DataSyncError(.peerInvalid, operation: "open", detail: "the nonce or the software's name has the wrong length")
        }
        let row = try await self.unit { transaction in
            guard var row = try await transaction.server(branch) else {
                throw DataSyncError(.unauthorized, operation: "open", detail: "no such branch")
            }
            // A late copy of an opening must not look like a new agent: it would fence the live one.
            if row.status == .active, row.nonce == request.nonce { return row }
            row.session += 1
            try await self.checkSession(
                branch, SessionID(number: row.session - 1, epoch: row.epoch), in: transaction)
            row.nonce = request.nonce
            row.version = request.software
            row.lastSeen = self.environment.wallTime()
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "open", detail: "the branch's row changed")
            }
            return row
        }
        self.logger.info("session opened", metadata: ["branch": "\(branch)", "session": "\(row.session)", "epoch": "\(row.epoch)"])
        return try await self.storage.withTransaction(.snapshot) { transaction in
            OpenAnswer(
                session: SessionID(number: row.session, epoch: row.epoch), logEpoch: try await self.logEpoch(in: transaction),
                positions: try await transaction.positions(from: branch, epoch: row.epoch).mapValues(\.position),
                types: self.types.definitions.map(TypeSummary.init), recordBytesMax: self.limits.recordBytesMax,
                time: self.environment.wallTime())
        }
    }
}
