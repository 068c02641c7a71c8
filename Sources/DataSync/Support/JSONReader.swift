/// A strict pull reader of JSON text (RFC 8259).
///
/// Foundation's decoder is not used where records come in: it turns decimals and 64-bit integers into doubles, takes
/// the last of two equal keys, and builds a tree of everything. This reader hands out numbers as they are written,
/// leaves repeated keys to its caller to refuse, allocates for what is asked for, and is bounded in depth.
public struct JSONReader: ~Copyable {
    /// Why the text is not what it should be. Says where, never what stood there.
    public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        public var offset: Int
        public var message: String
        public var description: String { "\(self.message) at byte \(self.offset)" }
    }

    public enum Kind: Hashable, Sendable { case object, array, string, number, bool, null }

    /// Deeper nesting is refused (DESIGN section 8).
    public static let depthMax = 32

    // The buffer outlives the reader: it exists only inside `read`.
    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0
    private var depth = 0
    /// Where strings with escapes are put together.
    private var scratch: [UInt8] = []

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// Reads one value that makes up the whole of `bytes`.
    ///
    /// Not generic over a result: called for each record from another module, it would look its types up each time.
    public static func read(_ bytes: UnsafeBufferPointer<UInt8>, _ body: (inout JSONReader) throws -> Void) throws {
        var reader = JSONReader(bytes)
        try body(&reader)
        reader.skipWhitespace()
        guard reader.index == bytes.count else { throw reader.failure("unexpected text after the value") }
    }

    public static func read(_ bytes: [UInt8], _ body: (inout JSONReader) throws -> Void) throws {
        try bytes.withUnsafeBufferPointer { try self.read($0, body) }
    }

    public static func read(_ text: String, _ body: (inout JSONReader) throws -> Void) throws {
        var text = text
        try text.withUTF8 { try self.read($0, body) }
    }

    public func failure(_ message: String) -> Failure { Failure(offset: self.index, message: message) }

    // MARK: - Structure

    /// What comes next.
    public mutating func peek() throws(Failure) -> Kind {
        self.skipWhitespace()
        guard self.index < self.bytes.count else { throw self.failure("unexpected end") }
        switch self.bytes[self.index] {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        default: throw self.failure("a value was expected")
        }
    }

    /// Reads an object; `member` must consume the value of each key.
    public mutating func readObject(_ member: (inout JSONReader, String) throws -> Void) throws {
        try self.open(UInt8(ascii: "{"), "an object was expected")
        if self.consume(UInt8(ascii: "}")) { return self.depth -= 1 }
        while true {
            self.skipWhitespace()
            let key = try self.readString()
            self.skipWhitespace()
            guard self.consume(UInt8(ascii: ":")) else { throw self.failure("':' was expected") }
            try member(&self, key)
            self.skipWhitespace()
            if self.consume(UInt8(ascii: "}")) { break }
            guard self.consume(UInt8(ascii: ",")) else { throw self.failure("',' or '}' was expected") }
        }
        self.depth -= 1
    }

    /// Reads an array; `element` must consume each value.
    public mutating func readArray(_ element: (inout JSONReader) throws -> Void) throws {
        try self.open(UInt8(ascii: "["), "an array was expected")
        if self.consume(UInt8(ascii: "]")) { return self.depth -= 1 }
        while true {
            try element(&self)
            self.skipWhitespace()
            if self.consume(UInt8(ascii: "]")) { break }
            guard self.consume(UInt8(ascii: ",")) else { throw self.failure("',' or ']' was expected") }
        }
        self.depth -= 1
    }

    private mutating func open(_ byte: UInt8, _ message: String) throws(Failure) {
        self.skipWhitespace()
        guard self.consume(byte) else { throw self.failure(message) }
        self.depth += 1
        guard self.depth <= Self.depthMax else { throw self.failure("nested deeper than \(Self.depthMax)") }
        self.skipWhitespace()
    }

    // MARK: - Values

    public mutating func readString() throws(Failure) -> String {
        self.skipWhitespace()
        guard self.consume(UInt8(ascii: "\"")) else { throw self.failure("a string was expected") }
        let start = self.index
        // Most strings hold no escape: one look for the end, one copy.
        var union: UInt8 = 0
        while self.index < self.bytes.count {
            let byte = self.bytes[self.index]
            if byte == UInt8(ascii: "\"") {
                let slice = UnsafeBufferPointer(rebasing: self.bytes[start..<self.index])
                // ASCII is UTF-8 as it is.
                let text = union < 0x80 ? String(decoding: slice, as: UTF8.self) : try self.validated(slice)
                self.index += 1
                return text
            }
            if byte == UInt8(ascii: "\\") { return try self.readEscapedString(from: start, union: union) }
            guard byte >= 0x20 else { throw self.failure("a control character must be escaped") }
            union |= byte
            self.index += 1
        }
        throw self.failure("a string does not end")
    }

    private mutating func readEscapedString(from start: Int, union: UInt8) throws(Failure) -> String {
        self.scratch.removeAll(keepingCapacity: true)
        var runStart = start
        var union = union
        while self.index < self.bytes.count {
            let byte = self.bytes[self.index]
            if byte == UInt8(ascii: "\"") {
                self.scratch.append(contentsOf: self.bytes[runStart..<self.index])
                self.index += 1
                let isASCII = union < 0x80
                let text = self.scratch.withUnsafeBufferPointer { decoded in
                    isASCII ? String(decoding: decoded, as: UTF8.self) : String(validating: decoded, as: UTF8.self)
                }
                guard let text else { throw self.failure("a string is not UTF-8") }
                return text
            }
            if byte == UInt8(ascii: "\\") {
                self.scratch.append(contentsOf: self.bytes[runStart..<self.index])
                self.index += 1
                try self.readEscape()
                union |= self.scratch[self.scratch.count - 1]
                runStart = self.index
                continue
            }
            guard byte >= 0x20 else { throw self.failure("a control character must be escaped") }
            union |= byte
            self.index += 1
        }
        throw self.failure("a string does not end")
    }

    private mutating func readEscape() throws(Failure) {
        guard self.index < self.bytes.count else { throw self.failure("a string does not end") }
        let byte = self.bytes[self.index]
        self.index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): self.scratch.append(byte)
        case UInt8(ascii: "b"): self.scratch.append(0x08)
        case UInt8(ascii: "f"): self.scratch.append(0x0C)
        case UInt8(ascii: "n"): self.scratch.append(0x0A)
        case UInt8(ascii: "r"): self.scratch.append(0x0D)
        case UInt8(ascii: "t"): self.scratch.append(0x09)
        case UInt8(ascii: "u"):
            var unit = try self.readHexUnit()
            if (0xDC00...0xDFFF).contains(unit) { throw self.failure("a lone surrogate") }
            if (0xD800...0xDBFF).contains(unit) {
                guard self.consume(UInt8(ascii: "\\")), self.consume(UInt8(ascii: "u")) else { throw self.failure("a lone surrogate") }
                let low = try self.readHexUnit()
                guard (0xDC00...0xDFFF).contains(low) else { throw self.failure("a lone surrogate") }
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
            }
            // Not a surrogate by now, so a scalar.
            self.scratch.append(contentsOf: UTF8.encode(Unicode.Scalar(unit)!)!)
        default: throw self.failure("an unknown escape")
        }
    }

    private mutating func readHexUnit() throws(Failure) -> UInt32 {
        guard self.index + 4 <= self.bytes.count else { throw self.failure("a string does not end") }
        var unit: UInt32 = 0
        for _ in 0..<4 {
            let byte = self.bytes[self.index]
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): unit = unit << 4 | UInt32(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): unit = unit << 4 | UInt32(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): unit = unit << 4 | UInt32(byte - UInt8(ascii: "A") + 10)
            default: throw self.failure("four hexadecimal digits were expected")
            }
            self.index += 1
        }
        return unit
    }

    /// The number as it is written: an exact decimal, never a double.
    public mutating func readNumber() throws(Failure) -> Substring {
        self.skipWhitespace()
        let start = self.index
        _ = self.consume(UInt8(ascii: "-"))
        if !self.consume(UInt8(ascii: "0")) { try self.readDigits() }
        if self.consume(UInt8(ascii: ".")) { try self.readDigits() }
        if self.consume(UInt8(ascii: "e")) || self.consume(UInt8(ascii: "E")) {
            if !self.consume(UInt8(ascii: "+")) { _ = self.consume(UInt8(ascii: "-")) }
            try self.readDigits()
        }
        return Substring(String(decoding: self.bytes[start..<self.index], as: UTF8.self))
    }

    private mutating func readDigits() throws(Failure) {
        let start = self.index
        while self.index < self.bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self.bytes[self.index]) {
            self.index += 1
        }
        guard self.index > start else { throw self.failure("a digit was expected") }
    }

    public mutating func readInteger<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) throws(Failure) -> Integer {
        self.skipWhitespace()
        if let short = self.readShortInteger() {
            guard let value = Integer(exactly: short) else { throw self.failure("an integer in range was expected") }
            return value
        }
        guard let value = Integer(try self.readNumber()) else { throw self.failure("an integer in range was expected") }
        return value
    }

    /// Consumes the next number if it is an integer of at most 18 digits, which fits whatever the digits are: no text is
    /// made of it.
    public mutating func readShortInteger() -> Int64? {
        self.skipWhitespace()
        var index = self.index
        let isNegative = index < self.bytes.count && self.bytes[index] == UInt8(ascii: "-")
        if isNegative { index += 1 }
        let first = index
        var value: Int64 = 0
        while index < self.bytes.count, index - first <= 18 {
            let digit = self.bytes[index] &- UInt8(ascii: "0")
            guard digit < 10 else { break }
            value = value &* 10 &+ Int64(digit)
            index += 1
        }
        let count = index - first
        // No digit, too many, a leading zero, or what is no integer: the general way decides.
        guard count > 0, count <= 18, count == 1 || self.bytes[first] != UInt8(ascii: "0") else { return nil }
        if index < self.bytes.count {
            switch self.bytes[index] {
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"): return nil
            default: break
            }
        }
        self.index = index
        return isNegative ? -value : value
    }

    public mutating func readBool() throws(Failure) -> Bool {
        self.skipWhitespace()
        if self.consume("true") { return true }
        if self.consume("false") { return false }
        throw self.failure("true or false was expected")
    }

    /// Consumes `null` if that comes next.
    public mutating func readNull() -> Bool {
        self.skipWhitespace()
        return self.consume("null")
    }

    /// Consumes the next value, checking it as strictly as if it were used.
    public mutating func skipValue() throws {
        switch try self.peek() {
        case .object: try self.readObject { reader, _ in try reader.skipValue() }
        case .array: try self.readArray { reader in try reader.skipValue() }
        case .string: _ = try self.readString()
        case .number: _ = try self.readNumber()
        case .bool: _ = try self.readBool()
        case .null: guard self.readNull() else { throw self.failure("null was expected") }
        }
    }

    /// Consumes the next value and returns its text as it is written.
    public mutating func readRawValue() throws -> String {
        self.skipWhitespace()
        let start = self.index
        try self.skipValue()
        return try self.validated(UnsafeBufferPointer(rebasing: self.bytes[start..<self.index]))
    }

    // MARK: - Bytes

    private func validated(_ bytes: UnsafeBufferPointer<UInt8>) throws(Failure) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw self.failure("a string is not UTF-8")
        }
        return text
    }

    private mutating func skipWhitespace() {
        while self.index < self.bytes.count {
            switch self.bytes[self.index] {
            case 0x20, 0x09, 0x0A, 0x0D: self.index += 1
            default: return
            }
        }
    }

    private mutating func consume(_ byte: UInt8) -> Bool {
        guard self.index < self.bytes.count, self.bytes[self.index] == byte else { return false }
        self.index += 1
        return true
    }

    private mutating func consume(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard self.index + count <= self.bytes.count else { return false }
        for offset in 0..<count where self.bytes[self.index + offset] != word.utf8Start[offset] { return false }
        self.index += count
        return true
    }
}
