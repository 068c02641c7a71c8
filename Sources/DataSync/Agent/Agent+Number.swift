import Logging
import Synchronization

extension Agent {
    /// Gives numbers to committed rows of the outbox that have none: up to `unitsMax` steps of what lies above the frontier,
    /// and what committed late below it.
    ///
    /// Runs inside a session only: numbers that are given before both sides were compared could be used ones.
    /// - Returns: Whether more may be waiting.
    @discardableResult
    func numberRows(unitsMax: Int) async throws -> Bool {
        _ = try self.session()
        for _ in 0..<unitsMax {
            guard try await self.numberNewRows() else {
                try await self.numberLateRows()
                return false
            }
        }
        return true
    }

    /// - Returns: Whether the step was full, so that more may be waiting.
    private func numberNewRows() async throws -> Bool {
        // Most of the time there is nothing: an idle cycle writes nothing.
        let isIdle = try await self.storage.withTransaction(.snapshot) { transaction in
            !(try await transaction.hasOutboxRows(after: try await transaction.outboxFrontier()))
        }
        if isIdle { return false }
        await self.environment.passes(.numberBefore)
        // Several manifests' worth at once: a commit costs more than a row.
        let limit = 4 * self.limits.manifestRowsMax
        let gaps = self.state.withLock { $0.gaps }
        let step = try await self.unit { transaction -> NumberingStep? in
            let frontier = try await transaction.outboxFrontier()
            let heads = try await transaction.outboxHeads(in: frontier + 1...Int64.max, newOnly: false, limit: limit)
            guard let last = heads.last else { return nil }
            guard try await transaction.moveOutboxFrontier(from: frontier, to: last.id) else {
                throw DataSyncError(.storageBusy, operation: "number", detail: "the frontier moved")
            }
            await self.environment.passes(.numberAfterFrontier)
            if heads.contains(where: { $0.type.rawValue <= 0 }) { self.reportOnce("sync_data has rows whose business_type is no type's") }
            // Looked at after the others were read: whatever committed before one of those is there by now, and goes first.
            var step = NumberingStep(
                ranges: PlantedBug.isOn(.frontierDecides) ? [] : gaps.rangesToLookAt(frontier: frontier), frontier: frontier, heads: heads)
            var late: [OutboxHead] = []
            for range in step.ranges {
                let below = try await transaction.outboxHeads(in: range, newOnly: false, limit: range.count)
                step.present += below.map(\.id)
                late += try await self.unnumbered(below.filter { $0.state == .new }, in: range, transaction)
            }
            try await self.writeManifests(over: late + heads.filter { $0.state == .new }, in: transaction)
            await self.environment.passes(.numberBeforeCommit)
            return step
        }
        guard let step else { return false }
        await self.environment.passes(.numberAfterCommit)
        let now = self.environment.runningTime()
        self.state.withLock { $0.gaps.looked(at: step.ranges + [step.frontier + 1...step.last], present: step.present + step.ids, last: step.last, at: now) }
        return step.ids.count == limit
    }

    /// What a step read.
    private struct NumberingStep: Sendable {
        /// Below the frontier, where rows may have committed late.
        let ranges: [ClosedRange<Int64>]
        let frontier: Int64
        /// Of the rows above it.
        let ids: [Int64]
        /// Of the rows in `ranges`.
        var present: [Int64] = []

        init(ranges: [ClosedRange<Int64>], frontier: Int64, heads: [OutboxHead]) {
            self.ranges = ranges
            self.frontier = frontier
            self.ids = heads.map(\.id)
        }

        var last: Int64 { self.ids.last ?? self.frontier }
    }

    private func numberLateRows() async throws {
        if PlantedBug.isOn(.frontierDecides) { return }
        let frontier = try await self.storage.withTransaction(.snapshot) { try await $0.outboxFrontier() }
        let now = self.environment.runningTime()
        for range in self.state.withLock({ $0.sweep.nextRanges(frontier: frontier, at: now) }) {
            let hasLate = try await self.storage.withTransaction(.snapshot) { try await !self.lateHeads(in: range, $0).isEmpty }
            guard hasLate else { continue }
            await self.environment.passes(.lateBefore)
            let count = try await self.unit { transaction in
                let heads = try await self.lateHeads(in: range, transaction)
                let settlements = try await transaction.settlements(ofOvertaken: heads) { self.types.definition(of: $0) }
                if !settlements.isEmpty { _ = try await transaction.settleOutbox(settlements, origin: self.id) }
                let overtaken = Set(settlements.map(\.id))
                try await self.writeManifests(over: heads.filter { !overtaken.contains($0.id) }, in: transaction)
                await self.environment.passes(.lateBeforeCommit)
                return heads.count
            }
            await self.environment.passes(.lateAfterCommit)
            self.logger.debug("numbered rows that committed late", metadata: ["rows": "\(count)"])
        }
    }

    private func lateHeads(in range: ClosedRange<Int64>, _ transaction: Storage.Transaction) async throws -> [OutboxHead] {
        try await self.unnumbered(try await transaction.outboxHeads(in: range, newOnly: true, limit: range.count), in: range, transaction)
    }

    /// Of new rows with ids in `range`, those that no manifest covers.
    private func unnumbered(_ new: [OutboxHead], in range: ClosedRange<Int64>, _ transaction: Storage.Transaction) async throws -> [OutboxHead] {
        guard !new.isEmpty else { return [] }
        let manifested = try await transaction.manifestedIDs(in: range)
        return new.filter { !manifested.contains($0.id) }
    }

    private func writeManifests(over heads: [OutboxHead], in transaction: Storage.Transaction) async throws {
        var heads = heads.filter { $0.type.rawValue > 0 }
        if PlantedBug.isOn(.orderedByCreateTime) { heads.sort { $0.createTime < $1.createTime } }
        guard !heads.isEmpty, let epoch = self.state.withLock({ $0.term })?.epoch else { return }
        let run = self.environment.fingerprint()
        var manifests: [Manifest] = []
        for (type, heads) in Dictionary(grouping: heads, by: \.type).sorted(by: { $0.key < $1.key }) {
            let stream = StreamID(origin: self.id, epoch: epoch, type: type)
            var number = try await transaction.takeNumbers(stream, count: heads.count)
            if PlantedBug.isOn(.numberReused) {
                number = (try await transaction.manifests(ofType: type, after: nil, limit: .max).last?.lastSynID ?? 0) + 1
            }
            for start in stride(from: 0, to: heads.count, by: self.limits.manifestRowsMax) {
                let entries = heads[start..<min(start + self.limits.manifestRowsMax, heads.count)].map {
                    Manifest.Entry(id: $0.id, createTime: $0.createTime, bytes: $0.bytes, digest: $0.digest)
                }
                manifests.append(
                    Manifest(key: ManifestKey(epoch: epoch, type: type, firstSynID: number), run: run, entries: entries))
                number += Int64(entries.count)
            }
        }
        try await transaction.insertManifests(manifests)
        let firsts = manifests
        self.updateSession { session in
            // The first numbers of a stream that had nothing waiting; of the others the session knows better.
            for manifest in firsts { session.follow(manifest.key.type, first: manifest.key.firstSynID) }
        }
    }
}
