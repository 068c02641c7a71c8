/// Asks how the cloud's business tables stand, of one state type and as far as it is for this branch: whether ranges of entities have
/// the same digest there, which digests some entities have, and, if the branch wishes so, for the states of those to be sent again.
public struct CompareRequest: Hashable, Sendable {
    public var session: SessionID
    /// Versions in the answer are places of this epoch's log.
    public var logEpoch: Int32
    public var type: BusinessTypeID
    /// Ascending, none overlapping another; at most ``rangesMax``.
    public var ranges: [ComparedRange]
    /// Ascending; at most ``namesMax``.
    public var names: [EntityPlace]
    /// Whether what the cloud holds of `names` is to be sent to this branch again.
    public var sendsAgain: Bool

    public static let rangesMax = 64
    public static let namesMax = 1_000

    public init(
        session: SessionID, logEpoch: Int32, type: BusinessTypeID, ranges: [ComparedRange] = [], names: [EntityPlace] = [], sendsAgain: Bool = false
    ) {
        self.session = session
        self.logEpoch = logEpoch
        self.type = type
        self.ranges = ranges
        self.names = names
        self.sendsAgain = sendsAgain
    }
}

/// What one side holds in a range of entities.
public struct ComparedRange: Hashable, Sendable {
    public var range: EntityRange
    /// How many entities there are in it of which the tables hold something.
    public var count: Int
    /// Of those, in their order.
    public var digest: StateDigest

    public init(range: EntityRange, count: Int, digest: StateDigest) {
        self.range = range
        self.count = count
        self.digest = digest
    }
}

/// All of it is read from one state of the cloud's database.
public struct CompareAnswer: Hashable, Sendable {
    /// Whether the cloud can read back what it holds of this type; if not, the rest is empty.
    public var isComparable: Bool
    /// For the first ranges of the request, in its order: for at least one, if it had any. The rest is to be asked for again.
    public var ranges: [ComparedRangeAnswer]
    /// Those of the names that are for this branch.
    public var entries: [ComparedEntity]
    /// How many of the names, from the first, were sent again.
    public var sentAgain: Int

    public init(isComparable: Bool = true, ranges: [ComparedRangeAnswer] = [], entries: [ComparedEntity] = [], sentAgain: Int = 0) {
        self.isComparable = isComparable
        self.ranges = ranges
        self.entries = entries
        self.sentAgain = sentAgain
    }
}

public struct ComparedRangeAnswer: Hashable, Sendable {
    /// All that the cloud knows of in the range and is for this branch, in their order; nil where both sides hold the same.
    public var entries: [ComparedEntity]?
    /// Up to where the entries go, if that is not the whole range.
    public var end: EntityPlace?

    public init(entries: [ComparedEntity]? = nil, end: EntityPlace? = nil) {
        self.entries = entries
        self.end = end
    }
}

public struct ComparedEntity: Hashable, Sendable {
    public var place: EntityPlace
    /// Of its present state; nil where the tables hold nothing of it.
    public var digest: StateDigest?
    /// The place in the log of the last record that this branch gets of it; 0 if it gets none.
    public var version: Int64
    /// Whether the cloud's own applications have changed it, and the change is not in the log yet.
    public var isMoving: Bool
    /// How a record of this branch about it stands that is kept at the cloud undecided, or dead.
    public var held: Disposition?

    public init(place: EntityPlace, digest: StateDigest?, version: Int64 = 0, isMoving: Bool = false, held: Disposition? = nil) {
        self.place = place
        self.digest = digest
        self.version = version
        self.isMoving = isMoving
        self.held = held
    }
}

// MARK: - As JSON

extension Wire {
    fileprivate static func digest(_ reader: inout JSONReader) throws -> StateDigest {
        guard let digest = StateDigest(hex: try reader.readString()) else { throw reader.failure("32 hexadecimal digits were expected") }
        return digest
    }
}

extension EntityPlace: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (scope, key): (ServerID, EntityKey?) = (.cloud, nil)
        try reader.readObject { reader, name in
            switch name {
            case "scope": scope = try Wire.server(&reader)
            case "key": key = try Wire.key(&reader)
            default: try reader.skipValue()
            }
        }
        self.init(scope: scope, key: try Wire.need(key, "key", reader))
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { self.writeMembers(to: &$0) }
    }

    fileprivate func writeMembers(to writer: inout JSONWriter) {
        if self.scope.isBranch { writer.member("scope", self.scope.rawValue) }
        writer.member("key", self.key.text)
    }
}

extension ComparedRange: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (range, count, digest): (EntityRange, Int?, StateDigest?) = (EntityRange(), nil, nil)
        try reader.readObject { reader, name in
            switch name {
            case "after": range.after = try EntityPlace(from: &reader)
            case "up_to": range.upTo = try EntityPlace(from: &reader)
            case "count": count = try reader.readInteger()
            case "digest": digest = try Wire.digest(&reader)
            default: try reader.skipValue()
            }
        }
        self.init(range: range, count: try Wire.need(count, "count", reader), digest: try Wire.need(digest, "digest", reader))
        guard self.count >= 0 else { throw reader.failure("'count' must not be negative") }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let after = self.range.after { writer.member("after", after) }
            if let upTo = self.range.upTo { writer.member("up_to", upTo) }
            writer.member("count", self.count)
            writer.member("digest", self.digest.hex)
        }
    }
}

extension CompareRequest: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (session, logEpoch, type): (SessionID?, Int32?, BusinessTypeID?) = (nil, nil, nil)
        var (ranges, names, sendsAgain): ([ComparedRange], [EntityPlace], Bool) = ([], [], false)
        try reader.readObject { reader, name in
            switch name {
            case "session": session = try SessionID(from: &reader)
            case "log_epoch": logEpoch = try reader.readInteger()
            case "type": type = try Wire.type(&reader)
            case "ranges": ranges = try Wire.elements(&reader, ComparedRange.init(from:))
            case "names": names = try Wire.elements(&reader, EntityPlace.init(from:))
            case "send_again": sendsAgain = try reader.readBool()
            default: try reader.skipValue()
            }
        }
        self.init(
            session: try Wire.need(session, "session", reader), logEpoch: try Wire.need(logEpoch, "log_epoch", reader),
            type: try Wire.need(type, "type", reader), ranges: ranges, names: names, sendsAgain: sendsAgain)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("session", self.session)
            writer.member("log_epoch", self.logEpoch)
            writer.member("type", self.type.rawValue)
            if !self.ranges.isEmpty { writer.member("ranges", self.ranges) }
            if !self.names.isEmpty { writer.member("names", self.names) }
            if self.sendsAgain { writer.member("send_again", true) }
        }
    }
}

extension ComparedEntity: WireMessage {
    public init(from reader: inout JSONReader) throws {
        var (scope, key, digest): (ServerID, EntityKey?, StateDigest?) = (.cloud, nil, nil)
        var (version, isMoving, held): (Int64, Bool, Disposition?) = (0, false, nil)
        try reader.readObject { reader, name in
            switch name {
            case "scope": scope = try Wire.server(&reader)
            case "key": key = try Wire.key(&reader)
            case "digest": digest = try Wire.digest(&reader)
            case "version": version = try Wire.positive(&reader)
            case "moving": isMoving = try reader.readBool()
            case "held":
                held = Disposition(name: try reader.readString())
                guard held != nil else { throw reader.failure("an unknown outcome") }
            default: try reader.skipValue()
            }
        }
        self.init(
            place: EntityPlace(scope: scope, key: try Wire.need(key, "key", reader)), digest: digest, version: version, isMoving: isMoving, held: held)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            self.place.writeMembers(to: &writer)
            if let digest { writer.member("digest", digest.hex) }
            if self.version > 0 { writer.member("version", self.version) }
            if self.isMoving { writer.member("moving", true) }
            if let held { writer.member("held", held.name) }
        }
    }
}

extension ComparedRangeAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        self.init()
        var isEqual: Bool?
        try reader.readObject { reader, name in
            switch name {
            case "equal": isEqual = try reader.readBool()
            case "entries": self.entries = try Wire.elements(&reader, ComparedEntity.init(from:))
            case "end": self.end = try EntityPlace(from: &reader)
            default: try reader.skipValue()
            }
        }
        // Neither an answer that says nothing nor one that says both is taken for an equal range.
        guard (isEqual ?? false) != (self.entries != nil), self.entries != nil || self.end == nil else {
            throw reader.failure("either 'equal' or 'entries' was expected")
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let entries {
                writer.member("entries", entries)
                if let end { writer.member("end", end) }
            } else {
                writer.member("equal", true)
            }
        }
    }
}

extension CompareAnswer: WireMessage {
    public init(from reader: inout JSONReader) throws {
        self.init()
        var isComparable: Bool?
        try reader.readObject { reader, name in
            switch name {
            case "comparable": isComparable = try reader.readBool()
            case "ranges": self.ranges = try Wire.elements(&reader, holding: { $0.entries?.count ?? 0 }, ComparedRangeAnswer.init(from:))
            case "entries": self.entries = try Wire.elements(&reader, ComparedEntity.init(from:))
            case "sent_again": self.sentAgain = try reader.readInteger()
            default: try reader.skipValue()
            }
        }
        self.isComparable = try Wire.need(isComparable, "comparable", reader)
        guard self.sentAgain >= 0 else { throw reader.failure("'sent_again' must not be negative") }
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("comparable", self.isComparable)
            if !self.ranges.isEmpty { writer.member("ranges", self.ranges) }
            if !self.entries.isEmpty { writer.member("entries", self.entries) }
            if self.sentAgain > 0 { writer.member("sent_again", self.sentAgain) }
        }
    }
}
