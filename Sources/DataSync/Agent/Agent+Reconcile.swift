import Logging
import ServiceLifecycle
import Synchronization

// Comparing this branch's tables with those of the cloud, and sending again what differs.
extension Agent {
    /// Compares what the business tables here and at the cloud hold of the entities that both have, and says where they differ. Without a repair it changes
    /// nothing.
    ///
    /// Runs cycles of its own between its steps. Not beside ``run()``, which does it when an ``AgentRequest`` asks for it.
    ///
    /// - Parameters:
    ///   - types: Which; all, if none are named.
    ///   - repair: Whose state is sent to the other side where they differ; nil to change nothing.
    ///   - actor: Who wants it, for the audit log.
    /// - Throws: What stopped it. It can be begun again at any time.
    public func reconcile(_ types: Set<BusinessTypeID> = [], repair: ReconcileRepair? = nil, actor: String) async throws -> ReconcileReport {
        var work = try self.reconciliation(of: types, repair: repair)
        repeat {
            guard !Task.isShuttingDownGracefully else { throw CancellationError() }
        } while try await self.reconcile(&work, after: self.cycle(), actor: actor)
        // What is to be sent again is on its way when this ends.
        if work.report.types.contains(where: { $0.repaired > 0 }) {
            for _ in 0..<20 { guard try await self.cycle().hasMore else { break } }
        }
        return work.report
    }

    /// - Throws: `invalidInput` for a type that is not configured.
    func reconciliation(of types: Set<BusinessTypeID>, repair: ReconcileRepair?) throws -> Reconciliation {
        for type in types.sorted() where self.types[type] == nil {
            throw DataSyncError(.invalidInput, operation: "reconcile", detail: "there is no business type \(type)")
        }
        let chosen = self.types.definitions.filter { types.isEmpty || types.contains($0.id) }
        return Reconciliation(
            chosen.map { definition in
                let obstacle: String? =
                    switch (definition.kind, definition.route) {
                    case (.action, _): "its records are actions, which leave no state of their own"
                    case (.state, .up): "its records go up only, and nobody keeps a list of their entities"
                    case (.state, _): self.types[definition.id]?.reader == nil ? "nothing reads its tables back here" : nil
                    }
                return (definition, obstacle)
            }, repair: repair)
    }

    /// One step of `work`: at most one question to the cloud, and what is to be repaired of its answer.
    /// - Parameter cycle: What the cycle before did.
    /// - Returns: Whether there is more to do.
    func reconcile(_ work: inout Reconciliation, after cycle: CycleReport, actor: String) async throws -> Bool {
        guard let type = work.type else { return false }
        guard let session = self.state.withLock({ $0.session }), let reader = self.types[type]?.reader else { return true }
        let standstill = session.unsupported.contains(type) ? "both sides do not mean the same by it" : cycle.stopped[type]
        do {
            switch work.next(isQuiet: !cycle.hasMore && !session.isUnknown(type), standstill: standstill) {
            case .finish: return false
            case .wait: break
            case .look(_, let after): try await self.look(at: type, after: after, reader, session, &work)
            case .lookAgain(_, let names):
                guard let findings = try await self.lookAgain(at: names, of: type, reader, session) else {
                    work.stop(Self.unreadableAtCloud)
                    break
                }
                let different = work.lookedAgain(names, findings)
                switch work.repair {
                case .cloud: try await self.fetchAgain(different, of: type, session, &work)
                case .branch: try await self.sendAgain(different, of: type, reader, actor: actor, &work)
                case nil: break
                }
                work.endTypeIfDone()
            }
        } catch let error as UnreadableType {
            work.stop("its tables here could not be read: \((error.error as? DataSyncError)?.summary ?? "\(error.error)")")
        } catch let error as DataSyncError where error.code == .fenced || error.code == .diverged {
            self.closeSession()
            throw error
        }
        guard work.type == nil else { return true }
        self.logger.notice("compared with the cloud", metadata: ["found": "\(work.report.summary)"])
        return false
    }

    private static var unreadableAtCloud: String { "the cloud cannot read its tables back" }

    private func ask(_ request: CompareRequest) async throws -> CompareAnswer {
        defer { self.noteStep() }
        return try await self.transport.compare(request)
    }

    private func look(
        at type: BusinessTypeID, after place: EntityPlace?, _ reader: any StateReader<Storage.Transaction>, _ session: AgentSession,
        _ work: inout Reconciliation
    ) async throws {
        let page = try await self.storage.withTransaction(.snapshot) { transaction in
            let states = try await transaction.entities(
                ofType: type, in: EntityRange(after: place), for: nil, limit: ComparedPage.entitiesMax)
            return ComparedPage(
                states, digests: try await reader.digests(of: states.map(\.id), in: transaction), after: place,
                isLast: states.count < ComparedPage.entitiesMax)
        }
        let answer = try await self.ask(
            CompareRequest(session: session.id, logEpoch: session.logEpoch, type: type, ranges: page.ranges))
        guard answer.isComparable else { return work.stop(Self.unreadableAtCloud) }
        work.looked(try page.difference(from: answer))
    }

    /// - Returns: Nil if the cloud cannot say.
    private func lookAgain(
        at names: [EntityPlace], of type: BusinessTypeID, _ reader: any StateReader<Storage.Transaction>, _ session: AgentSession
    ) async throws -> [EntityPlace: Reconciliation.Finding]? {
        let answer = try await self.ask(CompareRequest(session: session.id, logEpoch: session.logEpoch, type: type, names: names))
        guard answer.isComparable else { return nil }
        let there = Dictionary(answer.entries.map { ($0.place, $0) }) { first, _ in first }
        let ids = names.map { $0.entity(ofType: type) }
        // After the answer: what was settled before it is settled still, since nobody but this agent settles.
        return try await self.storage.withTransaction(.snapshot) { transaction in
            let here = try await reader.digests(of: ids, in: transaction)
            let own = ids.filter { self.isOfOwnScope($0) }.map { EntityName(type: type, key: $0.key) }
            let changed = try await transaction.unsettledNames(among: Set(own))
            let memos =
                try await transaction.memos(at: self.id, from: .cloud, of: Set(ids)) + transaction.memos(at: .cloud, from: self.id, of: Set(ids))
            let held = Dictionary(memos.filter(\.holdsUp).map { ($0.entity, $0) }) { first, _ in first }
            let cursor = try await transaction.positions(from: .cloud, epoch: session.logEpoch)[type]?.position.number ?? 0
            return ids.reduce(into: [:]) { findings, id in
                let entry = there[EntityPlace(id)]
                let isChanged = self.isOfOwnScope(id) && changed.contains(EntityName(type: type, key: id.key))
                findings[EntityPlace(id)] = self.finding(
                    here: here[id], there: entry, memo: held[id], isMoving: isChanged || entry?.isMoving ?? false || entry?.version ?? 0 > cursor)
            }
        }
    }

    private func finding(here: StateDigest?, there: ComparedEntity?, memo: Memo?, isMoving: Bool) -> Reconciliation.Finding {
        guard here != there?.digest else { return .equal }
        if !PlantedBug.isOn(.differenceCountsAtOnce) {
            if let memo { return .heldUp(by: memo.disposition, isHere: memo.line.receiver == self.id, memo: memo.id) }
            if let held = there?.held { return .heldUp(by: held, isHere: false, memo: nil) }
            if isMoving { return .moving }
        }
        if here == nil { return .different(.onlyAtCloud) }
        return .different(there?.digest == nil ? .onlyHere : .differs)
    }

    // MARK: - Repairing

    /// Has the cloud send what it holds of `names`; it comes with the next pulls.
    private func fetchAgain(_ names: [EntityPlace], of type: BusinessTypeID, _ session: AgentSession, _ work: inout Reconciliation) async throws {
        var left = names[...]
        while !left.isEmpty {
            let answer = try await self.ask(
                CompareRequest(session: session.id, logEpoch: session.logEpoch, type: type, names: Array(left), sendsAgain: true))
            guard answer.isComparable else { return work.stop(Self.unreadableAtCloud) }
            guard (1...left.count).contains(answer.sentAgain) else {
                throw DataSyncError(.peerInvalid, operation: "compare", detail: "the cloud sends none again, or more than were named")
            }
            work.repaired(left.prefix(answer.sentAgain))
            left = left.dropFirst(answer.sentAgain)
        }
    }

    /// Puts what this branch holds of `names` into the outbox, as an application does.
    private func sendAgain(
        _ names: [EntityPlace], of type: BusinessTypeID, _ reader: any StateReader<Storage.Transaction>, actor: String, _ work: inout Reconciliation
    ) async throws {
        // Another's entity is not this branch's to change, and whom a record of a `target` type was for is not known any more.
        guard self.types.definition(of: type)?.route != .target else { return }
        let own = names.map { $0.entity(ofType: type) }.filter { self.isOfOwnScope($0) }
        for start in stride(from: 0, to: own.count, by: StateReading.entitiesMax) {
            let part = Array(own[start..<min(start + StateReading.entitiesMax, own.count)])
            let sent = try await self.unit { transaction in
                let states = try await reader.read(part, locking: true, in: transaction)
                let rows = part.compactMap { id in
                    (states[id] ?? reader.deletion(of: id)).map { NewOutboxRow(type: type, key: id.key, payload: $0) }
                }.filter { $0.payload.utf8.count <= self.limits.recordBytesMax }
                try await transaction.appendOutbox(rows)
                // Rows that are not there cannot be locked. What was inserted before these rows is seen by now, and what is inserted later
                // gets a later row of the outbox.
                guard try await reader.read(part, locking: true, in: transaction) == states else {
                    throw DataSyncError(.storageBusy, operation: "reconcile", detail: "an application has changed one of the entities")
                }
                try await transaction.appendAudit(
                    AuditEntry(
                        time: self.environment.wallTime(), actor: actor, action: "reconcile.branch", subject: "type \(type): \(rows.count) entities"))
                return Set(rows.map(\.key))
            }
            work.repaired(part.filter { sent.contains($0.key) }.map { EntityPlace($0) })
        }
    }
}
