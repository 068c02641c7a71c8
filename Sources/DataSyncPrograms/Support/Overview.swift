package import DataSync
import Foundation

/// What `status` shows of a database, of a branch's or of the cloud's: read from the tables, whether or not the program
/// that works on them is running.
package struct Overview: Sendable {
    package struct TypeLine: Sendable {
        package var id: BusinessTypeID
        package var name: String
        /// Numbered and not settled, or not numbered yet.
        package var waiting: Int
        /// Milliseconds since 1970; nil if nothing waits.
        package var oldest: Int64?
    }

    package var now: Int64
    package var servers: [ServerRow]
    package var types: [TypeLine]
    package var confirmations: [Confirmation]
    package var memos: [MemoCount]
    /// The places of the last records in the cloud's log, over all audiences that were asked for.
    package var tails: [BusinessTypeID: Int64]
    package var health: AgentHealthNote?

    /// Unnumbered rows are counted up to this many.
    package static let countMax = 10_000

    /// - Parameter branches: Records are counted that concern these and no others; nil for all.
    package init(
        of storage: some SyncStorage, definitions: [BusinessTypeDefinition], audiences: [Audience], among branches: Set<ServerID>? = nil, now: Int64
    ) async throws {
        let names = Dictionary(definitions.map { ($0.id, $0.name) }) { first, _ in first }
        self = try await storage.withTransaction(.snapshot) { transaction in
            let waiting = try await transaction.backlog(unnumberedMax: Self.countMax)
            let ids = Set(waiting.keys).union(names.keys).sorted()
            return Overview(
                now: now, servers: try await transaction.servers(),
                types: ids.map { id in
                    TypeLine(
                        id: id, name: names[id] ?? "not configured", waiting: waiting[id]?.records ?? 0,
                        oldest: waiting[id].map(\.oldestCreateTime))
                },
                confirmations: try await transaction.confirmations(), memos: try await transaction.memoCounts(among: branches),
                tails: try await transaction.logTails(of: audiences), health: try await AgentHealthNote.read(in: transaction))
        }
    }

    private init(
        now: Int64, servers: [ServerRow], types: [TypeLine], confirmations: [Confirmation], memos: [MemoCount],
        tails: [BusinessTypeID: Int64], health: AgentHealthNote?
    ) {
        self.now = now
        self.servers = servers
        self.types = types
        self.confirmations = confirmations
        self.memos = memos
        self.tails = tails
        self.health = health
    }

    /// How many records of `type` stand like this where `receiver` holds them; nil: anywhere.
    package func count(_ dispositions: Set<Disposition>, of type: BusinessTypeID? = nil, at receiver: ServerID? = nil) -> Int {
        self.memos.filter {
            dispositions.contains($0.disposition) && (type == nil || $0.type == type) && (receiver == nil || $0.receiver == receiver)
        }.reduce(0) { $0 + $1.count }
    }

    package static let openDispositions = Set(Disposition.allCases.filter(\.isOpen))

    package func age(_ time: Int64?) -> String {
        guard let time, time > 0 else { return "-" }
        return Terminal.age(milliseconds: self.now - time)
    }
}
