import DataSync

/// A value of a column as payloads hold it, written in one way whatever the database gave.
struct PayloadValue: Hashable, Sendable {
    /// As JSON.
    var json: String
    /// What rows are put in order by: the value alone, whichever kind of column holds it.
    var text: String

    static let null = PayloadValue(json: "null", text: "")

    fileprivate static func number(_ text: String) -> PayloadValue { PayloadValue(json: text, text: text) }

    fileprivate static func string(_ text: String) -> PayloadValue {
        var writer = JSONWriter(reservingCapacity: text.utf8.count + 2)
        writer.string(text)
        return PayloadValue(json: writer.text, text: text)
    }
}

extension ColumnKind {
    /// The payload's form of what this column holds: the one that all databases agree about.
    ///
    /// SQLite keeps what it is given, and a decimal as a double; MySQL fills up fractions with zeros. Neither makes another value of it.
    func payloadValue(of value: SQLValue) -> PayloadValue {
        switch (self, value) {
        case (_, .null): return .null
        case (.bytes, .bytes(let bytes)): return .string(Base64.encode(bytes))
        case (.bytes, _): return .string(Base64.encode(Array(Self.plainText(value).utf8)))
        // A bit column.
        case (.integer, .bytes(let bytes)) where bytes.count <= 8: return .number(String(bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }))
        case (.integer, _), (.double, _):
            let text = Self.plainText(value)
            return DecimalText(text).map { .number($0.text) } ?? .string(text)
        case (.decimal, _):
            // As a text: a JSON number of that many digits does not survive every reader.
            let text = Self.plainText(value)
            return .string(DecimalText(text)?.text ?? text)
        case (.text, _), (.date, _): return .string(Self.plainText(value))
        case (.time, _): return .string(Self.shortTime(Self.plainText(value)))
        case (.dateTime, _):
            let text = Self.plainText(value)
            return .string(Self.withoutZeros(String(text.prefix(10)) + (text.count > 10 ? " " : "") + text.dropFirst(11)))
        case (.json, _):
            let text = Self.plainText(value)
            let isJSON = (try? JSONReader.read(text) { try $0.skipValue() }) != nil
            return isJSON ? PayloadValue(json: text, text: text) : .string(text)
        }
    }

    private static func plainText(_ value: SQLValue) -> String {
        switch value {
        case .null: return ""
        case .int(let value): return String(value)
        case .double(let value):
            // A column of single precision holds 0.1 as the float next to it, which is another double than the one next to 0.1.
            let single = Float(value)
            return Double(single) == value ? "\(single)" : "\(value)"
        case .text(let text): return text
        case .bytes(let bytes): return String(decoding: bytes, as: UTF8.self)
        }
    }

    /// Without zeros at the end of the fraction, and without a point that nothing follows.
    private static func withoutZeros(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: ".")) else { return text }
        var text = text
        while text.utf8.last == UInt8(ascii: "0") { text.removeLast() }
        if text.utf8.last == UInt8(ascii: ".") { text.removeLast() }
        return text
    }

    /// With two digits for hours that need no more.
    private static func shortTime(_ text: String) -> String {
        var time = self.withoutZeros(text)
        let isNegative = time.hasPrefix("-")
        if isNegative { time.removeFirst() }
        while time.hasPrefix("0"), time.prefix(while: { $0 != ":" }).count > 2 { time.removeFirst() }
        return isNegative && time.contains { ("1"..."9").contains($0) } ? "-" + time : time
    }
}
