import DataSync
import Testing

struct Member: Codable, Sendable, Equatable {
    var id: Int
    var name: String
    var isShared: Bool
}

struct MemberType: BusinessType {
    let id: BusinessTypeID = 1
    let name = "member"
    let priority = 10
    let route: Route<Member> = .shared(where: \.isShared)

    func key(of member: Member) -> EntityKey { EntityKey("member:\(member.id)") }

    func apply(_ change: Change<Member>, in transaction: InMemoryTransaction) async throws {
        switch change {
        case .upsert(let member):
            if member.name == "poison" { throw RecordFault.refused("no poison") }
            try transaction.setRow("member", "member:\(member.id)", "\(member.name)/\(member.isShared)")
        case .delete(let key): try transaction.setRow("member", key.text, nil)
        case .act: throw RecordFault.refused("not an action")
        }
    }
}

/// A cloud and branches in one process, with applications that write on both sides.
struct Company {
    let cloud = InMemoryStorage()
    let hub: Hub<InMemoryStorage>
    var branches: [ServerID: InMemoryStorage] = [:]
    var agents: [ServerID: Agent<InMemoryStorage, InMemoryTransport<InMemoryStorage>>] = [:]

    init(branches: [ServerID]) async throws {
        var limits = SyncLimits()
        limits.retryDelays = [.zero, .zero]
        self.hub = try Hub(storage: self.cloud, types: [MemberType()], limits: limits)
        try await self.cloud.withTransaction { try await $0.insertServer(ServerRow(id: .cloud, name: "cloud", status: .active)) }
        for branch in branches {
            let storage = InMemoryStorage()
            try await storage.withTransaction { try await $0.insertServer(ServerRow(id: branch, name: "b", status: .active)) }
            try await self.cloud.withTransaction { try await $0.insertServer(ServerRow(id: branch, name: "b", status: .active)) }
            self.branches[branch] = storage
            self.agents[branch] = try Agent(
                server: branch, storage: storage, transport: InMemoryTransport(hub: self.hub, branch: branch),
                types: [MemberType()], limits: limits)
        }
    }

    func write(_ member: Member, at branch: ServerID) async throws {
        let storage = branch.isCloud ? self.cloud : self.branches[branch]!
        try await storage.withTransaction { transaction in
            try transaction.setRow("member", "member:\(member.id)", "\(member.name)/\(member.isShared)")
            try await transaction.appendOutbox([try MemberType().row(for: .upsert(member))])
        }
    }

    func delete(_ id: Int, at branch: ServerID) async throws {
        let storage = branch.isCloud ? self.cloud : self.branches[branch]!
        try await storage.withTransaction { transaction in
            try transaction.setRow("member", "member:\(id)", nil)
            try await transaction.appendOutbox([try MemberType().row(for: .delete(EntityKey("member:\(id)")))])
        }
    }

    func members(at branch: ServerID) async throws -> [String: String] {
        let storage = branch.isCloud ? self.cloud : self.branches[branch]!
        return try await storage.withTransaction(.snapshot) { $0.rows("member") }
    }
}

@Test func sharedMembersReachEveryBranchAndOthersStayHome() async throws {
    let company = try await Company(branches: [1, 2])
    try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
    try await company.write(Member(id: 2, name: "bob", isShared: false), at: 1)
    try await company.write(Member(id: 3, name: "eve", isShared: true), at: .cloud)
    for _ in 0..<2 {
        for branch in [1, 2] as [ServerID] { _ = try await company.agents[branch]!.cycle() }
    }
    #expect(try await company.members(at: .cloud) == ["member:1": "ada/true", "member:2": "bob/false", "member:3": "eve/true"])
    #expect(try await company.members(at: 2) == ["member:1": "ada/true", "member:3": "eve/true"])
    #expect(try await company.members(at: 1) == company.members(at: .cloud))
    try await company.delete(1, at: 2)
    for branch in [2, 1] as [ServerID] { _ = try await company.agents[branch]!.cycle() }
    #expect(try await company.members(at: 1) == ["member:2": "bob/false", "member:3": "eve/true"])
    let idle = try await company.agents[1]!.cycle()
    #expect(idle.isIdle)
}

@Test func aPoisonRecordDiesAfterThreeTriesAndItsOriginIsCorrected() async throws {
    let company = try await Company(branches: [1, 2])
    try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
    _ = try await company.agents[1]!.cycle()
    try await company.write(Member(id: 1, name: "poison", isShared: true), at: 1)
    try await company.write(Member(id: 2, name: "bob", isShared: true), at: 1)
    let report = try await company.agents[1]!.cycle()
    #expect(report.pushed == [.applied: 1, .parked: 1])
    try await company.hub.retryDue()
    try await company.hub.retryDue()
    let dead = try await company.cloud.withTransaction(.snapshot) { try await $0.memos([.dead], after: 0, limit: 10) }
    #expect(dead.map(\.attempts) == [3])
    #expect(dead.first?.detail == "no poison")
    for branch in [1, 2, 1] as [ServerID] { _ = try await company.agents[branch]!.cycle() }
    #expect(try await company.members(at: 1) == ["member:1": "ada/true", "member:2": "bob/true"])
    #expect(try await company.members(at: 2) == company.members(at: 1))
    let row = try await company.branches[1]!.withTransaction(.snapshot) { try await $0.outboxRows([2]) }
    #expect(row.map(\.attempts) == [3])
    #expect(row.map(\.state) == [.settled])
}
