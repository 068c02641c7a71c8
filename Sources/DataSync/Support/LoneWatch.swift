import Synchronization

/// What one process knows of the lone tries that are written down: which are its own, and since when those of others stand there.
///
/// Several replicas work on one database. That another has begun with a record and not ended says nothing while it may still be at work;
/// how long that is each of them measures for itself, since their clocks may differ.
final class LoneWatch: Sendable {
    /// For how long a note of another process is left alone. A database ends the transaction of a client that is silent for 15 seconds
    /// and a statement after 10: whoever has not ended after this is gone, or hangs over its record.
    static let lease: Duration = .seconds(30)

    /// Tells this process from all others, and from those before it.
    let owner: Int64
    private let isSole: Bool
    private let state = Mutex(State())

    private struct State {
        var seen: [String: (note: LoneTry, at: Duration)] = [:]
        var owed: Set<String> = []
    }

    /// - Parameter isSole: Whether a process that works has fenced all others, so that nobody else's note can be of one that is at work.
    init(isSole: Bool, _ environment: SyncEnvironment) {
        self.owner = Int64(truncatingIfNeeded: environment.random())
        self.isSole = isSole
    }

    /// For how much longer whoever wrote `note` may be at work.
    func lease(_ note: LoneTry, _ name: String, at time: Duration) -> Duration {
        if self.isSole || PlantedBug.isOn(.othersTryCounted) || note.owner == self.owner { return .zero }
        return self.state.withLock { state in
            if let seen = state.seen[name], seen.note == note { return max(Self.lease - (time - seen.at), .zero) }
            state.seen[name] = (note, time)
            return Self.lease
        }
    }

    /// The database failed: what others have not taken back since may be owed to that.
    func forget() { self.state.withLock { $0.seen = [:] } }

    /// Nothing is to be taken back in the line `name`: it has been, or this process begins there anew.
    func hasEnded(_ name: String) { self.state.withLock { _ = $0.owed.remove(name) } }

    /// This process could not take back that it had begun in the line `name`.
    func owes(_ name: String) { self.state.withLock { _ = $0.owed.insert(name) } }

    /// What this process is to take back as soon as it can.
    var owed: Set<String> { self.state.withLock { $0.owed } }
}
