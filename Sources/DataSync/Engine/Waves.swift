/// Divides records into waves: at most one record of an entity in each, the records of one entity in order over the
/// waves. What a set-based statement does to two rows of one key is not an order.
func waves<Element>(of elements: [Element], entity: (Element) -> EntityID) -> [[Element]] {
    var waves: [[Element]] = []
    var next: [EntityID: Int] = [:]
    next.reserveCapacity(elements.count)
    for element in elements {
        let wave = next[entity(element), default: 0]
        next[entity(element)] = wave + 1
        if wave == waves.count { waves.append([]) }
        waves[wave].append(element)
    }
    return waves
}
