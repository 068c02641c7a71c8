/// `sync_entity`: what this server knows of each entity. Only DataSync locks these rows.
public protocol EntityTable {
    /// Locks the rows of `ids` to the end of the transaction and returns those that exist. `ids` must be ascending.
    ///
    /// An entity without a row cannot be locked. Its row is inserted before the commit, and whoever comes second to
    /// that insert is told so and runs the unit again.
    func lockEntities(_ ids: [EntityID]) async throws -> [EntityID: EntityState]
    /// The same without locking, for a server with one writer.
    func entities(_ ids: [EntityID]) async throws -> [EntityID: EntityState]
    /// The first rows of a range of one type, by place, tombstones included: at most `limit`.
    /// - Parameter reader: Leaves out what is not for this server: entities whose audience does not contain it, unless they are its own by name.
    func entities(ofType type: BusinessTypeID, in range: EntityRange, for reader: ServerID?, limit: Int) async throws -> [EntityState]
    /// Throws `storageBusy` if a row exists by now: somebody else created the entity, run the unit again.
    func insertEntities(_ states: [EntityState]) async throws
    /// Replaces rows that this transaction locked.
    func updateEntities(_ states: [EntityState]) async throws
    /// Inserts the states, or replaces those with a smaller version. For a server with one writer.
    func raiseEntities(_ states: [EntityState]) async throws
}
