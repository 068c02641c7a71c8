/// A value that is bound to a statement or read from a row.
///
/// Decimals, dates and times travel as text, exactly as they are written: a double would not keep them.
public enum SQLValue: Hashable, Sendable {
    case null
    case int(Int64)
    case double(Double)
    case text(String)
    case bytes([UInt8])

    @_disfavoredOverload
    public static func int(_ value: some BinaryInteger) -> SQLValue { .int(Int64(value)) }
    public static func bool(_ value: Bool) -> SQLValue { .int(value ? 1 as Int64 : 0) }
    public static func text(_ value: String?) -> SQLValue { value.map { .text($0) } ?? .null }

    /// Whether it is a text that SQLite's interface would end early, without a word.
    var holdsNUL: Bool {
        if case .text(let text) = self { text.utf8.contains(0) } else { false }
    }
}

extension SQLValue: CustomStringConvertible {
    /// The kind alone: values of statements and rows are business data and do not belong into logs.
    public var description: String {
        switch self {
        case .null: "null"
        case .int: "int"
        case .double: "double"
        case .text: "text"
        case .bytes: "bytes"
        }
    }
}

/// The rows of a query, in the order of the database.
public struct SQLRows: Sendable, RandomAccessCollection {
    public let columnCount: Int
    private let values: [SQLValue]

    /// - Parameter values: Row after row; as many as `columnCount` times the rows.
    public init(columnCount: Int, values: [SQLValue]) {
        precondition(columnCount > 0 ? values.count.isMultiple(of: columnCount) : values.isEmpty)
        self.columnCount = columnCount
        self.values = values
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { self.columnCount == 0 ? 0 : self.values.count / self.columnCount }
    public subscript(index: Int) -> SQLRow {
        SQLRow(values: self.values[index * self.columnCount..<(index + 1) * self.columnCount])
    }
}

/// One row. A column that has another type than its reader expects is a fault of the system: the table is not ours.
public struct SQLRow: Sendable {
    fileprivate let values: ArraySlice<SQLValue>

    public var count: Int { self.values.count }
    public subscript(column: Int) -> SQLValue { self.values[self.values.startIndex + column] }

    public func int(_ column: Int) throws -> Int64 {
        switch self[column] {
        case .int(let value): return value
        case .text(let text): if let value = Int64(text) { return value }
        default: break
        }
        throw SQLError.unexpectedType(column: column, expected: "an integer")
    }

    public func int<Integer: FixedWidthInteger>(_ column: Int, as _: Integer.Type) throws -> Integer {
        guard let value = Integer(exactly: try self.int(column)) else {
            throw SQLError.unexpectedType(column: column, expected: "\(Integer.self)")
        }
        return value
    }

    public func optionalInt(_ column: Int) throws -> Int64? {
        if case .null = self[column] { return nil }
        return try self.int(column)
    }

    public func text(_ column: Int) throws -> String {
        guard let text = try self.optionalText(column) else { throw SQLError.unexpectedType(column: column, expected: "text") }
        return text
    }

    /// Nil for NULL; bytes must be UTF-8.
    public func optionalText(_ column: Int) throws -> String? {
        switch self[column] {
        case .null: return nil
        case .text(let text): return text
        case .bytes(let bytes): if let text = String(validating: bytes, as: UTF8.self) { return text }
        case .int(let value): return String(value)
        case .double(let value): return "\(value)"
        }
        throw SQLError.unexpectedType(column: column, expected: "UTF-8 text")
    }

    public func bytes(_ column: Int) throws -> [UInt8] {
        switch self[column] {
        case .bytes(let bytes): return bytes
        case .text(let text): return Array(text.utf8)
        default: throw SQLError.unexpectedType(column: column, expected: "bytes")
        }
    }
}
