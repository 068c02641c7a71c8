import DataSync

extension ColumnKind {
    /// Reads the next JSON value as a value of this column.
    ///
    /// What the database would store as something else is refused here: a strict `sql_mode` rounds decimals and fractions
    /// of a second without a word.
    /// - Throws: ``RecordFault`` naming the column, or the reader's failure for what is no JSON.
    func read(_ reader: inout JSONReader, column: String, isNullable: Bool) throws -> SQLValue {
        let kind = try reader.peek()
        if kind == .null {
            _ = reader.readNull()
            guard isNullable else { throw RecordFault.refused(.constraint, detail: "\(column) must not be null") }
            return .null
        }
        func wrong(_ expected: String) -> RecordFault { .refused(.wrongType, detail: "\(column) must be \(expected)") }
        switch self {
        case .integer(let min, let max):
            if kind == .number, let value = reader.readShortInteger() {
                guard value >= min, value < 0 || UInt64(value) <= max else {
                    throw RecordFault.refused(.outOfRange, detail: "\(column) must be an integer between \(min) and \(max)")
                }
                return .int(value)
            }
            if kind == .bool { return try self.integer(reader.readBool() ? "1" : "0", min: min, max: max, column) }
            return try self.integer(try Self.numberText(&reader, kind, wrong("an integer")), min: min, max: max, column)
        case .decimal(let precision, let scale):
            let text = try Self.numberText(&reader, kind, wrong("a decimal number"))
            return try Self.decimal(text, precision: precision, scale: scale, column)
        case .double:
            let text = try Self.numberText(&reader, kind, wrong("a number"))
            guard let value = Double(text), value.isFinite, text.utf8.allSatisfy({ $0 < 0x80 && $0 != UInt8(ascii: "x") && $0 != UInt8(ascii: "p") }) else {
                throw wrong("a number")
            }
            return .text(text)
        case .text(let characters):
            guard kind == .string else { throw wrong("a string") }
            let text = try reader.readString()
            if let characters, text.utf8.count > characters, text.unicodeScalars.count > characters {
                throw RecordFault.refused(.outOfRange, detail: "\(column) has more than \(characters) characters")
            }
            return .text(text)
        case .bytes(let max):
            guard kind == .string, let bytes = Base64.decode(try reader.readString()) else { throw wrong("bytes in base64") }
            if let max, bytes.count > max { throw RecordFault.refused(.outOfRange, detail: "\(column) has more than \(max) bytes") }
            return .bytes(bytes)
        case .date:
            guard kind == .string else { throw wrong("a date, YYYY-MM-DD") }
            let text = try reader.readString()
            guard Self.matches(text, "0000-00-00") else { throw wrong("a date, YYYY-MM-DD") }
            return .text(text)
        case .time(let fraction):
            guard kind == .string else { throw wrong("a time, HH:MM:SS") }
            let text = try reader.readString()
            // A server takes 10 for ten seconds, and 10:00 for ten hours.
            let (clock, digits) = Self.splitFraction(text)
            let hours = clock.hasPrefix("-") ? String(clock.dropFirst()) : clock
            guard let digits, Self.matches(hours, "00:00:00") || Self.matches(hours, "000:00:00") else { throw wrong("a time, HH:MM:SS") }
            return try Self.checkFraction(text, digits, fraction, column)
        case .dateTime(let fraction):
            guard kind == .string else { throw wrong("a date and time, YYYY-MM-DD HH:MM:SS") }
            let text = try reader.readString()
            let (head, digits) = Self.splitFraction(text)
            guard let digits, Self.matches(head, "0000-00-00 00:00:00") || Self.matches(head, "0000-00-00T00:00:00") else {
                throw wrong("a date and time, YYYY-MM-DD HH:MM:SS")
            }
            return try Self.checkFraction(text, digits, fraction, column)
        case .json: return .text(try reader.readRawValue())
        }
    }

    /// A number, or a string that holds one: JSON numbers beyond 2^53 do not survive every writer.
    private static func numberText(_ reader: inout JSONReader, _ kind: JSONReader.Kind, _ fault: RecordFault) throws -> String {
        switch kind {
        case .number: return String(try reader.readNumber())
        case .string: return try reader.readString()
        default: throw fault
        }
    }

    private func integer(_ text: String, min: Int64, max: UInt64, _ column: String) throws -> SQLValue {
        let range = "\(column) must be an integer between \(min) and \(max)"
        if let value = Int64(text) {
            guard value >= min, value < 0 || UInt64(value) <= max else { throw RecordFault.refused(.outOfRange, detail: range) }
            return .int(value)
        }
        if let value = UInt64(text), value <= max { return .text(String(value)) }
        let isInteger = !text.isEmpty && text.drop { $0 == "-" }.utf8.allSatisfy { (48...57).contains($0) }
        throw RecordFault.refused(isInteger ? .outOfRange : .wrongType, detail: range)
    }

    private static func decimal(_ text: String, precision: Int?, scale: Int?, _ column: String) throws -> SQLValue {
        let unsigned = text.utf8.drop { $0 == UInt8(ascii: "-") }
        let parts = unsigned.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        let isDecimal =
            text.utf8.count - unsigned.count <= 1
            && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy { (48...57).contains($0) } }
        guard isDecimal else { throw RecordFault.refused(.wrongType, detail: "\(column) must be a decimal number") }
        let whole = parts[0].drop { $0 == UInt8(ascii: "0") }.count
        let fraction = parts.count > 1 ? parts[1].reversed().drop { $0 == UInt8(ascii: "0") }.count : 0
        if let precision {
            let isTooLong = scale.map { whole > precision - $0 || fraction > $0 } ?? (whole + fraction > precision)
            guard !isTooLong else {
                let limit = scale.map { "decimal(\(precision),\($0)) holds" } ?? "\(precision)"
                throw RecordFault.refused(.outOfRange, detail: "\(column) has more digits than \(limit)")
            }
        }
        return .text(text)
    }

    /// What stands before the point, and the digits behind it: nil if there is a point without them, or something else.
    private static func splitFraction(_ text: String) -> (head: String, digits: Substring.UTF8View?) {
        guard let point = text.utf8.firstIndex(of: UInt8(ascii: ".")) else { return (text, ""[...].utf8) }
        let digits = text[text.utf8.index(after: point)...].utf8
        return (String(text[..<point]), !digits.isEmpty && digits.allSatisfy { (48...57).contains($0) } ? digits : nil)
    }

    private static func checkFraction(
        _ text: String, _ digits: Substring.UTF8View, _ fraction: Int, _ column: String
    ) throws -> SQLValue {
        guard digits.reversed().drop(while: { $0 == UInt8(ascii: "0") }).count <= fraction else {
            throw RecordFault.refused(.outOfRange, detail: "\(column) keeps \(fraction) digits behind the second")
        }
        return .text(text)
    }

    /// Whether `text` has a digit wherever `pattern` has a zero, and the same character elsewhere.
    private static func matches(_ text: String, _ pattern: StaticString) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count == pattern.utf8CodeUnitCount else { return false }
        return bytes.indices.allSatisfy { index in
            let expected = pattern.utf8Start[index]
            return expected == UInt8(ascii: "0") ? (48...57).contains(bytes[index]) : bytes[index] == expected
        }
    }
}

/// Base64 with padding (RFC 4648, section 4), read strictly: no line breaks, no bits left over.
enum Base64 {
    static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count.isMultiple(of: 4) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 4 * 3)
        for start in stride(from: 0, to: digits.count, by: 4) {
            let padding = digits[start..<start + 4].reversed().prefix { $0 == UInt8(ascii: "=") }.count
            guard padding <= 2, padding == 0 || start + 4 == digits.count else { return nil }
            var word: UInt32 = 0
            for digit in digits[start..<start + 4 - padding] {
                guard let value = self.value(digit) else { return nil }
                word = word << 6 | value
            }
            word <<= UInt32(6 * padding)
            // Bits of a last digit that stand for nothing must be zero.
            if padding > 0, word & (padding == 1 ? 0xFF : 0xFFFF) != 0 { return nil }
            bytes.append(UInt8(truncatingIfNeeded: word >> 16))
            if padding < 2 { bytes.append(UInt8(truncatingIfNeeded: word >> 8)) }
            if padding < 1 { bytes.append(UInt8(truncatingIfNeeded: word)) }
        }
        return bytes
    }

    static func encode(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var digits: [UInt8] = []
        digits.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let word = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for index in 0..<4 {
                digits.append(index <= group.count ? alphabet[Int(word >> UInt32(18 - 6 * index)) & 63] : UInt8(ascii: "="))
            }
        }
        return String(decoding: digits, as: UTF8.self)
    }

    private static func value(_ digit: UInt8) -> UInt32? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(digit - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(digit - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
