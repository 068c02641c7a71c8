/// Writes JSON text, values in the order they are given. The counterpart of ``JSONReader``.
public struct JSONWriter: Sendable {
    public private(set) var bytes: [UInt8] = []
    private var needsComma = false

    public init(reservingCapacity capacity: Int = 0) { self.bytes.reserveCapacity(capacity) }

    public var text: String { String(decoding: self.bytes, as: UTF8.self) }

    public mutating func object(_ members: (inout JSONWriter) throws -> Void) rethrows {
        try self.enclosed(UInt8(ascii: "{"), UInt8(ascii: "}"), members)
    }

    public mutating func array(_ elements: (inout JSONWriter) throws -> Void) rethrows {
        try self.enclosed(UInt8(ascii: "["), UInt8(ascii: "]"), elements)
    }

    private mutating func enclosed(_ open: UInt8, _ close: UInt8, _ body: (inout JSONWriter) throws -> Void) rethrows {
        self.separate()
        self.bytes.append(open)
        self.needsComma = false
        try body(&self)
        self.bytes.append(close)
        self.needsComma = true
    }

    /// Writes a key; the value must follow. The key is written as it is: it must need no escape.
    public mutating func key(_ name: StaticString) {
        self.separate()
        self.bytes.append(UInt8(ascii: "\""))
        self.bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        self.bytes.append(UInt8(ascii: "\""))
        self.bytes.append(UInt8(ascii: ":"))
        self.needsComma = false
    }

    public mutating func key(_ name: String) {
        self.string(name)
        self.bytes.append(UInt8(ascii: ":"))
        self.needsComma = false
    }

    public mutating func string(_ value: String) {
        self.separate()
        self.bytes.append(UInt8(ascii: "\""))
        var value = value
        value.withUTF8 { self.appendEscaped($0) }
        self.bytes.append(UInt8(ascii: "\""))
    }

    public mutating func integer(_ value: some BinaryInteger) {
        self.separate()
        guard let small = Int(exactly: value), small >= 0 else {
            self.bytes.append(contentsOf: String(value).utf8)
            return
        }
        // Digits from the last to the first: no text is made of a number that only passes through.
        var rest = small
        var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
        withUnsafeMutableBytes(of: &digits) { buffer in
            var index = buffer.count
            repeat {
                index -= 1
                buffer[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            self.bytes.append(contentsOf: buffer[index...])
        }
    }

    public mutating func bool(_ value: Bool) {
        self.separate()
        self.bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    public mutating func null() {
        self.separate()
        self.bytes.append(contentsOf: "null".utf8)
    }

    /// Writes a value that is JSON text already.
    public mutating func raw(_ json: String) {
        self.separate()
        self.bytes.append(contentsOf: json.utf8)
    }

    private mutating func separate() {
        if self.needsComma { self.bytes.append(UInt8(ascii: ",")) }
        self.needsComma = true
    }

    private mutating func appendEscaped(_ text: UnsafeBufferPointer<UInt8>) {
        var runStart = 0
        for index in text.indices {
            let byte = text[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            self.bytes.append(contentsOf: text[runStart..<index])
            runStart = index + 1
            self.bytes.append(UInt8(ascii: "\\"))
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): self.bytes.append(byte)
            case 0x0A: self.bytes.append(UInt8(ascii: "n"))
            case 0x0D: self.bytes.append(UInt8(ascii: "r"))
            case 0x09: self.bytes.append(UInt8(ascii: "t"))
            default:
                let digits = Array("0123456789abcdef".utf8)
                self.bytes.append(contentsOf: "u00".utf8)
                self.bytes.append(digits[Int(byte >> 4)])
                self.bytes.append(digits[Int(byte & 15)])
            }
        }
        self.bytes.append(contentsOf: text[runStart...])
    }
}

extension JSONWriter {
    public mutating func member(_ name: StaticString, _ value: String) { self.key(name); self.string(value) }
    public mutating func member(_ name: StaticString, _ value: some BinaryInteger) { self.key(name); self.integer(value) }
    public mutating func member(_ name: StaticString, _ value: Bool) { self.key(name); self.bool(value) }
}
