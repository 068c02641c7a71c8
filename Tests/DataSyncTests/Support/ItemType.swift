import DataSync

struct Item: Codable, Sendable, Equatable {
    var id: Int
    var text: String
}

/// A type for each route, and two of actions.
struct ItemType: ReadableBusinessType {
    let id: BusinessTypeID
    let name: String
    var kind: RecordKind = .state
    let priority: Int
    let route: Route<Item>
    var targets: TargetRule = .anyServer
    var conduct = Conduct()

    static let product = ItemType(id: 2, name: "product", priority: 5, route: .all)
    static let order = ItemType(id: 3, name: "order", priority: 20, route: .origin)
    static let visit = ItemType(id: 4, name: "visit", priority: 40, route: .up)
    static let parcel = ItemType(id: 5, name: "parcel", priority: 30, route: .target, targets: .servers([.cloud, 2]))
    static let points = ItemType(id: 6, name: "points", kind: .action, priority: 15, route: .all)
    static let all = [product, order, visit, parcel, points]

    func key(of item: Item) -> EntityKey { EntityKey("\(self.name):\(item.id)") }

    func apply(_ change: Change<Item>, of entity: EntityID, in transaction: InMemoryTransaction) async throws {
        switch change {
        case .upsert(let item), .act(let item): try await self.conduct.take(item.text, table: self.name, in: transaction)
        case .delete: break
        }
        try self.write(change, in: transaction)
    }

    func apply(_ records: [PreparedRecord], in transaction: InMemoryTransaction) async throws {
        for (index, prepared) in records.enumerated() {
            do { try await self.apply(prepared.content as! Change<Item>, of: prepared.entity, in: transaction) } catch let fault as RecordFault {
                guard !self.conduct.isVague else { throw fault }
                throw IndexedRecordFault(index: index, fault: fault)
            }
        }
    }

    /// What a change does to the table, here and where it is made. An action leaves how often it took effect.
    func write(_ change: Change<Item>, in transaction: InMemoryTransaction) throws {
        switch change {
        case .upsert(let item): try transaction.setRow(self.name, self.key(of: item).text, item.text)
        case .delete(let key): try transaction.setRow(self.name, key.text, nil)
        case .act(let item):
            let name = "\(self.key(of: item))/\(item.text)"
            let count = transaction.row(self.name, name).flatMap { Int($0) } ?? 0
            try transaction.setRow(self.name, name, "\(count + 1)")
        }
    }

    func states(of entities: [EntityID], locking: Bool, in transaction: InMemoryTransaction) async throws -> [EntityID: Item] {
        if let error = self.conduct.readingError { throw error }
        let rows = transaction.rows(self.name)
        return entities.reduce(into: [:]) { states, entity in
            guard let text = rows[entity.key.text], let id = entity.key.text.split(separator: ":").last.flatMap({ Int($0) }) else { return }
            states[entity] = Item(id: id, text: text)
        }
    }

    func with(_ conduct: Conduct) -> ItemType {
        var type = self
        type.conduct = conduct
        return type
    }
}
