public import DataSync

extension SQLTransaction: PositionTable {
    public func positions(from peer: ServerID, epoch: Int32) async throws -> [BusinessTypeID: ReceivedPosition] {
        let rows = try await self.read(
            "positions", "select business_type, number, fingerprint, reported from sync_position where peer = ? and epoch = ?",
            [.int(peer.rawValue), .int(epoch)])
        return try rows.reduce(into: [:]) { positions, row in
            positions[try row.type(0)] = ReceivedPosition(
                position: Position(number: try row.int(1), fingerprint: try row.fingerprint(2)), reported: try row.int(3))
        }
    }

    public func positions(from peer: ServerID) async throws -> [Int32: [BusinessTypeID: ReceivedPosition]] {
        let rows = try await self.read(
            "positions", "select business_type, number, fingerprint, reported, epoch from sync_position where peer = ?", [.int(peer.rawValue)])
        return try rows.reduce(into: [:]) { positions, row in
            positions[try row.int(4, as: Int32.self), default: [:]][try row.type(0)] = ReceivedPosition(
                position: Position(number: try row.int(1), fingerprint: try row.fingerprint(2)), reported: try row.int(3))
        }
    }

    public func movePosition(
        from peer: ServerID, epoch: Int32, type: BusinessTypeID, expected: Int64, to position: Position
    ) async throws -> Bool {
        let sql = """
            update sync_position set number = ?, fingerprint = ?
            where peer = ? and epoch = ? and business_type = ? and number = ?
            """
        let key: [SQLValue] = [.int(peer.rawValue), .int(epoch), .int(type.rawValue)]
        let new: [SQLValue] = [.int(position.number), .fingerprint(position.fingerprint)]
        if try await self.write("movePosition", sql, new + key + [.int(expected)]) == 1 { return true }
        guard expected == 0 else { return false }
        // The first record of this line. Who comes second to the insert is told to run the unit again.
        try await self.write(
            "movePosition",
            "insert into sync_position (peer, epoch, business_type, number, fingerprint) values (?, ?, ?, ?, ?)", key + new)
        return true
    }

    public func reportPosition(from peer: ServerID, epoch: Int32, type: BusinessTypeID, number: Int64) async throws {
        try await self.write(
            "reportPosition",
            "update sync_position set reported = ? where peer = ? and epoch = ? and business_type = ? and reported < ?",
            [.int(number), .int(peer.rawValue), .int(epoch), .int(type.rawValue), .int(number)])
    }

    public func putConfirmation(_ confirmation: Confirmation) async throws {
        let columns = ["epoch", "number", "fingerprint", "confirmed_at", "lag_ms"]
        var batch = SQLBatch(
            insertInto: "sync_send", columns: ["peer", "business_type"] + columns,
            tail: self.dialect.upsertTail(key: ["peer", "business_type"], replacing: columns))
        batch.append([
            .int(confirmation.peer.rawValue), .int(confirmation.type.rawValue), .int(confirmation.epoch),
            .int(confirmation.position.number), .fingerprint(confirmation.position.fingerprint), .int(confirmation.time),
            .int(confirmation.lag),
        ])
        try await self.write("putConfirmation", batch)
    }

    public func confirmations() async throws -> [Confirmation] {
        let sql = """
            select peer, business_type, epoch, number, fingerprint, confirmed_at, lag_ms from sync_send
            order by peer, business_type
            """
        return try await self.read("confirmations", sql).map { row in
            Confirmation(
                peer: try row.server(0), type: try row.type(1), epoch: try row.int(2, as: Int32.self),
                position: Position(number: try row.int(3), fingerprint: try row.fingerprint(4)), time: try row.int(5),
                lag: try row.int(6))
        }
    }
}
