@testable import DataSync
import Testing

@Suite struct ReceivedWorkTests {
    private struct Work: ReceivedWork {
        var entities: [EntityID?]
        var blamed: [Int: RecordFault] = [:]
        let passed: Set<BusinessTypeID> = []

        var count: Int { self.entities.count }
        func entity(at index: Int) -> EntityID? { self.entities[index] }
        func line(_ type: BusinessTypeID) -> MemoLine { MemoLine(receiver: .cloud, sender: 1, epoch: 1, type: type) }
    }

    private func entity(_ name: String, type: BusinessTypeID = 3) -> EntityID { EntityID(type: type, scope: 1, key: EntityKey(name)) }

    @Test func onlyAnotherEntityOfTheTypeIsMoreToTry() {
        let (tried, other) = (self.entity("order:1"), self.entity("order:2"))
        func hasMore(_ entities: [EntityID?], after indices: [Int] = [0]) -> Bool {
            Work(entities: entities).hasMore(of: 3, after: indices, than: [tried])
        }
        #expect(hasMore([tried, tried, other]))
        #expect(!hasMore([tried, tried]))
        #expect(!hasMore([tried, self.entity("visit:1", type: 4)]))
        // A number whose row is gone is nothing that could pass.
        #expect(!hasMore([tried, nil]))
        // What comes before was tried, and where nothing was tried there is nothing to go on from.
        #expect(!hasMore([other, tried], after: [1]))
        #expect(!hasMore([tried, other], after: []))
    }

    @Test func aChunkIsHalvedAtEverySixteenthThatIsRefused() {
        var work = Work(entities: Array(repeating: self.entity("order:1"), count: 40))
        for index in 0..<15 { work.blamed[index] = .refused("no") }
        #expect(!work.isWorthHalving(0..<40))
        work.blamed[15] = .refused("no")
        #expect(work.isWorthHalving(0..<40))
        // Those of other chunks do not count.
        #expect(!work.isWorthHalving(0..<15))
        #expect(!work.isWorthHalving(15..<16))
    }
}
