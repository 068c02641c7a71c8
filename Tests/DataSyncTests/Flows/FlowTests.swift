import DataSync
import Testing

@Test func sharedMembersReachEveryBranchAndOthersStayHome() async throws {
    let company = try await Company(branches: [1, 2])
    try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
    try await company.write(Member(id: 2, name: "bob", isShared: false), at: 1)
    try await company.write(Member(id: 3, name: "eve", isShared: true), at: .cloud)
    for _ in 0..<2 {
        for branch in [1, 2] as [ServerID] { try await company.cycle(branch) }
    }
    #expect(try await company.members(at: .cloud) == ["member:1": "ada/true", "member:2": "bob/false", "member:3": "eve/true"])
    #expect(try await company.members(at: 2) == ["member:1": "ada/true", "member:3": "eve/true"])
    #expect(try await company.members(at: 1) == company.members(at: .cloud))
    try await company.delete(1, at: 2)
    for branch in [2, 1] as [ServerID] { try await company.cycle(branch) }
    #expect(try await company.members(at: 1) == ["member:2": "bob/false", "member:3": "eve/true"])
    let idle = try await company.cycle(1)
    #expect(idle.isIdle)
}

@Test func aPoisonRecordDiesAfterThreeTriesAndItsOriginIsCorrected() async throws {
    let company = try await Company(branches: [1, 2])
    try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
    try await company.cycle(1)
    try await company.write(Member(id: 1, name: "poison", isShared: true), at: 1)
    try await company.write(Member(id: 2, name: "bob", isShared: true), at: 1)
    let report = try await company.cycle(1)
    #expect(report.pushed == [.applied: 1, .parked: 1])
    try await company.hub.retryDue()
    try await company.hub.retryDue()
    let dead = try await company.memos(at: .cloud, [.dead])
    #expect(dead.map(\.attempts) == [3])
    #expect(dead.first?.detail == "no poison")
    for branch in [1, 2, 1] as [ServerID] { try await company.cycle(branch) }
    #expect(try await company.members(at: 1) == ["member:1": "ada/true", "member:2": "bob/true"])
    #expect(try await company.members(at: 2) == company.members(at: 1))
    let row = try await company.outbox(1)[1]
    #expect(row.attempts == 3)
    #expect(row.state == .settled)
}
