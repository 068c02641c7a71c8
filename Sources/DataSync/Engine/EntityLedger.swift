/// Decides, record by record, who may change an entity and whom the change goes to, while a unit of the cloud runs.
///
/// It begins with the locked rows of the chunk's entities and follows what the chunk itself changes: the second record of
/// an entity is judged by what the first one made of it.
public struct EntityLedger: Sendable {
    private var states: [EntityID: EntityState]
    /// Entities that had no row when the unit began.
    private var created: Set<EntityID> = []
    private var touched: Set<EntityID> = []

    /// - Parameter locked: The rows that exist, locked by this unit.
    public init(locked: [EntityID: EntityState]) { self.states = locked }

    public func state(of entity: EntityID) -> EntityState? { self.states[entity] }

    /// Whether `server` may change or delete the entity: where it creates it, where the entity is its own by name, and
    /// where the entity's audience contains it. Checked before anything else, and never explained.
    public func isEntitled(_ server: ServerID, to entity: EntityID, in definition: BusinessTypeDefinition) -> Bool {
        if server.isCloud || definition.route.isScopedByHome { return true }
        return self.states[entity]?.audience.contains(server) ?? true
    }

    /// Whom `prepared` goes to.
    public func audience(for prepared: PreparedRecord, in definition: BusinessTypeDefinition) -> Audience {
        let existing = self.states[prepared.entity]
        // A deletion says nothing about sharing and names no target: it goes to everybody who has the entity.
        if prepared.isDeletion, let existing { return existing.audience }
        switch definition.route {
        case .up: return .nobody
        case .origin: return .only(prepared.scope)
        case .all: return .all
        case .target: return .only(prepared.record.target)
        case .shared:
            return prepared.isShared && !prepared.isDeletion ? .all : .only(existing?.home ?? prepared.record.origin)
        }
    }

    /// Takes in that `prepared` counts, with this audience; its version comes later.
    public mutating func admit(_ prepared: PreparedRecord, audience: Audience) {
        let id = prepared.entity
        let home = self.states[id]?.home ?? (prepared.scope.isBranch ? prepared.scope : prepared.record.origin)
        if self.states[id] == nil { self.created.insert(id) }
        self.touched.insert(id)
        self.states[id] = EntityState(
            id: id, version: self.states[id]?.version ?? 0, origin: prepared.record.origin, home: home,
            audience: audience, isDeleted: prepared.isDeletion)
    }

    /// Takes in the place that the entity's last admitted record got in the log.
    public mutating func setVersion(_ version: Int64, of entity: EntityID) {
        guard let state = self.states[entity] else { preconditionFailure("a version for an entity that was not admitted") }
        // Places of one type ascend, so a unit that lowers a version has lost the order of the log.
        precondition(version > state.version, "the version of an entity must rise")
        self.states[entity]?.version = version
    }

    /// The rows to insert, in the order of locking.
    public var inserts: [EntityState] { self.created.sorted().compactMap { self.states[$0] } }
    /// The rows to update.
    public var updates: [EntityState] { self.touched.subtracting(self.created).sorted().compactMap { self.states[$0] } }
}
