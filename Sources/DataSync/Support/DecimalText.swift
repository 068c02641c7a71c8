/// A decimal number as a text, written in one way: `100`, `0.5`, `-12.34`, whether it came as `100.00`, `5e-1` or `-012.340`.
///
/// Never through a double: what a decimal column holds has more digits than that.
public struct DecimalText: Hashable, Sendable {
    public let text: String

    /// The largest exponent that is written out; numbers beyond it keep theirs. Those of a double are well below.
    private static let exponentMax = 1_000

    /// Reads a number as JSON, SQL or a program writes it; nil for anything else.
    public init?(_ source: String) {
        let bytes = Array(source.utf8)
        var index = 0
        var isNegative = false
        if index < bytes.count, bytes[index] == UInt8(ascii: "-") || bytes[index] == UInt8(ascii: "+") {
            isNegative = bytes[index] == UInt8(ascii: "-")
            index += 1
        }
        var digits: [UInt8] = []
        var (scale, count, hasPoint) = (0, 0, false)
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "."), !hasPoint {
                hasPoint = true
            } else if (48...57).contains(bytes[index]) {
                count += 1
                digits.append(bytes[index])
                if hasPoint { scale += 1 }
            } else {
                break
            }
            index += 1
        }
        guard count > 0 else { return nil }
        if index < bytes.count {
            guard bytes[index] == UInt8(ascii: "e") || bytes[index] == UInt8(ascii: "E"),
                let exponent = Int(String(decoding: bytes[(index + 1)...], as: UTF8.self)), abs(exponent) < 1_000_000
            else { return nil }
            scale -= exponent
        }
        digits = Array(digits.drop { $0 == UInt8(ascii: "0") })
        while digits.last == UInt8(ascii: "0") {
            digits.removeLast()
            scale -= 1
        }
        self.text = digits.isEmpty ? "0" : (isNegative ? "-" : "") + Self.text(digits, scale: scale)
    }

    /// - Parameter scale: How many of the digits stand behind the point; negative for zeros before it.
    private static func text(_ digits: [UInt8], scale: Int) -> String {
        func string(_ digits: some Sequence<UInt8>) -> String { String(decoding: Array(digits), as: UTF8.self) }
        guard abs(scale) <= self.exponentMax else { return "\(string(digits))e\(-scale)" }
        if scale <= 0 { return string(digits) + String(repeating: "0", count: -scale) }
        guard digits.count > scale else { return "0." + String(repeating: "0", count: scale - digits.count) + string(digits) }
        return string(digits.dropLast(scale)) + "." + string(digits.suffix(scale))
    }
}
