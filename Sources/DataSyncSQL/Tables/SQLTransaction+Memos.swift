public import DataSync

extension SQLTransaction: MemoTable {
    private static let insertColumns = [
        "receiver", "sender", "epoch", "business_type", "number", "scope", "origin", "origin_epoch", "syn_id", "uid",
        "data_to_server_id", "create_time", "data_from_client", "data_from_detail", "data_detail", "disposition", "fail_num",
        "result_of_send_business", "reason", "tries", "next_try", "created", "since", "version", "needs",
    ]

    /// With or without the payload.
    private static func columns(withPayload: Bool) -> String {
        let payload = withPayload ? "data_detail" : "case when data_detail is null then null else '' end"
        return "id, " + self.insertColumns.map { $0 == "data_detail" ? payload : $0 }.joined(separator: ", ")
    }

    /// The dispositions of which later records wait.
    private static let open = Disposition.allCases.filter(\.isOpen).map { String($0.rawValue) }.joined(separator: ", ")

    private static func memo(_ row: SQLRow) throws -> Memo {
        guard let disposition = Disposition(rawValue: try row.int(16, as: UInt8.self)) else {
            throw SQLError.unexpectedType(column: 16, expected: "a disposition")
        }
        let type = try row.type(4)
        let payload = try row.optionalText(15)
        return Memo(
            id: try row.int(0),
            line: MemoLine(receiver: try row.server(1), sender: try row.server(2), epoch: try row.int(3, as: Int32.self), type: type),
            number: try row.int(5), scope: try row.server(6),
            record: SyncRecord(
                stream: StreamID(origin: try row.server(7), epoch: try row.int(8, as: Int32.self), type: type),
                synID: try row.int(9), uid: try row.uid(10), key: EntityKey(try row.text(14)), target: try row.server(11),
                createTime: try row.int(12), client: try row.optionalInt(13).map { Int8(truncatingIfNeeded: $0) },
                payload: payload ?? ""),
            holdsPayload: payload != nil, disposition: disposition, reason: try row.reason(18),
            detail: try row.optionalText(19), attempts: try row.int(17, as: Int.self), tries: try row.int(20, as: Int.self),
            nextTry: try row.int(21), created: try row.int(22), since: try row.int(23), version: try row.int(24),
            needs: try Self.needs(row, 25))
    }

    /// An empty name stands for what has none; NULL says that the record does not wait.
    private static func needs(_ row: SQLRow, _ column: Int) throws -> Dependency? {
        try row.optionalText(column).map { $0.isEmpty ? .unnamed : .entity(EntityKey($0)) }
    }

    private func value(_ needs: Dependency?) -> SQLValue {
        switch needs {
        case .entity(let key): self.dialect.key(key)
        case .unnamed: self.dialect.key("")
        case nil: .null
        }
    }

    public func insertMemos(_ memos: [Memo]) async throws {
        var batch = SQLBatch(insertInto: "sync_memo", columns: Self.insertColumns, reservingRows: memos.count)
        for memo in memos {
            let record = memo.record
            batch.append(
                Self.values(memo.line) + [
                    .int(memo.number), .int(memo.scope.rawValue), .int(record.origin.rawValue), .int(record.stream.epoch),
                    .int(record.synID), .bytes(record.uid.bytes), .int(record.target.rawValue), .int(record.createTime),
                    record.client.map { .int($0) } ?? .null, self.dialect.key(record.key),
                    memo.holdsPayload ? .text(record.payload) : .null, .int(memo.disposition.rawValue), .int(memo.attempts),
                    .int(memo.reason.rawValue), .text(memo.detail?.shortened), .int(memo.tries), .int(memo.nextTry),
                    .int(memo.created), .int(memo.since), .int(memo.version), self.value(memo.needs),
                ])
        }
        try await self.write("memo", batch)
    }

    public func updateMemos(_ memos: [Memo]) async throws {
        for memo in memos {
            let sql = """
                update sync_memo set disposition = ?, fail_num = ?, result_of_send_business = ?, reason = ?, tries = ?, next_try = ?,
                  version = ?, needs = ?\(memo.holdsPayload ? "" : ", data_detail = null")
                where id = ?
                """
            try await self.write(
                "memo", sql,
                [
                    .int(memo.disposition.rawValue), .int(memo.attempts), .int(memo.reason.rawValue),
                    .text(memo.detail?.shortened), .int(memo.tries), .int(memo.nextTry), .int(memo.version), self.value(memo.needs),
                    .int(memo.id),
                ])
        }
    }

    public func beginTry(ofMemo id: Int64, disposition: Disposition, tries: Int) async throws -> Bool {
        try await self.write(
            "memo", "update sync_memo set tries = tries + 1 where id = ? and disposition = ? and tries = ?",
            [.int(id), .int(disposition.rawValue), .int(tries)]) == 1
    }

    public func memo(_ id: Int64) async throws -> Memo? {
        try await self.read("memo", "select \(Self.columns(withPayload: true)) from sync_memo where id = ?", [.int(id)])
            .first.map(Self.memo)
    }

    private static func values(_ line: MemoLine) -> [SQLValue] {
        [.int(line.receiver.rawValue), .int(line.sender.rawValue), .int(line.epoch), .int(line.type.rawValue)]
    }

    private static let lineCondition = "receiver = ? and sender = ? and epoch = ? and business_type = ?"

    public func memos(in line: MemoLine, numbers: [Int64]) async throws -> [Memo] {
        var memos: [Memo] = []
        let sql = """
            select \(Self.columns(withPayload: false)) from sync_memo
            where \(Self.lineCondition) and number in (%@) order by number
            """
        let list = Set(numbers).sorted().map { SQLValue.int($0) }
        try await self.readList("memo", sql, before: Self.values(line), list: list) { memos.append(try Self.memo($0)) }
        return memos
    }

    public func memos(in line: MemoLine, numbers: ClosedRange<Int64>, limit: Int) async throws -> [Memo] {
        let sql = """
            select \(Self.columns(withPayload: false)) from sync_memo
            where \(Self.lineCondition) and number >= ? and number <= ? order by number limit ?
            """
        return try await self.read(
            "memo", sql, Self.values(line) + [.int(numbers.lowerBound), .int(numbers.upperBound), .int(limit)]
        ).map(Self.memo)
    }

    public func memos(at receiver: ServerID, from sender: ServerID, of entities: Set<EntityID>) async throws -> [Memo] {
        var memos: [Memo] = []
        let table = self.dialect.from("sync_memo", index: "sync_memo_entity")
        for (type, entities) in Dictionary(grouping: entities, by: \.type) {
            let sql = """
                select \(Self.columns(withPayload: false)) from \(table)
                where receiver = ? and sender = ? and business_type = ? and data_from_detail in (%@)
                """
            let before: [SQLValue] = [.int(receiver.rawValue), .int(sender.rawValue), .int(type.rawValue)]
            let keys = Set(entities.map(\.key)).sorted().map { self.dialect.key($0) }
            try await self.readList("memo", sql, before: before, list: keys) { row in
                let memo = try Self.memo(row)
                if entities.contains(memo.entity) { memos.append(memo) }
            }
        }
        return memos.sorted { $0.id < $1.id }
    }

    public func openMemos(at receiver: ServerID, from sender: ServerID) async throws -> OpenMemos {
        let table = self.dialect.from("sync_memo", index: "sync_memo_due")
        let sql = """
            select exists(select 1 from \(table) where receiver = ? and disposition in (\(Self.open)) and sender = ?),
              exists(select 1 from \(table) where receiver = ? and disposition = \(Disposition.waiting.rawValue)),
              exists(select 1 from \(table) where receiver = ? and disposition = \(Disposition.suspect.rawValue) and sender = ?)
            """
        let (receiver, sender) = (SQLValue.int(receiver.rawValue), SQLValue.int(sender.rawValue))
        let row = try await self.read("memo", sql, [receiver, sender, receiver, receiver, sender])[0]
        return OpenMemos(
            fromSender: try row.int(0, as: Int.self) != 0, waiting: try row.int(1, as: Int.self) != 0,
            suspects: try row.int(2, as: Int.self) != 0)
    }

    public func releaseMemos(
        at receiver: ServerID, needing keys: Set<EntityKey>, limit: Int, unnamedMax: Int, time: Int64
    ) async throws -> Int {
        let table = self.dialect.from("sync_memo", index: "sync_memo_needs")
        let sql = """
            select id from \(table)
            where receiver = ? and needs in (%@) and disposition = \(Disposition.waiting.rawValue) and next_try > ?
            order by next_try, id limit ?
            """
        var ids: [Int64] = []
        for (keys, limit) in [(keys.sorted(), limit), ([EntityKey("")], unnamedMax)] {
            var found: [Int64] = []
            try await self.readList(
                "memo", sql, before: [.int(receiver.rawValue)], list: keys.map { self.dialect.key($0) }, after: [.int(time), .int(limit)]
            ) { found.append(try $0.int(0)) }
            ids += found.prefix(limit)
        }
        guard !ids.isEmpty else { return 0 }
        let list = SQLDialect.padded(ids.sorted().map { .int($0) })
        return try await self.write(
            "memo",
            """
            update sync_memo set next_try = ?
            where id in (\(SQLDialect.placeholders(list.count))) and disposition = \(Disposition.waiting.rawValue) and next_try > ?
            """, [.int(time)] + list + [.int(time)])
    }

    public func dependency(at receiver: ServerID, from sender: ServerID, of key: EntityKey) async throws -> Dependency? {
        let table = self.dialect.from("sync_memo", index: "sync_memo_due")
        let sql = """
            select needs from \(table)
            where receiver = ? and disposition = \(Disposition.waiting.rawValue) and sender = ? and data_from_detail = ? order by id limit 1
            """
        return try await self.read(
            "memo", sql, [.int(receiver.rawValue), .int(sender.rawValue), self.dialect.key(key)]
        ).first.flatMap { try Self.needs($0, 0) }
    }

    public func openEntities(
        at receiver: ServerID, from sender: ServerID, among entities: Set<EntityID>
    ) async throws -> Set<EntityID> {
        var found: Set<EntityID> = []
        let table = self.dialect.from("sync_memo", index: "sync_memo_entity")
        for (type, entities) in Dictionary(grouping: entities, by: \.type) {
            let sql = """
                select distinct scope, data_from_detail from \(table)
                where receiver = ? and sender = ? and business_type = ? and data_from_detail in (%@) and disposition in (\(Self.open))
                """
            let before: [SQLValue] = [.int(receiver.rawValue), .int(sender.rawValue), .int(type.rawValue)]
            let keys = Set(entities.map(\.key)).sorted().map { self.dialect.key($0) }
            try await self.readList("memo", sql, before: before, list: keys) { row in
                let id = EntityID(type: type, scope: try row.server(0), key: EntityKey(try row.text(1)))
                if entities.contains(id) { found.insert(id) }
            }
        }
        return found
    }

    public func firstOpenMemo(at receiver: ServerID, from sender: ServerID, of entity: EntityID) async throws -> Int64? {
        let sql = """
            select min(id) from sync_memo
            where receiver = ? and sender = ? and business_type = ? and data_from_detail = ? and scope = ? and disposition in (\(Self.open))
            """
        return try await self.read("memo", sql, self.values(receiver, sender, entity)).first?.optionalInt(0)
    }

    private func values(_ receiver: ServerID, _ sender: ServerID, _ entity: EntityID) -> [SQLValue] {
        [
            .int(receiver.rawValue), .int(sender.rawValue), .int(entity.type.rawValue), self.dialect.key(entity.key),
            .int(entity.scope.rawValue),
        ]
    }

    public func openUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        try await self.usage(Self.open, at: receiver, from: sender, type: type)
    }

    public func deadUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        try await self.usage("\(Disposition.dead.rawValue)", at: receiver, from: sender, type: type)
    }

    private func usage(_ dispositions: String, at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        let sql = """
            select count(*), coalesce(sum(\(self.dialect.byteCount("data_detail"))), 0) from sync_memo
            where receiver = ? and sender = ? and business_type = ? and disposition in (\(dispositions))
            """
        let rows = try await self.read("memo", sql, [.int(receiver.rawValue), .int(sender.rawValue), .int(type.rawValue)])
        return OpenUsage(records: try rows[0].int(0, as: Int.self), bytes: try rows[0].int(1, as: Int.self))
    }

    public func dueMemos(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Int64] {
        let sql = """
            select id from sync_memo where receiver = ? and disposition in (\(Self.open)) and next_try <= ?
            order by next_try, id limit ?
            """
        return try await self.read("memo", sql, [.int(receiver.rawValue), .int(time), .int(limit)]).map { try $0.int(0) }
    }

    /// The suspects of one receiver and sender, of types that are to follow.
    private static let suspectCondition = "receiver = ? and sender = ? and disposition = \(Disposition.suspect.rawValue)"

    public func suspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, limit: Int) async throws -> [Memo] {
        let table = self.dialect.from("sync_memo", index: "sync_memo_due")
        let sql = """
            select \(Self.columns(withPayload: false)) from \(table)
            where \(Self.suspectCondition) and business_type = ? order by id limit ?
            """
        return try await self.read(
            "memo", sql, [.int(receiver.rawValue), .int(sender.rawValue), .int(type.rawValue), .int(limit)]
        ).map(Self.memo)
    }

    public func endSuspicion(
        at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>, attempts: Int, time: Int64
    ) async throws -> Int {
        guard !types.isEmpty else { return 0 }
        let list = SQLDialect.padded(types.sorted().map { .int($0.rawValue) })
        return try await self.write(
            "memo",
            """
            update sync_memo set disposition = \(Disposition.parked.rawValue), fail_num = ?, next_try = ?
            where \(Self.suspectCondition) and business_type in (\(SQLDialect.placeholders(list.count)))
            """, [.int(attempts), .int(time), .int(receiver.rawValue), .int(sender.rawValue)] + list)
    }

    public func postponeSuspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, time: Int64) async throws {
        try await self.write(
            "memo", "update sync_memo set next_try = ? + tries where \(Self.suspectCondition) and business_type = ?",
            [.int(time), .int(receiver.rawValue), .int(sender.rawValue), .int(type.rawValue)])
    }

    public func wakeMemos(at receiver: ServerID, from sender: ServerID, of entity: EntityID, time: Int64) async throws {
        let sql = """
            update sync_memo set next_try = ?
            where receiver = ? and sender = ? and business_type = ? and data_from_detail = ? and scope = ?
              and disposition in (\(Self.open)) and next_try > ?
            """
        try await self.write("memo", sql, [.int(time)] + self.values(receiver, sender, entity) + [.int(time)])
    }

    public func memosToAsk(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Memo] {
        let sql = """
            select \(Self.columns(withPayload: false)) from sync_memo
            where receiver = ? and (disposition in (\(Self.open)) or (disposition = \(Disposition.dead.rawValue) and next_try <= ?))
            order by next_try, id limit ?
            """
        return try await self.read("memo", sql, [.int(receiver.rawValue), .int(time), .int(limit)]).map(Self.memo)
    }

    public func memos(
        _ dispositions: Set<Disposition>, after id: Int64, limit: Int, among branches: Set<ServerID>?
    ) async throws -> [Memo] {
        guard !dispositions.isEmpty else { return [] }
        let list = dispositions.map { String($0.rawValue) }.sorted().joined(separator: ", ")
        let (condition, values) = Self.concernsOnly(branches)
        let sql = """
            select \(Self.columns(withPayload: false)) from sync_memo
            where disposition in (\(list)) and id > ? and \(condition) order by id limit ?
            """
        return try await self.read("memo", sql, [.int(id)] + values + [.int(limit)]).map(Self.memo)
    }

    /// What ``Memo/concernsOnly(_:)`` says, as a condition and what it is asked with.
    private static func concernsOnly(_ branches: Set<ServerID>?) -> (condition: String, values: [SQLValue]) {
        guard let branches else { return ("1 = 1", []) }
        let list = SQLDialect.padded(branches.union([.cloud]).sorted().map { .int($0.rawValue) })
        let marks = SQLDialect.placeholders(list.count)
        return (
            """
            receiver in (\(marks)) and sender in (\(marks)) and origin in (\(marks))
              and (receiver > 0 or sender > 0 or origin > 0)
            """, list + list + list
        )
    }

    public func memoCounts(among branches: Set<ServerID>?) async throws -> [MemoCount] {
        let (condition, values) = Self.concernsOnly(branches)
        let sql = """
            select receiver, business_type, disposition, count(*) from sync_memo where \(condition)
            group by receiver, business_type, disposition order by receiver, business_type, disposition
            """
        return try await self.read("memo", sql, values).compactMap { row in
            guard let disposition = Disposition(rawValue: try row.int(2, as: UInt8.self)) else { return nil }
            return MemoCount(
                receiver: try row.server(0), type: try row.type(1), disposition: disposition, count: try row.int(3, as: Int.self))
        }
    }
}
