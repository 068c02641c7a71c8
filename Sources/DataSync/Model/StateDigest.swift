/// A digest of what a server's business tables hold of an entity, or of many: SHA-256, of which 16 bytes are kept.
///
/// The same state has the same digest on every server, however its database writes it: members of objects count in the order of
/// their names, those that are null as if they were not there, numbers as what they are worth (`100`, `100.00`, `1e2`), texts that hold a
/// number like that number written plainly, true as 1 and false as 0.
public struct StateDigest: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    private init(sha256 bytes: [UInt8]) {
        let hash = SHA256Hash.hash(bytes)
        self.high = hash[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        self.low = hash[8..<16].reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Reads 32 hexadecimal digits.
    public init?(hex: String) {
        guard let value = RecordUID(hex: hex) else { return nil }
        self.init(high: value.high, low: value.low)
    }

    public var hex: String { RecordUID(high: self.high, low: self.low).hex }

    /// The digest of a payload. One that is no JSON counts by its bytes.
    public init(ofPayload payload: String) {
        var canonical: [UInt8] = []
        do {
            try JSONReader.read(payload) { canonical = try Self.canonical(&$0) ?? [] }
        } catch {
            canonical = [UInt8(ascii: "!")] + Array(payload.utf8)
        }
        if PlantedBug.isOn(.digestIgnoresPayload) { canonical = [] }
        self.init(sha256: canonical)
    }

    /// The digest of a range: of the places in it that hold something, in their order, and of what they hold.
    public init(of entries: some Sequence<(place: EntityPlace, digest: StateDigest)>) {
        var bytes: [UInt8] = []
        for (place, digest) in entries {
            let key = Array(place.key.text.utf8)
            for number in [UInt64(bitPattern: Int64(place.scope.rawValue)), UInt64(key.count), digest.high, digest.low] {
                withUnsafeBytes(of: number.bigEndian) { bytes.append(contentsOf: $0) }
            }
            bytes.append(contentsOf: key)
        }
        self.init(sha256: bytes)
    }

    /// The next value in the one form that all its spellings share; nil for null.
    private static func canonical(_ reader: inout JSONReader) throws -> [UInt8]? {
        func scalar(_ text: String) -> [UInt8] { Self.counted(UInt8(ascii: "s"), Array(text.utf8)) }
        switch try reader.peek() {
        case .null:
            _ = reader.readNull()
            return nil
        case .bool: return scalar(try reader.readBool() ? "1" : "0")
        case .number:
            let text = String(try reader.readNumber())
            return scalar(DecimalText(text)?.text ?? text)
        case .string: return scalar(try reader.readString())
        case .array:
            var bytes: [UInt8] = []
            try reader.readArray { bytes += try self.canonical(&$0) ?? [UInt8(ascii: "n")] }
            return self.counted(UInt8(ascii: "a"), bytes)
        case .object:
            var members: [(name: [UInt8], value: [UInt8])] = []
            try reader.readObject { reader, name in
                if let value = try self.canonical(&reader) { members.append((Array(name.utf8), value)) }
            }
            members.sort { $0.name.lexicographicallyPrecedes($1.name) }
            return self.counted(UInt8(ascii: "o"), members.flatMap { self.counted(UInt8(ascii: "k"), $0.name) + $0.value })
        }
    }

    /// With its length before it, so that no two values make the same bytes.
    private static func counted(_ mark: UInt8, _ bytes: [UInt8]) -> [UInt8] { [mark] + Array("\(bytes.count):".utf8) + bytes }
}
