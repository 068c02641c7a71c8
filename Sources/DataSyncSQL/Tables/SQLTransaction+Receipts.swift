public import DataSync

extension SQLTransaction: ReceiptTable {
    public func insertReceipts(_ receipts: [Receipt], from peer: ServerID) async throws {
        let columns = ["peer", "epoch", "business_type", "first_syn", "n", "run", "received_at", "uids"]
        var batch = SQLBatch(insertInto: "sync_receipt", columns: columns, reservingRows: receipts.count)
        for receipt in receipts {
            batch.append([
                .int(peer.rawValue), .int(receipt.epoch), .int(receipt.type.rawValue), .int(receipt.firstSynID),
                .int(receipt.uids.count), .fingerprint(receipt.run), .int(receipt.time), .bytes(receipt.uids.flatMap(\.bytes)),
            ])
        }
        try await self.write("receipts", batch)
    }

    public func receipts(from peer: ServerID, epoch: Int32, type: BusinessTypeID, after number: Int64, limit: Int) async throws -> [Receipt] {
        // A branch may ask for what comes after any number, and after the largest comes nothing.
        guard number < .max else { return [] }
        let sql = """
            select first_syn, n, run, received_at, uids from sync_receipt
            where peer = ? and epoch = ? and business_type = ? and first_syn + n > ? order by first_syn limit ?
            """
        let values: [SQLValue] = [.int(peer.rawValue), .int(epoch), .int(type.rawValue), .int(number + 1), .int(limit)]
        return try await self.read("receipts", sql, values).map { row in
            let bytes = try row.bytes(4)
            let uids = stride(from: 0, to: bytes.count, by: 16).compactMap { RecordUID(bytes: Array(bytes[$0..<min($0 + 16, bytes.count)])) }
            guard uids.count == (try row.int(1, as: Int.self)) else {
                throw DataSyncError(.storageFailed, operation: "receipts", detail: "a row of sync_receipt does not hold as many uids as it says")
            }
            return Receipt(epoch: epoch, type: type, firstSynID: try row.int(0), run: try row.fingerprint(2), uids: uids, time: try row.int(3))
        }
    }

    public func keepUIDs(_ uids: [RecordUID], ofType type: BusinessTypeID, time: Int64) async throws {
        let known = try await self.knownUIDs(among: uids)
        var batch = SQLBatch(insertInto: "sync_uid", columns: ["uid", "business_type", "received_at"], reservingRows: uids.count)
        for uid in Set(uids).subtracting(known).sorted(by: { ($0.high, $0.low) < ($1.high, $1.low) }) {
            batch.append([.bytes(uid.bytes), .int(type.rawValue), .int(time)])
        }
        try await self.write("uids", batch)
    }

    public func knownUIDs(among uids: [RecordUID]) async throws -> Set<RecordUID> {
        var known: Set<RecordUID> = []
        try await self.readList("uids", "select uid from sync_uid where uid in (%@)", list: uids.map { .bytes($0.bytes) }) {
            known.insert(try $0.uid(0))
        }
        return known
    }

    public func removeReceipts(before time: Int64, limit: Int) async throws -> Int {
        // By key, since not every server can limit a deletion, and a long one would hold its locks for long.
        let receipts = try await self.read(
            "receipts", "select peer, epoch, business_type, first_syn from sync_receipt where received_at < ? limit ?", [.int(time), .int(limit)])
        var batch = SQLBatch(each: "delete from sync_receipt where peer = ? and epoch = ? and business_type = ? and first_syn = ?", arity: 4)
        for row in receipts {
            batch.append([.int(try row.server(0).rawValue), .int(try row.int(1)), .int(try row.type(2).rawValue), .int(try row.int(3))])
        }
        try await self.write("receipts", batch)
        let uids = try await self.read("uids", "select uid from sync_uid where received_at < ? limit ?", [.int(time), .int(limit)])
        var others = SQLBatch(each: "delete from sync_uid where uid = ?", arity: 1)
        for row in uids { others.append([.bytes(try row.uid(0).bytes)]) }
        try await self.write("uids", others)
        return receipts.count + uids.count
    }
}
