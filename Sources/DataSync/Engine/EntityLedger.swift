/// Decides, record by record, who may change an entity and whom the change goes to, while a unit of the cloud runs.
///
/// It begins with the locked rows of the chunk's entities and follows what the chunk itself changes: the second record of
/// an entity is judged by what the first one made of it.
struct EntityLedger: Sendable {
    private struct Entry {
        var id: EntityID
        var state: EntityState?
        /// Whether there was no row when the unit began.
        let isNew: Bool
        var isTouched = false
    }

    /// In the order of locking.
    private var entries: [Entry] = []
    private var slots: [EntityID: Int] = [:]

    init() {}

    /// - Parameters:
    ///   - ids: The entities of the unit, in the order of locking.
    ///   - locked: The rows of those that exist.
    init(_ ids: [EntityID], locked: [EntityID: EntityState]) {
        self.entries.reserveCapacity(ids.count)
        self.slots.reserveCapacity(ids.count)
        for id in ids {
            let state = locked.isEmpty ? nil : locked[id]
            self.slots[id] = self.entries.count
            self.entries.append(Entry(id: id, state: state, isNew: state == nil))
        }
    }

    /// - Parameter ids: Entities that are taken for new ones; they may repeat.
    init(new ids: some Sequence<EntityID>) {
        for id in ids where self.slots[id] == nil {
            self.slots[id] = self.entries.count
            self.entries.append(Entry(id: id, state: nil, isNew: true))
        }
    }

    var count: Int { self.entries.count }

    func state(of entity: EntityID) -> EntityState? { self.slots[entity].flatMap { self.entries[$0].state } }

    /// Judges `prepared` and, if it may count, takes in that it does; its version comes later.
    ///
    /// `server` may change or delete an entity where it creates it, where the entity is its own by name, and where the
    /// entity's audience contains it. That is checked before anything else, and never explained.
    /// - Returns: Whom the record goes to, or nil if `server` may not change the entity.
    mutating func admit(_ prepared: PreparedRecord, from server: ServerID, in definition: BusinessTypeDefinition) -> Audience? {
        guard let slot = self.slots[prepared.entity] else { preconditionFailure("a record of an entity that was not locked") }
        let existing = self.entries[slot].state
        let isEntitled = PlantedBug.isOn(.noEntitlement) || server.isCloud || definition.route.isScopedByHome || existing?.audience.contains(server) ?? true
        guard isEntitled else { return nil }
        let audience = Self.audience(for: prepared, existing: existing, in: definition)
        self.entries[slot].isTouched = true
        self.entries[slot].state = EntityState(
            id: self.entries[slot].id, version: existing?.version ?? 0, origin: prepared.record.origin,
            home: existing?.home ?? (prepared.scope.isBranch ? prepared.scope : prepared.record.origin), audience: audience,
            isDeleted: prepared.isDeletion)
        return audience
    }

    /// Whom `prepared` goes to, its entity being `existing` until now.
    static func audience(
        for prepared: PreparedRecord, existing: EntityState?, in definition: BusinessTypeDefinition
    ) -> Audience {
        // A deletion says nothing about sharing and names no target: it goes to everybody who has the entity.
        if prepared.isDeletion, let existing, !PlantedBug.isOn(.deletionRoutedByPayload) { return existing.audience }
        switch definition.route {
        case .up: return .nobody
        case .origin: return .only(prepared.scope)
        case .all: return .all
        case .target: return .only(prepared.record.target)
        case .shared:
            return prepared.isShared && !prepared.isDeletion ? .all : .only(existing?.home ?? prepared.record.origin)
        }
    }

    /// Takes in the place that the entity's last admitted record got in the log.
    ///
    /// - Throws: `storageFailed` where the log is behind the entity: its tables contradict each other, as no transaction leaves them.
    mutating func setVersion(_ version: Int64, of entity: EntityID) throws(DataSyncError) {
        guard let slot = self.slots[entity], let state = self.entries[slot].state else {
            preconditionFailure("a version for an entity that was not admitted")
        }
        guard version > state.version else {
            throw DataSyncError(
                .storageFailed, operation: "log",
                detail: "the log of type \(entity.type) is at \(version), and an entity of it at \(state.version) already: the database contradicts itself; "
                    + "put back a backup, then run `datasync-cloud restored`")
        }
        self.entries[slot].state?.version = version
    }

    /// The rows to insert, in the order of locking.
    var inserts: [EntityState] { self.entries.lazy.filter { $0.isNew && $0.isTouched }.compactMap(\.state) }
    /// The rows to update.
    var updates: [EntityState] { self.entries.lazy.filter { !$0.isNew && $0.isTouched }.compactMap(\.state) }
}
