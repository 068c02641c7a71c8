import DataSync

/// Records as the decisions of the engine see them.
enum Sample {
    static func record(
        _ type: ItemType, _ id: Int, _ text: String = "x", number: Int64 = 1, from origin: ServerID = 1, to target: ServerID = .cloud
    ) throws -> SyncRecord {
        let row = try type.row(for: type.kind == .action ? .act(Item(id: id, text: text)) : .upsert(Item(id: id, text: text)))
        return Self.record(row, number: number, from: origin, to: target)
    }

    static func deletion(_ type: ItemType, _ id: Int, number: Int64 = 1, from origin: ServerID = 1) throws -> SyncRecord {
        let row = try type.row(for: .delete(type.key(of: Item(id: id, text: ""))))
        return Self.record(row, number: number, from: origin, to: .cloud)
    }

    private static func record(_ row: NewOutboxRow, number: Int64, from origin: ServerID, to target: ServerID) -> SyncRecord {
        SyncRecord(
            stream: StreamID(origin: origin, epoch: 1, type: row.type), synID: number,
            uid: RecordUID(high: UInt64(row.type.rawValue), low: UInt64(number)), key: row.key, target: target, createTime: 1_000 + number,
            client: nil, payload: row.payload)
    }

    static func prepared(
        _ type: ItemType, _ id: Int, _ text: String = "x", number: Int64 = 1, from origin: ServerID = 1, to target: ServerID = .cloud
    ) throws -> PreparedRecord {
        try type.prepare(self.record(type, id, text, number: number, from: origin, to: target), scope: origin)
    }

    static func log(_ type: ItemType, _ id: Int, _ text: String = "x", place: Int64, from origin: ServerID = 2) throws -> LogRecord {
        LogRecord(
            logSeq: place, mark: Fingerprint(rawValue: UInt64(place)), audience: .all, scope: .cloud, isEcho: false, isDeletion: false,
            record: try self.record(type, id, text, number: place, from: origin))
    }

    static func entry(_ id: Int64, time: Int64 = 0, bytes: Int = 10) -> Manifest.Entry {
        Manifest.Entry(id: id, createTime: time, bytes: bytes, digest: 0)
    }

    static func entries(_ count: Int, time: Int64 = 0, bytes: Int = 10) -> [Manifest.Entry] {
        (0..<count).map { self.entry(Int64($0), time: time + Int64($0), bytes: bytes) }
    }
}
