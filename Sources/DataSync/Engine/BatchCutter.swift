/// Decides what the next batch takes from the waiting streams.
///
/// Types go in the order of priority, types of one priority in the order of creation. One slot in
/// `SyncLimits.ageingSlotEvery` goes to the oldest waiting record of any type, or a flood of one type would starve the
/// types behind it. A stream can only be taken from its head on, so that its numbers stay without gaps.
public struct BatchCutter: Sendable {
    /// A stream's waiting records, the next one to be sent first.
    public struct Queue: Sendable {
        public var type: BusinessTypeID
        public var priority: Int
        public var entries: [Manifest.Entry]

        public init(type: BusinessTypeID, priority: Int, entries: [Manifest.Entry]) {
            self.type = type
            self.priority = priority
            self.entries = entries
        }
    }

    public struct Cut: Hashable, Sendable {
        public var type: BusinessTypeID
        public var count: Int

        public init(type: BusinessTypeID, count: Int) {
            self.type = type
            self.count = count
        }
    }

    public var recordsMax: Int
    public var bytesMax: Int
    public var ageingSlotEvery: Int

    public init(recordsMax: Int, bytesMax: Int, ageingSlotEvery: Int) {
        self.recordsMax = recordsMax
        self.bytesMax = bytesMax
        self.ageingSlotEvery = ageingSlotEvery
    }

    /// How many records to take from the head of each queue, in the order in which they are to be applied. A record that
    /// is larger than a whole batch may be goes alone.
    public func cut(_ queues: [Queue]) -> [Cut] {
        let queues = queues.filter { !$0.entries.isEmpty }.sorted {
            PlantedBug.isOn(.noPriority) ? $0.type < $1.type : ($0.priority, $0.type) < ($1.priority, $1.type)
        }
        var taken = queues.map { _ in 0 }
        var bytes = 0
        for slot in 0..<self.recordsMax {
            let isAgeing = !PlantedBug.isOn(.noAgeingSlot) && slot % self.ageingSlotEvery == self.ageingSlotEvery - 1
            guard let choice = self.choose(from: queues, taken: taken, isAgeing: isAgeing) else { break }
            let entry = queues[choice].entries[taken[choice]]
            guard bytes == 0 || bytes + entry.bytes <= self.bytesMax else { break }
            bytes += entry.bytes
            taken[choice] += 1
        }
        return zip(queues, taken).filter { $1 > 0 }.map { Cut(type: $0.type, count: $1) }
    }

    private func choose(from queues: [Queue], taken: [Int], isAgeing: Bool) -> Int? {
        var best: Int?
        for index in queues.indices where taken[index] < queues[index].entries.count {
            guard let current = best else {
                best = index
                continue
            }
            let isOlder = queues[index].entries[taken[index]].createTime < queues[current].entries[taken[current]].createTime
            // Queues are in order of priority: a later one never ranks before, unless age alone decides.
            if isOlder, isAgeing || queues[index].priority == queues[current].priority { best = index }
        }
        return best
    }
}
