/// The part of a transaction of the cloud that all of its writes share: lock entities, judge, and append to the log.
///
/// The order of locks is the same in all of them: the branch's row, entities by name, business rows, the log's counters
/// by type. Counters come last and are held to the commit.
struct CloudUnit<Storage: SyncStorage> {
    let hub: Hub<Storage>
    let transaction: Storage.Transaction
    private var ledger = EntityLedger()
    private var knownServers: Set<ServerID>?
    private var accepted: [AcceptedRecord] = []
    private var corrections: [Correction] = []
    /// How many different entities there are.
    private(set) var entityCount = 0
    /// Whether the entities were taken for new ones.
    private var isGuessing = false

    init(hub: Hub<Storage>, transaction: Storage.Transaction) {
        self.hub = hub
        self.transaction = transaction
    }

    func definition(_ type: BusinessTypeID) -> BusinessTypeDefinition {
        guard let definition = self.hub.types.definition(of: type) else {
            preconditionFailure("a record of an unknown type came as far as its unit")
        }
        return definition
    }

    /// Takes the entities for new ones without a look. Only for types that are scoped by home, where whoever sends may
    /// change what it sends. Where one exists, ``append()`` throws `ChunkSetback.existing`.
    mutating func expectNew(_ entities: some Sequence<EntityID>) {
        self.isGuessing = true
        self.ledger = EntityLedger(new: entities)
        self.entityCount = self.ledger.count
    }

    /// Locks the entities of those records whose type has a log.
    mutating func lock(_ entities: some Sequence<EntityID>) async throws {
        let logged = Set(entities.filter { self.definition($0.type).route != .up }).sorted()
        self.entityCount = logged.count
        guard !logged.isEmpty else { return }
        self.ledger = EntityLedger(logged, locked: try await self.transaction.lockEntities(logged))
    }

    /// Decides whether `prepared` may count, and for whom.
    /// - Returns: Nil if it was taken in, or what is held against it.
    mutating func admit(_ prepared: PreparedRecord, isEcho: Bool = false) async throws -> RecordFault? {
        let definition = self.definition(prepared.record.type)
        // A deletion goes where its entity went, and need not say so; if it does, it may not say more than any record.
        if definition.route == .target, !prepared.isDeletion || prepared.record.target.isBranch {
            guard prepared.record.origin.isCloud || definition.targets.allows(prepared.record.target) else {
                return .refused(.forbidden, detail: nil)
            }
            guard try await self.exists(prepared.record.target) else {
                return .refused(.noTarget, detail: "data_to_server_id names no server")
            }
        }
        var audience = Audience.nobody
        if definition.route != .up {
            guard let admitted = self.ledger.admit(prepared, from: prepared.record.origin, in: definition) else {
                return .refused(.forbidden, detail: nil)
            }
            audience = admitted
        }
        self.accepted.append(AcceptedRecord(prepared: prepared, audience: audience, isEcho: isEcho))
        return nil
    }

    private mutating func exists(_ server: ServerID) async throws -> Bool {
        if server.isCloud { return true }
        if self.knownServers == nil { self.knownServers = Set(try await self.transaction.servers().map(\.id)) }
        return self.knownServers?.contains(server) ?? false
    }

    /// Gives accepted records of the cloud's own the numbers of their streams, which are taken after it is known which
    /// count.
    mutating func assignNumbers(_ number: (SyncRecord) -> Int64) {
        for index in self.accepted.indices {
            self.accepted[index].prepared.record.synID = number(self.accepted[index].prepared.record)
        }
    }

    /// Notes that a change of `entity` by `origin` ended without prevailing. Its tables have the change, and have made it
    /// reject the changes of others meanwhile.
    mutating func correct(_ entity: EntityID, at origin: ServerID) {
        let definition = self.definition(entity.type)
        // An action cannot be corrected; what goes up only came from nowhere else.
        guard definition.kind == .state, definition.route != .up, origin.isBranch else { return }
        self.corrections.append(Correction(entity: entity, origin: origin))
    }

    /// Undoes everything where the cloud's own applications have changed one of the accepted entities without having been
    /// numbered: then this unit judged, and would append, in an order that the cloud's own tables contradict (rule 1).
    ///
    /// To be called when all is applied: looking earlier misses an application's transaction that was about to commit.
    func giveWay() async throws {
        let names = try await self.namesWithOwnChanges()
        guard names.isEmpty else { throw ChunkSetback.ownChanges(names) }
    }

    private func namesWithOwnChanges() async throws -> Set<EntityName> {
        if PlantedBug.isOn(.noRule1) { return [] }
        let types = Set(self.accepted.lazy.map(\.prepared.record.type)).filter {
            let definition = self.definition($0)
            return definition.kind == .state && definition.route != .up
        }
        // Most types are written on one side only.
        let own = types.isEmpty ? [] : try await self.transaction.typesInOutbox(among: types)
        guard !own.isEmpty else { return [] }
        let names = self.accepted.lazy.map(\.prepared.record).filter { own.contains($0.type) }
        return try await self.transaction.unsettledNames(among: Set(names.map { EntityName(type: $0.type, key: $0.key) }))
    }

    /// Appends what was accepted, and the corrections, to the log, and writes the entities.
    /// - Returns: The place of each accepted record, in the order of acceptance; 0 where it has none.
    mutating func append() async throws -> [Int64] {
        var places = [Int64](repeating: 0, count: self.accepted.count)
        let logged = self.accepted.indices.filter { self.accepted[$0].audience != .nobody }
        let indicesByType = Dictionary(grouping: logged) { self.accepted[$0].prepared.record.type }
        let correctionsByType = Dictionary(grouping: self.corrections, by: \.entity.type)
        let mark = self.hub.environment.fingerprint()
        var rows: [LogRecord] = []
        rows.reserveCapacity(logged.count)
        for type in Set(indicesByType.keys).union(correctionsByType.keys).sorted() {
            let indices = indicesByType[type] ?? []
            let corrections = try await self.correctionRows(correctionsByType[type] ?? [])
            guard !indices.isEmpty || !corrections.isEmpty else { continue }
            let count = indices.count + corrections.count
            var place =
                PlantedBug.isOn(.placeTakenEarly)
                ? try await self.hub.unit { try await $0.takeLogNumbers(ofType: type, count: count) }
                : try await self.transaction.takeLogNumbers(ofType: type, count: count)
            for index in indices {
                let accepted = self.accepted[index]
                places[index] = place
                try self.ledger.setVersion(place, of: accepted.prepared.entity)
                rows.append(
                    LogRecord(
                        logSeq: place, mark: mark, audience: accepted.audience, scope: accepted.prepared.scope,
                        isEcho: accepted.isEcho, isDeletion: accepted.prepared.isDeletion, record: accepted.prepared.record))
                place += 1
            }
            for var correction in corrections {
                correction.logSeq = place
                correction.mark = mark
                rows.append(correction)
                place += 1
            }
        }
        if !rows.isEmpty { try await self.transaction.appendLog(rows) }
        let (inserts, updates) = (self.ledger.inserts, self.ledger.updates)
        do {
            if !inserts.isEmpty { try await self.transaction.insertEntities(inserts) }
        } catch let error as DataSyncError where error.code == .storageBusy && self.isGuessing {
            throw ChunkSetback.existing
        }
        if !updates.isEmpty { try await self.transaction.updateEntities(updates) }
        return places
    }

    /// The last record of each entity in the log, addressed to its one reader. None where the log holds no record of the
    /// entity: a creation that was refused is not deleted at its origin.
    private func correctionRows(_ corrections: [Correction]) async throws -> [LogRecord] {
        var rows: [LogRecord] = []
        for correction in Set(corrections).sorted(by: { $0.entity < $1.entity }) {
            guard let state = self.ledger.state(of: correction.entity), state.audience.contains(correction.origin) else { continue }
            let last: LogRecord?
            if let accepted = self.accepted.last(where: { $0.prepared.entity == correction.entity }) {
                last = LogRecord(
                    logSeq: 0, mark: .none, audience: accepted.audience, scope: accepted.prepared.scope, isEcho: true,
                    isDeletion: accepted.prepared.isDeletion, record: accepted.prepared.record)
            } else if state.version > 0 {
                last = try await self.transaction.logRecord(
                    ofType: state.id.type, audience: state.audience, at: state.version)
            } else {
                last = nil
            }
            guard var row = last else { continue }
            row.audience = .only(correction.origin)
            row.isEcho = true
            rows.append(row)
        }
        return rows
    }
}

/// A record that counts.
struct AcceptedRecord: Sendable {
    var prepared: PreparedRecord
    var audience: Audience
    /// Sent to its origin too: a person made it succeed after its origin was corrected.
    var isEcho: Bool
}

/// The present state of an entity is to be sent to the one server whose change did not prevail.
struct Correction: Hashable, Sendable {
    var entity: EntityID
    var origin: ServerID
}
