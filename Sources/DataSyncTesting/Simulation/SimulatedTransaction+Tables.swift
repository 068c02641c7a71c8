public import DataSync

extension SimulatedTransaction {
    // MARK: - Settings

    public func setting(_ name: String) async throws -> String? { try await self.read { try await $0.setting(name) } }

    public func putSetting(_ name: String, _ value: String) async throws {
        try await self.write([.setting(name)]) { try await $0.putSetting(name, value) }
        guard name.hasPrefix("lone."), let lone = LoneTry(text: value) else { return }
        let line = name.hasSuffix(".retry") ? String(name.dropLast(6)) : name
        self.note(
            .begunAlone(
                at: self.database.server, line: line, epoch: lone.epoch, number: lone.number, tries: lone.tries, process: self.process.number))
    }

    public func settings(withPrefix prefix: String) async throws -> [String: String] {
        try await self.read { try await $0.settings(withPrefix: prefix) }
    }

    public func removeSetting(_ name: String) async throws { try await self.write([.setting(name)]) { try await $0.removeSetting(name) } }

    // MARK: - Audit

    public func appendAudit(_ entry: AuditEntry) async throws { try await self.write([.audit]) { try await $0.appendAudit(entry) } }
    public func auditHead() async throws -> AuditHead? { try await self.read { try await $0.auditHead() } }

    public func auditRows(after sequence: Int64, limit: Int) async throws -> [AuditRow] {
        try await self.read { try await $0.auditRows(after: sequence, limit: limit) }
    }

    // MARK: - Servers

    public func server(_ id: ServerID) async throws -> ServerRow? { try await self.read { try await $0.server(id) } }
    public func servers() async throws -> [ServerRow] { try await self.read { try await $0.servers() } }
    public func insertServer(_ row: ServerRow) async throws { try await self.write([.server(row.id)]) { try await $0.insertServer(row) } }

    public func replaceServer(_ row: ServerRow) async throws -> Bool {
        let isReplaced = try await self.write([.server(row.id)]) { try await $0.replaceServer(row) }
        if isReplaced {
            let branch = row.id
            if self.database.server.isCloud {
                let host = row.status == .active ? SimulatedRequest.host : nil
                self.note(.opened(branch: branch, session: row.session, host: host, age: try await self.countedAge()))
            } else {
                self.note(.tookOver(branch: branch, process: self.process.number))
            }
        }
        return isReplaced
    }

    /// As this transaction sees it, without a statement of its own.
    private func countedAge() async throws -> Int64 {
        try await self.look { try await $0.setting(SettingName.age).flatMap { Age.Noted($0) } }?.age ?? 0
    }

    public func raiseFence(_ id: ServerID, session: Int64, epoch: Int32, time: Int64) async throws -> Bool {
        let isRaised = try await self.write([.server(id)]) { try await $0.raiseFence(id, session: session, epoch: epoch, time: time) }
        return isRaised
    }

    /// Whoever writes into a branch's own tables does it as its agent.
    private func noteAgent() {
        let branch = self.database.server
        if branch.isBranch { self.note(.wroteAsAgent(branch: branch, process: self.process.number)) }
    }

    // MARK: - Outbox

    public func appendOutbox(_ rows: [NewOutboxRow]) async throws {
        var environment = self.process.environment
        let new = rows.map { row in
            OutboxRow(
                head: OutboxHead(
                    id: self.database.nextOutboxID(), type: row.type, createTime: row.createTime ?? environment.wallTime(),
                    bytes: row.payload.utf8.count, digest: CRC32.ofRow(key: row.key.text, payload: row.payload)),
                uid: RecordUID(using: &environment), key: row.key.text.isEmpty ? nil : row.key, target: row.target, client: row.client,
                payload: row.payload)
        }
        try await self.write([]) { transaction in
            try transaction.write { state in
                for row in new { state.outbox.insert(row, at: state.outboxIndex(from: row.id)) }
            }
        }
        for row in new {
            guard let payload = SimulatedPayload(row.payload) else { continue }
            self.note(.written(at: self.database.server, row: row.id, change: payload.change(of: row, at: self.database.server)))
        }
    }

    public func outboxFrontier() async throws -> Int64 { try await self.read { try await $0.outboxFrontier() } }

    public func moveOutboxFrontier(from: Int64, to: Int64) async throws -> Bool {
        try await self.write([.frontier]) { try await $0.moveOutboxFrontier(from: from, to: to) }
    }

    public func hasOutboxRows(after id: Int64) async throws -> Bool { try await self.read { try await $0.hasOutboxRows(after: id) } }

    public func outboxHeads(in ids: ClosedRange<Int64>, newOnly: Bool, limit: Int) async throws -> [OutboxHead] {
        try await self.read { try await $0.outboxHeads(in: ids, newOnly: newOnly, limit: limit) }
    }

    public func outboxRows(_ ids: [Int64]) async throws -> [OutboxRow] { try await self.read { try await $0.outboxRows(ids) } }

    public func outboxRows(after id: Int64, limit: Int, bytesMax: Int) async throws -> OutboxPage {
        try await self.read { try await $0.outboxRows(after: id, limit: limit, bytesMax: bytesMax) }
    }

    public func newOutboxRows(ofType type: BusinessTypeID, after id: Int64, limit: Int) async throws -> [OutboxRow] {
        try await self.read { try await $0.newOutboxRows(ofType: type, after: id, limit: limit) }
    }

    public func typesInOutbox(among types: Set<BusinessTypeID>) async throws -> Set<BusinessTypeID> {
        try await self.read { try await $0.typesInOutbox(among: types) }
    }

    public func unsettledNames(among names: Set<EntityName>) async throws -> Set<EntityName> {
        try await self.read { try await $0.unsettledNames(among: names) }
    }

    public func overtakenRows(among ids: [Int64], upTo frontier: Int64) async throws -> Set<Int64> {
        try await self.read { try await $0.overtakenRows(among: ids, upTo: frontier) }
    }

    public func newOutboxRows(of names: Set<EntityName>, upTo last: Int64, limit: Int) async throws -> [OutboxRow] {
        try await self.read { try await $0.newOutboxRows(of: names, upTo: last, limit: limit) }
    }

    public func outboxRow(_ name: EntityName, uid: RecordUID) async throws -> OutboxRow? {
        try await self.read { try await $0.outboxRow(name, uid: uid) }
    }

    public func settleOutbox(_ settlements: [OutboxSettlement], origin: ServerID) async throws -> Int {
        self.noteAgent()
        let count = try await self.write(settlements.map { .outbox($0.id) }) { try await $0.settleOutbox(settlements, origin: origin) }
        self.note(settlements)
        return count
    }

    public func updateOutbox(_ settlements: [OutboxSettlement]) async throws {
        try await self.write(settlements.map { .outbox($0.id) }) { try await $0.updateOutbox(settlements) }
        self.note(settlements)
    }

    private func note(_ settlements: [OutboxSettlement]) {
        for settlement in settlements {
            self.note(
                .settled(
                    at: self.database.server, row: settlement.id, type: settlement.type, synID: settlement.synID, state: settlement.state,
                    attempts: settlement.attempts, reason: settlement.reason))
        }
    }

    public func takeNumbers(_ stream: StreamID, count: Int) async throws -> Int64 {
        self.noteAgent()
        let first = try await self.write([.stream(stream)]) { try await $0.takeNumbers(stream, count: count) }
        self.note(.numbered(stream: stream, first: first, count: count))
        return first
    }

    public func lastNumbers(origin: ServerID, epoch: Int32) async throws -> [BusinessTypeID: Int64] {
        try await self.read { try await $0.lastNumbers(origin: origin, epoch: epoch) }
    }

    public func typesNumbered(by origin: ServerID) async throws -> Set<BusinessTypeID> {
        try await self.read { try await $0.typesNumbered(by: origin) }
    }

    public func insertManifests(_ manifests: [Manifest]) async throws {
        try await self.write(manifests.map { .manifest($0.key) }) { try await $0.insertManifests(manifests) }
    }

    public func manifests(ofType type: BusinessTypeID, after position: ManifestKey?, limit: Int) async throws -> [Manifest] {
        try await self.read { try await $0.manifests(ofType: type, after: position, limit: limit) }
    }

    public func manifestSummary() async throws -> [BusinessTypeID: Backlog] { try await self.read { try await $0.manifestSummary() } }

    public func manifestedIDs(in ids: ClosedRange<Int64>) async throws -> Set<Int64> {
        try await self.read { try await $0.manifestedIDs(in: ids) }
    }

    public func settleManifest(_ key: ManifestKey, settled: Int, time: Int64) async throws {
        try await self.write([.manifest(key)]) { try await $0.settleManifest(key, settled: settled, time: time) }
    }

    public func insertSentManifests(_ manifests: [Manifest], time: Int64) async throws {
        try await self.write(manifests.map { .manifest($0.key) }) { try await $0.insertSentManifests(manifests, time: time) }
    }

    public func sentManifests(of stream: StreamID, after number: Int64, limit: Int) async throws -> [Manifest] {
        try await self.read { try await $0.sentManifests(of: stream, after: number, limit: limit) }
    }

    public func settledEnds() async throws -> [StreamName: Int64] { try await self.read { try await $0.settledEnds() } }

    public func run(of stream: StreamID, number: Int64) async throws -> Fingerprint? {
        try await self.read { try await $0.run(of: stream, number: number) }
    }

    public func putBackManifest(_ manifest: Manifest) async throws {
        try await self.write([.manifest(manifest.key)]) { try await $0.putBackManifest(manifest) }
    }

    public func removeManifest(_ key: ManifestKey) async throws { try await self.write([.manifest(key)]) { try await $0.removeManifest(key) } }

    public func reopenOutbox(_ ids: [Int64]) async throws {
        self.noteAgent()
        try await self.write(ids.map { .outbox($0) }) { try await $0.reopenOutbox(ids) }
    }

    public func newOutboxUIDs(_ ids: [Int64]) async throws -> [Int64: RecordUID] { try await self.read { try await $0.newOutboxUIDs(ids) } }

    public func outboxUIDs(of names: Set<EntityName>) async throws -> Set<RecordUID> {
        try await self.read { try await $0.outboxUIDs(of: names) }
    }

    public func removeSentManifests(before time: Int64, limit: Int) async throws -> Int {
        try await self.write([]) { try await $0.removeSentManifests(before: time, limit: limit) }
    }

    // MARK: - Receipts

    public func insertReceipts(_ receipts: [Receipt], from peer: ServerID) async throws {
        try await self.write([]) { try await $0.insertReceipts(receipts, from: peer) }
    }

    public func receipts(from peer: ServerID, epoch: Int32, type: BusinessTypeID, after number: Int64, limit: Int) async throws -> [Receipt] {
        try await self.read { try await $0.receipts(from: peer, epoch: epoch, type: type, after: number, limit: limit) }
    }

    public func keepUIDs(_ uids: [RecordUID], ofType type: BusinessTypeID, time: Int64) async throws {
        try await self.write([]) { try await $0.keepUIDs(uids, ofType: type, time: time) }
    }

    public func knownUIDs(among uids: [RecordUID]) async throws -> Set<RecordUID> { try await self.read { try await $0.knownUIDs(among: uids) } }

    public func removeReceipts(before time: Int64, limit: Int) async throws -> Int {
        try await self.write([]) { try await $0.removeReceipts(before: time, limit: limit) }
    }

    // MARK: - Positions

    public func positions(from peer: ServerID, epoch: Int32) async throws -> [BusinessTypeID: ReceivedPosition] {
        try await self.read { try await $0.positions(from: peer, epoch: epoch) }
    }

    public func positions(from peer: ServerID) async throws -> [Int32: [BusinessTypeID: ReceivedPosition]] {
        try await self.read { try await $0.positions(from: peer) }
    }

    public func movePosition(
        from peer: ServerID, epoch: Int32, type: BusinessTypeID, expected: Int64, to position: Position
    ) async throws -> Bool {
        self.noteAgent()
        let key = InMemoryState.PositionKey(peer: peer, epoch: epoch, type: type)
        let isMoved = try await self.write([.position(key)]) {
            try await $0.movePosition(from: peer, epoch: epoch, type: type, expected: expected, to: position)
        }
        if isMoved {
            self.note(
                .moved(
                    at: self.database.server, from: peer, epoch: epoch, type: type, number: expected, to: position.number,
                    session: SimulatedRequest.session))
        }
        return isMoved
    }

    public func reportPosition(from peer: ServerID, epoch: Int32, type: BusinessTypeID, number: Int64) async throws {
        let key = InMemoryState.PositionKey(peer: peer, epoch: epoch, type: type)
        try await self.write([.position(key)]) { try await $0.reportPosition(from: peer, epoch: epoch, type: type, number: number) }
    }

    public func putConfirmation(_ confirmation: Confirmation) async throws {
        let key = InMemoryState.ConfirmationKey(peer: confirmation.peer, type: confirmation.type)
        try await self.write([.confirmation(key)]) { try await $0.putConfirmation(confirmation) }
    }

    public func confirmations() async throws -> [Confirmation] { try await self.read { try await $0.confirmations() } }

    // MARK: - Log

    public func takeLogNumbers(ofType type: BusinessTypeID, count: Int) async throws -> Int64 {
        try await self.write([.places(type)]) { try await $0.takeLogNumbers(ofType: type, count: count) }
    }

    public func appendLog(_ records: [LogRecord]) async throws {
        try await self.write([]) { try await $0.appendLog(records) }
        for row in records {
            self.note(
                .appended(
                    type: row.record.type, place: row.logSeq, audience: row.audience, entity: row.entity,
                    token: SimulatedPayload(row.record.payload)?.token ?? 0, isDeletion: row.isDeletion, isEcho: row.isEcho))
        }
    }

    public func logTails(of audiences: [Audience]) async throws -> [BusinessTypeID: Int64] {
        try await self.read { try await $0.logTails(of: audiences) }
    }

    public func logPage(
        ofType type: BusinessTypeID, audience: Audience, after place: Int64, limit: Int, bytesMax: Int, own: LogOwner
    ) async throws -> LogPage {
        try await self.read {
            try await $0.logPage(ofType: type, audience: audience, after: place, limit: limit, bytesMax: bytesMax, own: own)
        }
    }

    public func logMarks(of audiences: [Audience], at places: [BusinessTypeID: Int64]) async throws -> [BusinessTypeID: Fingerprint] {
        try await self.read { try await $0.logMarks(of: audiences, at: places) }
    }

    public func logRecord(ofType type: BusinessTypeID, audience: Audience, at place: Int64) async throws -> LogRecord? {
        try await self.read { try await $0.logRecord(ofType: type, audience: audience, at: place) }
    }

    // MARK: - Entities

    public func lockEntities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] {
        try await self.write([]) { _ in }
        for id in ids {
            let lock = SimulatedLocks.Key.entity(id)
            // A row that is not there cannot be locked; one that somebody is inserting is waited for.
            let isOthers = self.database.isLockedByAnother(lock, than: self)
            let isThere = self.database.state.entities[id] != nil
            guard isOthers || isThere else { continue }
            try await self.lock([lock])
            if !isThere, self.database.state.entities[id] == nil, !self.wrote(id) { self.database.unlock(lock, of: self) }
        }
        return try await self.now { try await $0.entities(ids) }
    }

    public func entities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] { try await self.read { try await $0.entities(ids) } }

    public func entities(ofType type: BusinessTypeID, in range: EntityRange, for reader: ServerID?, limit: Int) async throws -> [EntityState] {
        try await self.read { try await $0.entities(ofType: type, in: range, for: reader, limit: limit) }
    }

    public func insertEntities(_ states: [EntityState]) async throws {
        for state in states { self.wroteEntities.insert(state.id) }
        try await self.write(states.map { .entity($0.id) }) { try await $0.insertEntities(states) }
        self.noteVersions(states)
    }

    public func updateEntities(_ states: [EntityState]) async throws {
        try await self.write(states.map { .entity($0.id) }) { try await $0.updateEntities(states) }
        self.noteVersions(states)
    }

    public func raiseEntities(_ states: [EntityState]) async throws {
        let known = try await self.write(states.map { .entity($0.id) }) { transaction in
            let known = try await transaction.entities(states.map(\.id))
            try await transaction.raiseEntities(states)
            return known
        }
        self.noteVersions(states.filter { known[$0.id]?.version ?? 0 < $0.version })
    }

    private func noteVersions(_ states: [EntityState]) {
        for state in states where state.version > 0 { self.note(.raised(at: self.database.server, entity: state.id, version: state.version)) }
    }

    // MARK: - Memos

    public func insertMemos(_ memos: [Memo]) async throws {
        let new = memos.map { memo in
            var memo = memo
            memo.id = self.database.nextMemoID()
            return memo
        }
        let keys = new.map { InMemoryState.MemoKey(line: $0.line, number: $0.number) }
        try await self.write(keys.map { .memoNumber($0) }) { transaction in
            try transaction.write { state in
                for (memo, key) in zip(new, keys) {
                    guard state.memoIDs.updateValue(memo.id, forKey: key) == nil else {
                        throw DataSyncError(.storageBusy, operation: "insertMemos")
                    }
                    state.memos[memo.id] = memo
                }
            }
        }
        for memo in new { self.note(memo) }
    }

    public func updateMemos(_ memos: [Memo]) async throws {
        try await self.write(memos.map { .memo($0.id) }) { try await $0.updateMemos(memos) }
        for memo in memos { self.note(memo) }
    }

    private func note(_ memo: Memo) {
        self.note(
            .memo(
                SimulatedMemo(
                    at: self.database.server, line: memo.line, number: memo.number, stream: memo.record.stream, synID: memo.record.synID,
                    entity: memo.entity, disposition: memo.disposition, reason: memo.reason, attempts: memo.attempts)))
    }

    public func beginTry(ofMemo id: Int64, disposition: Disposition, tries: Int) async throws -> Bool {
        try await self.write([.memo(id)]) { try await $0.beginTry(ofMemo: id, disposition: disposition, tries: tries) }
    }

    public func memo(_ id: Int64) async throws -> Memo? { try await self.read { try await $0.memo(id) } }

    public func memos(in line: MemoLine, numbers: [Int64]) async throws -> [Memo] {
        try await self.read { try await $0.memos(in: line, numbers: numbers) }
    }

    public func memos(in line: MemoLine, numbers: ClosedRange<Int64>, limit: Int) async throws -> [Memo] {
        try await self.read { try await $0.memos(in: line, numbers: numbers, limit: limit) }
    }

    public func memos(at receiver: ServerID, from sender: ServerID, of entities: Set<EntityID>) async throws -> [Memo] {
        try await self.read { try await $0.memos(at: receiver, from: sender, of: entities) }
    }

    public func openMemos(at receiver: ServerID, from sender: ServerID) async throws -> OpenMemos {
        try await self.read { try await $0.openMemos(at: receiver, from: sender) }
    }

    public func openEntities(at receiver: ServerID, from sender: ServerID, among entities: Set<EntityID>) async throws -> Set<EntityID> {
        try await self.read { try await $0.openEntities(at: receiver, from: sender, among: entities) }
    }

    public func firstOpenMemo(at receiver: ServerID, from sender: ServerID, of entity: EntityID) async throws -> Int64? {
        try await self.read { try await $0.firstOpenMemo(at: receiver, from: sender, of: entity) }
    }

    public func openUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        try await self.read { try await $0.openUsage(at: receiver, from: sender, type: type) }
    }

    public func deadUsage(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID) async throws -> OpenUsage {
        try await self.read { try await $0.deadUsage(at: receiver, from: sender, type: type) }
    }

    public func dueMemos(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Int64] {
        try await self.read { try await $0.dueMemos(at: receiver, time: time, limit: limit) }
    }

    public func dependency(at receiver: ServerID, from sender: ServerID, of key: EntityKey) async throws -> Dependency? {
        try await self.read { try await $0.dependency(at: receiver, from: sender, of: key) }
    }

    public func releaseMemos(
        at receiver: ServerID, needing keys: Set<EntityKey>, limit: Int, unnamedMax: Int, time: Int64
    ) async throws -> Int {
        let ids = try await self.read { transaction in
            transaction.read { $0.releasable(at: receiver, needing: keys, limit: limit, unnamedMax: unnamedMax, time: time).map(\.id).sorted() }
        }
        return try await self.write(ids.map { .memo($0) }) { transaction in
            try transaction.write { state in
                // What is not waiting any more, or due by now, after others were waited for.
                let waiting = ids.filter { id in state.memos[id].map { $0.disposition == .waiting && $0.nextTry > time } ?? false }
                for id in waiting { state.memos[id]?.nextTry = time }
                return waiting.count
            }
        }
    }

    public func suspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, limit: Int) async throws -> [Memo] {
        try await self.read { try await $0.suspects(at: receiver, from: sender, type: type, limit: limit) }
    }

    public func endSuspicion(
        at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>, attempts: Int, time: Int64
    ) async throws -> Int {
        let ids = try await self.suspectIDs(at: receiver, from: sender, types: types)
        let cleared = try await self.write(ids.map { .memo($0) }) { transaction in
            try transaction.write { state in
                ids.compactMap { id -> Memo? in
                    guard state.memos[id]?.disposition == .suspect else { return nil }
                    state.memos[id]?.disposition = .parked
                    state.memos[id]?.attempts = attempts
                    state.memos[id]?.nextTry = time
                    return state.memos[id]
                }
            }
        }
        for memo in cleared { self.note(memo) }
        return cleared.count
    }

    public func postponeSuspects(at receiver: ServerID, from sender: ServerID, type: BusinessTypeID, time: Int64) async throws {
        let ids = try await self.suspectIDs(at: receiver, from: sender, types: [type])
        try await self.write(ids.map { .memo($0) }) { transaction in
            try transaction.write { state in
                for id in ids {
                    guard let memo = state.memos[id], memo.disposition == .suspect else { continue }
                    state.memos[id]?.nextTry = time + Int64(memo.tries)
                }
            }
        }
    }

    private func suspectIDs(at receiver: ServerID, from sender: ServerID, types: Set<BusinessTypeID>) async throws -> [Int64] {
        try await self.read { transaction in
            transaction.read { $0.suspects(at: receiver, from: sender, types: types).map(\.id).sorted() }
        }
    }

    public func wakeMemos(at receiver: ServerID, from sender: ServerID, of entity: EntityID, time: Int64) async throws {
        let ids = try await self.read { transaction in
            transaction.read { state in
                state.memos.values.filter {
                    $0.line.receiver == receiver && $0.line.sender == sender && $0.entity == entity && $0.disposition.isOpen
                }.map(\.id).sorted()
            }
        }
        try await self.write(ids.map { .memo($0) }) { transaction in
            try transaction.write { state in
                for id in ids {
                    guard let memo = state.memos[id], memo.disposition.isOpen else { continue }
                    state.memos[id]?.nextTry = min(memo.nextTry, time)
                }
            }
        }
    }

    public func memosToAsk(at receiver: ServerID, time: Int64, limit: Int) async throws -> [Memo] {
        try await self.read { try await $0.memosToAsk(at: receiver, time: time, limit: limit) }
    }

    public func memos(
        _ dispositions: Set<Disposition>, after id: Int64, limit: Int, among branches: Set<ServerID>?
    ) async throws -> [Memo] {
        try await self.read { try await $0.memos(dispositions, after: id, limit: limit, among: branches) }
    }

    public func memoCounts(among branches: Set<ServerID>?) async throws -> [MemoCount] {
        try await self.read { try await $0.memoCounts(among: branches) }
    }
}
