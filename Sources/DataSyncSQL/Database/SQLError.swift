public import DataSync

/// What a database refused, with whose fault that is.
public struct SQLError: Error, Sendable {
    /// Decided by one table of the driver, from the error number alone.
    public enum Fault: Hashable, Sendable {
        /// Rolled back, or to be rolled back: the same unit may pass when it is run again.
        case retry
        /// The data of the statement.
        case record(ReasonCode)
        /// A foreign key: what it points to is not there, or still pointed to.
        case dependency
        /// The connection is gone; what was not committed is rolled back.
        case connection
        /// The connection was lost while a commit was under way.
        case commitUnknown
        /// Everything else, what is not listed included.
        case system
    }

    public var fault: Fault
    /// The server's error number, 0 for an error of our own.
    public var number: Int
    /// What the operator reads. It may quote values: it never leaves this machine and is not put into tables.
    public var message: String
    /// The column, key or constraint that the error is about, if the server named one. A name, never a value.
    public var subject: String?

    public init(_ fault: Fault, number: Int, message: String, subject: String? = nil) {
        self.fault = fault
        self.number = number
        self.message = message
        self.subject = subject.flatMap { Self.isName($0) ? $0 : nil }
    }

    static func unexpectedType(column: Int, expected: String) -> SQLError {
        SQLError(.system, number: 0, message: "column \(column) of a row of DataSync's own tables is not \(expected)")
    }

    /// Names of tables and columns that we may repeat. Anything else could be data that looks like one.
    private static func isName(_ text: String) -> Bool {
        (1...200).contains(text.utf8.count)
            && text.unicodeScalars.allSatisfy { $0.properties.isAlphabetic || ("0"..."9").contains($0) || "_$.".unicodeScalars.contains($0) }
    }

    /// What the peer may be told: number and subject.
    var publicDetail: String { self.subject.map { "\($0) (error \(self.number))" } ?? "error \(self.number)" }

    /// For a statement on business tables: a record's fault stays one.
    func inHandler(_ operation: StaticString) -> any Error {
        switch self.fault {
        case .record(let reason): RecordFault.refused(reason, detail: self.publicDetail)
        case .dependency: RecordFault.missingDependency(detail: self.publicDetail)
        default: self.inStorage(operation)
        }
    }

    /// For a statement on DataSync's own tables: there is no record to blame. Two that insert the same row have met.
    func inStorage(_ operation: StaticString) -> DataSyncError {
        let code: DataSyncError.Code =
            switch self.fault {
            case .retry: .storageBusy
            case .record(.constraint): .storageBusy
            case .connection: .storageUnavailable
            case .commitUnknown: .commitUnknown
            case .record, .dependency, .system: .storageFailed
            }
        return DataSyncError(code, operation: operation, detail: "error \(self.number): \(self.message)")
    }
}

extension SQLError: CustomStringConvertible {
    public var description: String { "SQLError(\(self.fault), \(self.number))" }
}
