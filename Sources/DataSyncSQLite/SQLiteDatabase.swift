public import DataSync
public import DataSyncSQL
import FoundationEssentials
import GRDB
import Glibc
import Synchronization

/// A database in one file, with no server: the embedded default.
///
/// The host application may open the same file with a library of its own; in WAL mode readers and the one writer do not
/// disturb each other, and a second writer waits for a few seconds.
public struct SQLiteDatabase: SQLDatabase {
    public let path: String

    /// - Parameter path: Of the file; it is created when it is first opened.
    public init(path: String) { self.path = path }

    public var name: String { "the SQLite file \(self.path)" }
    public var writersMax: Int { 1 }
    public var idleMax: Duration { .seconds(3_600) }

    public func connect() async throws -> any SQLConnection {
        do {
            var configuration = Configuration()
            configuration.journalMode = .wal
            configuration.busyMode = .timeout(5)
            // Transactions live over several calls: they are begun and ended by statements of our own.
            configuration.allowsUnsafeTransactions = true
            configuration.prepareDatabase { database in
                // A commit that was answered for survives a loss of power.
                try database.execute(sql: "pragma synchronous = full")
                database.add(function: Self.crc32)
            }
            self.createPrivately()
            let queue = try DatabaseQueue(path: self.path, configuration: configuration)
            let version = try await queue.read { try String.fetchOne($0, sql: "select sqlite_version()") } ?? ""
            // STRICT tables came with 3.37: without them a column takes whatever it is given.
            guard !version.split(separator: ".").compactMap({ Int($0) }).lexicographicallyPrecedes([3, 37, 0]) else {
                throw DataSyncError(.storageFailed, operation: "connect", detail: "SQLite \(version) is too old: 3.37 is needed")
            }
            return SQLiteConnection(queue, version: version)
        } catch let error as DatabaseError {
            let error = SQLiteErrorTable.error(error)
            throw DataSyncError(
                error.fault == .retry ? .storageUnavailable : .storageFailed, operation: "connect",
                detail: "\(self.name) cannot be opened (error \(error.number): \(error.message)): does its folder exist, and may this user write there?")
        }
    }

    /// A file that is not there is created for this user alone; whom else it shall serve is said by `chmod`. SQLite gives the files beside it
    /// the same mode. What cannot be created, SQLite says why.
    private func createPrivately() {
        let descriptor = open(self.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        if descriptor >= 0 { close(descriptor) }
    }

    /// ``CRC32/ofRow(key:payload:)`` of two columns, as MySQL has it built in.
    private static let crc32 = DatabaseFunction("crc32", argumentCount: 2, pure: true) { values in
        var digest: UInt32 = 0
        for value in values {
            var crc = CRC32()
            switch value.storage {
            case .string(let text): crc.update(text)
            case .blob(let data): Array(data).withUnsafeBufferPointer { crc.update($0) }
            case .null, .int64, .double: return nil
            }
            digest ^= crc.value
        }
        return Int64(digest)
    }

    /// A lock on a file beside the database: the system drops it with the process that holds it.
    public func takeLease() async throws -> any StorageLease {
        let path = self.path + "-agent"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw DataSyncError(.storageFailed, operation: "lease", detail: "\(path) cannot be opened: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw DataSyncError(.leaseHeld, operation: "lease", detail: "another agent works on \(self.name)")
        }
        return FileLease(descriptor: descriptor)
    }
}

private final class FileLease: StorageLease {
    private let descriptor: Mutex<Int32>

    init(descriptor: Int32) { self.descriptor = Mutex(descriptor) }

    func isHeld() async -> Bool { self.descriptor.withLock { $0 >= 0 } }

    func release() async {
        self.descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }
}
