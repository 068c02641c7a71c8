import DataSync
import Testing

@Suite struct ActionTests {
    @Test func everyActionTakesEffectOnceEverywhere() async throws {
        let company = try await Company(branches: [1, 2])
        for (text, server) in [("+5", 1), ("+7", 1), ("+5 again", 2), ("+9", 0)] as [(String, ServerID)] {
            try await company.write(Item(id: 1, text: text), .points, at: server)
        }
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(
                try await company.rows(.points, at: server)
                    == ["points:1/+5": "1", "points:1/+7": "1", "points:1/+5 again": "1", "points:1/+9": "1"], "\(server)")
        }
    }

    @Test func anActionWaitsBehindARefusedOneOfItsEntityAtTheCloud() async throws {
        let company = try await Company(branches: [1, 2])
        for text in ["poison", "second", "third"] { try await company.write(Item(id: 1, text: text), .points, at: 1) }
        try await company.write(Item(id: 2, text: "other"), .points, at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1, .parked: 3])
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.refused, .behind, .behind])
        #expect(try await company.rows(.points, at: .cloud) == ["points:2/other": "1"])
        for server in [.cloud, 2] as [ServerID] { company.conduct(server).cure("poison") }
        company.time.advance(by: .seconds(60))
        for _ in 0..<3 { try await company.hub.retryDue() }
        // In the order in which they were made.
        #expect(company.conduct(.cloud).applied == ["other", "poison", "second", "third"])
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.applied, .applied, .applied])
        try await company.settle()
        #expect(try await company.rows(.points, at: 2) == company.rows(.points, at: .cloud))
        #expect(try await company.rows(.points, at: 1) == company.rows(.points, at: .cloud))
    }

    @Test func anActionWaitsBehindARefusedOneOfItsEntityAtABranch() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "poison"), .points, at: .cloud)
        try await company.hub.numberOwnRows()
        try await company.write(Item(id: 1, text: "second"), .points, at: 1)
        try await company.write(Item(id: 2, text: "other"), .points, at: .cloud)
        company.conduct(1).cure("poison")
        try await company.cycle(1)
        #expect(try await company.cycle(2).pulled == [.applied: 1, .parked: 2])
        #expect(try await company.rows(.points, at: 2) == ["points:2/other": "1"])
        company.conduct(2).cure("poison")
        company.time.advance(by: .seconds(60))
        for _ in 0..<3 { try await company.cycle(2) }
        try await company.settle()
        #expect(company.conduct(2).applied.suffix(2) == ["poison", "second"])
        for server in [1, 2] as [ServerID] {
            #expect(
                try await company.rows(.points, at: server) == ["points:1/poison": "1", "points:1/second": "1", "points:2/other": "1"],
                "\(server)")
        }
    }

    @Test func aDeadActionIsNotCorrectedAndLetsTheNextOneGo() async throws {
        let company = try await Company(branches: [1])
        for text in ["poison", "second"] { try await company.write(Item(id: 1, text: text), .points, at: 1) }
        try await company.cycle(1)
        for _ in 0..<2 { try await company.hub.retryDue() }
        company.time.advance(by: .seconds(60))
        try await company.hub.retryDue()
        #expect(try await company.memos(at: .cloud).map(\.disposition) == [.dead, .applied])
        #expect(try await company.log(6, .all).map(\.record.synID) == [2])
        #expect(try await company.log(6, .server(1)) == [])
    }
}
