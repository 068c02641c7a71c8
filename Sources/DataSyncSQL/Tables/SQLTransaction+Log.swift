public import DataSync

extension SQLTransaction: LogTable {
    private static let columns = [
        "business_type", "audience", "log_seq", "mark", "scope", "is_echo", "is_deletion", "origin", "epoch", "syn_id", "uid",
        "data_to_server_id", "create_time", "data_from_client", "data_from_detail", "data_detail",
    ]

    private static func record(_ row: SQLRow) throws -> LogRecord {
        guard let audience = Audience(rawValue: try row.int(1, as: Int32.self)) else {
            throw SQLError.unexpectedType(column: 1, expected: "an audience")
        }
        let stream = StreamID(origin: try row.server(7), epoch: try row.int(8, as: Int32.self), type: try row.type(0))
        return LogRecord(
            logSeq: try row.int(2), mark: try row.fingerprint(3), audience: audience, scope: try row.server(4),
            isEcho: try row.int(5) != 0, isDeletion: try row.int(6) != 0,
            record: SyncRecord(
                stream: stream, synID: try row.int(9), uid: try row.uid(10), key: EntityKey(try row.text(14)),
                target: try row.server(11), createTime: try row.int(12),
                client: try row.optionalInt(13).map { Int8(truncatingIfNeeded: $0) }, payload: try row.text(15)))
    }

    public func takeLogNumbers(ofType type: BusinessTypeID, count: Int) async throws -> Int64 {
        let found = try await self.write(
            "log", "update sync_log_counter set last = last + ? where business_type = ?", [.int(count), .int(type.rawValue)])
        if found == 0 {
            try await self.write(
                "log", "insert into sync_log_counter (business_type, last) values (?, ?)", [.int(type.rawValue), .int(count)])
            return 1
        }
        let rows = try await self.read("log", "select last from sync_log_counter where business_type = ?", [.int(type.rawValue)])
        return try rows[0].int(0) - Int64(count) + 1
    }

    public func appendLog(_ records: [LogRecord]) async throws {
        var batch = SQLBatch(insertInto: "sync_log", columns: Self.columns, reservingRows: records.count)
        struct Tail: Hashable { var audience: Audience; var type: BusinessTypeID }
        var tails: [Tail: Int64] = [:]
        // By key, so that the rows of one audience lie side by side.
        let order = records.indices.sorted {
            (records[$0].record.type, records[$0].audience.rawValue, records[$0].logSeq)
                < (records[$1].record.type, records[$1].audience.rawValue, records[$1].logSeq)
        }
        for index in order {
            let log = records[index]
            let record = log.record
            tails[Tail(audience: log.audience, type: record.type)] = log.logSeq
            batch.appendRow { row in
                row.append(.int(record.type.rawValue))
                row.append(.int(log.audience.rawValue))
                row.append(.int(log.logSeq))
                row.append(.fingerprint(log.mark))
                row.append(.int(log.scope.rawValue))
                row.append(.bool(log.isEcho))
                row.append(.bool(log.isDeletion))
                row.append(.int(record.origin.rawValue))
                row.append(.int(record.stream.epoch))
                row.append(.int(record.synID))
                row.append(.bytes(record.uid.bytes))
                row.append(.int(record.target.rawValue))
                row.append(.int(record.createTime))
                row.append(record.client.map { .int($0) } ?? .null)
                row.append(self.dialect.key(record.key))
                row.append(.text(record.payload))
            }
        }
        try await self.write("log", batch)
        var tailBatch = SQLBatch(
            insertInto: "sync_log_tail", columns: ["audience", "business_type", "last"],
            tail: self.dialect.upsertTail(key: ["audience", "business_type"], replacing: [], whereGreater: "last"))
        for (tail, place) in tails.sorted(by: { ($0.key.audience.rawValue, $0.key.type) < ($1.key.audience.rawValue, $1.key.type) }) {
            tailBatch.append([.int(tail.audience.rawValue), .int(tail.type.rawValue), .int(place)])
        }
        try await self.write("log", tailBatch)
    }

    public func logTails(of audiences: [Audience]) async throws -> [BusinessTypeID: Int64] {
        var tails: [BusinessTypeID: Int64] = [:]
        let sql = "select business_type, last from sync_log_tail where audience in (%@)"
        try await self.readList("log", sql, list: audiences.map { .int($0.rawValue) }) { row in
            let type = try row.type(0)
            tails[type] = max(tails[type] ?? 0, try row.int(1))
        }
        return tails
    }

    public func logPage(
        ofType type: BusinessTypeID, audience: Audience, after place: Int64, limit: Int, bytesMax: Int, own: LogOwner
    ) async throws -> LogPage {
        let key: [SQLValue] = [.int(type.rawValue), .int(audience.rawValue), .int(place)]
        let condition = "business_type = ? and audience = ? and log_seq > ?"
        // Ours and this server's alone, so they may stand in the text.
        let isOwn = "origin = \(own.origin.rawValue) and epoch = \(own.epoch) and is_echo = 0"
        // Sizes first: a thousand records of a megabyte do not fit into memory.
        let sizes = try await self.read(
            "log",
            "select log_seq, case when \(isOwn) then 0 else \(self.dialect.byteCount("data_detail")) end from sync_log where \(condition) order by log_seq limit ?",
            key + [.int(limit)])
        var bytes = 0
        var end: Int64?
        var count = 0
        for row in sizes {
            bytes += try row.int(1, as: Int.self)
            guard count == 0 || bytes <= bytesMax else { break }
            count += 1
            end = try row.int(0)
        }
        guard let end else { return LogPage(records: [], isLast: true) }
        let columns = Self.columns.dropLast().joined(separator: ", ")
        let rows = try await self.read(
            "log",
            "select \(columns), case when \(isOwn) then '' else data_detail end from sync_log where \(condition) and log_seq <= ? order by log_seq",
            key + [.int(end)])
        return LogPage(records: try rows.map(Self.record), isLast: count == sizes.count && sizes.count < limit)
    }

    public func logMarks(of audiences: [Audience], at places: [BusinessTypeID: Int64]) async throws -> [BusinessTypeID: Fingerprint] {
        var marks: [BusinessTypeID: Fingerprint] = [:]
        guard !places.isEmpty else { return [:] }
        let one = "business_type = ? and audience in (\(SQLDialect.placeholders(audiences.count))) and log_seq = ?"
        let sql = "select business_type, mark from sync_log where \(Array(repeating: one, count: places.count).joined(separator: " or "))"
        let values = places.sorted { $0.key < $1.key }.flatMap { type, place in
            [.int(type.rawValue)] + audiences.map { SQLValue.int($0.rawValue) } + [.int(place)]
        }
        for row in try await self.read("log", sql, values) {
            marks[try row.type(0)] = try row.fingerprint(1)
        }
        return marks
    }

    public func logRecord(ofType type: BusinessTypeID, audience: Audience, at place: Int64) async throws -> LogRecord? {
        let columns = Self.columns.joined(separator: ", ")
        return try await self.read(
            "log", "select \(columns) from sync_log where business_type = ? and audience = ? and log_seq = ?",
            [.int(type.rawValue), .int(audience.rawValue), .int(place)]
        ).first.map(Self.record)
    }
}
