import Logging

// What the cloud's tables hold of a branch's entities: told, and sent again.
extension Hub {
    /// Says how the business tables stand, as far as they are for `branch`, and sends the states of entities to it again.
    public func compare(_ request: CompareRequest, from branch: ServerID) async throws -> CompareAnswer {
        try Self.check(request)
        guard let handler = self.types[request.type], handler.definition.isComparable, let reader = handler.reader else {
            try await self.storage.withTransaction(.snapshot) { try await self.checkSession(branch, request.session, in: $0) }
            return CompareAnswer(isComparable: false)
        }
        var answer: CompareAnswer
        do {
            answer = try await self.storage.withTransaction(.snapshot) { try await self.read(request, for: branch, reader, in: $0) }
            if request.sendsAgain, !request.names.isEmpty { answer.sentAgain = try await self.sendAgain(request, to: branch, handler.definition, reader) }
        } catch let error as UnreadableType {
            // The fault lies with this type's tables, and other types can be compared.
            self.logger.error("a type's tables could not be read", metadata: ["type": "\(request.type)", "error": "\(String(reflecting: error.error))"])
            return CompareAnswer(isComparable: false)
        }
        return answer
    }

    private static func check(_ request: CompareRequest) throws {
        func refuse() -> DataSyncError {
            DataSyncError(.peerInvalid, operation: "compare", detail: "the ranges or the names are not in order, or too many")
        }
        guard request.ranges.count <= CompareRequest.rangesMax, request.names.count <= CompareRequest.namesMax,
            zip(request.names, request.names.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw refuse() }
        for range in request.ranges.map(\.range) {
            if let after = range.after, let upTo = range.upTo, after > upTo { throw refuse() }
        }
        // Each begins where the one before ends, or behind that.
        for (range, next) in zip(request.ranges, request.ranges.dropFirst()) {
            guard let upTo = range.range.upTo, let after = next.range.after, upTo <= after else { throw refuse() }
        }
    }

    // MARK: - Telling

    private func read(
        _ request: CompareRequest, for branch: ServerID, _ reader: any StateReader<Storage.Transaction>, in transaction: Storage.Transaction
    ) async throws -> CompareAnswer {
        try await self.checkSession(branch, request.session, in: transaction)
        guard request.logEpoch == (try await self.logEpoch(in: transaction)) else {
            throw DataSyncError(.fenced, operation: "compare", detail: "the log has a new epoch: open a session")
        }
        var answer = CompareAnswer()
        var entities = 0
        for asked in request.ranges {
            // What takes too long is asked for again: this is one transaction.
            guard entities < Self.comparedMax else { break }
            let visible: ServerID? = PlantedBug.isOn(.foreignEntitiesCompared) ? nil : branch
            var states = try await transaction.entities(ofType: request.type, in: asked.range, for: visible, limit: Self.rangeMax + 1)
            let isCut = states.count > Self.rangeMax
            if isCut { states.removeLast() }
            entities += states.count
            let digests = try await reader.digests(of: states.map(\.id), in: transaction)
            let present = states.compactMap { state in digests[state.id].map { (place: EntityPlace(state.id), digest: $0) } }
            if !isCut, present.count == asked.count, StateDigest(of: present) == asked.digest {
                answer.ranges.append(ComparedRangeAnswer())
            } else {
                answer.ranges.append(
                    ComparedRangeAnswer(
                        entries: try await self.entries(of: states, digests, for: branch, in: transaction),
                        end: isCut ? states.last.map { EntityPlace($0.id) } : nil))
            }
        }
        if !request.names.isEmpty, !request.sendsAgain {
            let ids = request.names.map { $0.entity(ofType: request.type) }
            let known = try await transaction.entities(ids)
            let states = ids.compactMap { known[$0] }.filter { $0.isVisible(to: branch) || PlantedBug.isOn(.foreignEntitiesCompared) }
            let digests = try await reader.digests(of: states.map(\.id), in: transaction)
            answer.entries = try await self.entries(of: states, digests, for: branch, in: transaction)
        }
        return answer
    }

    /// Most entities of one range, and about as many as one answer tells of all ranges together.
    private static var rangeMax: Int { 1_000 }
    private static var comparedMax: Int { 8_000 }

    private func entries(
        of states: [EntityState], _ digests: [EntityID: StateDigest], for branch: ServerID, in transaction: Storage.Transaction
    ) async throws -> [ComparedEntity] {
        guard let type = states.first?.id.type else { return [] }
        let isWritten = try await !transaction.typesInOutbox(among: [type]).isEmpty
        let moving = isWritten ? try await transaction.unsettledNames(among: Set(states.map { EntityName(type: type, key: $0.id.key) })) : []
        var held: [EntityID: Disposition] = [:]
        for memo in try await transaction.memos(at: .cloud, from: branch, of: Set(states.map(\.id))) where memo.holdsUp {
            held[memo.entity] = memo.disposition
        }
        return states.map { state in
            ComparedEntity(
                place: EntityPlace(state.id), digest: digests[state.id], version: state.audience.contains(branch) ? state.version : 0,
                isMoving: moving.contains(EntityName(type: type, key: state.id.key)), held: held[state.id])
        }
    }

    // MARK: - Sending again

    /// Appends what the cloud's tables hold of `names` to the log, for this branch alone. What they do not hold, and what is not for the branch, it is
    /// told to delete.
    ///
    /// A second time it has no other effect than the first, so an answer that was lost does no harm.
    /// - Returns: How many of them, from the first: as many as one transaction takes by bytes.
    private func sendAgain(
        _ request: CompareRequest, to branch: ServerID, _ definition: BusinessTypeDefinition, _ reader: any StateReader<Storage.Transaction>
    ) async throws -> Int {
        let count = try await self.unit { transaction in
            try await self.fence(branch, request.session, in: transaction)
            let ids = request.names.prefix(self.limits.chunkRecordsMax).map { $0.entity(ofType: request.type) }
            // Locked before the tables are looked at: whoever changes one of them later gets a later place in the log.
            let known = try await transaction.lockEntities(ids)
            var states: [(id: EntityID, payload: String, isDeletion: Bool)] = []
            var (done, bytes) = (0, 0)
            for start in stride(from: 0, to: ids.count, by: StateReading.entitiesMax) where bytes < self.limits.chunkBytesMax {
                let part = ids[start..<min(start + StateReading.entitiesMax, ids.count)]
                let visible = part.filter { known[$0]?.isVisible(to: branch) ?? false }
                let payloads = visible.isEmpty ? [:] : try await reader.read(visible, locking: false, in: transaction)
                for id in part {
                    let payload = payloads[id]
                    let size = payload?.utf8.count ?? 0
                    guard done == 0 || bytes + size <= self.limits.chunkBytesMax else { break }
                    (done, bytes) = (done + 1, bytes + size)
                    if let text = payload ?? reader.deletion(of: id) { states.append((id, text, payload == nil)) }
                }
                guard done == start + part.count else { break }
            }
            try await self.append(states, for: branch, definition, in: transaction)
            // An entity without a row cannot be locked. Who creates one takes a place in the log, and those are held by now.
            let unknown = ids.prefix(done).filter { known[$0] == nil }
            let created = unknown.isEmpty ? [:] : try await transaction.lockEntities(Array(unknown))
            guard created.isEmpty else {
                throw DataSyncError(.storageBusy, operation: "compare", detail: "an entity was created meanwhile")
            }
            try await transaction.appendAudit(
                AuditEntry(
                    time: self.environment.wallTime(), actor: "branch \(branch)", action: "compare.send_again",
                    subject: "type \(request.type): \(states.count) entities"))
            return done
        }
        self.logger.notice("states are sent to a branch again", metadata: ["branch": "\(branch)", "type": "\(request.type)", "entities": "\(count)"])
        return count
    }

    /// As records of the cloud's own, each with a number and a `uid` of its own.
    private func append(
        _ states: [(id: EntityID, payload: String, isDeletion: Bool)], for branch: ServerID, _ definition: BusinessTypeDefinition,
        in transaction: Storage.Transaction
    ) async throws {
        guard !states.isEmpty else { return }
        let stream = StreamID(origin: .cloud, epoch: try await transaction.server(.cloud)?.epoch ?? 1, type: definition.id)
        let firstSynID = try await transaction.takeNumbers(stream, count: states.count)
        let firstPlace = try await transaction.takeLogNumbers(ofType: definition.id, count: states.count)
        var environment = self.environment
        let mark = environment.fingerprint()
        let rows = states.enumerated().map { offset, state in
            LogRecord(
                logSeq: firstPlace + Int64(offset), mark: mark, audience: .only(branch), scope: state.id.scope, isEcho: true,
                isDeletion: state.isDeletion,
                record: SyncRecord(
                    stream: stream, synID: firstSynID + Int64(offset), uid: RecordUID(using: &environment), key: state.id.key,
                    target: definition.route == .target ? branch : .cloud, createTime: environment.wallTime(), client: nil, payload: state.payload))
        }
        try await transaction.appendLog(rows)
    }
}

extension BusinessTypeDefinition {
    /// Whether both sides are to hold the same of it, and know which entities: an action has no state, and nobody keeps a list of what only goes up.
    var isComparable: Bool { self.kind == .state && self.route != .up }
}

extension Memo {
    /// Whether it keeps the entity from being the same on both sides.
    var holdsUp: Bool { self.disposition.isOpen || self.disposition == .dead }
}
