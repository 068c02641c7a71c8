/// `sync_log`: the cloud's ordered sequence of the records that others may get.
public protocol LogTable {
    /// Takes the next `count` places in the log of `type`. The counter stays locked to the end of the transaction, so
    /// that the order of places is the order of commits and a reader's cursor never passes a record that appears later:
    /// taken last, and for several types in the order of their ids.
    /// - Returns: The first of them, 1 for a new log.
    func takeLogNumbers(ofType type: BusinessTypeID, count: Int) async throws -> Int64
    /// Writes records whose places were taken in this transaction, ascending within a type.
    func appendLog(_ records: [LogRecord]) async throws
    /// The place of the last record of each type that goes to one of `audiences`.
    func logTails(of audiences: [Audience]) async throws -> [BusinessTypeID: Int64]
    /// The records of one audience after `place`, in order: at most `limit`, and no more payload than `bytesMax` except
    /// that the first record always comes.
    ///
    /// - Parameter own: The records of this origin and epoch come without their payload, unless they are echoes: the
    ///   reader has them, and needs their places only.
    func logPage(
        ofType type: BusinessTypeID, audience: Audience, after place: Int64, limit: Int, bytesMax: Int,
        own: LogOwner
    ) async throws -> LogPage
    /// The mark of the record at each of `places` that goes to one of `audiences`. Places without such a record are left out.
    func logMarks(of audiences: [Audience], at places: [BusinessTypeID: Int64]) async throws -> [BusinessTypeID: Fingerprint]
    func logRecord(ofType type: BusinessTypeID, audience: Audience, at place: Int64) async throws -> LogRecord?
}

/// Whose records a page leaves empty.
public struct LogOwner: Hashable, Sendable {
    public var origin: ServerID
    public var epoch: Int32

    public init(origin: ServerID, epoch: Int32) {
        self.origin = origin
        self.epoch = epoch
    }

    public func owns(_ record: LogRecord) -> Bool {
        !PlantedBug.isOn(.ownEchoed) && !record.isEcho && record.record.origin == self.origin
            && (record.record.stream.epoch == self.epoch || PlantedBug.isOn(.oldEpochNotReceived))
    }
}

public struct LogPage: Hashable, Sendable {
    /// Own ones are here too, with an empty payload.
    public var records: [LogRecord]
    /// Whether the page ends with the last record there is.
    public var isLast: Bool

    public init(records: [LogRecord], isLast: Bool) {
        self.records = records
        self.isLast = isLast
    }
}
