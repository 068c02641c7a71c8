/// The versions that a branch learnt of entities in one transaction: for each the greatest, in the order in which the
/// entities came, which is mostly that of their keys.
struct EntityRaises: Sendable {
    private(set) var all: [EntityState] = []
    private var slots: [EntityID: Int] = [:]

    init(reservingCapacity count: Int) {
        self.all.reserveCapacity(count)
        self.slots.reserveCapacity(count)
    }

    mutating func raise(_ state: EntityState) {
        if let slot = self.slots.updateValue(self.all.count, forKey: state.id) {
            self.slots[state.id] = slot
            if self.all[slot].version < state.version { self.all[slot] = state }
        } else {
            self.all.append(state)
        }
    }
}
