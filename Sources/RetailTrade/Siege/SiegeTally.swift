import Synchronization

/// What a siege does to a company; each of it heals.
public enum SiegeEvent: String, CaseIterable, Sendable {
    case agentKills = "agent_kills"
    case replicaKills = "replica_kills"
    case databaseKills = "database_kills"
    /// Programs, or databases, stopped where they were and let go on.
    case freezes
    case databaseFreezes = "database_freezes"
    case readOnly = "read_only"
    case fullDisks = "full_disks"
    /// All connections of the applications and the programs killed, and next to none allowed.
    case noConnections = "no_connections"
    /// Connections cut, reset or half closed; cut in the middle of a commit; open and silent; slow.
    case cutConnections = "cut_connections"
    case cutCommits = "cut_commits"
    case blackholes
    case slowConnections = "slow_connections"
    /// Database servers that were put back to a copy of their data: that of all branches, and that of the cloud.
    case branchRestores = "branch_restores"
    case cloudRestores = "cloud_restores"
    /// Programs that gave up and were started again, as a service manager does; database servers that did.
    case restarts
    case databaseRestarts = "database_restarts"
    /// Agents that URLSession ended: see Docs/development.md.
    case urlSessionCrashes = "urlsession_crashes"
}

/// Counts, from several threads at once.
final class SiegeTally: Sendable {
    private struct State {
        var counts: [SiegeEvent: Int] = [:]
        var mishaps: [String] = []
    }

    private let state = Mutex(State())

    var counts: [SiegeEvent: Int] { self.state.withLock { $0.counts } }
    /// Of programs and of databases.
    var kills: Int { [.agentKills, .replicaKills, .databaseKills].reduce(0) { $0 + self.counts[$1, default: 0] } }
    var restores: Int { [.branchRestores, .cloudRestores].reduce(0) { $0 + self.counts[$1, default: 0] } }
    var mishaps: [String] { self.state.withLock { $0.mishaps } }

    func count(_ event: SiegeEvent) { self.state.withLock { $0.counts[event, default: 0] += 1 } }
    func note(mishap: String) { self.state.withLock { $0.mishaps.append(mishap) } }
}

/// Seen by several threads.
final class Flag: Sendable {
    private let value = Mutex(false)

    var isRaised: Bool { self.value.withLock { $0 } }
    func raise(_ isRaised: Bool = true) { self.value.withLock { $0 = isRaised } }
}
