public import DataSync

/// Bounds of the machine endpoint: an honest branch stays far below them.
public struct ServerLimits: Hashable, Sendable {
    /// Of a body as it is sent.
    public var bodyBytesMax = 8 << 20
    /// Of a body when it is inflated.
    public var inflatedBytesMax = 16 << 20
    /// Bytes that may come out of one byte of a compressed body.
    public var inflationRatioMax = 50
    /// Of all headers of a request, and how many.
    public var headerBytesMax = 16 << 10
    public var headersMax = 64
    /// A body must be there, and an answer have been read, after this, and the time that it takes at `bodyBytesPerSecondMin`.
    public var bodyDeadline: Duration = .seconds(10)
    public var bodyBytesPerSecondMin = 16 << 10
    /// A connection on which no whole head of a request, or nothing of its body, comes for so long is closed.
    public var idleTimeout: Duration = .seconds(20)
    public var connectionsMax = 2_000
    /// Of one address (IPv6: of one network of 64 bits), but for those of proxies and of this machine.
    public var connectionsPerAddressMax = 20
    /// Bytes of all bodies, and of all answers that wait to be read, that are in memory at a time.
    public var bodiesBytesMax = 48 << 20
    /// Requests that work at a time. Each of them may hold a body when it is inflated.
    public var workersMax = 8
    /// Requests that wait to work, for `workWait`.
    public var waitersMax = 64
    public var workWait: Duration = .seconds(2)
    /// Requests of one branch in a minute, and bytes of its bodies, as they are sent, in a day. All of either may come at once; counted by each
    /// process for itself, and forgotten with it.
    public var branchRequestsPerMinute = 6_000
    public var branchBytesPerDay = 10 << 30

    public init() {}

    /// Throws `invalidConfiguration` with the relation that does not hold.
    public func validate(_ limits: SyncLimits) throws(DataSyncError) {
        func require(_ condition: Bool, _ message: String) throws(DataSyncError) {
            guard condition else { throw DataSyncError(.invalidConfiguration, operation: "limits", detail: message) }
        }
        let counts = [
            self.bodyBytesMax, self.inflatedBytesMax, self.inflationRatioMax, self.headerBytesMax, self.headersMax,
            self.bodyBytesPerSecondMin, self.connectionsMax, self.bodiesBytesMax, self.workersMax, self.waitersMax, self.connectionsPerAddressMax,
        ]
        try require(counts.allSatisfy { $0 > 0 }, "every limit of the server must be positive")
        // An agent that has nothing to do asks three times in ten seconds.
        try require(
            (60...1_000_000).contains(self.branchRequestsPerMinute), "http.branch_requests must be from 60 to 1000000: an agent needs some to do anything")
        // What is above this is no bound any more.
        try require(
            (self.bodyBytesMax...(1 << 50)).contains(self.branchBytesPerDay),
            "http.branch_bytes must be from \(self.bodyBytesMax), the largest body, to \(1 << 50)")
        // A batch of records, quoted as JSON strings inside JSON, with what surrounds it.
        try require(
            limits.batchBytesMax <= self.inflatedBytesMax / 2, "limits.batch_bytes must not exceed half of limits.inflated_bytes")
        try require(self.bodyBytesMax <= self.bodiesBytesMax, "limits.body_bytes must not exceed limits.bodies_bytes")
    }
}
