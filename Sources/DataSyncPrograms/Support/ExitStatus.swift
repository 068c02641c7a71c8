import ArgumentParser
package import DataSync
import Foundation

/// What the programs exit with (`sysexits.h` where that has a word for it). Documented in Docs/operations.md.
package enum ExitStatus: Int32, Sendable {
    case success = 0
    /// The program did what it should, and the answer is no.
    case failure = 1
    case usage = 64
    /// A payload, a record, an argument that is not what it should be.
    case badInput = 65
    case notFound = 66
    /// The cloud or the database cannot be reached, or is busy; or somebody else listens where a server should.
    case unavailable = 69
    case internalError = 70
    /// Another agent works on this database.
    case alreadyRunning = 75
    /// The cloud, or the database, refuses this identity.
    case refused = 77
    case configuration = 78

    package init(_ code: DataSyncError.Code) {
        switch code {
        case .invalidConfiguration, .storageNotReady, .storageTooNew: self = .configuration
        case .storageBusy, .commitUnknown, .storageUnavailable, .storageFailed, .peerUnreachable, .addressUnavailable, .overQuota:
            self = .unavailable
        case .leaseHeld, .leaseLost: self = .alreadyRunning
        case .unauthorized, .suspended, .clockSkew, .fenced, .unsupportedProtocol, .diverged: self = .refused
        case .invalidRecord, .invalidInput, .tooLarge: self = .badInput
        case .notFound: self = .notFound
        case .invalidState: self = .failure
        default: self = .internalError
        }
    }
}

/// Runs a command's work; what goes wrong becomes a sentence on standard error and an exit status.
package func exiting(_ work: () async throws -> Void) async throws {
    do { try await work() } catch let error as DataSyncError {
        Terminal.complain(error.detail ?? error.description)
        throw ExitCode(ExitStatus(error.code).rawValue)
    }
}
