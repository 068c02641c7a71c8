/// What went wrong, in a form that a program can decide by and that is safe to show.
///
/// `"\(error)"` holds the code and the operation; ``detail``, which may quote a server, is for the operator and shown
/// by `String(reflecting:)` only. Neither ever holds a payload or a secret.
public struct DataSyncError: Error, Sendable {
    public struct Code: Hashable, Sendable, LosslessStringConvertible {
        private enum Base: String {
            case invalidConfiguration, storageBusy, commitUnknown, storageUnavailable, storageFailed, storageTooNew
            case storageNotReady, leaseHeld, leaseLost, peerUnreachable, peerInvalid, unauthorized, clockSkew, fenced
            case suspended, unsupportedProtocol, tooLarge, notFound, invalidState, invalidRecord, invalidInput, diverged, addressUnavailable, overQuota
        }
        private var base: Base
        private init(_ base: Base) { self.base = base }

        /// Settings, types or tables that contradict each other. Nothing was started.
        public static let invalidConfiguration = Self(.invalidConfiguration)
        /// A deadlock, a lock wait, a changed snapshot: rolled back, the same unit may be run again.
        public static let storageBusy = Self(.storageBusy)
        /// The connection was lost during the commit. Never look: run the unit again, the position decides.
        public static let commitUnknown = Self(.commitUnknown)
        /// The database cannot be reached, or the connection was lost before the commit.
        public static let storageUnavailable = Self(.storageUnavailable)
        /// The database refused for a reason that lies in the system: disk full, table missing, anything unlisted.
        public static let storageFailed = Self(.storageFailed)
        /// The database was written by a newer version of DataSync.
        public static let storageTooNew = Self(.storageTooNew)
        /// The tables are missing or older than this version: `init` creates or migrates them.
        public static let storageNotReady = Self(.storageNotReady)
        /// Another agent works on this database.
        public static let leaseHeld = Self(.leaseHeld)
        /// Another agent took over while this one worked.
        public static let leaseLost = Self(.leaseLost)
        /// No answer, or none that a cloud signed: the outcome is unknown.
        public static let peerUnreachable = Self(.peerUnreachable)
        /// The peer answered what the protocol does not allow.
        public static let peerInvalid = Self(.peerInvalid)
        public static let unauthorized = Self(.unauthorized)
        /// The clocks differ by more than a token's leeway; the answer carried the server's time.
        public static let clockSkew = Self(.clockSkew)
        /// A newer session of this branch exists: open one and go on.
        public static let fenced = Self(.fenced)
        /// An operator suspended this branch.
        public static let suspended = Self(.suspended)
        public static let unsupportedProtocol = Self(.unsupportedProtocol)
        public static let tooLarge = Self(.tooLarge)
        public static let notFound = Self(.notFound)
        /// The operation is not possible in the state that the thing is in.
        public static let invalidState = Self(.invalidState)
        /// A record of our own that cannot be enqueued.
        public static let invalidRecord = Self(.invalidRecord)
        /// An argument or a request that is not what it should be.
        public static let invalidInput = Self(.invalidInput)
        /// Somebody else listens where a server should, or the address is not this machine's now.
        public static let addressUnavailable = Self(.addressUnavailable)
        /// What one side holds does not follow from what the other holds: one of the two databases is an older copy. A new session
        /// compares both sides; a restored cloud has to be declared as one (`datasync-cloud restored`).
        public static let diverged = Self(.diverged)
        /// The branch has asked its cloud for more than its quota of requests or bytes: `retryAfter` says when it may ask again.
        public static let overQuota = Self(.overQuota)

        public var description: String { self.base.rawValue }

        /// The code whose description this is.
        public init?(_ description: String) {
            guard let base = Base(rawValue: description) else { return nil }
            self.base = base
        }

        /// Whether the same unit may succeed at once, without anyone changing anything.
        public var isWorthRunningAgain: Bool { self == .storageBusy || self == .commitUnknown }
    }

    public var code: Code
    /// The operation that failed, for example `"push"`. A `StaticString`: it cannot hold data.
    public var operation: StaticString
    /// Details for the operator.
    public var detail: String?
    public var underlying: (any Error)?
    /// How long the peer asked to wait before the next request.
    public var retryAfter: Duration?

    public init(
        _ code: Code, operation: StaticString, detail: String? = nil, underlying: (any Error)? = nil,
        retryAfter: Duration? = nil
    ) {
        self.code = code
        self.operation = operation
        self.detail = detail
        self.underlying = underlying
        self.retryAfter = retryAfter
    }
}

extension DataSyncError {
    /// What may be kept in tables and shown to whoever asks for the state of things: without what a database said of a statement, which
    /// may quote rows. The log of the machine where it happened has that.
    public var summary: String {
        let mayQuote = [.storageFailed, .storageBusy, .commitUnknown].contains(self.code)
        return mayQuote || self.detail == nil ? "\(self.operation): \(self.code); the log has more" : self.detail ?? ""
    }
}

extension DataSyncError: CustomStringConvertible, CustomDebugStringConvertible {
    public var description: String { "DataSyncError(\(self.code), operation: \(self.operation))" }

    public var debugDescription: String {
        var text = "\(self.operation): \(self.code)"
        if let detail { text += ": \(detail)" }
        if let underlying { text += " (\(String(reflecting: underlying)))" }
        return text
    }
}

/// What a handler, or the database that it wrote to, holds against one record. Anything else that a handler throws
/// is the system's fault: it stops the type and counts nothing.
public enum RecordFault: Error, Hashable, Sendable {
    /// A definite refusal. The detail names columns and rules, never values: it travels to the peer.
    case refused(ReasonCode, detail: String?)
    /// Something that the record depends on is not there yet: it waits, uncounted, until that arrives.
    case missingDependency(Dependency, detail: String?)

    /// A refusal for a reason of the business.
    public static func refused(_ detail: String) -> RecordFault { .refused(.refused, detail: detail) }

    /// The record needs the entity of this name, such as `member:1001`. It is tried again when a record of it is applied.
    public static func missingDependency(on entity: EntityKey) -> RecordFault {
        .missingDependency(.entity(entity), detail: entity.text)
    }

    /// The record needs something that cannot be named. It is tried again by the clock, and on a guess when others are applied.
    public static func missingDependency(detail: String?) -> RecordFault { .missingDependency(.unnamed, detail: detail) }

    /// What is held against a record that ended its receiver whenever it was tried.
    static let crashSuspect = RecordFault.refused(.crashSuspect, detail: "the receiver ended whenever it began with it")

    public var reason: ReasonCode {
        switch self {
        case .refused(let reason, _): reason
        case .missingDependency: .missingDependency
        }
    }

    public var detail: String? {
        switch self {
        case .refused(_, let detail), .missingDependency(_, let detail): detail
        }
    }

    /// What is missing, if that is the fault. A name that no entity can have names nothing.
    public var dependency: Dependency? {
        guard case .missingDependency(let dependency, _) = self else { return nil }
        guard case .entity(let key) = dependency, 1...EntityKey.bytesMax ~= key.text.utf8.count else { return .unnamed }
        return dependency
    }
}

/// A fault of one of several records that were applied together, by its index among them.
public struct IndexedRecordFault: Error, Hashable, Sendable {
    public var index: Int
    public var fault: RecordFault

    public init(index: Int, fault: RecordFault) {
        self.index = index
        self.fault = fault
    }
}
