import DataSync
import DataSyncSQL
import GRDB

/// The one table from result codes to whose fault they are. What is not listed is the system's.
///
/// https://www.sqlite.org/rescode.html
enum SQLiteErrorTable {
    static func error(_ error: DatabaseError) -> SQLError {
        SQLError(
            self.fault(error.extendedResultCode), number: Int(error.extendedResultCode.rawValue), message: error.message ?? "",
            subject: self.subject(error))
    }

    private static func fault(_ code: ResultCode) -> SQLError.Fault {
        switch code {
        case .SQLITE_CONSTRAINT_FOREIGNKEY: return .dependency
        case .SQLITE_CONSTRAINT_TRIGGER: return .record(.refused)  // raise(abort, …): the business says no
        case .SQLITE_CONSTRAINT_DATATYPE, .SQLITE_MISMATCH: return .record(.wrongType)
        case .SQLITE_TOOBIG: return .record(.outOfRange)
        default: break
        }
        switch code.primaryResultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED, .SQLITE_PROTOCOL, .SQLITE_SCHEMA: return .retry
        case .SQLITE_CONSTRAINT: return .record(.constraint)
        default: return .system
        }
    }

    /// `UNIQUE constraint failed: member.email` and its like; the message of `raise()` is free text.
    private static func subject(_ error: DatabaseError) -> String? {
        guard error.resultCode == .SQLITE_CONSTRAINT, error.extendedResultCode != .SQLITE_CONSTRAINT_TRIGGER,
            let message = error.message, let range = message.ranges(of: "failed: ").first
        else { return nil }
        return String(message[range.upperBound...].prefix { $0 != "," })
    }
}

extension ResultCode {
    /// A value that a STRICT table does not take; GRDB has no name for it.
    static let SQLITE_CONSTRAINT_DATATYPE = ResultCode(rawValue: ResultCode.SQLITE_CONSTRAINT.rawValue | (12 << 8))
}
