public import DataSync

extension SQLTransaction: OutboxTable {
    private var headColumns: String { self.headColumns(digest: self.dialect.rowDigest) }

    private func headColumns(digest: String) -> String {
        "id, business_type, create_time, \(self.dialect.byteCount("data_detail")), \(digest), state"
    }

    private var rowColumns: String { self.headColumns + Self.otherColumns }

    private static let otherColumns =
        ", uid, data_from_detail, data_to_server_id, data_from_client, data_detail, coalesce(syn_id, 0), fail_num, result_of_send_business"

    private static func head(_ row: SQLRow) throws -> OutboxHead {
        guard let state = OutboxState(rawValue: try row.int(5, as: UInt8.self)) else {
            throw SQLError.unexpectedType(column: 5, expected: "a state of the outbox")
        }
        return OutboxHead(
            id: try row.int(0), type: try row.type(1), createTime: try row.int(2), bytes: try row.int(3, as: Int.self),
            digest: try row.int(4, as: UInt32.self), state: state)
    }

    private static func row(_ row: SQLRow) throws -> OutboxRow {
        let key = try? row.text(7)
        return OutboxRow(
            head: try self.head(row), uid: try row.uid(6), key: key.flatMap { $0.isEmpty ? nil : EntityKey($0) },
            target: try row.server(8), client: try row.optionalInt(9).map { Int8(truncatingIfNeeded: $0) },
            payload: try row.text(10), synID: try row.int(11), attempts: try row.int(12, as: Int.self),
            reason: try row.reason(13))
    }

    public func appendOutbox(_ rows: [NewOutboxRow]) async throws {
        // What a row does not say is left to the default of its column, as for any application.
        struct Form: Hashable { var hasTime: Bool; var hasClient: Bool }
        let forms = Dictionary(grouping: rows.enumerated()) { Form(hasTime: $0.element.createTime != nil, hasClient: $0.element.client != nil) }
        // One form at a time would change the order of the ids: only where all rows have the same form are they one batch.
        let batches = forms.count == 1 ? [rows] : rows.map { [$0] }
        for rows in batches {
            var columns = ["business_type", "data_from_detail", "data_detail", "data_to_server_id"]
            if rows[0].createTime != nil { columns.append("create_time") }
            if rows[0].client != nil { columns.append("data_from_client") }
            var batch = SQLBatch(insertInto: "sync_data", columns: columns, reservingRows: rows.count)
            for row in rows {
                var values: [SQLValue] = [
                    .int(row.type.rawValue), self.dialect.key(row.key), .text(row.payload), .int(row.target.rawValue),
                ]
                if let time = row.createTime { values.append(.int(time)) }
                if let client = row.client { values.append(.int(client)) }
                batch.append(values)
            }
            try await self.write("appendOutbox", batch)
        }
    }

    public func outboxFrontier() async throws -> Int64 {
        guard let row = try await self.read("frontier", "select frontier from sync_frontier where id = 1").first else {
            throw DataSyncError(.storageNotReady, operation: "frontier", detail: "sync_frontier is empty: run init")
        }
        return try row.int(0)
    }

    public func moveOutboxFrontier(from: Int64, to: Int64) async throws -> Bool {
        if from == to { return try await self.outboxFrontier() == from }
        return try await self.write(
            "frontier", "update sync_frontier set frontier = ? where id = 1 and frontier = ?", [.int(to), .int(from)]) == 1
    }

    public func hasOutboxRows(after id: Int64) async throws -> Bool {
        try await !self.read("outbox", "select id from sync_data where id > ? order by id limit 1", [.int(id)]).isEmpty
    }

    public func outboxHeads(in ids: ClosedRange<Int64>, newOnly: Bool, limit: Int) async throws -> [OutboxHead] {
        let sql =
            "select \(self.headColumns) from sync_data where id >= ? and id <= ?\(newOnly ? " and state = 0" : "") order by id limit ?"
            + self.dialect.numberingLocks
        return try await self.read("outbox", sql, [.int(ids.lowerBound), .int(ids.upperBound), .int(limit)]).map(Self.head)
    }

    public func outboxRows(_ ids: [Int64]) async throws -> [OutboxRow] {
        guard let first = ids.min(), let last = ids.max() else { return [] }
        // Most ids are consecutive: a range of the primary key costs a third of a list. Few others are read in vain.
        if last - first < Int64(2 * ids.count) {
            let wanted = Set(ids)
            let sql = "select \(self.rowColumns) from sync_data where id >= ? and id <= ? order by id"
            let rows = try await self.read("outbox", sql, [.int(first), .int(last)])
            return try rows.lazy.filter { wanted.contains(try $0.int(0)) }.map(Self.row)
        }
        var found: [OutboxRow] = []
        let sql = "select \(self.rowColumns) from sync_data where id in (%@)"
        try await self.readList("outbox", sql, list: ids.map { .int($0) }) { found.append(try Self.row($0)) }
        return found.sorted { $0.id < $1.id }
    }

    public func outboxRows(after id: Int64, limit: Int, bytesMax: Int) async throws -> OutboxPage {
        let sizes = try await self.read(
            "outbox", "select id, \(self.dialect.byteCount("data_detail")) from sync_data where id > ? order by id limit ?",
            [.int(id), .int(limit)])
        var bytes = 0
        var count = 0
        var last: Int64?
        for row in sizes {
            bytes += try row.int(1, as: Int.self)
            guard count == 0 || bytes <= bytesMax else { break }
            count += 1
            last = try row.int(0)
        }
        guard let last else { return OutboxPage(rows: [], isLast: true) }
        let sql = "select \(self.headColumns(digest: "0"))\(Self.otherColumns) from sync_data where id > ? and id <= ? order by id"
        let rows = try await self.read("outbox", sql, [.int(id), .int(last)]).map(Self.row)
        return OutboxPage(rows: rows, isLast: count == sizes.count && sizes.count < limit)
    }

    public func newOutboxRows(ofType type: BusinessTypeID, after id: Int64, limit: Int) async throws -> [OutboxRow] {
        let sql = """
            select \(self.rowColumns) from sync_data
            where business_type = ? and id > ? and state = 0 order by id limit ?
            """
        return try await self.read("outbox", sql, [.int(type.rawValue), .int(id), .int(limit)]).map(Self.row)
    }

    public func overtakenRows(among ids: [Int64], upTo frontier: Int64) async throws -> Set<Int64> {
        var overtaken: Set<Int64> = []
        // Few rows commit late; of a list, more are looked at in turn.
        for start in stride(from: 0, to: ids.count, by: 256) {
            let part = SQLDialect.padded(ids[start..<min(start + 256, ids.count)].map { .int($0) })
            let list = SQLDialect.placeholders(part.count)
            let sql = """
                select distinct o.id from sync_data o join \(self.dialect.from("sync_data", as: "n", index: "sync_data_name"))
                  on n.business_type = o.business_type and n.data_from_detail = o.data_from_detail
                  and n.data_to_server_id = o.data_to_server_id and n.id > o.id and n.id <= ?
                where o.id in (\(list)) and n.id not in (\(list))
                """
            for row in try await self.read("outbox", sql, [.int(frontier)] + part + part) { overtaken.insert(try row.int(0)) }
        }
        return overtaken
    }

    public func typesInOutbox(among types: Set<BusinessTypeID>) async throws -> Set<BusinessTypeID> {
        var found: Set<BusinessTypeID> = []
        let table = self.dialect.from("sync_data", index: "sync_data_name")
        for type in types.sorted() {
            let rows = try await self.read("outbox", "select 1 from \(table) where business_type = ? limit 1", [.int(type.rawValue)])
            if !rows.isEmpty { found.insert(type) }
        }
        return found
    }

    public func unsettledNames(among names: Set<EntityName>) async throws -> Set<EntityName> {
        var found: Set<EntityName> = []
        let table = self.dialect.from("sync_data", index: "sync_data_name")
        for (type, names) in Dictionary(grouping: names, by: \.type) {
            let sql = "select distinct data_from_detail from \(table) where business_type = ? and data_from_detail in (%@) and state <> 2"
            let keys = names.sorted().map { self.dialect.key($0.key) }
            try await self.readList("outbox", sql, before: [.int(type.rawValue)], list: keys) { row in
                found.insert(EntityName(type: type, key: EntityKey(try row.text(0))))
            }
        }
        return found
    }

    public func newOutboxRows(of names: Set<EntityName>, upTo last: Int64, limit: Int) async throws -> [OutboxRow] {
        var found: [OutboxRow] = []
        let table = self.dialect.from("sync_data", index: "sync_data_name")
        for (type, names) in Dictionary(grouping: names, by: \.type) {
            let sql = "select id from \(table) where business_type = ? and id <= ? and data_from_detail in (%@) and state = 0"
            var ids: Set<Int64> = []
            let keys = names.sorted().map { self.dialect.key($0.key) }
            try await self.readList("outbox", sql, before: [.int(type.rawValue), .int(last)], list: keys) { ids.insert(try $0.int(0)) }
            found += try await self.outboxRows(Array(ids.sorted().prefix(limit)))
        }
        return Array(found.sorted { $0.id < $1.id }.prefix(limit))
    }

    public func outboxRow(_ name: EntityName, uid: RecordUID) async throws -> OutboxRow? {
        let table = self.dialect.from("sync_data", index: "sync_data_name")
        let sql = "select \(self.rowColumns) from \(table) where business_type = ? and data_from_detail = ? and uid = ?"
        return try await self.read("outbox", sql, [.int(name.type.rawValue), self.dialect.key(name.key), .bytes(uid.bytes)])
            .first.map(Self.row)
    }

    // MARK: - Settling

    public func settleOutbox(_ settlements: [OutboxSettlement], origin: ServerID) async throws -> Int {
        var count = 0
        var others: [OutboxSettlement] = []
        var plain: [BusinessTypeID: [OutboxSettlement]] = [:]
        for settlement in settlements {
            let isPlain = settlement.state == .settled && settlement.reason == .applied && settlement.attempts == 0 && settlement.detail == nil
            if isPlain, !self.dialect.isSQLite { plain[settlement.type, default: []].append(settlement) } else { others.append(settlement) }
        }
        for settlements in plain.values {
            count += try await self.settleApplied(settlements.sorted { $0.id < $1.id }, origin: origin)
        }
        var batch = SQLBatch(
            each: """
                update sync_data set syn_id = ?, data_from_server_id = ?, state = ?, fail_num = ?, result_of_send_business = ?, reason = ?
                where id = ? and state = 0
                """, arity: 7)
        for settlement in others {
            batch.append([
                .int(settlement.synID), .int(origin.rawValue), .int(settlement.state.rawValue), .int(settlement.attempts),
                .int(settlement.reason.rawValue), .text(settlement.detail?.shortened), .int(settlement.id),
            ])
        }
        return count + (try await self.write("settle", batch))
    }

    /// Rows of one type that were simply applied, by id. Where ids and numbers rise together, one update by range does for
    /// all of them; it must not span a gap, or it would settle, unsent, a row that commits there.
    private func settleApplied(_ settlements: [OutboxSettlement], origin: ServerID) async throws -> Int {
        let pieces = Self.pieces(settlements)
        let assignments = "state = 2, result_of_send_business = \(ReasonCode.applied.rawValue), data_from_server_id = ?"
        var count = 0
        if pieces.count * 8 <= settlements.count {
            for piece in pieces {
                count += try await self.write(
                    "settle",
                    "update sync_data set syn_id = id - ?, \(assignments) where id >= ? and id <= ? and state = 0",
                    [.int(piece.offset), .int(origin.rawValue), .int(piece.first), .int(piece.last)])
            }
            return count
        }
        // Types in turn: short pieces. The difference of id and number is looked up by the piece that an id is in. These
        // are numbers of our own, so they may stand in the text of the statement.
        for start in stride(from: 0, to: pieces.count, by: 256) {
            let part = pieces[start..<min(start + 256, pieces.count)]
            let starts = part.dropFirst().map { String($0.first) }
            let offsets = part.map { "'\($0.offset)'" }.joined(separator: ", ")
            let index = starts.isEmpty ? "1" : "1 + interval(id, \(starts.joined(separator: ", ")))"
            let ids = part.flatMap { $0.first...$0.last }
            let list = ids.map { String($0) }.joined(separator: ", ")
            count += try await self.write(
                "settle",
                "update sync_data set syn_id = id - cast(elt(\(index), \(offsets)) as signed), \(assignments) where id in (\(list)) and state = 0",
                [.int(origin.rawValue)])
        }
        return count
    }

    private struct Piece {
        var first: Int64
        var last: Int64
        /// What is to be taken from an id to get its number.
        var offset: Int64
    }

    private static func pieces(_ settlements: [OutboxSettlement]) -> [Piece] {
        var pieces: [Piece] = []
        for settlement in settlements {
            let offset = settlement.id - settlement.synID
            let isNext = PlantedBug.isOn(.settledOverGaps) || pieces.last.map { $0.last + 1 == settlement.id } ?? false
            if let last = pieces.last, isNext, last.offset == offset {
                pieces[pieces.count - 1].last = settlement.id
            } else {
                pieces.append(Piece(first: settlement.id, last: settlement.id, offset: offset))
            }
        }
        return pieces
    }

    public func updateOutbox(_ settlements: [OutboxSettlement]) async throws {
        var batch = SQLBatch(
            each: "update sync_data set state = ?, fail_num = ?, result_of_send_business = ?, reason = ? where id = ?", arity: 5)
        for settlement in settlements {
            batch.append([
                .int(settlement.state.rawValue), .int(settlement.attempts), .int(settlement.reason.rawValue),
                .text(settlement.detail?.shortened), .int(settlement.id),
            ])
        }
        try await self.write("updateOutbox", batch)
    }

    // MARK: - Numbers

    public func takeNumbers(_ stream: StreamID, count: Int) async throws -> Int64 {
        let key: [SQLValue] = [.int(stream.origin.rawValue), .int(stream.epoch), .int(stream.type.rawValue)]
        let condition = "origin = ? and epoch = ? and business_type = ?"
        if try await self.write("number", "update sync_stream set last = last + ? where \(condition)", [.int(count)] + key) == 0 {
            try await self.write(
                "number", "insert into sync_stream (origin, epoch, business_type, last) values (?, ?, ?, ?)", key + [.int(count)])
            return 1
        }
        let rows = try await self.read("number", "select last from sync_stream where \(condition)", key)
        return try rows[0].int(0) - Int64(count) + 1
    }

    public func lastNumbers(origin: ServerID, epoch: Int32) async throws -> [BusinessTypeID: Int64] {
        let rows = try await self.read(
            "number", "select business_type, last from sync_stream where origin = ? and epoch = ?",
            [.int(origin.rawValue), .int(epoch)])
        return try rows.reduce(into: [:]) { $0[try $1.type(0)] = try $1.int(1) }
    }

    public func typesNumbered(by origin: ServerID) async throws -> Set<BusinessTypeID> {
        let rows = try await self.read(
            "number", "select distinct business_type from sync_stream where origin = ?", [.int(origin.rawValue)])
        return Set(try rows.map { try $0.type(0) })
    }
}
