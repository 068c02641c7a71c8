// The four questions and their answers, member by member, in the order of Docs/protocol.md.

extension OpenRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (version, nonce, software, types): (Int?, String?, String?, [TypeSummary]?) = (nil, nil, nil, nil)
        var (host, logEpoch, cursors): (String, Int32, [BusinessTypeID: Position]) = ("", 1, [:])
        try reader.readObject { reader, name in
            switch name {
            case "protocol": version = try reader.readInteger()
            case "nonce": nonce = try reader.readString()
            case "software": software = try reader.readString()
            case "types": types = try Wire.elements(&reader, TypeSummary.init(from:))
            case "host": host = try reader.readString()
            case "log_epoch": logEpoch = try reader.readInteger()
            case "cursors": cursors = try Wire.positions(&reader)
            default: try reader.skipValue()
            }
        }
        self.init(
            protocolVersion: try Wire.need(version, "protocol", reader), nonce: try Wire.need(nonce, "nonce", reader),
            software: try Wire.need(software, "software", reader), types: try Wire.need(types, "types", reader),
            host: host, logEpoch: logEpoch, cursors: cursors)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("protocol", self.protocolVersion)
            writer.member("nonce", self.nonce)
            writer.member("software", self.software)
            writer.member("types", self.types)
            writer.member("host", self.host)
            writer.member("log_epoch", self.logEpoch)
            writer.key("cursors")
            Wire.write(self.cursors, to: &writer)
        }
    }
}

extension OpenAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, logEpoch, positions): (SessionID?, Int32?, [BusinessTypeID: Position]?) = (nil, nil, nil)
        var (types, recordBytesMax, time): ([TypeSummary]?, Int?, Int64?) = (nil, nil, nil)
        var (older, cursors): ([Int32: [BusinessTypeID: Position]], [BusinessTypeID: Position]?) = ([:], nil)
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "log_epoch": logEpoch = try reader.readInteger()
            case "positions": positions = try Wire.positions(&reader)
            case "older": for epoch in try Wire.elements(&reader, EpochPositions.init(from:)) { older[epoch.epoch] = epoch.positions }
            case "cursors": cursors = try Wire.positions(&reader)
            case "types": types = try Wire.elements(&reader, TypeSummary.init(from:))
            case "record_bytes_max": recordBytesMax = Int(clamping: try Wire.positive(&reader))
            case "time": time = try reader.readInteger()
            default: try reader.skipValue()
            }
        }
        self.init(
            session: try Wire.need(session, "session", reader), logEpoch: try Wire.need(logEpoch, "log_epoch", reader),
            positions: try Wire.need(positions, "positions", reader), types: try Wire.need(types, "types", reader),
            recordBytesMax: try Wire.need(recordBytesMax, "record_bytes_max", reader), time: try Wire.need(time, "time", reader),
            olderPositions: older, cursors: cursors)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("log_epoch", self.logEpoch)
            writer.key("positions")
            Wire.write(self.positions, to: &writer)
            let older = self.olderPositions.sorted { $0.key < $1.key }.map { EpochPositions(epoch: $0.key, positions: $0.value) }
            if !older.isEmpty { writer.member("older", older) }
            if let cursors {
                writer.key("cursors")
                Wire.write(cursors, to: &writer)
            }
            writer.member("types", self.types)
            writer.member("record_bytes_max", self.recordBytesMax)
            writer.member("time", self.time)
        }
    }
}

/// The positions in the streams of one epoch.
private struct EpochPositions: WireMessage {
    var epoch: Int32
    var positions: [BusinessTypeID: Position]

    init(epoch: Int32, positions: [BusinessTypeID: Position]) {
        self.epoch = epoch
        self.positions = positions
    }

    init(from reader: inout JSONReader) throws {
        var (epoch, positions): (Int32?, [BusinessTypeID: Position]?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "epoch": epoch = try reader.readInteger()
            case "positions": positions = try Wire.positions(&reader)
            default: try reader.skipValue()
            }
        }
        self.init(epoch: try Wire.need(epoch, "epoch", reader), positions: try Wire.need(positions, "positions", reader))
    }

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("epoch", self.epoch)
            writer.key("positions")
            Wire.write(self.positions, to: &writer)
        }
    }
}

// MARK: - Push

extension PushRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, runs, asked): (SessionID?, [PushRun]?, [RecordNumber]) = (nil, nil, [])
        var isCareful = false
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "careful": isCareful = try reader.readBool()
            case "runs": runs = try Wire.elements(&reader, holding: \.records.count, PushRun.init(from:))
            case "asked": asked = try Wire.elements(&reader, RecordNumber.init(from:))
            default: try reader.skipValue()
            }
        }
        self.init(
            session: try Wire.need(session, "session", reader), runs: try Wire.need(runs, "runs", reader), asked: asked, isCareful: isCareful)
        // The session says whose records these are: the stream of each is filled in from it.
        for run in self.runs.indices { self.runs[run].setEpoch(self.session.epoch) }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("runs", self.runs)
            if !self.asked.isEmpty { writer.member("asked", self.asked) }
            if self.isCareful { writer.member("careful", true) }
        }
    }
}

extension PushRun: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (type, first, mark, records): (BusinessTypeID?, Int64?, Fingerprint?, [SentRecord]?) = (nil, nil, nil, nil)
        var (before, isAgain) = (Fingerprint.none, false)
        try reader.readObject { reader, name in
            switch name {
            case "type": type = try Wire.type(&reader)
            case "first": first = try Wire.positive(&reader)
            case "run": mark = try Wire.fingerprint(&reader)
            case "before": before = try Wire.fingerprint(&reader)
            case "again": isAgain = try reader.readBool()
            case "records": records = try Wire.elements(&reader, SentRecord.init(from:))
            default: try reader.skipValue()
            }
        }
        self.init(
            type: try Wire.need(type, "type", reader), firstSynID: try Wire.need(first, "first", reader),
            run: try Wire.need(mark, "run", reader), before: before, isAgain: isAgain, records: try Wire.need(records, "records", reader))
        guard self.firstSynID <= Int64.max - Int64(Wire.elementsMax) else { throw reader.failure("'first' is too large") }
        for index in self.records.indices {
            guard case .record(var record) = self.records[index] else { continue }
            record.stream.type = self.type
            record.synID = self.firstSynID + Int64(index)
            self.records[index] = .record(record)
        }
    }

    fileprivate mutating func setEpoch(_ epoch: Int32) {
        for index in self.records.indices {
            guard case .record(var record) = self.records[index] else { continue }
            record.stream.epoch = epoch
            self.records[index] = .record(record)
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("type", self.type.rawValue)
            writer.member("first", self.firstSynID)
            writer.member("run", self.run.hex)
            if self.before != .none { writer.member("before", self.before.hex) }
            if self.isAgain { writer.member("again", true) }
            writer.member("records", self.records)
        }
    }
}

extension SentRecord: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (isVoid, reason): (Bool, ReasonCode?) = (false, nil)
        var content = WireRecord()
        try reader.readObject { reader, name in
            switch name {
            case "void": isVoid = try reader.readBool()
            case "unsendable": reason = try Wire.reason(&reader)
            default: try content.read(name, from: &reader)
            }
        }
        if isVoid {
            self = .void
        } else if let reason {
            self = .unsendable(
                uid: try Wire.need(content.uid, "uid", reader), key: try Wire.need(content.key, "key", reader), reason: reason)
        } else {
            self = .record(try content.record(StreamID(origin: .cloud, epoch: 0, type: 0), synID: 0, reader))
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            switch self {
            case .void: writer.member("void", true)
            case .unsendable(let uid, let key, let reason):
                writer.member("uid", uid.hex)
                writer.member("key", key.text)
                writer.member("unsendable", reason.name)
            case .record(let record): WireRecord.write(record, to: &writer)
            }
        }
    }
}

/// The members that a record has in both directions.
private struct WireRecord {
    var uid: RecordUID?
    var key: EntityKey?
    var time: Int64?
    var target: ServerID = .cloud
    var client: Int8?
    var detail: String?

    mutating func read(_ name: String, from reader: inout JSONReader) throws {
        switch name {
        case "uid": self.uid = try Wire.uid(&reader)
        case "key": self.key = try Wire.key(&reader)
        case "time": self.time = try reader.readInteger()
        case "to": self.target = try Wire.server(&reader)
        case "client": self.client = try reader.readInteger()
        case "detail": self.detail = try reader.readString()
        default: try reader.skipValue()
        }
    }

    func record(_ stream: StreamID, synID: Int64, _ reader: borrowing JSONReader) throws -> SyncRecord {
        SyncRecord(
            stream: stream, synID: synID, uid: try Wire.need(self.uid, "uid", reader), key: try Wire.need(self.key, "key", reader),
            target: self.target, createTime: try Wire.need(self.time, "time", reader), client: self.client,
            payload: try Wire.need(self.detail, "detail", reader))
    }

    static func write(_ record: SyncRecord, to writer: inout JSONWriter) {
        writer.member("uid", record.uid.hex)
        writer.member("key", record.key.text)
        writer.member("time", record.createTime)
        if record.target != .cloud { writer.member("to", record.target.rawValue) }
        if let client = record.client { writer.member("client", client) }
        writer.member("detail", record.payload)
    }
}

extension PushAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (runs, outcomes): ([PushRunAnswer]?, [NumberedOutcome]) = (nil, [])
        try reader.readObject { reader, name in
            switch name {
            case "runs": runs = try Wire.elements(&reader, holding: \.outcomes.count, PushRunAnswer.init(from:))
            case "outcomes": outcomes = try Wire.elements(&reader, NumberedOutcome.init(from:))
            default: try reader.skipValue()
            }
        }
        self.init(runs: try Wire.need(runs, "runs", reader), outcomes: outcomes)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("runs", self.runs)
            if !self.outcomes.isEmpty { writer.member("outcomes", self.outcomes) }
        }
    }
}

extension PushRunAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (outcomes, stop): ([Outcome]?, PushStop?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "outcomes": outcomes = try Wire.elements(&reader, Outcome.init(from:))
            case "stop": stop = try PushStop(from: &reader)
            default: try reader.skipValue()
            }
        }
        self.init(outcomes: try Wire.need(outcomes, "outcomes", reader), stop: stop)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("outcomes", self.outcomes)
            if let stop { writer.member("stop", stop) }
        }
    }
}

extension PushStop: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (code, position, retryAfter): (String?, Int64?, Duration?) = (nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "code": code = try reader.readString()
            case "position": position = try reader.readInteger()
            case "retry_after_ms": retryAfter = try Wire.duration(&reader)
            default: try reader.skipValue()
            }
        }
        switch try Wire.need(code, "code", reader) {
        case "gap": self = .gap(position: try Wire.need(position, "position", reader))
        case "unsupported": self = .unsupported
        case "stopped": self = .stopped(retryAfter: try Wire.need(retryAfter, "retry_after_ms", reader))
        case "quota": self = .quota(retryAfter: try Wire.need(retryAfter, "retry_after_ms", reader))
        default: throw reader.failure("an unknown reason for stopping")
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            switch self {
            case .gap(let position):
                writer.member("code", "gap")
                writer.member("position", position)
            case .unsupported: writer.member("code", "unsupported")
            case .stopped(let retryAfter):
                writer.member("code", "stopped")
                writer.member("retry_after_ms", retryAfter.milliseconds)
            case .quota(let retryAfter):
                writer.member("code", "quota")
                writer.member("retry_after_ms", retryAfter.milliseconds)
            }
        }
    }
}

// MARK: - Pull

extension PullRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, logEpoch, cursors): (SessionID?, Int32?, [BusinessTypeID: Position]?) = (nil, nil, nil)
        var (asked, recordsMax, bytesMax, recordBytesMax): ([RecordNumber], Int?, Int?, Int?) = ([], nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "log_epoch": logEpoch = try reader.readInteger()
            case "cursors": cursors = try Wire.positions(&reader)
            case "asked": asked = try Wire.elements(&reader, RecordNumber.init(from:))
            case "records_max": recordsMax = Int(clamping: try Wire.positive(&reader))
            case "bytes_max": bytesMax = Int(clamping: try Wire.positive(&reader))
            case "record_bytes_max": recordBytesMax = Int(clamping: try Wire.positive(&reader))
            default: try reader.skipValue()
            }
        }
        self.init(
            session: try Wire.need(session, "session", reader), logEpoch: try Wire.need(logEpoch, "log_epoch", reader),
            cursors: try Wire.need(cursors, "cursors", reader), asked: asked,
            recordsMax: try Wire.need(recordsMax, "records_max", reader), bytesMax: try Wire.need(bytesMax, "bytes_max", reader),
            recordBytesMax: try Wire.need(recordBytesMax, "record_bytes_max", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("log_epoch", self.logEpoch)
            writer.key("cursors")
            Wire.write(self.cursors, to: &writer)
            if !self.asked.isEmpty { writer.member("asked", self.asked) }
            writer.member("records_max", self.recordsMax)
            writer.member("bytes_max", self.bytesMax)
            writer.member("record_bytes_max", self.recordBytesMax)
        }
    }
}

extension PullAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var answer = PullAnswer()
        var runs: [PullRun]?
        try reader.readObject { reader, name in
            switch name {
            case "runs": runs = try Wire.elements(&reader, holding: \.records.count, PullRun.init(from:))
            case "outcomes": answer.outcomes = try Wire.elements(&reader, NumberedOutcome.init(from:))
            case "asked": answer.asked = try Wire.elements(&reader, RecordNumber.init(from:))
            case "more": answer.hasMore = try reader.readBool()
            default: try reader.skipValue()
            }
        }
        answer.runs = try Wire.need(runs, "runs", reader)
        self = answer
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("runs", self.runs)
            if !self.outcomes.isEmpty { writer.member("outcomes", self.outcomes) }
            if !self.asked.isEmpty { writer.member("asked", self.asked) }
            if self.hasMore { writer.member("more", true) }
        }
    }
}

extension PullRun: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (type, number, mark, records): (BusinessTypeID?, Int64?, Fingerprint?, [LogRecord]?) = (nil, nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "type": type = try Wire.type(&reader)
            case "number": number = try reader.readInteger()
            case "mark": mark = try Wire.fingerprint(&reader)
            case "records": records = try Wire.elements(&reader, LogRecord.init(from:))
            default: try reader.skipValue()
            }
        }
        self.init(
            type: try Wire.need(type, "type", reader), records: try Wire.need(records, "records", reader),
            position: Position(number: try Wire.need(number, "number", reader), fingerprint: try Wire.need(mark, "mark", reader)))
        for index in self.records.indices { self.records[index].record.stream.type = self.type }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("type", self.type.rawValue)
            writer.member("number", self.position.number)
            writer.member("mark", self.position.fingerprint.hex)
            writer.member("records", self.records)
        }
    }
}

extension LogRecord: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (place, mark, origin, epoch, number): (Int64?, Fingerprint?, ServerID?, Int32?, Int64?) = (nil, nil, nil, nil, nil)
        var (scope, isEcho, isDeletion, omission): (ServerID, Bool, Bool, ReasonCode) = (.cloud, false, false, .none)
        var content = WireRecord()
        try reader.readObject { reader, name in
            switch name {
            case "place": place = try Wire.positive(&reader)
            case "mark": mark = try Wire.fingerprint(&reader)
            case "origin": origin = try Wire.server(&reader)
            case "epoch": epoch = try reader.readInteger()
            case "number": number = try Wire.positive(&reader)
            case "scope": scope = try Wire.server(&reader)
            case "echo": isEcho = try reader.readBool()
            case "deletion": isDeletion = try reader.readBool()
            case "omitted": omission = try Wire.reason(&reader)
            default: try content.read(name, from: &reader)
            }
        }
        if omission != .none { content.detail = "" }
        let stream = StreamID(origin: try Wire.need(origin, "origin", reader), epoch: try Wire.need(epoch, "epoch", reader), type: 0)
        // Whom else the record is for is not the reader's business.
        self.init(
            logSeq: try Wire.need(place, "place", reader), mark: try Wire.need(mark, "mark", reader), audience: .all, scope: scope,
            isEcho: isEcho, isDeletion: isDeletion, omission: omission,
            record: try content.record(stream, synID: try Wire.need(number, "number", reader), reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("place", self.logSeq)
            writer.member("mark", self.mark.hex)
            writer.member("origin", self.record.origin.rawValue)
            writer.member("epoch", self.record.stream.epoch)
            writer.member("number", self.record.synID)
            if self.scope != .cloud { writer.member("scope", self.scope.rawValue) }
            if self.isEcho { writer.member("echo", true) }
            if self.isDeletion { writer.member("deletion", true) }
            if self.omission != .none { writer.member("omitted", self.omission.name) }
            WireRecord.write(self.record, to: &writer)
        }
    }
}

// MARK: - Acknowledge

extension AcknowledgeRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, logEpoch, positions): (SessionID?, Int32?, [BusinessTypeID: Position]?) = (nil, nil, nil)
        var outcomes: [NumberedOutcome] = []
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "log_epoch": logEpoch = try reader.readInteger()
            case "positions": positions = try Wire.positions(&reader)
            case "outcomes": outcomes = try Wire.elements(&reader, NumberedOutcome.init(from:))
            default: try reader.skipValue()
            }
        }
        self.init(
            session: try Wire.need(session, "session", reader), logEpoch: try Wire.need(logEpoch, "log_epoch", reader),
            positions: try Wire.need(positions, "positions", reader), outcomes: outcomes)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("log_epoch", self.logEpoch)
            writer.key("positions")
            Wire.write(self.positions, to: &writer)
            if !self.outcomes.isEmpty { writer.member("outcomes", self.outcomes) }
        }
    }
}

extension AcknowledgeAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        try reader.readObject { reader, _ in try reader.skipValue() }
    }

    public func write(to writer: inout JSONWriter) { writer.object { _ in } }
}

// MARK: - Errors

/// What is answered in place of an answer. Constant for each code: nothing is explained to a stranger.
public struct ErrorAnswer: WireMessage, Hashable {
    public var code: String
    public var retryAfter: Duration?

    private static let codes: [(name: String, code: DataSyncError.Code, status: Int)] = [
        ("unauthorized", .unauthorized, 401), ("clock_skew", .clockSkew, 401), ("fenced", .fenced, 409),
        ("suspended", .suspended, 403), ("unsupported_protocol", .unsupportedProtocol, 426), ("too_large", .tooLarge, 413),
        ("invalid", .peerInvalid, 400), ("not_found", .notFound, 404), ("busy", .storageBusy, 503),
        ("unavailable", .storageUnavailable, 503), ("diverged", .diverged, 409), ("over_quota", .overQuota, 429),
    ]

    /// - Parameter error: What went wrong; what a stranger should not know becomes `unavailable`.
    public init(_ error: DataSyncError) {
        self.code = Self.codes.first { $0.code == error.code }?.name ?? "unavailable"
        self.retryAfter = error.retryAfter
    }

    /// The HTTP status of the code.
    public var status: Int { Self.codes.first { $0.name == self.code }?.status ?? 503 }

    /// As the branch takes it. An error that this version does not know is one of the peer.
    public func error(operation: StaticString) -> DataSyncError {
        let code = Self.codes.first { $0.name == self.code }?.code ?? .peerUnreachable
        // The cloud's database is not the branch's: for the branch it is the cloud that is away.
        let isStorage = code == .storageBusy || code == .storageUnavailable
        let hint =
            switch code {
            case .diverged: ": one of the two databases is an older copy. If it is the cloud's, its operator has to say so ('datasync-cloud restored')"
            case .overQuota: ": this branch has asked for more than its quota of requests or bytes there. It goes on by itself"
            default: ""
            }
        return DataSyncError(
            isStorage ? .peerUnreachable : code, operation: operation, detail: "the cloud answered '\(self.code)'\(hint)",
            retryAfter: self.retryAfter)
    }

    public init(from reader: inout JSONReader) throws {
        var (code, retryAfter): (String?, Duration?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "error": code = String(try reader.readString().prefix(64))
            case "retry_after_ms": retryAfter = try Wire.duration(&reader)
            default: try reader.skipValue()
            }
        }
        self.code = try Wire.need(code, "error", reader)
        self.retryAfter = retryAfter
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("error", self.code)
            if let retryAfter { writer.member("retry_after_ms", retryAfter.milliseconds) }
        }
    }
}

// MARK: - Recover

extension RecoverRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, epoch, after, isEnd): (SessionID?, Int32?, [BusinessTypeID: Int64], Bool) = (nil, nil, [:], false)
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "epoch": epoch = try reader.readInteger()
            case "after": after = try Wire.positions(&reader).mapValues(\.number)
            case "end": isEnd = try reader.readBool()
            default: try reader.skipValue()
            }
        }
        self.init(session: try Wire.need(session, "session", reader), epoch: try Wire.need(epoch, "epoch", reader), after: after, isEnd: isEnd)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("epoch", self.epoch)
            writer.key("after")
            Wire.write(self.after.mapValues { Position(number: $0, fingerprint: .none) }, to: &writer)
            if self.isEnd { writer.member("end", true) }
        }
    }
}

extension RecoverAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (receipts, outcomes, hasMore, epoch): ([Receipt], [NumberedOutcome], Bool, Int32?) = ([], [], false, nil)
        try reader.readObject { reader, name in
            switch name {
            case "receipts": receipts = try Wire.elements(&reader, holding: \.uids.count, Receipt.init(from:))
            case "outcomes": outcomes = try Wire.elements(&reader, NumberedOutcome.init(from:))
            case "more": hasMore = try reader.readBool()
            case "epoch": epoch = try reader.readInteger()
            default: try reader.skipValue()
            }
        }
        self.init(receipts: receipts, outcomes: outcomes, hasMore: hasMore, epoch: try Wire.need(epoch, "epoch", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("receipts", self.receipts)
            if !self.outcomes.isEmpty { writer.member("outcomes", self.outcomes) }
            if self.hasMore { writer.member("more", true) }
            writer.member("epoch", self.epoch)
        }
    }
}

extension Receipt: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (type, epoch, first, run, uids): (BusinessTypeID?, Int32?, Int64?, Fingerprint?, [RecordUID]?) = (nil, nil, nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "type": type = try Wire.type(&reader)
            case "epoch": epoch = try reader.readInteger()
            case "first": first = try Wire.positive(&reader)
            case "run": run = try Wire.fingerprint(&reader)
            case "uids": uids = try Wire.elements(&reader) { try Wire.uid(&$0) }
            default: try reader.skipValue()
            }
        }
        self.init(
            epoch: try Wire.need(epoch, "epoch", reader), type: try Wire.need(type, "type", reader),
            firstSynID: try Wire.need(first, "first", reader), run: try Wire.need(run, "run", reader),
            uids: try Wire.need(uids, "uids", reader), time: 0)
        guard self.firstSynID <= Int64.max - Int64(Wire.elementsMax) else { throw reader.failure("'first' is too large") }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("type", self.type.rawValue)
            writer.member("epoch", self.epoch)
            writer.member("first", self.firstSynID)
            writer.member("run", self.run.hex)
            writer.key("uids")
            writer.array { writer in for uid in self.uids { writer.string(uid.hex) } }
        }
    }
}
