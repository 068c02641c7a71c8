import DataSync

struct Member: Codable, Sendable, Equatable {
    var id: Int
    var name: String
    var isShared: Bool
}

/// Members: shared ones go to every branch, the others only back to where they came from.
struct MemberType: ReadableBusinessType {
    let id: BusinessTypeID = 1
    let name = "member"
    let priority = 10
    let route: Route<Member> = .shared(where: \.isShared)
    var conduct = Conduct()

    func key(of member: Member) -> EntityKey { EntityKey("member:\(member.id)") }

    func apply(_ change: Change<Member>, of entity: EntityID, in transaction: InMemoryTransaction) async throws {
        switch change {
        case .upsert(let member):
            try await self.conduct.take(member.name, table: self.name, in: transaction)
            try self.write(member, in: transaction)
        case .delete(let key): try transaction.setRow(self.name, key.text, nil)
        case .act: throw RecordFault.refused("not an action")
        }
    }

    func states(of entities: [EntityID], locking: Bool, in transaction: InMemoryTransaction) async throws -> [EntityID: Member] {
        let rows = transaction.rows(self.name)
        return entities.reduce(into: [:]) { states, entity in
            guard let parts = rows[entity.key.text]?.split(separator: "/"), let id = Int(entity.key.text.dropFirst(7)) else { return }
            states[entity] = Member(id: id, name: String(parts[0]), isShared: parts[1] == "true")
        }
    }

    func write(_ member: Member, in transaction: InMemoryTransaction) throws {
        try transaction.setRow(self.name, self.key(of: member).text, "\(member.name)/\(member.isShared)")
    }
}
