/// Every bound of the record pipeline, in one place, checked once against each other.
public struct SyncLimits: Hashable, Sendable {
    /// Most bytes of one record's payload. Exchanged when a session opens: what is above the receiver's is dead at once.
    public var recordBytesMax = 1 << 20
    /// Most records in one push or pull.
    public var batchRecordsMax = 1_000
    /// Most payload bytes in one push or pull.
    public var batchBytesMax = 8 << 20
    /// Most records that one transaction applies.
    public var chunkRecordsMax = 1_000
    /// Most payload bytes that one transaction applies. Below the database server's `max_allowed_packet`.
    public var chunkBytesMax = 4 << 20
    /// Most rows that one manifest covers, and most that one numbering step reads.
    public var manifestRowsMax = 1_000
    /// One slot in so many goes to the oldest waiting record of any type, so that a flood cannot starve the others.
    public var ageingSlotEvery = 10
    /// Most records whose outcome one message asks for.
    public var askedMax = 200
    /// Most parked, waiting and suspect records of one (origin, type). When full, that type of that origin stops.
    public var openRecordsMax = 10_000
    /// Most payload bytes of them.
    public var openBytesMax = 64 << 20
    /// Most dead records of one (origin, type) that wait for a person at the cloud. When full, that type of that origin stops where more of it
    /// would be refused.
    public var deadRecordsMax = 10_000
    /// Most payload bytes of them.
    public var deadBytesMax = 64 << 20
    /// Most suspects of one (origin, type): records that are refused alike while nothing of the type passes. When they are so
    /// many, that type of that origin stops until one passes.
    public var suspectsMax = 100
    /// After this, a refusal of a suspect counts although nothing has passed, unless the type is stopped.
    public var suspectAgeMax: Duration = .seconds(24 * 3_600)
    /// Waits before the second and the third try of a parked record.
    public var retryDelays: [Duration] = [.seconds(30), .seconds(300)]
    /// Wait before a waiting record is tried again by the clock; doubles up to `waitingDelayMax`.
    public var waitingDelay: Duration = .seconds(30)
    public var waitingDelayMax: Duration = .seconds(3_600)
    /// After this a missing dependency is an ordinary failure.
    public var waitingAgeMax: Duration = .seconds(7 * 24 * 3_600)
    /// Most waiting records that one transaction makes due because what they wait for arrived in it. Each of them that
    /// is applied then does the same, so more than these are not left to the clock.
    public var releasedMax = 200
    /// Most records that one transaction makes due on a guess: they wait for something that nobody can name.
    public var guessedMax = 20
    /// For how long rows that are settled, and receipts, are kept: a peer that is put back to a backup finds again what is not older.
    /// Running time of the database.
    public var retention: Duration = .seconds(14 * 24 * 3_600)
    /// How often a unit is run again after a deadlock, a lock wait or an unknown commit before the system is called busy.
    public var unitAttemptsMax = 5

    public init() {}

    /// Throws `invalidConfiguration` with the relation that does not hold.
    public func validate() throws(DataSyncError) {
        func require(_ condition: Bool, _ message: String) throws(DataSyncError) {
            guard condition else { throw DataSyncError(.invalidConfiguration, operation: "limits", detail: message) }
        }
        let counts = [
            self.recordBytesMax, self.batchRecordsMax, self.batchBytesMax, self.chunkRecordsMax, self.chunkBytesMax,
            self.manifestRowsMax, self.ageingSlotEvery, self.askedMax, self.openRecordsMax, self.openBytesMax,
            self.unitAttemptsMax, self.releasedMax, self.guessedMax, self.deadRecordsMax, self.deadBytesMax,
        ]
        try require(counts.allSatisfy { $0 > 0 }, "every limit must be positive")
        // A record that may never fit would block its stream for ever.
        try require(self.recordBytesMax <= self.batchBytesMax, "limits.record_bytes must not exceed limits.batch_bytes")
        try require(self.recordBytesMax <= self.chunkBytesMax, "limits.record_bytes must not exceed limits.chunk_bytes")
        try require(self.recordBytesMax <= self.openBytesMax, "limits.record_bytes must not exceed limits.open_bytes")
        // A chunk that is refused whole must find room, or it would be refused for ever.
        try require(self.chunkRecordsMax <= self.openRecordsMax, "limits.chunk_records must not exceed limits.open_records")
        try require(self.chunkRecordsMax <= self.deadRecordsMax, "limits.chunk_records must not exceed limits.dead_records")
        try require(self.chunkBytesMax <= self.deadBytesMax, "limits.chunk_bytes must not exceed limits.dead_bytes")
        try require(self.chunkBytesMax <= self.openBytesMax, "limits.chunk_bytes must not exceed limits.open_bytes")
        try require(self.suspectsMax >= 2, "limits.suspects must be at least 2: one entity proves nothing about the system")
        try require(self.ageingSlotEvery >= 2, "limits.ageing_slot_every must be at least 2: a slot must be left for priority")
        try require(
            self.retryDelays.count == Outcome.attemptsMax - 1 && self.retryDelays.allSatisfy { $0 >= .zero },
            "limits.retry_delays must have two entries: before the second and the third try")
        try require(self.retention >= .seconds(3_600), "limits.retention must be at least an hour")
        try require(
            self.waitingDelay > .zero && self.waitingDelayMax >= self.waitingDelay,
            "limits.waiting_delay must be positive and not above limits.waiting_delay_max")
    }

    /// How long a record whose try ended like this is left alone: as `retryDelays` say after a refusal; 30 s, 1 min,
    /// 2 min, … at most an hour, while nobody is at fault.
    ///
    /// - Parameter waited: Since the record came. That doubles the wait from one try by the clock to the next, and however
    ///   often the record was tried in between on a guess, the clock's tries stay as frequent.
    func delay(after outcome: Outcome, waited: Duration) -> Duration {
        let isCounted = outcome.disposition == .parked && outcome.reason != .behind && outcome.reason != .unknownVersion
        if isCounted { return self.retryDelays[min(max(outcome.attempts, 1), self.retryDelays.count) - 1] }
        if PlantedBug.isOn(.waitingNotTried), outcome.disposition == .waiting { return .seconds(1_000_000_000) }
        if PlantedBug.isOn(.suspectsNotTried), outcome.disposition == .suspect { return .seconds(1_000_000_000) }
        // A restore puts the running time of the database back.
        return min(self.waitingDelay + max(waited, .zero), self.waitingDelayMax)
    }
}
