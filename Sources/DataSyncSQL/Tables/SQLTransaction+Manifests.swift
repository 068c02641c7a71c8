public import DataSync

// Manifests: those that are to be sent (`sync_batch`), and those that were (`sync_sent`), kept for a peer that loses what it had.
extension SQLTransaction {
    private static let columns = ["epoch", "business_type", "first_syn", "n", "settled", "run", "again", "first_id", "last_id", "oldest", "entries"]
    private static let read = "epoch, business_type, first_syn, run, settled, entries, n, again"

    public func insertManifests(_ manifests: [Manifest]) async throws {
        try await self.insert(manifests, into: "sync_batch")
    }

    public func insertSentManifests(_ manifests: [Manifest], time: Int64) async throws {
        try await self.insert(manifests, into: "sync_sent", time: time)
    }

    private func insert(_ manifests: [Manifest], into table: String, time: Int64? = nil) async throws {
        let extra = time == nil ? [] : ["sent_at"]
        var batch = SQLBatch(insertInto: table, columns: Self.columns + extra, reservingRows: manifests.count)
        for manifest in manifests {
            let ids = manifest.entries.map(\.id)
            batch.append(
                [
                    .int(manifest.key.epoch), .int(manifest.key.type.rawValue), .int(manifest.key.firstSynID),
                    .int(manifest.entries.count), .int(manifest.settled), .fingerprint(manifest.run), .bool(manifest.isAgain),
                    .int(ids.min() ?? 0), .int(ids.max() ?? 0), .int(manifest.entries.map(\.createTime).min() ?? 0),
                    .bytes(ManifestCoding.encode(manifest.entries)),
                ] + (time.map { [.int($0)] } ?? []))
        }
        try await self.write("manifest", batch)
    }

    private static func manifest(_ row: SQLRow) throws -> Manifest {
        let entries = try ManifestCoding.decode(try row.bytes(5))
        // Cut between two entries, the bytes alone would still be whole.
        guard entries.count == (try row.int(6, as: Int.self)) else {
            throw DataSyncError(.storageFailed, operation: "manifest", detail: "a manifest does not hold as many entries as it says")
        }
        return Manifest(
            key: ManifestKey(epoch: try row.int(0, as: Int32.self), type: try row.type(1), firstSynID: try row.int(2)),
            run: try row.fingerprint(3), entries: entries, settled: try row.int(4, as: Int.self), isAgain: try row.int(7) != 0)
    }

    public func manifests(
        ofType type: BusinessTypeID, after position: ManifestKey?, limit: Int
    ) async throws -> [Manifest] {
        let columns = "select \(Self.read) from sync_batch where business_type = ?"
        let order = " order by epoch, first_syn limit ?"
        guard let position else {
            return try await self.read("manifest", columns + order, [.int(type.rawValue), .int(limit)]).map(Self.manifest)
        }
        return try await self.read(
            "manifest", columns + " and (epoch > ? or epoch = ? and first_syn > ?)" + order,
            [.int(type.rawValue), .int(position.epoch), .int(position.epoch), .int(position.firstSynID), .int(limit)]
        ).map(Self.manifest)
    }

    public func sentManifests(of stream: StreamID, after number: Int64, limit: Int) async throws -> [Manifest] {
        guard number < .max else { return [] }
        let sql = """
            select \(Self.read) from sync_sent where business_type = ? and epoch = ? and first_syn + n > ?
            order by first_syn limit ?
            """
        return try await self.read(
            "manifest", sql, [.int(stream.type.rawValue), .int(stream.epoch), .int(number + 1), .int(limit)]
        ).map(Self.manifest)
    }

    public func settledEnds() async throws -> [StreamName: Int64] {
        var ends: [StreamName: Int64] = [:]
        for sql in [
            "select epoch, business_type, max(first_syn + n - 1) from sync_sent group by business_type, epoch",
            "select epoch, business_type, max(first_syn + settled - 1) from sync_batch where settled > 0 group by business_type, epoch",
        ] {
            for row in try await self.read("manifest", sql) {
                let name = StreamName(epoch: try row.int(0, as: Int32.self), type: try row.type(1))
                ends[name] = max(ends[name] ?? 0, try row.int(2))
            }
        }
        return ends
    }

    public func run(of stream: StreamID, number: Int64) async throws -> Fingerprint? {
        for table in ["sync_batch", "sync_sent"] {
            let sql = """
                select run, first_syn + n from \(table) where business_type = ? and epoch = ? and first_syn <= ?
                order by first_syn desc limit 1
                """
            let rows = try await self.read("manifest", sql, [.int(stream.type.rawValue), .int(stream.epoch), .int(number)])
            if let row = rows.first, try row.int(1) > number { return try row.fingerprint(0) }
        }
        return nil
    }

    public func putBackManifest(_ manifest: Manifest) async throws {
        try await self.write("manifest", "delete from sync_sent where \(Self.key)", Self.values(manifest.key))
        try await self.removeManifest(manifest.key)
        try await self.insert([manifest], into: "sync_batch")
    }

    public func removeManifest(_ key: ManifestKey) async throws {
        try await self.write("manifest", "delete from sync_batch where \(Self.key)", Self.values(key))
    }

    private static let key = "business_type = ? and epoch = ? and first_syn = ?"
    private static func values(_ key: ManifestKey) -> [SQLValue] { [.int(key.type.rawValue), .int(key.epoch), .int(key.firstSynID)] }

    public func manifestSummary() async throws -> [BusinessTypeID: Backlog] {
        let rows = try await self.read(
            "manifest", "select business_type, sum(n - settled), min(oldest) from sync_batch group by business_type")
        return try rows.reduce(into: [:]) {
            $0[try $1.type(0)] = Backlog(records: try $1.int(1, as: Int.self), oldestCreateTime: try $1.int(2))
        }
    }

    public func manifestedIDs(in ids: ClosedRange<Int64>) async throws -> Set<Int64> {
        let rows = try await self.read(
            "manifest", "select entries from sync_batch where last_id >= ? and first_id <= ?",
            [.int(ids.lowerBound), .int(ids.upperBound)])
        return try rows.reduce(into: []) { found, row in
            found.formUnion(try ManifestCoding.decode(try row.bytes(0)).lazy.map(\.id).filter { ids.contains($0) })
        }
    }

    public func settleManifest(_ key: ManifestKey, settled: Int, time: Int64) async throws {
        let values = Self.values(key)
        let columns = Self.columns.filter { $0 != "settled" }.joined(separator: ", ")
        let moved = try await self.write(
            "manifest",
            "insert into sync_sent (\(columns), settled, sent_at) select \(columns), n, ? from sync_batch where \(Self.key) and n <= ?",
            [.int(time)] + values + [.int(settled)])
        if moved > 0 {
            try await self.removeManifest(key)
        } else {
            try await self.write(
                "manifest", "update sync_batch set settled = ? where \(Self.key) and settled < ?", [.int(settled)] + values + [.int(settled)])
        }
    }

    public func reopenOutbox(_ ids: [Int64]) async throws {
        var batch = SQLBatch(each: "update sync_data set state = 0 where id = ?", arity: 1)
        for id in ids { batch.append([.int(id)]) }
        try await self.write("reopen", batch)
    }

    public func newOutboxUIDs(_ ids: [Int64]) async throws -> [Int64: RecordUID] {
        var uids: [Int64: RecordUID] = [:]
        try await self.readList("outbox", "select id, uid from sync_data where id in (%@) and state = 0", list: ids.map { .int($0) }) {
            uids[try $0.int(0)] = try $0.uid(1)
        }
        return uids
    }

    public func outboxUIDs(of names: Set<EntityName>) async throws -> Set<RecordUID> {
        var uids: Set<RecordUID> = []
        let table = self.dialect.from("sync_data", index: "sync_data_name")
        for (type, names) in Dictionary(grouping: names, by: \.type) {
            let keys = names.sorted().map { self.dialect.key($0.key) }
            let sql = "select uid from \(table) where business_type = ? and data_from_detail in (%@)"
            try await self.readList("outbox", sql, before: [.int(type.rawValue)], list: keys) { uids.insert(try $0.uid(0)) }
        }
        return uids
    }

    public func removeSentManifests(before time: Int64, limit: Int) async throws -> Int {
        let rows = try await self.read("manifest", "select \(Self.read) from sync_sent where sent_at < ? limit ?", [.int(time), .int(limit)])
        for manifest in try rows.map(Self.manifest) {
            var batch = SQLBatch(each: "delete from sync_data where id = ? and state = 2", arity: 1)
            for entry in manifest.entries { batch.append([.int(entry.id)]) }
            try await self.write("manifest", batch)
            try await self.write("manifest", "delete from sync_sent where \(Self.key)", Self.values(manifest.key))
        }
        return rows.count
    }
}
