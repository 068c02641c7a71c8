extension SyncLimits {
    /// Divides records of these sizes into pieces that one transaction takes. One that is larger alone than `bytesMax` is
    /// a piece of its own.
    static func chunks(of sizes: [Int], recordsMax: Int, bytesMax: Int) -> [Range<Int>] {
        var chunks: [Range<Int>] = []
        var start = 0
        var bytes = 0
        for (index, size) in sizes.enumerated() {
            if index > start, index - start >= recordsMax || bytes + size > bytesMax {
                chunks.append(start..<index)
                start = index
                bytes = 0
            }
            bytes += size
        }
        if start < sizes.count { chunks.append(start..<sizes.count) }
        return chunks
    }
}

/// The pieces of a batch that are still to be done, in order. A piece that holds an unknown culprit is halved: its halves
/// are committed one after the other until the culprit stands alone.
struct ChunkQueue: Sendable {
    private var pending: [Range<Int>]

    init(_ chunks: [Range<Int>]) { self.pending = chunks.reversed() }

    mutating func next() -> Range<Int>? { self.pending.popLast() }

    /// Comes again before all others.
    mutating func again(_ chunk: Range<Int>) { self.pending.append(chunk) }

    mutating func halve(_ chunk: Range<Int>) {
        precondition(chunk.count > 1, "a single record cannot be halved")
        let middle = chunk.lowerBound + chunk.count / 2
        self.pending.append(middle..<chunk.upperBound)
        self.pending.append(chunk.lowerBound..<middle)
    }
}
