/// One batch and what came of sending it.
struct PushExchange: Sendable {
    var number: Int
    var batch: PushBatch
    var answer: Result<PushAnswer, any Error>
}

/// Which batches are on their way. They are sent ahead of their answers, and settled in the order in which they were sent.
struct PushFlight: Sendable {
    /// One that the cloud applies and one that it reads meanwhile. More would only wait there.
    static let batchesMax = 2

    private var sent = 0
    private var settled = 0
    private var landed: [Int: PushExchange] = [:]
    /// Whether a batch was not received whole. Nothing new is sent until everything that was has been answered.
    private(set) var isLanding = false

    var mayTakeOff: Bool { !self.isLanding && self.sent - self.settled < Self.batchesMax }

    mutating func takeOff() -> Int {
        precondition(self.mayTakeOff, "a batch is sent that must wait")
        self.sent += 1
        return self.sent
    }

    mutating func land(_ exchange: PushExchange) { self.landed[exchange.number] = exchange }

    /// The next exchange to be settled, if its answer is there.
    mutating func next() -> PushExchange? {
        guard let exchange = self.landed.removeValue(forKey: self.settled + 1) else {
            // All is answered: the streams begin again behind what was.
            if self.settled == self.sent { self.isLanding = false }
            return nil
        }
        self.settled += 1
        return exchange
    }

    mutating func stopTakingOff() { self.isLanding = true }
}
