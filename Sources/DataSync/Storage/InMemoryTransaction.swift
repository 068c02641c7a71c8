import Synchronization

/// A transaction of ``InMemoryStorage``.
public final class InMemoryTransaction: SyncTransaction {
    private let state: Mutex<InMemoryState?>
    private let access: Access
    private let environment: SyncEnvironment

    package init(_ state: InMemoryState, access: Access, _ environment: SyncEnvironment) {
        self.state = Mutex(state)
        self.access = access
        self.environment = environment
    }

    /// Ends the transaction and hands out what it made of the state.
    package func end() -> InMemoryState {
        self.state.withLock { state in
            guard let final = state else { preconditionFailure("a transaction ended twice") }
            state = nil
            return final
        }
    }

    package func read<Result>(_ body: (InMemoryState) throws -> sending Result) rethrows -> Result {
        try self.state.withLock { state in
            guard let state else { preconditionFailure("a transaction was used after its end") }
            return try body(state)
        }
    }

    package func write<Result>(_ body: (inout InMemoryState) throws -> sending Result) throws -> Result {
        guard self.access == .write else {
            throw DataSyncError(.storageFailed, operation: "write", detail: "the transaction is read-only")
        }
        return try self.state.withLock { state in
            guard state != nil else { preconditionFailure("a transaction was used after its end") }
            return try body(&state!)
        }
    }

    // MARK: - Business tables

    public func row(_ table: String, _ key: String) -> String? { self.read { $0.tables[table]?[key] } }
    public func rows(_ table: String) -> [String: String] { self.read { $0.tables[table] ?? [:] } }
    /// Creates, replaces or, with nil, removes a row.
    public func setRow(_ table: String, _ key: String, _ row: String?) throws {
        try self.write { $0.tables[table, default: [:]][key] = row }
    }

    // MARK: - Settings

    public func setting(_ name: String) async throws -> String? { self.read { $0.settings[name] } }
    public func putSetting(_ name: String, _ value: String) async throws { try self.write { $0.settings[name] = value } }
    public func removeSetting(_ name: String) async throws { try self.write { $0.settings[name] = nil } }

    public func settings(withPrefix prefix: String) async throws -> [String: String] {
        self.read { $0.settings.filter { $0.key.hasPrefix(prefix) } }
    }

    // MARK: - Audit

    public func appendAudit(_ entry: AuditEntry) async throws {
        try self.write { state in
            let row = AuditRow(entry, after: state.auditHead)
            state.audit.append(row)
            state.auditHead = row.head
        }
    }

    public func auditHead() async throws -> AuditHead? { self.read { $0.auditHead } }

    public func auditRows(after sequence: Int64, limit: Int) async throws -> [AuditRow] {
        self.read { Array($0.audit.drop { $0.sequence <= sequence }.prefix(limit)) }
    }

    // MARK: - Servers

    public func server(_ id: ServerID) async throws -> ServerRow? { self.read { $0.servers[id] } }
    public func servers() async throws -> [ServerRow] { self.read { $0.servers.values.sorted { $0.id < $1.id } } }

    public func insertServer(_ row: ServerRow) async throws {
        try self.write { state in
            guard state.servers[row.id] == nil else {
                throw DataSyncError(.invalidState, operation: "insertServer", detail: "server \(row.id) exists")
            }
            state.servers[row.id] = row
        }
    }

    public func replaceServer(_ row: ServerRow) async throws -> Bool {
        try self.write { state in
            guard state.servers[row.id]?.operation == row.operation else { return false }
            state.servers[row.id] = row
            state.servers[row.id]?.operation += 1
            return true
        }
    }

    public func raiseFence(_ id: ServerID, session: Int64, epoch: Int32, time: Int64) async throws -> Bool {
        try self.write { state in
            guard let row = state.servers[id], row.session == session, row.epoch == epoch, row.status == .active else {
                return false
            }
            state.servers[id]?.operation += PlantedBug.isOn(.fenceWithoutChange) ? 0 : 1
            state.servers[id]?.lastSeen = time
            return true
        }
    }

    // MARK: - Outbox

    public func appendOutbox(_ rows: [NewOutboxRow]) async throws {
        try self.write { state in
            var environment = self.environment
            for row in rows {
                let head = OutboxHead(
                    id: (state.outbox.last?.id ?? 0) + 1, type: row.type, createTime: row.createTime ?? environment.wallTime(),
                    bytes: row.payload.utf8.count, digest: CRC32.ofRow(key: row.key.text, payload: row.payload))
                state.outbox.append(
                    OutboxRow(
                        head: head, uid: RecordUID(using: &environment), key: row.key.text.isEmpty ? nil : row.key,
                        target: row.target, client: row.client, payload: row.payload))
            }
        }
    }

    public func outboxFrontier() async throws -> Int64 { self.read { $0.frontier } }

    public func moveOutboxFrontier(from: Int64, to: Int64) async throws -> Bool {
        try self.write { state in
            guard state.frontier == from else { return false }
            state.frontier = to
            return true
        }
    }

    public func hasOutboxRows(after id: Int64) async throws -> Bool { self.read { $0.outbox.last?.id ?? 0 > id } }

    public func outboxHeads(in ids: ClosedRange<Int64>, newOnly: Bool, limit: Int) async throws -> [OutboxHead] {
        self.read { state in
            let first = state.outboxIndex(from: ids.lowerBound)
            let last = ids.upperBound == .max ? state.outbox.count : state.outboxIndex(from: ids.upperBound + 1)
            return Array(state.outbox[first..<last].lazy.map(\.head).filter { !newOnly || $0.state == .new }.prefix(limit))
        }
    }

    public func outboxRows(_ ids: [Int64]) async throws -> [OutboxRow] {
        self.read { state in
            ids.sorted().compactMap { state.row($0) }
        }
    }

    public func outboxRows(after id: Int64, limit: Int, bytesMax: Int) async throws -> OutboxPage {
        self.read { state in
            let after = state.outbox[state.outboxIndex(from: id + 1)...]
            var bytes = 0
            let rows = after.prefix(limit).prefix { row in
                defer { bytes += row.head.bytes }
                return bytes == 0 || bytes + row.head.bytes <= bytesMax
            }
            return OutboxPage(rows: rows.map(\.withoutDigest), isLast: rows.count == after.count)
        }
    }

    public func newOutboxRows(ofType type: BusinessTypeID, after id: Int64, limit: Int) async throws -> [OutboxRow] {
        self.read { state in
            Array(state.outbox.lazy.filter { $0.head.type == type && $0.id > id && $0.state == .new }.prefix(limit))
        }
    }

    public func typesInOutbox(among types: Set<BusinessTypeID>) async throws -> Set<BusinessTypeID> {
        self.read { state in types.intersection(state.outbox.map(\.head.type)) }
    }

    public func unsettledNames(among names: Set<EntityName>) async throws -> Set<EntityName> {
        self.read { state in
            Set(state.outbox.lazy.filter { $0.state != .settled }.compactMap(\.name).filter { names.contains($0) })
        }
    }

    public func overtakenRows(among ids: [Int64], upTo frontier: Int64) async throws -> Set<Int64> {
        self.read { state in
            let asked = Set(ids)
            let others = state.outbox.prefix { $0.id <= frontier }.filter { !asked.contains($0.id) }
            let rows = state.outbox.filter { asked.contains($0.id) }
            let overtaken = rows.filter { row in
                others.contains { $0.id > row.id && $0.name != nil && $0.name == row.name && $0.target == row.target }
            }
            return Set(overtaken.map(\.id))
        }
    }

    public func newOutboxRows(of names: Set<EntityName>, upTo last: Int64, limit: Int) async throws -> [OutboxRow] {
        self.read { state in
            Array(state.outbox.lazy.prefix { $0.id <= last }.filter { $0.state == .new && $0.name.map { names.contains($0) } ?? false }.prefix(limit))
        }
    }

    public func outboxRow(_ name: EntityName, uid: RecordUID) async throws -> OutboxRow? {
        self.read { state in state.outbox.first { $0.name == name && $0.uid == uid } }
    }

    public func settleOutbox(_ settlements: [OutboxSettlement], origin: ServerID) async throws -> Int {
        try self.write { state in
            var count = 0
            for settlement in settlements where state.row(settlement.id)?.state == .new {
                state.apply(settlement)
                count += 1
            }
            return count
        }
    }

    public func updateOutbox(_ settlements: [OutboxSettlement]) async throws {
        try self.write { state in
            for settlement in settlements where state.row(settlement.id) != nil { state.apply(settlement) }
        }
    }

    public func takeNumbers(_ stream: StreamID, count: Int) async throws -> Int64 {
        try self.write { state in
            let first = (state.lastNumbers[stream] ?? 0) + 1
            state.lastNumbers[stream] = first + Int64(count) - 1
            return first
        }
    }

    public func lastNumbers(origin: ServerID, epoch: Int32) async throws -> [BusinessTypeID: Int64] {
        self.read { state in
            state.lastNumbers.reduce(into: [:]) { result, entry in
                if entry.key.origin == origin, entry.key.epoch == epoch { result[entry.key.type] = entry.value }
            }
        }
    }

    public func typesNumbered(by origin: ServerID) async throws -> Set<BusinessTypeID> {
        self.read { state in Set(state.lastNumbers.keys.lazy.filter { $0.origin == origin }.map(\.type)) }
    }

    public func insertManifests(_ manifests: [Manifest]) async throws {
        try self.write { state in
            for manifest in manifests {
                guard state.manifests.updateValue(manifest, forKey: manifest.key) == nil else {
                    throw DataSyncError(.storageBusy, operation: "insertManifests")
                }
            }
        }
    }

    public func manifests(
        ofType type: BusinessTypeID, after position: ManifestKey?, limit: Int
    ) async throws -> [Manifest] {
        self.read { state in
            let waiting = state.manifests.values.filter { manifest in
                manifest.key.type == type && position.map { manifest.key > $0 } ?? true
            }
            return Array(waiting.sorted { $0.key < $1.key }.prefix(limit))
        }
    }

    public func manifestSummary() async throws -> [BusinessTypeID: Backlog] {
        self.read { state in
            state.manifests.values.reduce(into: [:]) { summary, manifest in
                let open = manifest.entries[manifest.settled...]
                var backlog = summary[manifest.key.type] ?? Backlog(records: 0, oldestCreateTime: .max)
                backlog.records += open.count
                backlog.oldestCreateTime = min(backlog.oldestCreateTime, manifest.entries.map(\.createTime).min() ?? .max)
                summary[manifest.key.type] = backlog
            }
        }
    }

    public func manifestedIDs(in ids: ClosedRange<Int64>) async throws -> Set<Int64> {
        self.read { state in Set(state.manifests.values.flatMap(\.entries).map(\.id).filter { ids.contains($0) }) }
    }

    public func settleManifest(_ key: ManifestKey, settled: Int, time: Int64) async throws {
        try self.write { state in
            guard var manifest = state.manifests[key] else { return }
            manifest.settled = max(manifest.settled, settled)
            state.manifests[key] = settled < manifest.entries.count ? manifest : nil
            if settled >= manifest.entries.count { state.sentManifests[key] = InMemoryState.SentManifest(manifest: manifest, time: time) }
        }
    }

    public func insertSentManifests(_ manifests: [Manifest], time: Int64) async throws {
        try self.write { state in
            for manifest in manifests { state.sentManifests[manifest.key] = InMemoryState.SentManifest(manifest: manifest, time: time) }
        }
    }

    public func sentManifests(of stream: StreamID, after number: Int64, limit: Int) async throws -> [Manifest] {
        self.read { state in
            let found = state.sentManifests.values.map(\.manifest).filter {
                $0.key.epoch == stream.epoch && $0.key.type == stream.type && $0.lastSynID > number
            }
            return Array(found.sorted { $0.key < $1.key }.prefix(limit))
        }
    }

    public func settledEnds() async throws -> [StreamName: Int64] {
        self.read { state in
            (state.sentManifests.values.map(\.manifest) + state.manifests.values).reduce(into: [:]) { ends, manifest in
                guard manifest.settled > 0 else { return }
                let name = StreamName(epoch: manifest.key.epoch, type: manifest.key.type)
                ends[name] = max(ends[name] ?? 0, manifest.synID(at: manifest.settled - 1))
            }
        }
    }

    public func run(of stream: StreamID, number: Int64) async throws -> Fingerprint? {
        self.read { state in
            let manifests = state.sentManifests.values.lazy.map(\.manifest) + Array(state.manifests.values)
            return manifests.first {
                $0.key.epoch == stream.epoch && $0.key.type == stream.type && ($0.key.firstSynID...$0.lastSynID).contains(number)
            }?.run
        }
    }

    public func putBackManifest(_ manifest: Manifest) async throws {
        try self.write { state in
            state.sentManifests[manifest.key] = nil
            state.manifests[manifest.key] = manifest
        }
    }

    public func removeManifest(_ key: ManifestKey) async throws { try self.write { $0.manifests[key] = nil } }

    public func reopenOutbox(_ ids: [Int64]) async throws {
        try self.write { state in
            for index in ids.compactMap({ state.outboxIndex(of: $0) }) { state.outbox[index].head.state = .new }
        }
    }

    public func newOutboxUIDs(_ ids: [Int64]) async throws -> [Int64: RecordUID] {
        self.read { state in
            ids.compactMap { state.row($0) }.filter { $0.state == .new }.reduce(into: [:]) { $0[$1.id] = $1.uid }
        }
    }

    public func outboxUIDs(of names: Set<EntityName>) async throws -> Set<RecordUID> {
        self.read { state in Set(state.outbox.filter { $0.name.map { names.contains($0) } ?? false }.map(\.uid)) }
    }

    public func removeSentManifests(before time: Int64, limit: Int) async throws -> Int {
        try self.write { state in
            let old = state.sentManifests.values.filter { $0.time < time }.sorted { $0.manifest.key < $1.manifest.key }.prefix(limit)
            for sent in old {
                state.sentManifests[sent.manifest.key] = nil
                for id in sent.manifest.entries.map(\.id) {
                    guard let index = state.outboxIndex(of: id), state.outbox[index].state == .settled else { continue }
                    state.outbox.remove(at: index)
                }
            }
            return old.count
        }
    }

    // MARK: - Receipts

    public func insertReceipts(_ receipts: [Receipt], from peer: ServerID) async throws {
        try self.write { $0.receipts[peer, default: []] += receipts }
    }

    public func receipts(from peer: ServerID, epoch: Int32, type: BusinessTypeID, after number: Int64, limit: Int) async throws -> [Receipt] {
        self.read { state in
            let found = (state.receipts[peer] ?? []).filter { $0.epoch == epoch && $0.type == type && $0.lastSynID > number }
            return Array(found.sorted { $0.firstSynID < $1.firstSynID }.prefix(limit))
        }
    }

    public func keepUIDs(_ uids: [RecordUID], ofType type: BusinessTypeID, time: Int64) async throws {
        try self.write { state in for uid in uids where state.uids[uid] == nil { state.uids[uid] = time } }
    }

    public func knownUIDs(among uids: [RecordUID]) async throws -> Set<RecordUID> {
        self.read { state in Set(uids.filter { state.uids[$0] != nil }) }
    }

    public func removeReceipts(before time: Int64, limit: Int) async throws -> Int {
        try self.write { state in
            var left = limit
            for peer in state.receipts.keys.sorted() {
                state.receipts[peer]?.removeAll { receipt in
                    guard receipt.time < time, left > 0 else { return false }
                    left -= 1
                    return true
                }
            }
            let old = state.uids.filter { $0.value < time }.keys.sorted { $0.hex < $1.hex }.prefix(limit)
            for uid in old { state.uids[uid] = nil }
            return limit - left + old.count
        }
    }

    // MARK: - Positions

    public func positions(from peer: ServerID, epoch: Int32) async throws -> [BusinessTypeID: ReceivedPosition] {
        self.read { state in
            state.positions.reduce(into: [:]) { result, entry in
                if entry.key.peer == peer, entry.key.epoch == epoch || PlantedBug.isOn(.epochNotInKey) { result[entry.key.type] = entry.value }
            }
        }
    }

    public func positions(from peer: ServerID) async throws -> [Int32: [BusinessTypeID: ReceivedPosition]] {
        self.read { state in
            state.positions.reduce(into: [:]) { result, entry in
                if entry.key.peer == peer { result[entry.key.epoch, default: [:]][entry.key.type] = entry.value }
            }
        }
    }

    public func movePosition(
        from peer: ServerID, epoch: Int32, type: BusinessTypeID, expected: Int64, to position: Position
    ) async throws -> Bool {
        try self.write { state in
            let key = InMemoryState.PositionKey(peer: peer, epoch: epoch, type: type)
            let known = state.positions[key] ?? ReceivedPosition(position: .start, reported: 0)
            guard known.position.number == expected else { return false }
            state.positions[key] = ReceivedPosition(position: position, reported: known.reported)
            return true
        }
    }

    public func reportPosition(from peer: ServerID, epoch: Int32, type: BusinessTypeID, number: Int64) async throws {
        try self.write { state in
            let key = InMemoryState.PositionKey(peer: peer, epoch: epoch, type: type)
            guard let known = state.positions[key] else { return }
            state.positions[key]?.reported = max(number, known.reported)
        }
    }

    public func putConfirmation(_ confirmation: Confirmation) async throws {
        try self.write { state in
            let key = InMemoryState.ConfirmationKey(peer: confirmation.peer, type: confirmation.type)
            state.confirmations[key] = confirmation
        }
    }

    public func confirmations() async throws -> [Confirmation] {
        self.read { $0.confirmations.values.sorted { ($0.peer, $0.type) < ($1.peer, $1.type) } }
    }

    // MARK: - Log

    public func takeLogNumbers(ofType type: BusinessTypeID, count: Int) async throws -> Int64 {
        try self.write { state in
            let first = (state.lastPlaces[type] ?? 0) + 1
            state.lastPlaces[type] = first + Int64(count) - 1
            return first
        }
    }

    public func appendLog(_ records: [LogRecord]) async throws {
        try self.write { state in
            for record in records {
                state.log[InMemoryState.LogKey(type: record.record.type, audience: record.audience), default: []].append(record)
            }
        }
    }

    public func logTails(of audiences: [Audience]) async throws -> [BusinessTypeID: Int64] {
        self.read { state in
            state.log.reduce(into: [:]) { tails, entry in
                guard audiences.contains(entry.key.audience), let last = entry.value.last else { return }
                tails[entry.key.type] = max(tails[entry.key.type] ?? 0, last.logSeq)
            }
        }
    }

    public func logPage(
        ofType type: BusinessTypeID, audience: Audience, after place: Int64, limit: Int, bytesMax: Int, own: LogOwner
    ) async throws -> LogPage {
        self.read { state in
            let log = state.log[InMemoryState.LogKey(type: type, audience: audience)] ?? []
            let after = log.drop { $0.logSeq <= place }
            var bytes = 0
            var records: [LogRecord] = []
            for var record in after.prefix(limit) {
                if own.owns(record) { record.record.payload = "" }
                bytes += record.record.payload.utf8.count
                guard records.isEmpty || bytes <= bytesMax else { break }
                records.append(record)
            }
            return LogPage(records: records, isLast: records.count == after.count)
        }
    }

    public func logMarks(of audiences: [Audience], at places: [BusinessTypeID: Int64]) async throws -> [BusinessTypeID: Fingerprint] {
        self.read { state in
            places.reduce(into: [:]) { marks, place in
                for audience in audiences {
                    let log = state.log[InMemoryState.LogKey(type: place.key, audience: audience)] ?? []
                    if let record = log.last(where: { $0.logSeq == place.value }) { marks[place.key] = record.mark }
                }
            }
        }
    }

    public func logRecord(ofType type: BusinessTypeID, audience: Audience, at place: Int64) async throws -> LogRecord? {
        self.read { state in
            state.log[InMemoryState.LogKey(type: type, audience: audience)]?.first { $0.logSeq == place }
        }
    }

    // MARK: - Entities

    public func lockEntities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] { try await self.entities(ids) }

    public func entities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] {
        self.read { state in ids.reduce(into: [:]) { $0[$1] = state.entities[$1] } }
    }

    public func entities(ofType type: BusinessTypeID, in range: EntityRange, for reader: ServerID?, limit: Int) async throws -> [EntityState] {
        self.read { state in
            let found = state.entities.values.filter { entity in
                entity.id.type == type && range.contains(EntityPlace(entity.id)) && (reader.map { entity.isVisible(to: $0) } ?? true)
            }
            return Array(found.sorted { $0.id < $1.id }.prefix(limit))
        }
    }

    public func insertEntities(_ states: [EntityState]) async throws {
        try self.write { state in
            for entity in states {
                guard state.entities.updateValue(entity, forKey: entity.id) == nil else {
                    throw DataSyncError(.storageBusy, operation: "insertEntities")
                }
            }
        }
    }

    public func updateEntities(_ states: [EntityState]) async throws {
        try self.write { state in
            for entity in states where state.entities[entity.id] != nil { state.entities[entity.id] = entity }
        }
    }

    public func raiseEntities(_ states: [EntityState]) async throws {
        try self.write { state in
            for entity in states where state.entities[entity.id]?.version ?? 0 < entity.version || PlantedBug.isOn(.noVersionGuard) {
                state.entities[entity.id] = entity
            }
        }
    }

    // MARK: - Memos

    public func insertMemos(_ memos: [Memo]) async throws {
        try self.write { state in
            for var memo in memos {
                state.lastMemoID += 1
                memo.id = state.lastMemoID
                let key = InMemoryState.MemoKey(line: memo.line, number: memo.number)
                guard state.memoIDs.updateValue(memo.id, forKey: key) == nil else {
                    throw DataSyncError(.storageBusy, operation: "insertMemos")
                }
                state.memos[memo.id] = memo
            }
        }
    }

    public func updateMemos(_ memos: [Memo]) async throws {
        try self.write { state in
            for memo in memos {
                guard var known = state.memos[memo.id] else { continue }
                known.note(memo.outcome, needs: memo.needs)
                known.version = memo.version
                known.tries = memo.tries
                known.nextTry = memo.nextTry
                if !memo.holdsPayload {
                    known.holdsPayload = false
                    known.record.payload = ""
                }
                state.memos[memo.id] = known
            }
        }
    }

    public func beginTry(ofMemo id: Int64, disposition: Disposition, tries: Int) async throws -> Bool {
        try self.write { state in
            guard let memo = state.memos[id], memo.disposition == disposition, memo.tries == tries else { return false }
            state.memos[id]?.tries += 1
            return true
        }
    }

    public func memo(_ id: Int64) async throws -> Memo? { self.read { $0.memos[id] } }

    public func memos(in line: MemoLine, numbers: [Int64]) async throws -> [Memo] {
        self.read { state in
            Set(numbers).sorted().compactMap { state.memoIDs[InMemoryState.MemoKey(line: line, number: $0)] }
                .compactMap { state.memos[$0]?.withoutPayload }
        }
    }

    public func memos(in line: MemoLine, numbers: ClosedRange<Int64>, limit: Int) async throws -> [Memo] {
        self.read { state in
            let found = state.memos.values.filter { $0.line == line && numbers.contains($0.number) }
            return found.sorted { $0.number < $1.number }.prefix(limit).map(\.withoutPayload)
        }
    }

    public func memos(at receiver: ServerID, from sender: ServerID, of entities: Set<EntityID>) async throws -> [Memo] {
        self.read { state in
            let found = state.memos.values.filter {
                $0.line.receiver == receiver && $0.line.sender == sender && entities.contains($0.entity)
            }
            return found.sorted { $0.id < $1.id }.map(\.withoutPayload)
        }
    }

    public func openMemos(at receiver: ServerID, from sender: ServerID) async throws -> OpenMemos {
        self.read { state in
            OpenMemos(
                fromSender: state.open(at: receiver, from: sender).contains { _ in true },
                waiting: state.waiting(at: receiver).contains { _ in true },
                suspects: state.open(at: receiver, from: sender).contains { $0.disposition == .suspect })
        }
    }

    public func openEntities(
        at receiver: ServerID, from sender: ServerID, among entities: Set<EntityID>
    ) async throws -> Set<EntityID> {
        self.read { state in
            Set(state.open(at: receiver, from: sender).map(\.entity).filter { entities.contains($0) })
        }
    }

    public func firstOpenMemo(at receiver: ServerID, from sender: ServerID, of entity: EntityID) async throws -> Int64? {
        self.read { state in state.open(at: receiver, from: sender).filter { $0.entity == entity }.map(\.id).min() }
    }

    public func openUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        self.usage(at: receiver, from: sender, type: type) { $0.isOpen }
    }

    public func deadUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        self.usage(at: receiver, from: sender, type: type) { $0 == .dead }
    }

    private func usage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, of isCounted: (Disposition) -> Bool) -> OpenUsage {
        self.read { state in
            let memos = state.memos.values.filter {
                $0.line.receiver == receiver && $0.line.sender == sender && $0.line.type == type && isCounted($0.disposition)
            }
            return OpenUsage(records: memos.count, bytes: memos.reduce(0) { $0 + $1.record.payload.utf8.count })
        }
    }

    public func dueMemos(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Int64] {
        self.read { state in
            let due = state.memos.values.filter { $0.line.receiver == receiver && $0.disposition.isOpen && $0.nextTry <= time }
            return due.sorted { ($0.nextTry, $0.id) < ($1.nextTry, $1.id) }.prefix(limit).map(\.id)
        }
    }

    public func releaseMemos(
        at receiver: ServerID, needing keys: Set<EntityKey>, limit: Int, unnamedMax: Int, time: Int64
    ) async throws -> Int {
        try self.write { state in
            let released = state.releasable(at: receiver, needing: keys, limit: limit, unnamedMax: unnamedMax, time: time)
            for memo in released { state.memos[memo.id]?.nextTry = time }
            return released.count
        }
    }

    public func dependency(at receiver: ServerID, from sender: ServerID, of key: EntityKey) async throws -> Dependency? {
        self.read { state in
            state.waiting(at: receiver).filter { $0.line.sender == sender && $0.record.key == key }.min { $0.id < $1.id }?.needs
        }
    }

    public func suspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, limit: Int) async throws -> [Memo] {
        self.read { state in
            state.suspects(at: receiver, from: sender, types: [type]).sorted { $0.id < $1.id }.prefix(limit).map(\.withoutPayload)
        }
    }

    public func endSuspicion(
        at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>, attempts: Int, time: Int64
    ) async throws -> Int {
        try self.write { state in
            let suspects = Array(state.suspects(at: receiver, from: sender, types: types))
            for memo in suspects {
                state.memos[memo.id]?.disposition = .parked
                state.memos[memo.id]?.attempts = attempts
                state.memos[memo.id]?.nextTry = time
            }
            return suspects.count
        }
    }

    public func postponeSuspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, time: Int64) async throws {
        try self.write { state in
            for memo in state.suspects(at: receiver, from: sender, types: [type]) { state.memos[memo.id]?.nextTry = time + Int64(memo.tries) }
        }
    }

    public func wakeMemos(at receiver: ServerID, from sender: ServerID, of entity: EntityID, time: Int64) async throws {
        try self.write { state in
            for memo in state.open(at: receiver, from: sender) where memo.entity == entity {
                state.memos[memo.id]?.nextTry = min(memo.nextTry, time)
            }
        }
    }

    public func memosToAsk(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Memo] {
        self.read { state in
            let found = state.memos.values.filter {
                $0.line.receiver == receiver && ($0.disposition.isOpen || $0.disposition == .dead && $0.nextTry <= time)
            }
            return found.sorted { ($0.nextTry, $0.id) < ($1.nextTry, $1.id) }.prefix(limit).map(\.withoutPayload)
        }
    }

    public func memos(
        _ dispositions: Set<Disposition>, after id: Int64, limit: Int, among branches: Set<ServerID>?
    ) async throws -> [Memo] {
        self.read { state in
            let found = state.memos.values.filter { memo in
                memo.id > id && dispositions.contains(memo.disposition) && branches.map { memo.concernsOnly($0) } ?? true
            }
            return found.sorted { $0.id < $1.id }.prefix(limit).map(\.withoutPayload)
        }
    }

    public func memoCounts(among branches: Set<ServerID>?) async throws -> [MemoCount] {
        self.read { state in
            let counted = state.memos.values.filter { memo in branches.map { memo.concernsOnly($0) } ?? true }
            let groups = Dictionary(grouping: counted) {
                MemoCount(receiver: $0.line.receiver, type: $0.line.type, disposition: $0.disposition, count: 0)
            }
            return groups.map { key, memos in
                var count = key
                count.count = memos.count
                return count
            }.sorted { ($0.receiver, $0.type, $0.disposition.rawValue) < ($1.receiver, $1.type, $1.disposition.rawValue) }
        }
    }
}

extension InMemoryState {
    func row(_ id: Int64) -> OutboxRow? { self.outboxIndex(of: id).map { self.outbox[$0] } }

    mutating func apply(_ settlement: OutboxSettlement) {
        guard let index = self.outboxIndex(of: settlement.id) else { return }
        self.outbox[index].head.state = settlement.state
        self.outbox[index].synID = settlement.synID
        self.outbox[index].attempts = settlement.attempts
        self.outbox[index].reason = settlement.reason
    }

    package func releasable(at receiver: ServerID, needing keys: Set<EntityKey>, limit: Int, unnamedMax: Int, time: Int64) -> [Memo] {
        let waiting = self.waiting(at: receiver).filter { $0.nextTry > time }.sorted { ($0.nextTry, $0.id) < ($1.nextTry, $1.id) }
        let named = waiting.filter { memo in
            if case .entity(let key) = memo.needs { keys.contains(key) } else { false }
        }
        return Array(named.prefix(limit) + waiting.filter { $0.needs == .unnamed }.prefix(unnamedMax))
    }

    package func suspects(at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>) -> some Sequence<Memo> {
        self.open(at: receiver, from: sender).filter { $0.disposition == .suspect && types.contains($0.line.type) }
    }

    func waiting(at receiver: ServerID) -> some Sequence<Memo> {
        self.memos.values.lazy.filter { $0.line.receiver == receiver && $0.disposition == .waiting }
    }

    func open(at receiver: ServerID, from sender: ServerID) -> some Sequence<Memo> {
        self.memos.values.lazy.filter {
            $0.line.receiver == receiver && $0.line.sender == sender && $0.disposition.isOpen
        }
    }
}

extension OutboxRow {
    var withoutDigest: OutboxRow {
        var row = self
        row.head.digest = 0
        return row
    }

    var name: EntityName? { self.key.map { EntityName(type: self.head.type, key: $0) } }
}

extension Memo {
    var withoutPayload: Memo {
        var memo = self
        memo.record.payload = ""
        return memo
    }
}
