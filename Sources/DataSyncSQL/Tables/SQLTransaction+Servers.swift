public import DataSync

extension SQLTransaction: ServerTable {
    private static let columns =
        "id, name, status, public_key, next_key, cloud_keys, join_digest, join_expires, epoch, session, nonce, op, version, last_seen, host, host_before, takeovers, takeover_time"

    private static func server(_ row: SQLRow) throws -> ServerRow {
        guard let status = ServerRow.Status(rawValue: try row.text(2)) else {
            throw DataSyncError(.storageFailed, operation: "server", detail: "sync_server has an unknown status")
        }
        return ServerRow(
            id: try row.server(0), name: try row.text(1), status: status,
            publicKey: try row.optionalText(3), nextKey: try row.optionalText(4), cloudKeys: try row.optionalText(5),
            joinDigest: try row.optionalText(6), joinExpires: try row.int(7), epoch: try row.int(8, as: Int32.self), session: try row.int(9),
            nonce: try row.optionalText(10), operation: try row.int(11), version: try row.optionalText(12), lastSeen: try row.int(13),
            host: try row.optionalText(14), hostBefore: try row.optionalText(15), takeovers: try row.int(16, as: Int.self),
            takeoverTime: try row.int(17))
    }

    public func server(_ id: ServerID) async throws -> ServerRow? {
        try await self.read("server", "select \(Self.columns) from sync_server where id = ?", [.int(id.rawValue)])
            .first.map(Self.server)
    }

    public func servers() async throws -> [ServerRow] {
        try await self.read("servers", "select \(Self.columns) from sync_server order by id").map(Self.server)
    }

    public func insertServer(_ row: ServerRow) async throws {
        guard try await self.server(row.id) == nil else {
            throw DataSyncError(.invalidState, operation: "insertServer", detail: "server \(row.id) exists")
        }
        try await self.write(
            "insertServer",
            "insert into sync_server (\(Self.columns)) values (\(SQLDialect.placeholders(18)))",
            [.int(row.id.rawValue)] + self.values(row) + [.int(row.operation), .text(row.version), .int(row.lastSeen)] + self.hostValues(row))
    }

    public func replaceServer(_ row: ServerRow) async throws -> Bool {
        let sql = """
            update sync_server set name = ?, status = ?, public_key = ?, next_key = ?, cloud_keys = ?, join_digest = ?, join_expires = ?, epoch = ?,
              session = ?, nonce = ?, version = ?, last_seen = ?, host = ?, host_before = ?, takeovers = ?, takeover_time = ?, op = op + 1
            where id = ? and op = ?
            """
        let found = try await self.write(
            "replaceServer", sql,
            self.values(row) + [.text(row.version), .int(row.lastSeen)] + self.hostValues(row) + [.int(row.id.rawValue), .int(row.operation)])
        return found == 1
    }

    private func hostValues(_ row: ServerRow) -> [SQLValue] { [.text(row.host), .text(row.hostBefore), .int(row.takeovers), .int(row.takeoverTime)] }

    /// From the name to the nonce.
    private func values(_ row: ServerRow) -> [SQLValue] {
        [
            .text(row.name), .text(row.status.rawValue), .text(row.publicKey), .text(row.nextKey), .text(row.cloudKeys), .text(row.joinDigest),
            .int(row.joinExpires),
            .int(row.epoch), .int(row.session), .text(row.nonce),
        ]
    }

    public func raiseFence(_ id: ServerID, session: Int64, epoch: Int32, time: Int64) async throws -> Bool {
        let sql = """
            update sync_server set op = op + \(PlantedBug.isOn(.fenceWithoutChange) ? 0 : 1), last_seen = ?
            where id = ? and session = ? and epoch = ? and status = 'active'
            """
        return try await self.write("fence", sql, [.int(time), .int(id.rawValue), .int(session), .int(epoch)]) == 1
    }
}
