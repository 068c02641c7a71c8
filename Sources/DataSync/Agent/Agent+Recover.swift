import Logging
import Synchronization

// What an agent does when its database, or the cloud's, turns out to be an older copy.
extension Agent {
    /// Compares this branch's streams with what the cloud has received of them.
    func compareStreams(with answer: OpenAnswer, epoch: Int32) async throws -> StreamComparison.Verdict {
        try await self.storage.withTransaction(.snapshot) { transaction in
            var comparison = StreamComparison(
                ownEpoch: epoch, given: try await transaction.lastNumbers(origin: self.id, epoch: epoch),
                settled: try await transaction.settledEnds(), runs: [:])
            for (type, position) in answer.positions where position.number > 0 && answer.session.epoch == epoch {
                comparison.runs[type] = try await transaction.run(of: StreamID(origin: self.id, epoch: epoch, type: type), number: position.number)
            }
            return comparison.verdict(on: answer)
        }
    }

    // MARK: - This database is an older copy

    /// Learns which of its rows the cloud has, settles those, and begins new streams: all other rows get new numbers.
    ///
    /// What was written here after the backup comes back from the cloud like another server's records, as far as it had been sent.
    /// Every step can be done again after a crash.
    func recoverStreams(_ answer: OpenAnswer, epoch: Int32) async throws {
        // Each epoch between the two is asked about. Since a backup there was a restore or two.
        guard Int64(answer.session.epoch) - Int64(epoch) <= Self.epochsMax else {
            throw DataSyncError(
                .peerInvalid, operation: "open", detail: "the cloud says that this branch has epoch \(answer.session.epoch); here it has \(epoch)")
        }
        self.logger.critical(
            "this branch's database is an older copy: it was restored from a backup. Asking the cloud what was sent since",
            metadata: ["epoch": "\(epoch)", "cloud_epoch": "\(answer.session.epoch)"])
        let waiting = PlantedBug.isOn(.renumberedWithoutUID) ? [:] : try await self.waitingUIDs()
        let settled = try await self.storage.withTransaction(.snapshot) { try await $0.settledEnds() }
        var lost: [BusinessTypeID: Int] = [:]
        for asked in min(epoch, answer.session.epoch)...answer.session.epoch {
            var after = answer.types.reduce(into: [:]) { $0[$1.id] = settled[StreamName(epoch: asked, type: $1.id)] ?? 0 }
            while true {
                let page = try await self.transport.recover(RecoverRequest(session: answer.session, epoch: asked, after: after))
                for receipt in page.receipts {
                    guard receipt.epoch == asked, receipt.lastSynID > after[receipt.type] ?? .max else {
                        throw DataSyncError(.peerInvalid, operation: "recover", detail: "the answer does not fit the request")
                    }
                    guard receipt.firstSynID <= (after[receipt.type] ?? 0) + 1 else { throw Self.tooOld }
                    after[receipt.type] = receipt.lastSynID
                    let gone = receipt.uids.filter { $0 != .void && waiting[$0] == nil }.count
                    if gone > 0 { lost[receipt.type, default: 0] += gone }
                }
                try await self.settleRecovered(page, waiting)
                guard page.hasMore, !page.receipts.isEmpty else { break }
            }
            let received = asked == answer.session.epoch ? answer.positions : answer.olderPositions[asked] ?? [:]
            guard received.allSatisfy({ $0.value.number <= after[$0.key] ?? .max }) else { throw Self.tooOld }
        }
        let end = try await self.transport.recover(RecoverRequest(session: answer.session, epoch: epoch, after: [:], isEnd: true))
        try await self.adopt(epoch: end.epoch)
        for (type, count) in lost.sorted(by: { $0.key < $1.key }) {
            let route = self.types.definition(of: type)?.route
            let comesBack = route != .up && route != .target
            self.logger.warning(
                comesBack
                    ? "records that were written here after the backup come back from the cloud"
                    : "records that were written here after the backup are not here any more: their type does not come back to its origin",
                metadata: ["type": "\(type)", "records": "\(count)"])
        }
    }

    /// Most epochs that a backup may be behind.
    private static var epochsMax: Int64 { 1_000 }

    /// A peer that has forgotten what it received, or sent, between the backup and now: nobody could tell what would be lost or doubled.
    private static var tooOld: DataSyncError {
        DataSyncError(
            .diverged, operation: "recover",
            detail: "the restored backup is older than what is kept for such a case (limits.retention): nothing is sent, nothing is lost; "
                + "put back a newer backup")
    }

    /// The rows that this database has not sent, as far as it knows, by their uids. About forty bytes for each.
    private func waitingUIDs() async throws -> [RecordUID: (id: Int64, type: BusinessTypeID)] {
        try await self.storage.withTransaction(.snapshot) { transaction in
            var waiting: [RecordUID: (id: Int64, type: BusinessTypeID)] = [:]
            func add(_ ids: [Int64], _ type: (Int64) -> BusinessTypeID) async throws {
                for (id, uid) in try await transaction.newOutboxUIDs(ids) { waiting[uid] = (id, type(id)) }
            }
            for type in try await transaction.manifestSummary().keys {
                var last: ManifestKey?
                while let manifest = try await transaction.manifests(ofType: type, after: last, limit: 1).first {
                    last = manifest.key
                    try await add(manifest.entries[manifest.settled...].map(\.id)) { _ in type }
                }
            }
            // Rows that no step has seen, late ones among them: those near the frontier and above it.
            var from = max(try await transaction.outboxFrontier() - OutboxGaps.idsMax, 0)
            while true {
                let heads = try await transaction.outboxHeads(in: from + 1...Int64.max, newOnly: true, limit: 1_000)
                guard let last = heads.last else { break }
                from = last.id
                let types = Dictionary(heads.map { ($0.id, $0.type) }) { first, _ in first }
                try await add(heads.map(\.id)) { types[$0] ?? 0 }
            }
            return waiting
        }
    }

    private func settleRecovered(_ page: RecoverAnswer, _ waiting: [RecordUID: (id: Int64, type: BusinessTypeID)]) async throws {
        let outcomes = Dictionary(page.outcomes.map { ($0.record, $0.outcome) }) { first, _ in first }
        var found: [(id: Int64, record: RecordNumber, outcome: Outcome, uid: RecordUID)] = []
        for receipt in page.receipts {
            for (offset, uid) in receipt.uids.enumerated() {
                guard let row = waiting[uid], row.type == receipt.type else { continue }
                let number = RecordNumber(type: receipt.type, epoch: receipt.epoch, number: receipt.firstSynID + Int64(offset))
                found.append((row.id, number, outcomes[number] ?? .applied(version: 0), uid))
            }
        }
        guard !found.isEmpty else { return }
        for start in stride(from: 0, to: found.count, by: self.limits.chunkRecordsMax) {
            let chunk = found[start..<min(start + self.limits.chunkRecordsMax, found.count)]
            try await self.unit { transaction in
                let rows = try await transaction.outboxRows(chunk.map(\.id).sorted())
                let byID = Dictionary(rows.map { ($0.id, $0) }) { first, _ in first }
                _ = try await transaction.settleOutbox(
                    chunk.map {
                        OutboxSettlement(
                            id: $0.id, type: $0.record.type, synID: $0.record.number, state: $0.outcome.disposition.isSettled ? .settled : .open,
                            attempts: $0.outcome.attempts, reason: $0.outcome.reason, detail: $0.outcome.detail)
                    }, origin: self.id)
                let actions = chunk.filter { self.types.definition(of: $0.record.type)?.kind == .action }
                let now = try await self.databaseClock.now(in: transaction)
                for (type, records) in Dictionary(grouping: actions, by: \.record.type) {
                    // The cloud relays them to this branch, which has carried them out.
                    try await transaction.keepUIDs(records.map(\.uid), ofType: type, time: now.age)
                }
                let memos = chunk.compactMap { found -> Memo? in
                    guard found.outcome.disposition.isOpen || found.outcome.disposition == .dead, let row = byID[found.id] else { return nil }
                    return self.memo(of: row, found.record, found.outcome, now: now)
                }
                for (line, memos) in Dictionary(grouping: memos, by: \.line) {
                    let known = Set(try await transaction.memos(in: line, numbers: memos.map(\.number)).map(\.number))
                    let new = memos.filter { !known.contains($0.number) }
                    if !new.isEmpty { try await transaction.insertMemos(new) }
                }
            }
        }
    }

    private func memo(of row: OutboxRow, _ number: RecordNumber, _ outcome: Outcome, now: Moment) -> Memo {
        Memo(
            line: MemoLine(receiver: .cloud, sender: self.id, epoch: number.epoch, type: number.type), number: number.number,
            scope: self.types.definition(of: number.type).map { self.ownScope($0) } ?? .cloud,
            record: SyncRecord(
                stream: StreamID(origin: self.id, epoch: number.epoch, type: number.type), synID: number.number, uid: row.uid,
                key: row.key ?? row.substituteKey, target: row.target, createTime: row.head.createTime, client: row.client, payload: ""),
            holdsPayload: false, disposition: outcome.disposition, reason: outcome.reason, detail: outcome.detail,
            attempts: outcome.attempts, nextTry: now.age, created: now.wall)
    }

    /// Makes `epoch` the one that this branch numbers in. Rows that are not settled keep their old manifests until they are numbered anew.
    private func adopt(epoch: Int32) async throws {
        let term = try await self.unit { transaction in
            guard var row = try await transaction.server(self.id) else {
                throw DataSyncError(.storageNotReady, operation: "recover", detail: "the branch's own row is gone")
            }
            row.epoch = max(row.epoch, epoch)
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "recover", detail: "the branch's row changed")
            }
            return SessionID(number: row.session, epoch: row.epoch)
        }
        self.state.withLock { state in
            state.term = term
            state.session = nil
        }
    }

    // MARK: - The cloud's database is an older copy

    /// Makes rows that the cloud had confirmed, and has lost, ones that are to be sent.
    func putBack(_ lost: [StreamName: Int64]) async throws {
        for (name, number) in lost.sorted(by: { $0.key < $1.key }) {
            self.logger.critical(
                "the cloud has lost records that it had confirmed: sending them again",
                metadata: ["type": "\(name.type)", "epoch": "\(name.epoch)", "from": "\(number + 1)"])
            let stream = StreamID(origin: self.id, epoch: name.epoch, type: name.type)
            // From the newest down: after a crash what is left below is still seen to be missing.
            for key in try await self.keysToPutBack(stream, after: number).reversed() {
                guard var manifest = try await self.storage.withTransaction(.snapshot, { try await $0.manifest(key, of: stream) }) else { continue }
                let kept = max(0, Int(number - manifest.key.firstSynID + 1))
                let ids = manifest.entries[kept..<max(kept, manifest.settled)].map(\.id)
                manifest.settled = kept
                manifest.isAgain = true
                let back = manifest
                try await self.unit { transaction in
                    try await transaction.putBackManifest(back)
                    try await transaction.reopenOutbox(ids)
                    // What is known of the lost copies is asked for again once they are there.
                    let line = MemoLine(receiver: .cloud, sender: self.id, epoch: name.epoch, type: name.type)
                    var memos = try await transaction.memos(in: line, numbers: back.synID(at: kept)...back.lastSynID, limit: .max)
                    for index in memos.indices {
                        memos[index].note(Outcome(.parked, reason: .behind))
                        memos[index].nextTry = 0
                    }
                    try await transaction.updateMemos(memos)
                }
            }
        }
    }

    /// The manifests of a stream that have settled rows above `number`.
    private func keysToPutBack(_ stream: StreamID, after number: Int64) async throws -> [ManifestKey] {
        try await self.storage.withTransaction(.snapshot) { transaction in
            var keys: [ManifestKey] = []
            var last = number
            while let manifest = try await transaction.sentManifests(of: stream, after: last, limit: 1).first {
                keys.append(manifest.key)
                last = manifest.lastSynID
            }
            var key: ManifestKey?
            while let manifest = try await transaction.manifests(ofType: stream.type, after: key, limit: 1).first, manifest.key.epoch <= stream.epoch {
                key = manifest.key
                guard manifest.key.epoch == stream.epoch else { continue }
                // What follows one that nobody has sent was not sent either.
                guard manifest.settled > 0 else { break }
                if manifest.synID(at: manifest.settled - 1) > number { keys.append(manifest.key) }
            }
            keys.sort()
            if let first = keys.first, first.firstSynID > number + 1 { throw Self.tooOld }
            return keys
        }
    }

    /// Gives the rows of an older epoch that are not settled new numbers, in their old order.
    ///
    /// Before anything else is numbered, and before anything is sent.
    func renumberOldManifests() async throws {
        guard let epoch = self.state.withLock({ $0.term })?.epoch else { return }
        for type in try await self.storage.withTransaction(.snapshot, { try await $0.manifestSummary() }).keys.sorted() {
            while true {
                guard let manifest = try await self.storage.withTransaction(.snapshot, { try await $0.nextManifest(ofType: type, before: epoch) })
                else { break }
                let run = self.environment.fingerprint()
                try await self.unit { transaction in
                    // A commit of unknown outcome may have done it: these rows would get numbers twice.
                    guard try await transaction.nextManifest(ofType: type, before: epoch)?.key == manifest.key else { return }
                    let open = manifest.entries[manifest.settled...]
                    let new = try await transaction.newOutboxUIDs(open.map(\.id))
                    let entries = open.filter { new[$0.id] != nil }
                    if !entries.isEmpty {
                        let first = try await transaction.takeNumbers(StreamID(origin: self.id, epoch: epoch, type: type), count: entries.count)
                        let key = ManifestKey(epoch: epoch, type: type, firstSynID: first)
                        try await transaction.insertManifests([Manifest(key: key, run: run, entries: Array(entries), isAgain: manifest.isAgain)])
                    }
                    // What was known of them under their old numbers: nobody can be asked about those any more.
                    let line = MemoLine(receiver: .cloud, sender: self.id, epoch: manifest.key.epoch, type: type)
                    let numbers = manifest.entries.indices.filter { new[manifest.entries[$0].id] != nil }.map { manifest.synID(at: $0) }
                    var memos = numbers.isEmpty ? [] : try await transaction.memos(in: line, numbers: numbers)
                    for index in memos.indices { memos[index].note(Outcome(.void, reason: .void)) }
                    if !memos.isEmpty { try await transaction.updateMemos(memos) }
                    try await transaction.removeManifest(manifest.key)
                }
            }
        }
    }

    // MARK: - The log

    /// Where this branch goes on in a new epoch of the log.
    func adopt(cursors: [BusinessTypeID: Position], logEpoch: Int32) async throws {
        try await self.unit { transaction in
            let known = try await transaction.positions(from: .cloud, epoch: logEpoch)
            for (type, position) in cursors.sorted(by: { $0.key < $1.key }) where known[type] == nil && position.number > 0 {
                guard try await transaction.movePosition(from: .cloud, epoch: logEpoch, type: type, expected: 0, to: position) else {
                    throw DataSyncError(.storageBusy, operation: "open", detail: "the position moved")
                }
                try await transaction.reportPosition(from: .cloud, epoch: logEpoch, type: type, number: position.number)
            }
        }
        self.logger.warning("the cloud was restored from a backup: its log has a new epoch", metadata: ["log_epoch": "\(logEpoch)"])
    }
}

extension SyncTransaction {
    /// Of the manifests of epochs before `epoch` the one whose rows come first.
    ///
    /// Within an epoch that is the first. Between epochs it is told by the rows: where giving new numbers was interrupted by yet another
    /// epoch, those that had them already come before those that were left.
    fileprivate func nextManifest(ofType type: BusinessTypeID, before epoch: Int32) async throws -> Manifest? {
        func firstRow(_ manifest: Manifest) -> Int64 { manifest.entries[min(manifest.settled, manifest.entries.count - 1)].id }
        var (next, last): (Manifest?, ManifestKey?) = (nil, nil)
        while let head = try await self.manifests(ofType: type, after: last, limit: 1).first, head.key.epoch < epoch {
            if next.map({ firstRow(head) < firstRow($0) }) ?? true { next = head }
            last = ManifestKey(epoch: head.key.epoch, type: type, firstSynID: .max)
        }
        return next
    }

    /// A manifest of `stream`, sent or not.
    fileprivate func manifest(_ key: ManifestKey, of stream: StreamID) async throws -> Manifest? {
        let before = key.firstSynID - 1
        if let sent = try await self.sentManifests(of: stream, after: before, limit: 1).first, sent.key == key { return sent }
        let waiting = try await self.manifests(ofType: key.type, after: ManifestKey(epoch: key.epoch, type: key.type, firstSynID: before), limit: 1)
        return waiting.first { $0.key == key }
    }
}
