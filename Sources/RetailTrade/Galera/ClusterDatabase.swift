import DataSync
import DataSyncMySQL
import DataSyncSQL
import Synchronization

/// A database on several nodes, as applications see it that go to another node whenever they like: each transaction has a connection of
/// its own, to the next node that lets it in.
final class ClusterDatabase: SQLDatabase {
    let nodes: [MySQLDatabase]
    private let turn = Mutex(0)
    private let isClosed = Flag()

    init(_ nodes: [MySQLDatabase]) { self.nodes = nodes }

    var name: String { self.nodes[0].name }
    var writersMax: Int { .max }
    /// Nobody gets a connection a second time.
    var idleMax: Duration { .zero }

    /// Lets nobody in any more, or again: for as long as an operator works on the nodes.
    func close(_ isClosed: Bool = true) { self.isClosed.raise(isClosed) }

    func connect() async throws -> any SQLConnection {
        let first = self.turn.withLock { turn in
            turn += 1
            return turn
        }
        var refusal: any Error = DataSyncError(.storageUnavailable, operation: "connect", detail: "the cluster is closed")
        for index in self.nodes.indices where !self.isClosed.isRaised {
            do { return try await self.nodes[(first + index) % self.nodes.count].connect() } catch { refusal = error }
        }
        throw refusal
    }

    func takeLease() async throws -> any StorageLease { try await self.nodes[0].takeLease() }
}
