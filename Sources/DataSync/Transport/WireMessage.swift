/// A message of the protocol as JSON (`Docs/protocol.md`).
///
/// Members may come in any order, members that are not known are passed over, and a member that is needed must be there.
public protocol WireMessage: Sendable {
    /// Reads the next value. Throws `JSONReader.Failure` for what is no such message.
    init(from reader: inout JSONReader) throws
    func write(to writer: inout JSONWriter)
}

extension WireMessage {
    /// Reads a body.
    /// - Throws: `peerInvalid`, saying where the text is wrong and never what stood there.
    public init(body: [UInt8]) throws(DataSyncError) {
        do {
            var message: Self?
            try JSONReader.read(body) { message = try Self(from: &$0) }
            guard let message else { preconditionFailure("a reader returned without having read") }
            self = message
        } catch {
            throw DataSyncError(.peerInvalid, operation: "decode", detail: "the body is not a valid message: \(error)")
        }
    }

    public var body: [UInt8] {
        var writer = JSONWriter()
        self.write(to: &writer)
        return writer.bytes
    }
}

enum Wire {
    /// Most elements of any array in a message. A short text can hold millions of empty ones, each of which would become
    /// a record in memory.
    static let elementsMax = 20_000

    static func elements<Element>(
        _ reader: inout JSONReader, _ element: (inout JSONReader) throws -> Element
    ) throws -> [Element] {
        var elements: [Element] = []
        try reader.readArray { reader in
            guard elements.count < self.elementsMax else { throw reader.failure("an array has more than \(self.elementsMax) elements") }
            elements.append(try element(&reader))
        }
        return elements
    }

    /// Elements that hold arrays themselves, which together are no longer than one may be.
    static func elements<Element>(
        _ reader: inout JSONReader, holding count: (Element) -> Int, _ element: (inout JSONReader) throws -> Element
    ) throws -> [Element] {
        var total = 0
        return try self.elements(&reader) { reader in
            let next = try element(&reader)
            total += count(next)
            guard total <= self.elementsMax else { throw reader.failure("the arrays have more than \(self.elementsMax) elements together") }
            return next
        }
    }

    static func need<Value>(_ value: Value?, _ name: StaticString, _ reader: borrowing JSONReader) throws -> Value {
        guard let value else { throw reader.failure("'\(name)' is missing") }
        return value
    }

    static func type(_ reader: inout JSONReader) throws -> BusinessTypeID {
        let id = BusinessTypeID(rawValue: try reader.readInteger())
        guard id.rawValue > 0 else { throw reader.failure("a business type must be positive") }
        return id
    }

    static func server(_ reader: inout JSONReader) throws -> ServerID {
        let id = ServerID(rawValue: try reader.readInteger())
        guard id >= .cloud else { throw reader.failure("a server's id must not be negative") }
        return id
    }

    static func fingerprint(_ reader: inout JSONReader) throws -> Fingerprint {
        guard let fingerprint = Fingerprint(hex: try reader.readString()) else { throw reader.failure("16 hexadecimal digits were expected") }
        return fingerprint
    }

    static func uid(_ reader: inout JSONReader) throws -> RecordUID {
        guard let uid = RecordUID(hex: try reader.readString()) else { throw reader.failure("32 hexadecimal digits were expected") }
        return uid
    }

    static func key(_ reader: inout JSONReader) throws -> EntityKey {
        let text = try reader.readString()
        guard (1...EntityKey.bytesMax).contains(text.utf8.count) else { throw reader.failure("a key must have 1 to \(EntityKey.bytesMax) bytes") }
        return EntityKey(text)
    }

    static func reason(_ reader: inout JSONReader) throws -> ReasonCode {
        let name = try reader.readString()
        if let known = ReasonCode(name: name) { return known }
        // A reason that only a newer peer knows is kept by its number.
        guard name.hasPrefix("reason_"), let number = UInt8(name.dropFirst(7)) else { throw reader.failure("an unknown reason") }
        return ReasonCode(rawValue: number)
    }

    static func positive(_ reader: inout JSONReader) throws -> Int64 {
        let number: Int64 = try reader.readInteger()
        guard number > 0 else { throw reader.failure("a number must be positive") }
        return number
    }

    /// Milliseconds; at most a day, so that nobody is sent away for ever.
    static func duration(_ reader: inout JSONReader) throws -> Duration {
        .milliseconds(min(max(0, try reader.readInteger(Int64.self)), 86_400_000))
    }

    static func positions(_ reader: inout JSONReader) throws -> [BusinessTypeID: Position] {
        var positions: [BusinessTypeID: Position] = [:]
        for (type, position) in try self.elements(&reader, self.typedPosition) {
            guard positions.updateValue(position, forKey: type) == nil else { throw reader.failure("a type is given twice") }
        }
        return positions
    }

    private static func typedPosition(_ reader: inout JSONReader) throws -> (BusinessTypeID, Position) {
        var (type, number, mark): (BusinessTypeID?, Int64?, Fingerprint?) = (nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "type": type = try self.type(&reader)
            case "number": number = try reader.readInteger()
            case "mark": mark = try self.fingerprint(&reader)
            default: try reader.skipValue()
            }
        }
        let position = Position(number: try self.need(number, "number", reader), fingerprint: mark ?? .none)
        guard position.number >= 0 else { throw reader.failure("a position must not be negative") }
        return (try self.need(type, "type", reader), position)
    }

    static func write(_ positions: [BusinessTypeID: Position], to writer: inout JSONWriter) {
        writer.array { writer in
            for (type, position) in positions.sorted(by: { $0.key < $1.key }) {
                writer.object { writer in
                    writer.member("type", type.rawValue)
                    writer.member("number", position.number)
                    writer.member("mark", position.fingerprint.hex)
                }
            }
        }
    }
}

// MARK: - Small parts

extension TypeSummary: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (id, name, kind, route): (BusinessTypeID?, String?, RecordKind?, RouteKind?) = (nil, nil, nil, nil)
        try reader.readObject { reader, member in
            switch member {
            case "id": id = try Wire.type(&reader)
            case "name": name = try reader.readString()
            case "kind": kind = RecordKind(rawValue: try reader.readString())
            case "route": route = RouteKind(rawValue: try reader.readString())
            default: try reader.skipValue()
            }
        }
        self.init(
            id: try Wire.need(id, "id", reader), name: try Wire.need(name, "name", reader),
            kind: try Wire.need(kind, "kind", reader), route: try Wire.need(route, "route", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", self.id.rawValue)
            writer.member("name", self.name)
            writer.member("kind", self.kind.rawValue)
            writer.member("route", self.route.rawValue)
        }
    }
}

extension SessionID: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (number, epoch): (Int64?, Int32?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "number": number = try Wire.positive(&reader)
            case "epoch": epoch = try reader.readInteger()
            default: try reader.skipValue()
            }
        }
        self.init(number: try Wire.need(number, "number", reader), epoch: try Wire.need(epoch, "epoch", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("number", self.number)
            writer.member("epoch", self.epoch)
        }
    }
}

extension RecordNumber: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (type, epoch, number): (BusinessTypeID?, Int32?, Int64?) = (nil, nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "type": type = try Wire.type(&reader)
            case "epoch": epoch = try reader.readInteger()
            case "number": number = try Wire.positive(&reader)
            default: try reader.skipValue()
            }
        }
        self.init(
            type: try Wire.need(type, "type", reader), epoch: try Wire.need(epoch, "epoch", reader),
            number: try Wire.need(number, "number", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("type", self.type.rawValue)
            writer.member("epoch", self.epoch)
            writer.member("number", self.number)
        }
    }
}

extension Outcome: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var disposition: Disposition?
        var outcome = Outcome(.applied, reason: .none)
        var reason: ReasonCode?
        try reader.readObject { reader, name in
            switch name {
            case "is":
                disposition = Disposition(name: try reader.readString())
                guard disposition != nil else { throw reader.failure("an unknown outcome") }
            case "reason": reason = try Wire.reason(&reader)
            case "detail": outcome.detail = String(try reader.readString().unicodeScalars.prefix(255))
            case "attempts":
                let attempts: UInt8 = try reader.readInteger()
                outcome.attempts = min(Int(attempts), Outcome.attemptsMax)
            case "version": outcome.version = try Wire.positive(&reader)
            case "duplicate": outcome.isDuplicate = try reader.readBool()
            default: try reader.skipValue()
            }
        }
        outcome.disposition = try Wire.need(disposition, "is", reader)
        // Of these the outcome is the reason: they are not spelled out.
        outcome.reason = try reason ?? outcome.disposition.plainReason ?? Wire.need(nil, "reason", reader)
        self = outcome
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("is", self.disposition.name)
            if self.reason != self.disposition.plainReason { writer.member("reason", self.reason.name) }
            if let detail { writer.member("detail", detail) }
            if self.attempts > 0 { writer.member("attempts", self.attempts) }
            if self.version > 0 { writer.member("version", self.version) }
            if self.isDuplicate { writer.member("duplicate", true) }
        }
    }
}

extension Disposition {
    /// The reason that goes without saying.
    fileprivate var plainReason: ReasonCode? {
        switch self {
        case .applied: .applied
        case .superseded: .superseded
        case .discarded: .discarded
        case .void: .void
        case .parked, .waiting, .suspect, .dead: nil
        }
    }
}

extension NumberedOutcome: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (record, outcome): (RecordNumber?, Outcome?) = (nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "record": record = try RecordNumber(from: &reader)
            case "outcome": outcome = try Outcome(from: &reader)
            default: try reader.skipValue()
            }
        }
        self.init(record: try Wire.need(record, "record", reader), outcome: try Wire.need(outcome, "outcome", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.key("record")
            self.record.write(to: &writer)
            writer.key("outcome")
            self.outcome.write(to: &writer)
        }
    }
}

extension JSONWriter {
    public mutating func member(_ name: StaticString, _ messages: [some WireMessage]) {
        self.key(name)
        self.array { writer in for message in messages { message.write(to: &writer) } }
    }

    public mutating func member(_ name: StaticString, _ message: some WireMessage) {
        self.key(name)
        message.write(to: &self)
    }
}
