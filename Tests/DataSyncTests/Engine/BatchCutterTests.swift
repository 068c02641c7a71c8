import DataSync
import Testing

@Suite struct BatchCutterTests {
    private let cutter = BatchCutter(recordsMax: 20, bytesMax: 1_000, ageingSlotEvery: 10)

    private func queue(_ type: BusinessTypeID, priority: Int, _ entries: [Manifest.Entry]) -> BatchCutter.Queue {
        BatchCutter.Queue(type: type, priority: priority, entries: entries)
    }

    @Test func takesWhatThereIs() {
        #expect(self.cutter.cut([]) == [])
        #expect(self.cutter.cut([self.queue(1, priority: 1, [])]) == [])
        #expect(self.cutter.cut([self.queue(1, priority: 1, Sample.entries(3))]) == [.init(type: 1, count: 3)])
    }

    @Test func stopsAtTheCount() {
        #expect(self.cutter.cut([self.queue(1, priority: 1, Sample.entries(21))]) == [.init(type: 1, count: 20)])
    }

    @Test func stopsBeforeTheBytesAreExceeded() {
        #expect(self.cutter.cut([self.queue(1, priority: 1, Sample.entries(9, bytes: 300))]) == [.init(type: 1, count: 3)])
        #expect(self.cutter.cut([self.queue(1, priority: 1, Sample.entries(9, bytes: 250))]) == [.init(type: 1, count: 4)])
    }

    @Test func aRecordLargerThanABatchGoesAlone() {
        let entries = [Sample.entry(1, bytes: 5_000), Sample.entry(2)]
        #expect(self.cutter.cut([self.queue(1, priority: 1, entries)]) == [.init(type: 1, count: 1)])
    }

    @Test func aRecordThatDoesNotFitEndsTheBatchThoughSmallerOnesWait() {
        // The stream has no gaps: what comes after it may not go before it.
        let large = self.queue(1, priority: 1, [Sample.entry(1, bytes: 900), Sample.entry(2, bytes: 900), Sample.entry(3)])
        #expect(self.cutter.cut([large]) == [.init(type: 1, count: 1)])
    }

    @Test func theSmallerPriorityGoesFirst() {
        let queues = [self.queue(7, priority: 20, Sample.entries(30, time: 500)), self.queue(9, priority: 10, Sample.entries(5, time: 900))]
        #expect(self.cutter.cut(queues) == [.init(type: 9, count: 5), .init(type: 7, count: 15)])
    }

    @Test func typesOfOnePriorityGoByCreation() {
        let queues = [
            self.queue(1, priority: 1, [Sample.entry(1, time: 10), Sample.entry(2, time: 30)]),
            self.queue(2, priority: 1, [Sample.entry(3, time: 20), Sample.entry(4, time: 40)]),
        ]
        let three = BatchCutter(recordsMax: 3, bytesMax: 1_000, ageingSlotEvery: 10)
        #expect(three.cut(queues) == [.init(type: 1, count: 2), .init(type: 2, count: 1)])
    }

    @Test func oneSlotInTenGoesToTheOldestOfAnyType() {
        // A flood of the first type; the second has waited longer.
        let queues = [self.queue(1, priority: 1, Sample.entries(100, time: 1_000)), self.queue(2, priority: 50, Sample.entries(100, time: 0))]
        #expect(self.cutter.cut(queues) == [.init(type: 1, count: 18), .init(type: 2, count: 2)])
    }

    @Test func theAgeingSlotIsLostOnNobodyWhenTheFloodIsOlder() {
        let queues = [self.queue(1, priority: 1, Sample.entries(100, time: 0)), self.queue(2, priority: 50, Sample.entries(100, time: 1_000))]
        #expect(self.cutter.cut(queues) == [.init(type: 1, count: 20)])
    }
}
