/// A value that no description, no mirror, no dump and no encoding shows: a password, the secret of a token, a private key.
///
/// What it holds comes out where somebody writes ``revealed``, and nowhere else.
public struct Secret<Value> {
    /// The value itself: for who uses it, and never for a log, an error or a description.
    public let revealed: Value

    public init(_ value: Value) { self.revealed = value }
}

extension Secret: Sendable where Value: Sendable {}
extension Secret: Equatable where Value: Equatable {}

extension Secret: ExpressibleByUnicodeScalarLiteral, ExpressibleByExtendedGraphemeClusterLiteral, ExpressibleByStringLiteral where Value == String {
    public init(stringLiteral value: String) { self.init(value) }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "(secret)" }
    public var debugDescription: String { "(secret)" }
    /// Without children.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

extension Secret: Encodable {
    /// Writes what ``description`` says.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.description)
    }
}
