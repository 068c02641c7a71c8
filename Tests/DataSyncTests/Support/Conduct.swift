import DataSync
import Synchronization

/// How a server's handlers take what a record says.
///
/// By its text: `poison…` is refused, `venom…` for another reason, `broken…` meets a fault of the system, `deadlock…` others that work on
/// the same rows, and `after:KEY…` needs the row KEY of the same table, which `fk:KEY…` needs as well, like a foreign key, without saying
/// so. One that has `deadly` in it ends the server's process. Until they are cured.
final class Conduct: Sendable {
    struct DiskFull: Error {}
    typealias Hook = @Sendable (InMemoryTransaction) async throws -> Void

    private struct State {
        var cured: Set<String> = []
        var hook: Hook?
        var applied: [String] = []
        var refusals = 0
        var takes = 0
        var isVague = false
        var die: (@Sendable () -> Void)?
        var deaths = 0
        var readingError: DataSyncError?
    }
    private let state = Mutex(State())

    /// From now on records whose text begins like this are taken.
    func cure(_ prefix: String) { self.state.withLock { _ = $0.cured.insert(prefix) } }

    /// Runs `hook` once, in the transaction of the next record, before it is written: what it writes there is what another
    /// transaction committed while this one waited for a lock.
    func beforeNext(_ hook: @escaping Hook) { self.state.withLock { $0.hook = hook } }

    /// Whether handlers do not say which of several records is at fault, like a statement for all of them.
    var isVague: Bool {
        get { self.state.withLock { $0.isVague } }
        set { self.state.withLock { $0.isVague = newValue } }
    }

    /// What ends the process of the server.
    func onDeath(_ die: @escaping @Sendable () -> Void) { self.state.withLock { $0.die = die } }

    /// How often a record ended it.
    var deaths: Int { self.state.withLock { $0.deaths } }

    /// What reading a table back throws here.
    var readingError: DataSyncError? {
        get { self.state.withLock { $0.readingError } }
        set { self.state.withLock { $0.readingError = newValue } }
    }

    /// The texts that were taken in handlers here, in order, those of rolled back transactions too.
    var applied: [String] { self.state.withLock { $0.applied } }
    /// How often a handler here was given a text.
    var takes: Int { self.state.withLock { $0.takes } }

    /// How often a record was refused here.
    var refusals: Int { self.state.withLock { $0.refusals } }

    func take(_ text: String, table: String, in transaction: InMemoryTransaction) async throws {
        let (cured, hook) = self.state.withLock { state in
            defer { state.hook = nil }
            state.takes += 1
            return (state.cured, state.hook)
        }
        try await hook?(transaction)
        func isIll(_ prefix: String) -> Bool { text.hasPrefix(prefix) && !cured.contains { text.hasPrefix($0) } }
        if isIll("poison") {
            self.state.withLock { $0.refusals += 1 }
            throw RecordFault.refused("no poison")
        }
        if isIll("venom") { throw RecordFault.refused("no venom") }
        if isIll("broken") { throw DiskFull() }
        if isIll("deadlock") { throw DataSyncError(.storageBusy, operation: "test") }
        if isIll("after:") {
            let key = text.dropFirst("after:".count).prefix { $0 != " " }
            guard transaction.row(table, String(key)) != nil else { throw RecordFault.missingDependency(on: EntityKey(String(key))) }
        }
        if isIll("fk:"), transaction.row(table, String(text.dropFirst("fk:".count))) == nil { throw RecordFault.missingDependency(detail: "fk") }
        if text.contains("deadly"), !cured.contains("deadly") {
            let die = self.state.withLock { state in
                state.deaths += 1
                return state.die
            }
            die?()
            // The one error that nobody makes something of.
            throw CancellationError()
        }
        self.state.withLock { $0.applied.append(text) }
    }
}
