// README begins
import DataSync

struct Member: Codable, Sendable { var id: Int, name: String }

/// Members go to every branch.
struct MemberType: BusinessType {
    let id: BusinessTypeID = 1
    let name = "member"
    let priority = 10
    let route: Route<Member> = .all

    func key(of member: Member) -> EntityKey { EntityKey("member:\(member.id)") }

    func apply(_ change: Change<Member>, of entity: EntityID, in transaction: InMemoryTransaction) async throws {
        switch change {
        case .upsert(let member), .act(let member): try transaction.setRow("members", "member:\(member.id)", member.name)
        case .delete(let key): try transaction.setRow("members", key.text, nil)
        }
    }
}

func carryOneMember() async throws -> String? {
    let (cloud, branch) = (InMemoryStorage(), InMemoryStorage())
    let row = ServerRow(id: 7, name: "Market Street", status: .active)
    for storage in [cloud, branch] { try await storage.withTransaction { try await $0.insertServer(row) } }
    let hub = try Hub(storage: cloud, types: [MemberType()])
    let agent = try Agent(server: 7, storage: branch, transport: InMemoryTransport(hub: hub, branch: 7), types: [MemberType()])

    try await branch.withTransaction { transaction in
        try transaction.setRow("members", "member:1", "Ada")
        // In the same transaction: both are committed, or neither.
        try await agent.enqueue(.upsert(Member(id: 1, name: "Ada")), as: MemberType(), in: transaction)
    }
    print(try await agent.cycle().summary)  // up: 1 applied; down: nothing
    return try await cloud.withTransaction(.snapshot) { $0.row("members", "member:1") }  // Ada
}
// README ends
