import CMariaDB
import DataSync
import DataSyncSQL

/// A prepared statement: `MYSQL_STMT *` with what is bound to it.
///
/// https://mariadb.com/docs/connectors/mariadb-connector-c/api-prepared-statement-functions and, for arrays,
/// https://mariadb.com/docs/connectors/mariadb-connector-c/bulk-insert-column-wise-binding
final class MySQLStatement {
    private let raw: UnsafeMutablePointer<MYSQL_STMT>
    private unowned let handle: MySQLHandle
    private let parameterCount: Int

    init(_ sql: String, handle: MySQLHandle) throws {
        guard let raw = mysql_stmt_init(handle.raw) else { throw handle.error() }
        self.raw = raw
        self.handle = handle
        var sql = sql
        let status = sql.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { mysql_stmt_prepare(raw, $0.baseAddress, UInt($0.count)) }
        }
        self.parameterCount = Int(mysql_stmt_param_count(raw))
        if status != 0 {
            let error = handle.error(mysql_stmt_errno(raw), mysql_stmt_error(raw))
            mysql_stmt_close(raw)
            throw error
        }
        self.isOpen = true
    }

    private var isOpen = false

    deinit { if self.isOpen { mysql_stmt_close(self.raw) } }

    var affectedRows: Int { Int(clamping: mysql_stmt_affected_rows(self.raw)) }

    private func check(_ status: Int32) throws {
        guard status == 0 else { throw self.handle.error(mysql_stmt_errno(self.raw), mysql_stmt_error(self.raw)) }
    }

    // MARK: - Executing

    func execute(_ values: [SQLValue]) throws {
        precondition(values.count == self.parameterCount, "a statement has \(self.parameterCount) parameters, not \(values.count)")
        try self.check(datasync_mysql_stmt_set_array_size(self.raw, 0))
        let arena = ParameterArena(columns: values.count, rows: 1)
        for (index, value) in values.enumerated() { arena.bind(column: index, [value][...], stride: 1, isArray: false) }
        try withExtendedLifetime(arena) {
            if !values.isEmpty { try self.check(Int32(mysql_stmt_bind_param(self.raw, arena.binds))) }
            try self.check(mysql_stmt_execute(self.raw))
        }
    }

    /// Executes the statement for rows of values in one round trip (MariaDB only).
    func executeBulk(_ values: [SQLValue], arity: Int, rows: Range<Int>) throws {
        precondition(arity == self.parameterCount, "a statement has \(self.parameterCount) parameters, not \(arity)")
        let arena = ParameterArena(columns: arity, rows: rows.count)
        for column in 0..<arity {
            arena.bind(column: column, values[(rows.lowerBound * arity + column)...], stride: arity, isArray: true)
        }
        try withExtendedLifetime(arena) {
            try self.check(datasync_mysql_stmt_set_array_size(self.raw, UInt32(rows.count)))
            try self.check(Int32(mysql_stmt_bind_param(self.raw, arena.binds)))
            try self.check(mysql_stmt_execute(self.raw))
        }
    }

    // MARK: - Reading

    /// All rows of the result; the statement can be executed again afterwards.
    func rows() throws -> SQLRows {
        guard let metadata = mysql_stmt_result_metadata(self.raw) else { return SQLRows(columnCount: 0, values: []) }
        defer {
            mysql_free_result(metadata)
            mysql_stmt_free_result(self.raw)
        }
        let count = Int(mysql_num_fields(metadata))
        let columns = ResultColumns(metadata, count: count)
        try self.check(Int32(mysql_stmt_bind_result(self.raw, columns.binds)))
        try self.check(mysql_stmt_store_result(self.raw))
        var values: [SQLValue] = []
        values.reserveCapacity(count * Int(clamping: mysql_stmt_num_rows(self.raw)))
        while true {
            let status = mysql_stmt_fetch(self.raw)
            if status == MYSQL_NO_DATA { break }
            // MYSQL_DATA_TRUNCATED only says that a buffer was too short: the column is fetched again, whole.
            guard status == 0 || status == MYSQL_DATA_TRUNCATED else {
                throw self.handle.error(mysql_stmt_errno(self.raw), mysql_stmt_error(self.raw))
            }
            for column in 0..<count { values.append(try columns.value(column, of: self.raw)) }
        }
        return SQLRows(columnCount: count, values: values)
    }
}

/// The memory that parameters are bound to while a statement is executed.
private final class ParameterArena {
    let binds: UnsafeMutablePointer<MYSQL_BIND>
    private let columns: Int
    private let rows: Int
    private var allocations: [UnsafeMutableRawPointer] = []

    init(columns: Int, rows: Int) {
        self.columns = columns
        self.rows = rows
        self.binds = .allocate(capacity: max(columns, 1))
        self.binds.initialize(repeating: MYSQL_BIND(), count: max(columns, 1))
    }

    deinit {
        self.binds.deallocate()
        for allocation in self.allocations { allocation.deallocate() }
    }

    private func allocate<T>(_: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
        let raw = UnsafeMutableRawPointer.allocate(
            byteCount: max(count, 1) * MemoryLayout<T>.stride, alignment: MemoryLayout<T>.alignment)
        self.allocations.append(raw)
        return raw.bindMemory(to: T.self, capacity: max(count, 1))
    }

    /// Binds every `stride`-th value as one column. A column of nothing but integers and NULLs is sent as integers, one
    /// that holds bytes as bytes, everything else as text.
    func bind(column: Int, _ values: ArraySlice<SQLValue>, stride: Int, isArray: Bool) {
        let start = values.startIndex
        let indicators = self.allocate(CChar.self, self.rows)
        var (isInteger, hasBytes, bytes) = (true, false, 0)
        for row in 0..<self.rows {
            let value = values[start + row * stride]
            indicators[row] = CChar(truncatingIfNeeded: value == .null ? STMT_INDICATOR_NULL.rawValue : STMT_INDICATOR_NONE.rawValue)
            switch value {
            case .null, .int: break
            case .double: (isInteger, bytes) = (false, bytes + 32)
            case .text(let text): (isInteger, bytes) = (false, bytes + text.utf8.count)
            case .bytes(let data): (isInteger, hasBytes, bytes) = (false, true, bytes + data.count)
            }
        }
        if isInteger {
            let numbers = self.allocate(Int64.self, self.rows)
            for row in 0..<self.rows {
                if case .int(let value) = values[start + row * stride] { numbers[row] = value } else { numbers[row] = 0 }
            }
            self.binds[column].buffer_type = MYSQL_TYPE_LONGLONG
            self.binds[column].buffer = UnsafeMutableRawPointer(numbers)
        } else {
            self.bindText(column: column, values, stride: stride, isArray: isArray, bytes: bytes, hasBytes: hasBytes)
        }
        if isArray {
            datasync_mysql_bind_set_indicators(&self.binds[column], indicators)
        } else if indicators[0] == STMT_INDICATOR_NULL.rawValue {
            self.binds[column].buffer_type = MYSQL_TYPE_NULL
        }
    }

    private func bindText(
        column: Int, _ values: ArraySlice<SQLValue>, stride: Int, isArray: Bool, bytes: Int, hasBytes: Bool
    ) {
        let data = self.allocate(UInt8.self, bytes + 24 * self.rows)
        let lengths = self.allocate(UInt.self, self.rows)
        let pointers = self.allocate(UnsafeMutableRawPointer?.self, self.rows)
        var offset = 0
        for row in 0..<self.rows {
            let target = data + offset
            pointers[row] = UnsafeMutableRawPointer(target)
            var length = 0
            switch values[values.startIndex + row * stride] {
            case .null: break
            case .text(var text):
                length = text.withUTF8 { source in
                    if let base = source.baseAddress { target.update(from: base, count: source.count) }
                    return source.count
                }
            case .bytes(let source):
                source.withUnsafeBufferPointer { if let base = $0.baseAddress { target.update(from: base, count: $0.count) } }
                length = source.count
            case .int(let value):
                for byte in String(value).utf8 {
                    target[length] = byte
                    length += 1
                }
            case .double(let value):
                for byte in "\(value)".utf8 {
                    target[length] = byte
                    length += 1
                }
            }
            lengths[row] = UInt(length)
            offset += length
        }
        self.binds[column].buffer_type = hasBytes ? MYSQL_TYPE_BLOB : MYSQL_TYPE_STRING
        self.binds[column].length = lengths
        if isArray {
            self.binds[column].buffer = UnsafeMutableRawPointer(pointers)
        } else {
            self.binds[column].buffer = UnsafeMutableRawPointer(data)
            self.binds[column].buffer_length = lengths[0]
        }
    }
}

/// The memory that the columns of a row are fetched into.
private final class ResultColumns {
    private enum Kind { case integer, unsigned, double, text, bytes }

    let binds: UnsafeMutablePointer<MYSQL_BIND>
    private let count: Int
    private var kinds: [Kind] = []
    private let lengths: UnsafeMutablePointer<UInt>
    private let nulls: UnsafeMutablePointer<my_bool>
    private let truncated: UnsafeMutablePointer<my_bool>
    private var buffers: [UnsafeMutableRawPointer] = []

    /// Longer values are fetched once more.
    private static let bufferBytes = 1_024

    init(_ metadata: UnsafeMutablePointer<MYSQL_RES>, count: Int) {
        self.count = count
        self.binds = .allocate(capacity: count)
        self.binds.initialize(repeating: MYSQL_BIND(), count: count)
        self.lengths = .allocate(capacity: count)
        self.lengths.initialize(repeating: 0, count: count)
        self.nulls = .allocate(capacity: count)
        self.nulls.initialize(repeating: 0, count: count)
        self.truncated = .allocate(capacity: count)
        self.truncated.initialize(repeating: 0, count: count)
        for column in 0..<count {
            let field = mysql_fetch_field_direct(metadata, UInt32(column)).pointee
            let kind = Self.kind(of: field)
            self.kinds.append(kind)
            let isNumber = kind == .integer || kind == .unsigned || kind == .double
            let size = isNumber ? 8 : Self.bufferBytes
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
            self.buffers.append(buffer)
            self.binds[column].buffer = buffer
            self.binds[column].buffer_length = UInt(size)
            self.binds[column].buffer_type =
                switch kind {
                case .integer, .unsigned: MYSQL_TYPE_LONGLONG
                case .double: MYSQL_TYPE_DOUBLE
                case .text, .bytes: MYSQL_TYPE_STRING
                }
            self.binds[column].is_unsigned = kind == .unsigned ? 1 : 0
            self.binds[column].length = self.lengths + column
            self.binds[column].is_null = self.nulls + column
            self.binds[column].error = self.truncated + column
        }
    }

    deinit {
        for buffer in self.buffers { buffer.deallocate() }
        self.binds.deallocate()
        self.lengths.deallocate()
        self.nulls.deallocate()
        self.truncated.deallocate()
    }

    private static func kind(of field: MYSQL_FIELD) -> Kind {
        switch field.type {
        case MYSQL_TYPE_TINY, MYSQL_TYPE_SHORT, MYSQL_TYPE_LONG, MYSQL_TYPE_INT24, MYSQL_TYPE_YEAR: .integer
        case MYSQL_TYPE_LONGLONG: field.flags & UInt32(UNSIGNED_FLAG) != 0 ? .unsigned : .integer
        case MYSQL_TYPE_FLOAT, MYSQL_TYPE_DOUBLE: .double
        // Character set 63 is "binary". Numbers and times have it too, and are text all the same.
        case MYSQL_TYPE_TINY_BLOB, MYSQL_TYPE_MEDIUM_BLOB, MYSQL_TYPE_LONG_BLOB, MYSQL_TYPE_BLOB, MYSQL_TYPE_VAR_STRING,
            MYSQL_TYPE_STRING, MYSQL_TYPE_VARCHAR, MYSQL_TYPE_BIT, MYSQL_TYPE_GEOMETRY:
            field.charsetnr == 63 ? .bytes : .text
        default: .text
        }
    }

    func value(_ column: Int, of statement: UnsafeMutablePointer<MYSQL_STMT>) throws -> SQLValue {
        if self.nulls[column] != 0 { return .null }
        switch self.kinds[column] {
        case .integer: return .int(self.buffers[column].load(as: Int64.self))
        case .unsigned:
            let value = self.buffers[column].load(as: UInt64.self)
            return Int64(exactly: value).map { .int($0) } ?? .text(String(value))
        case .double: return .double(self.buffers[column].load(as: Double.self))
        case .text: return .text(try self.withBytes(column, of: statement) { String(decoding: $0, as: UTF8.self) })
        case .bytes: return .bytes(try self.withBytes(column, of: statement) { Array($0) })
        }
    }

    private func withBytes<Value>(
        _ column: Int, of statement: UnsafeMutablePointer<MYSQL_STMT>, _ body: (UnsafeRawBufferPointer) -> Value
    ) throws -> Value {
        let length = Int(self.lengths[column])
        guard length > Self.bufferBytes else { return body(UnsafeRawBufferPointer(start: self.buffers[column], count: length)) }
        let whole = UnsafeMutableRawPointer.allocate(byteCount: length, alignment: 8)
        defer { whole.deallocate() }
        var bind = self.binds[column]
        bind.buffer = whole
        bind.buffer_length = UInt(length)
        guard mysql_stmt_fetch_column(statement, &bind, UInt32(column), 0) == 0 else {
            throw SQLError(.system, number: 0, message: "a column of \(length) bytes could not be fetched")
        }
        return body(UnsafeRawBufferPointer(start: whole, count: length))
    }
}
