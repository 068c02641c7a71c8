import Logging
import Synchronization

/// Which of the cloud's own rows are to be numbered.
enum OwnRowSelection: Hashable, Sendable {
    /// Those above the frontier, which moves over them.
    case new
    /// Those in a range below the frontier: they committed late.
    case late(ClosedRange<Int64>)
    /// Those of some entities, wherever they stand, because a unit needs them in the log first.
    case named(Set<EntityName>)
    /// Those of a type that nobody knew when the frontier passed over them.
    case held(BusinessTypeID, after: Int64)
}

/// How far a numbering step got.
private enum NumberingProgress: Sendable {
    case none, some
    /// As far as one transaction goes: more may be waiting.
    case full
}

private struct FrontierMove {
    var from: Int64
    var to: Int64
    var isFull: Bool
}

extension Hub {
    /// Numbers the committed rows of the cloud's own applications into the log, as many as there are up to
    /// `unitsMax` transactions, and looks for late ones when it is time.
    /// - Returns: Whether more may be waiting.
    @discardableResult
    public func numberOwnRows(unitsMax: Int = 5) async throws -> Bool {
        guard try await self.numberHeldRows() else { return true }
        for _ in 0..<unitsMax {
            guard try await self.numberOwnRows(.new) == .full else {
                try await self.sweepOutbox()
                return false
            }
        }
        return true
    }

    func numberOwnRows(of names: Set<EntityName>) async throws {
        // All rows of these entities, or their order would not be whole.
        while try await self.numberOwnRows(.named(names)) != .none {}
    }

    private func sweepOutbox() async throws {
        if PlantedBug.isOn(.frontierDecides) { return }
        let frontier = try await self.storage.withTransaction(.snapshot) { try await $0.outboxFrontier() }
        let now = self.environment.runningTime()
        for range in self.sweep.withLock({ $0.nextRanges(frontier: frontier, at: now) }) {
            while try await self.numberOwnRows(.late(range)) != .none {}
        }
    }

    /// Numbers what was passed over for types that are known by now. Their order must be whole before a newer row goes.
    /// - Returns: Whether all of it is done.
    private func numberHeldRows() async throws -> Bool {
        let held = try await self.storage.withTransaction(.snapshot) { try await $0.settings(withPrefix: SettingName.heldPrefix) }
        for (name, value) in held {
            guard let id = Int32(name.dropFirst(SettingName.heldPrefix.count)).map(BusinessTypeID.init(rawValue:)),
                self.types[id] != nil, let first = Int64(value)
            else { continue }
            for _ in 0..<50 {
                guard try await self.numberOwnRows(.held(id, after: first - 1)) == .none else { continue }
                try await self.unit { try await $0.removeSetting(name) }
                return true
            }
            return false
        }
        return true
    }

    /// Numbers one transaction's worth of rows.
    private func numberOwnRows(_ selection: OwnRowSelection) async throws -> NumberingProgress {
        try await self.numbering.wait()
        defer { self.numbering.signal() }
        let types = Set(self.types.definitions.map(\.id))
        let isGuessing = self.guess.withLock { $0.shouldGuess(types, of: .cloud) }
        do { return try await self.numberOwnRows(selection, isGuessing: isGuessing) } catch ChunkSetback.existing {
            self.guess.withLock { $0.wasWrong(types, of: .cloud) }
            return try await self.numberOwnRows(selection, isGuessing: false)
        }
    }

    private func numberOwnRows(_ selection: OwnRowSelection, isGuessing: Bool) async throws -> NumberingProgress {
        let progress = try await self.unit { transaction -> NumberingProgress in
            let (rows, frontier) = try await self.read(selection, in: transaction)
            if !rows.isEmpty { await self.environment.passes(.ownBefore) }
            if let frontier {
                // Two replicas that number at the same time meet here.
                guard try await transaction.moveOutboxFrontier(from: frontier.from, to: frontier.to) else {
                    throw DataSyncError(.storageBusy, operation: "number", detail: "the frontier moved")
                }
                await self.environment.passes(.ownAfterFrontier)
            }
            if case .late = selection, !rows.isEmpty { await self.environment.passes(.ownLate) }
            // Only what stands below the frontier can have been overtaken.
            let overtaken = frontier == nil ? try await self.settleOvertaken(rows, in: transaction) : []
            let left = overtaken.isEmpty ? rows : rows.filter { !overtaken.contains($0.id) }
            let numbered = left.isEmpty ? 0 : try await self.number(left, isGuessing: isGuessing, in: transaction)
            if numbered > 0 { await self.environment.passes(.ownBeforeCommit) }
            guard let frontier else { return numbered + overtaken.count == 0 ? .none : .some }
            return frontier.isFull ? .full : .some
        }
        if progress != .none { await self.environment.passes(.ownAfterCommit) }
        return progress
    }

    /// Settles states that committed so late that a newer one of their entity is in the log already.
    /// - Returns: The ids of their rows.
    private func settleOvertaken(_ rows: [OutboxRow], in transaction: Storage.Transaction) async throws -> Set<Int64> {
        let heads = rows.filter { $0.state == .new }.map(\.head)
        let settlements = try await transaction.settlements(ofOvertaken: heads) { self.types.definition(of: $0) }
        if !settlements.isEmpty, try await transaction.settleOutbox(settlements, origin: .cloud) != settlements.count {
            throw DataSyncError(.storageBusy, operation: "number", detail: "another replica numbered the same rows")
        }
        return Set(settlements.map(\.id))
    }

    private func read(
        _ selection: OwnRowSelection, in transaction: Storage.Transaction
    ) async throws -> (rows: [OutboxRow], frontier: FrontierMove?) {
        let limit = self.limits.chunkRecordsMax
        // Read whole, without a look at their sizes: few at a time.
        let wholeMax = min(limit, 64)
        switch selection {
        case .new:
            let frontier = try await transaction.outboxFrontier()
            let page = try await transaction.outboxRows(after: frontier, limit: limit, bytesMax: self.limits.chunkBytesMax)
            guard let last = page.rows.last else { return ([], nil) }
            var rows = page.rows.filter { $0.state == .new }
            // An earlier change of one of these entities may have committed late, with an id that the frontier has passed. Looked
            // for after the others were read: whatever committed before one of them is there by now, and goes first.
            let names = Set(rows.compactMap(\.name))
            let late = names.isEmpty || PlantedBug.isOn(.frontierDecides) ? [] : try await transaction.newOutboxRows(of: names, upTo: frontier, limit: limit)
            rows = late + rows
            return (rows, FrontierMove(from: frontier, to: last.id, isFull: !page.isLast))
        case .late(let range):
            let new = try await transaction.outboxHeads(in: range, newOnly: true, limit: range.count)
            let heads = self.capped(Array(new.filter { self.types[$0.type] != nil }.prefix(limit)))
            return (heads.isEmpty ? [] : try await transaction.outboxRows(heads.map(\.id)), nil)
        case .named(let names):
            return (try await transaction.newOutboxRows(of: names, upTo: .max, limit: wholeMax), nil)
        case .held(let type, let id):
            return (try await transaction.newOutboxRows(ofType: type, after: id, limit: wholeMax), nil)
        }
    }

    /// As many rows from the first as one transaction takes by bytes.
    private func capped(_ heads: [OutboxHead]) -> [OutboxHead] {
        var bytes = 0
        let count = heads.prefix { head in
            bytes += head.bytes
            return bytes <= self.limits.chunkBytesMax
        }.count
        return Array(heads.prefix(max(count, 1)))
    }

    /// Gives `rows` their numbers and their places in the log, and settles them: the log is where they are sent from.
    /// - Returns: How many were settled. Rows of unknown types are not.
    ///
    /// - Parameter isGuessing: Whether the entities are taken for new ones.
    private func number(_ rows: [OutboxRow], isGuessing: Bool, in transaction: Storage.Transaction) async throws -> Int {
        let epoch = try await transaction.server(.cloud)?.epoch ?? 1
        var accepted: [(row: OutboxRow, prepared: PreparedRecord)] = []
        var refused: [(row: OutboxRow, fault: RecordFault)] = []
        var held: [BusinessTypeID: Int64] = [:]
        for row in rows where row.state == .new {
            guard let handler = self.types[row.head.type] else {
                held[row.head.type] = min(held[row.head.type] ?? .max, row.id)
                continue
            }
            do throws(RecordFault) {
                accepted.append((row, try self.prepareOwn(row, epoch: epoch, handler: handler)))
            } catch { refused.append((row, error)) }
        }
        for (type, first) in held where try await transaction.setting(SettingName.held(type)) == nil {
            self.logger.warning(
                "rows of a business type that is not configured wait in sync_data", metadata: ["type": "\(type)"])
            try await transaction.putSetting(SettingName.held(type), String(first))
        }
        guard !accepted.isEmpty || !refused.isEmpty else { return 0 }

        var unit = CloudUnit(hub: self, transaction: transaction)
        let entities = accepted.map(\.prepared.entity)
        if isGuessing, accepted.allSatisfy({ !$0.prepared.isDeletion && self.types.definition(of: $0.row.head.type)?.route != .up }) {
            unit.expectNew(entities)
        } else {
            try await unit.lock(entities)
        }
        var admitted: [OutboxRow] = []
        var arrived: [PreparedRecord] = []
        for (row, prepared) in accepted {
            if let fault = try await unit.admit(prepared) {
                refused.append((row, fault))
            } else {
                admitted.append(row)
                arrived.append(prepared)
            }
        }
        // The business rows were there before, but nothing has told those that wait for them.
        if !arrived.isEmpty, try await transaction.openMemos(at: .cloud, from: .cloud).waiting {
            _ = try await Arrivals(arrived).release(
                at: .cloud, limits: self.limits, now: self.databaseClock.age(in: transaction), in: transaction)
        }
        let synIDs = try await self.takeNumbers(for: admitted + refused.map(\.row), epoch: epoch, in: transaction)
        unit.assignNumbers { synIDs[$0.uid] ?? 0 }
        _ = try await unit.append()
        await self.environment.passes(.ownAfterLog)
        let settlements =
            admitted.map { OutboxSettlement(id: $0.id, type: $0.head.type, synID: synIDs[$0.uid]!, state: .settled, reason: .applied) }
            + refused.map { row, fault in
                let outcome = Outcome(fault, attemptsBefore: Outcome.attemptsMax - 1)
                return OutboxSettlement(
                    id: row.id, type: row.head.type, synID: synIDs[row.uid]!, state: .settled, attempts: outcome.attempts,
                    reason: outcome.reason, detail: outcome.detail)
            }
        guard try await transaction.settleOutbox(settlements, origin: .cloud) == settlements.count else {
            throw DataSyncError(.storageBusy, operation: "number", detail: "another replica numbered the same rows")
        }
        try await self.putBy(admitted + refused.map(\.row), synIDs, epoch: epoch, in: transaction)
        if !refused.isEmpty { try await self.insertMemos(of: refused, synIDs: synIDs, epoch: epoch, in: transaction) }
        return settlements.count
    }

    /// Notes which rows were numbered, so that they are removed after the retention.
    private func putBy(_ rows: [OutboxRow], _ synIDs: [RecordUID: Int64], epoch: Int32, in transaction: Storage.Transaction) async throws {
        let run = self.environment.fingerprint()
        let manifests = Dictionary(grouping: rows, by: \.head.type).sorted { $0.key < $1.key }.map { type, rows in
            let rows = rows.sorted { $0.id < $1.id }
            return Manifest(
                key: ManifestKey(epoch: epoch, type: type, firstSynID: synIDs[rows[0].uid] ?? 0), run: run,
                entries: rows.map { Manifest.Entry(id: $0.id, createTime: $0.head.createTime, bytes: $0.head.bytes, digest: 0) },
                settled: rows.count)
        }
        try await transaction.insertSentManifests(manifests, time: self.databaseClock.age(in: transaction))
    }

    private func prepareOwn(
        _ row: OutboxRow, epoch: Int32, handler: any RecordHandler<Storage.Transaction>
    ) throws(RecordFault) -> PreparedRecord {
        guard let key = row.key, row.isWritable else {
            throw .refused(.unsendable, detail: "data_from_detail must be 1 to 190 bytes of UTF-8, and data_to_server_id must not be negative")
        }
        guard row.head.bytes <= self.limits.recordBytesMax else { throw .refused(.tooBig, detail: nil) }
        let record = SyncRecord(
            stream: StreamID(origin: .cloud, epoch: epoch, type: row.head.type), synID: 0, uid: row.uid, key: key,
            target: row.target, createTime: row.head.createTime, client: row.client, payload: row.payload)
        // For an `origin` type the row names the home, or the payload's origin column does.
        let scope: ServerID? = handler.definition.route == .origin ? (row.target.isBranch ? row.target : nil) : .cloud
        return try handler.inspect(record, scope: scope)
    }

    private func takeNumbers(
        for rows: [OutboxRow], epoch: Int32, in transaction: Storage.Transaction
    ) async throws -> [RecordUID: Int64] {
        var synIDs: [RecordUID: Int64] = [:]
        for (type, rows) in Dictionary(grouping: rows, by: \.head.type).sorted(by: { $0.key < $1.key }) {
            let stream = StreamID(origin: .cloud, epoch: epoch, type: type)
            let first = try await transaction.takeNumbers(stream, count: rows.count)
            for (offset, row) in rows.sorted(by: { $0.id < $1.id }).enumerated() { synIDs[row.uid] = first + Int64(offset) }
        }
        return synIDs
    }

    /// A row of the cloud's own that cannot be routed is dead where it was written: no server could make more of it.
    private func insertMemos(
        of refused: [(row: OutboxRow, fault: RecordFault)], synIDs: [RecordUID: Int64], epoch: Int32,
        in transaction: Storage.Transaction
    ) async throws {
        let now = try await self.databaseClock.now(in: transaction)
        try await transaction.insertMemos(
            refused.map { row, fault in
                let stream = StreamID(origin: .cloud, epoch: epoch, type: row.head.type)
                return Memo(
                    line: MemoLine(receiver: .cloud, sender: .cloud, epoch: epoch, type: row.head.type),
                    number: synIDs[row.uid]!, scope: .cloud,
                    record: SyncRecord(
                        stream: stream, synID: synIDs[row.uid]!, uid: row.uid, key: row.key ?? row.substituteKey, target: row.target,
                        createTime: row.head.createTime, client: row.client, payload: ""),
                    holdsPayload: false, disposition: .dead, reason: fault.reason, detail: fault.detail, tries: 1,
                    nextTry: now.age, created: now.wall)
            })
    }
}
