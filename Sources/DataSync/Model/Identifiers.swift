/// A participant: the cloud is 0, every branch (本地服务端) has a positive id that is never used again.
public struct ServerID: RawRepresentable, Hashable, Comparable, Sendable, ExpressibleByIntegerLiteral {
    public var rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }
    public init(integerLiteral value: Int32) { self.init(rawValue: value) }

    /// The one server that everybody connects to (云服务端).
    public static let cloud: ServerID = 0

    public var isCloud: Bool { self == .cloud }
    /// Whether this can be a branch's id: positive.
    public var isBranch: Bool { self.rawValue > 0 }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension ServerID: CustomStringConvertible {
    public var description: String { self.isCloud ? "cloud" : "\(self.rawValue)" }
}

/// The number of a business type (业务类型): what kind of record this is. Ids are retired, never used again.
public struct BusinessTypeID: RawRepresentable, Hashable, Comparable, Sendable, ExpressibleByIntegerLiteral {
    public var rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }
    public init(integerLiteral value: Int32) { self.init(rawValue: value) }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension BusinessTypeID: CustomStringConvertible {
    public var description: String { "\(self.rawValue)" }
}

/// All records of one business type that one server numbered in one epoch: 1, 2, 3, … by `synID`.
public struct StreamID: Hashable, Sendable {
    public var origin: ServerID
    /// Raised when a server's numbers can no longer be trusted, such as after a restore of its database.
    public var epoch: Int32
    public var type: BusinessTypeID

    public init(origin: ServerID, epoch: Int32, type: BusinessTypeID) {
        self.origin = origin
        self.epoch = epoch
        self.type = type
    }
}

/// The identity that a row of the outbox has from its insert, whatever number it is given later.
///
/// A server that was restored from a backup gives used numbers to other rows; the `uid` still tells them apart.
public struct RecordUID: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    public init(using generator: inout some RandomNumberGenerator) {
        self.init(high: generator.next(), low: generator.next())
    }

    /// Reads 16 bytes, most significant first; nil for any other count.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        self.init(
            high: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
            low: bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// Reads 32 hexadecimal digits.
    public init?(hex: String) {
        guard hex.utf8.count == 32,
            let high = Fingerprint(hex: String(hex.prefix(16))), let low = Fingerprint(hex: String(hex.suffix(16)))
        else { return nil }
        self.init(high: high.rawValue, low: low.rawValue)
    }

    public var bytes: [UInt8] {
        [self.high, self.low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } }
    }

    public var hex: String { Fingerprint(rawValue: self.high).hex + Fingerprint(rawValue: self.low).hex }
}

extension RecordUID: CustomStringConvertible {
    public var description: String { self.hex }
}

/// A random number that one transaction draws for what it numbers.
///
/// Numbers alone cannot tell a restored database from the one it replaced, since they grow back; numbers with the
/// fingerprint of the transaction that gave them can. An outbox's numbering step draws a *run*, an append to the log a *mark*.
public struct Fingerprint: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The fingerprint of a position at which nothing was received yet.
    public static let none = Fingerprint(rawValue: 0)

    public init(using generator: inout some RandomNumberGenerator) {
        // Zero is `none`.
        self.init(rawValue: UInt64.random(in: 1...UInt64.max, using: &generator))
    }

    /// Reads 16 hexadecimal digits. On the wire as text: a JSON number beyond 2^53 does not survive every reader.
    public init?(hex: String) {
        let isHex = hex.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) || (65...70).contains($0) }
        guard hex.utf8.count == 16, isHex, let value = UInt64(hex, radix: 16) else { return nil }
        self.init(rawValue: value)
    }

    public var hex: String {
        let digits = String(self.rawValue, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
