import CMariaDB
public import DataSync
public import DataSyncSQL
import Glibc
import Synchronization

/// One connection to a MySQL or MariaDB server, on a thread of its own.
public final class MySQLConnection: SQLConnection {
    public let dialect: SQLDialect
    private let session: MySQLSession
    /// The socket, for breaking off a call from another thread; -1 once it is closed.
    private let socket: Mutex<Int32>
    private let usable = Mutex(true)

    init(_ session: MySQLSession, socket: Int32, dialect: SQLDialect) {
        self.session = session
        self.socket = Mutex(socket)
        self.dialect = dialect
    }

    public var isUsable: Bool { self.usable.withLock { $0 } }

    public func query(_ sql: String, _ values: [SQLValue]) async throws -> SQLRows {
        try await self.perform { try $0.query(sql, values) }
    }

    public func execute(_ sql: String, _ values: [SQLValue]) async throws -> Int {
        try await self.perform { try $0.execute(sql, values) }
    }

    public func execute(_ batch: SQLBatch) async throws -> Int {
        try await self.perform { try $0.execute(batch) }
    }

    public func begin(_ access: Access) async throws {
        try await self.perform { handle in
            switch access {
            case .write:
                if PlantedBug.isOn(.numberedBeforeCommit) { try handle.run(PlantedBug.dirtyReads) }
                try handle.begin("start transaction read write")
            case .snapshot:
                // For this one transaction: all others are READ COMMITTED.
                try handle.run("set transaction isolation level repeatable read")
                try handle.begin("start transaction with consistent snapshot, read only")
            }
        }
    }

    public func commit() async throws { try await self.perform { try $0.commit() } }
    public func rollback() async throws { try await self.perform { try $0.rollback() } }

    public func close() async {
        self.usable.withLock { $0 = false }
        // The descriptor's number may belong to somebody else in a moment.
        self.socket.withLock { $0 = -1 }
        await self.session.close()
    }

    private func perform<Result: Sendable>(
        _ body: @Sendable (MySQLHandle) throws -> Result
    ) async throws -> Result {
        // A cancelled call closes its connection: nobody reads the answer that would come first on it.
        try await withTaskCancellationHandler {
            try Task.checkCancellation()
            do {
                return try await self.session.perform { handle in
                    do { return try body(handle) } catch {
                        // libmariadb has closed the socket of a lost connection by itself: its number may be somebody else's.
                        if handle.isBroken { self.socket.withLock { $0 = -1 } }
                        throw error
                    }
                }
            } catch {
                if await self.session.isBroken { self.usable.withLock { $0 = false } }
                if Task.isCancelled {
                    self.usable.withLock { $0 = false }
                    // Whether a commit that was broken off took place is what nobody knows.
                    if let error = error as? SQLError, error.fault == .commitUnknown { throw error }
                    throw CancellationError()
                }
                throw error
            }
        } onCancel: {
            self.usable.withLock { $0 = false }
            self.socket.withLock { if $0 >= 0 { _ = shutdown($0, Int32(SHUT_RDWR)) } }
        }
    }
}

/// The actor that a `MYSQL *` lives in. Everything in it runs on the connection's own thread.
actor MySQLSession {
    private let executor: BlockingExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }
    var handle: MySQLHandle?

    init(label: String) { self.executor = BlockingExecutor(label: label) }

    var isBroken: Bool { self.handle?.isBroken ?? true }

    func perform<Result: Sendable>(_ body: @Sendable (MySQLHandle) throws -> Result) throws -> Result {
        guard let handle, !handle.isBroken else {
            throw SQLError(.connection, number: 2006, message: "the connection is closed")
        }
        return try body(handle)
    }

    func socket() -> Int32 { self.handle.map { datasync_mysql_socket($0.raw) } ?? -1 }

    func close() {
        self.handle?.close()
        self.handle = nil
    }
}
