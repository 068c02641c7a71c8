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
    public init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        let (high, low) = bytes.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        self.init(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
    }

    /// Reads 32 hexadecimal digits.
    public init?(hex: String) {
        guard hex.utf8.count == 32, let high = UInt64(hexDigits: hex.utf8.prefix(16)), let low = UInt64(hexDigits: hex.utf8.suffix(16))
        else { return nil }
        self.init(high: high, low: low)
    }

    public var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
            UnsafeMutableRawBufferPointer(buffer).storeBytes(of: self.high.bigEndian, as: UInt64.self)
            UnsafeMutableRawBufferPointer(buffer).storeBytes(of: self.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            count = 16
        }
    }

    public var hex: String { self.high.hexDigits + self.low.hexDigits }
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
        guard hex.utf8.count == 16, let value = UInt64(hexDigits: hex.utf8[...]) else { return nil }
        self.init(rawValue: value)
    }

    public var hex: String { self.rawValue.hexDigits }
}

extension UInt64 {
    /// Reads hexadecimal digits and nothing else.
    fileprivate init?(hexDigits: Substring.UTF8View) {
        var value: UInt64 = 0
        for digit in hexDigits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt64(digit - UInt8(ascii: "A") + 10)
            default: return nil
            }
        }
        self = value
    }

    /// Sixteen of them.
    fileprivate var hexDigits: String {
        String(unsafeUninitializedCapacity: 16) { buffer in
            for index in 0..<16 {
                let digit = UInt8(truncatingIfNeeded: self >> UInt64(60 - 4 * index)) & 15
                buffer[index] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            }
            return 16
        }
    }
}
