extension Arrivals {
    /// Makes records due that have waited at `receiver`.
    /// - Returns: Whether there were any.
    func release(at receiver: ServerID, limits: SyncLimits, now: Int64, in transaction: some SyncTransaction) async throws -> Bool {
        guard self.isAny else { return false }
        return try await transaction.releaseMemos(
            at: receiver, needing: self.keys, limit: limits.releasedMax, unnamedMax: limits.guessedMax, time: now) > 0
    }
}

extension RecordFault {
    /// The fault with a detail that says what waits for what, as far as the names are known: a record beyond the age limit is
    /// looked at by a person, who would have to follow the chain by hand. It travels to the sender, so it tells of the sender's records
    /// alone: another branch may have an entity of the same name.
    func explained(for memo: Memo, in transaction: some SyncTransaction) async throws -> RecordFault {
        guard case .entity(let first) = self.dependency else { return self }
        var chain = [memo.record.key]
        var next = first
        // A longer chain is cut: its beginning is what helps.
        while chain.count < 8 {
            let isCycle = chain.contains(next)
            chain.append(next)
            if isCycle { return Self.missingDependency(.entity(first), detail: "a cycle: \(Self.text(chain))") }
            guard case .entity(let key) = try await transaction.dependency(at: memo.line.receiver, from: memo.line.sender, of: next) else { break }
            next = key
        }
        return Self.missingDependency(.entity(first), detail: Self.text(chain))
    }

    private static func text(_ chain: [EntityKey]) -> String { chain.map(\.text).joined(separator: " needs ") }
}
