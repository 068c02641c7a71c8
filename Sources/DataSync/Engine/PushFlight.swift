/// One batch and what came of sending it.
struct PushExchange: Sendable {
    var number: Int
    var batch: PushBatch
    var answer: Result<PushAnswer, any Error>
    /// Whether gaps are no surprise: an earlier batch was not received whole, or was still on its way when this one was sent
    /// and may have been overtaken by it.
    var isBehindStop = false

    /// Whether the whole batch was received.
    var isComplete: Bool {
        guard case .success(let answer) = self.answer else { return false }
        return answer.runs.allSatisfy { $0.stop == nil }
    }
}

/// Which batches are on their way. They are sent ahead of their answers, and settled in the order in which they were sent.
struct PushFlight: Sendable {
    /// One that the cloud applies and one that it reads meanwhile. More would only wait there.
    static let batchesMax = 2

    private var sent = 0
    private var answered = 0
    private var settled = 0
    private var early: [Int: PushExchange] = [:]
    /// Batches that were sent while an earlier one was on its way.
    private var sentAhead: Set<Int> = []
    /// Whether a batch was not received whole. What follows in its streams finds a gap, so nothing new is sent until
    /// everything that was has been answered and settled.
    private var isLanding = false

    var mayTakeOff: Bool { !self.isLanding && self.sent - self.answered < Self.batchesMax }

    /// Whether an answer is waited for.
    var isUnderWay: Bool { self.sent > self.answered + self.early.count }

    mutating func takeOff() -> Int {
        precondition(self.mayTakeOff, "a batch is sent that must wait")
        self.sent += 1
        if self.sent - self.answered > 1 { self.sentAhead.insert(self.sent) }
        return self.sent
    }

    /// Takes in an answer.
    /// - Returns: The exchanges that are to be settled now, in order.
    mutating func land(_ exchange: PushExchange) -> [PushExchange] {
        self.early[exchange.number] = exchange
        var landed: [PushExchange] = []
        while var next = self.early.removeValue(forKey: self.answered + 1) {
            self.answered += 1
            let wasSentAhead = self.sentAhead.remove(next.number) != nil
            next.isBehindStop = self.isLanding || wasSentAhead
            if !next.isComplete { self.isLanding = true }
            landed.append(next)
        }
        return landed
    }

    /// Takes in that so many more exchanges are settled.
    /// - Returns: Whether a batch had not been received whole and all is settled now, so that the streams begin again behind
    ///   what was received.
    mutating func settle(_ count: Int) -> Bool {
        self.settled += count
        precondition(self.settled <= self.answered, "a batch is settled that has no answer")
        guard self.isLanding, self.settled == self.sent else { return false }
        self.isLanding = false
        return true
    }
}
