import DataSync

extension SQLValue {
    /// As a signed number, since not every database has unsigned ones.
    static func fingerprint(_ fingerprint: Fingerprint) -> SQLValue { .int(Int64(bitPattern: fingerprint.rawValue)) }
}

extension SQLRow {
    func fingerprint(_ column: Int) throws -> Fingerprint { Fingerprint(rawValue: UInt64(bitPattern: try self.int(column))) }

    func type(_ column: Int) throws -> BusinessTypeID { BusinessTypeID(rawValue: try self.int(column, as: Int32.self)) }
    func server(_ column: Int) throws -> ServerID { ServerID(rawValue: try self.int(column, as: Int32.self)) }

    func uid(_ column: Int) throws -> RecordUID {
        guard let uid = RecordUID(bytes: try self.bytes(column)) else {
            throw SQLError.unexpectedType(column: column, expected: "16 bytes")
        }
        return uid
    }

    func reason(_ column: Int) throws -> ReasonCode { ReasonCode(rawValue: try self.int(column, as: UInt8.self)) }
}
