extension SyncTransaction {
    /// What waits in the outbox, by type: numbered and not settled, and of what is not numbered yet at most `unnumberedMax` rows.
    package func backlog(unnumberedMax: Int) async throws -> [BusinessTypeID: Backlog] {
        var waiting = try await self.manifestSummary()
        let frontier = try await self.outboxFrontier()
        for head in try await self.outboxHeads(in: frontier + 1...Int64.max, newOnly: true, limit: unnumberedMax) {
            var backlog = waiting[head.type] ?? Backlog(records: 0, oldestCreateTime: .max)
            backlog.records += 1
            backlog.oldestCreateTime = min(backlog.oldestCreateTime, head.createTime)
            waiting[head.type] = backlog
        }
        return waiting
    }

    /// How those of the late rows `heads` are settled that a newer state of their entity has overtaken.
    ///
    /// An older state must not go out after a newer one: the newer row holds all of it, since its transaction waited for the older
    /// one's. Actions are never overtaken, nor what nobody here knows the kind of.
    func settlements(ofOvertaken heads: [OutboxHead], definition: (BusinessTypeID) -> BusinessTypeDefinition?) async throws -> [OutboxSettlement] {
        let states = heads.filter { definition($0.type)?.kind == .state }
        let overtaken = try await self.overtakenRows(among: states.map(\.id), upTo: self.outboxFrontier())
        return states.filter { overtaken.contains($0.id) }.map {
            OutboxSettlement(id: $0.id, type: $0.type, synID: 0, state: .settled, reason: .superseded)
        }
    }
}
