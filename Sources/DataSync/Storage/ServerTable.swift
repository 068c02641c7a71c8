/// `sync_server` (门店信息): the branches at the cloud; at a branch, itself and the cloud.
public protocol ServerTable {
    func server(_ id: ServerID) async throws -> ServerRow?
    /// By id.
    func servers() async throws -> [ServerRow]
    /// Throws `invalidState` if the id is taken.
    func insertServer(_ row: ServerRow) async throws
    /// Writes `row` if nobody changed it since it was read: if its `operation` is still the stored one, which is raised.
    /// - Returns: Whether it was.
    func replaceServer(_ row: ServerRow) async throws -> Bool

    /// Raises the operation number of `id`'s row if its session and epoch are these and its status is active.
    ///
    /// The first statement of every write that a branch causes at the cloud, and of every write of an agent in its own
    /// database. It changes a value, so it holds where a lock or a read does not (Galera), serialises the requests of one
    /// branch, fences an old or cloned agent, and makes a suspension effective at once.
    /// - Parameter time: Now, in milliseconds since 1970, kept as last seen.
    /// - Returns: Whether it did; if not, nothing was written.
    func raiseFence(_ id: ServerID, session: Int64, epoch: Int32, time: Int64) async throws -> Bool
}

public struct ServerRow: Hashable, Sendable {
    public enum Status: String, Hashable, Sendable, CaseIterable {
        /// Added, has not joined yet.
        case invited
        case active
        case suspended
    }

    public var id: ServerID
    public var name: String
    public var status: Status
    /// The Ed25519 public key in base64url, once it has joined.
    public var publicKey: String?
    /// The one that is to follow it, and is as good as it until it is first used. Of a branch whose machine was replaced, until it joins,
    /// the one that was shut out.
    public var nextKey: String?
    /// Of a branch: the thumbprints of the cloud's keys that it takes answers by, as it last said; nil until it knew another than the first.
    public var cloudKeys: String?
    /// The SHA-256 of the join token's secret, in hex, until it is used.
    public var joinDigest: String?
    /// Milliseconds since 1970.
    public var joinExpires: Int64
    /// The epoch of the streams of this server.
    public var epoch: Int32
    /// The fencing number of its newest session; at a branch, of its own row, the term of the newest agent.
    public var session: Int64
    /// The nonce that opened that session: the same nonce gets the same answer.
    public var nonce: String?
    /// Raised by every write, so that no two writers believe the same.
    public var operation: Int64
    /// The software version that it last reported.
    public var version: String?
    /// Milliseconds since 1970, by the clock of whom it wrote; 0 for never.
    public var lastSeen: Int64
    /// The machine, by what it says of itself, that opened the newest session.
    public var host: String?
    /// The one before it.
    public var hostBefore: String?
    /// How often a machine came back that another had followed, since `takeoverTime`.
    public var takeovers: Int
    /// When the first of them did: running time of the database, in milliseconds.
    public var takeoverTime: Int64

    /// How often in `takeoverWindow` milliseconds a machine may come back that another had followed, before the two are taken for
    /// clones of one branch. A machine that is started again, or replaced, is another one and does not come back.
    package static let takeoversMax = 3
    static let takeoverWindow: Int64 = 600_000

    /// Takes in who opens a session.
    /// - Returns: Whether this is one takeover too many.
    mutating func takesOver(_ host: String, at age: Int64) -> Bool {
        guard !host.isEmpty, host != self.host else { return false }
        let isBack = host == self.hostBefore
        (self.host, self.hostBefore) = (host, self.host)
        guard isBack, !PlantedBug.isOn(.cloneNotSuspended) else { return false }
        if self.takeovers == 0 || age - self.takeoverTime > Self.takeoverWindow { (self.takeovers, self.takeoverTime) = (0, age) }
        self.takeovers += 1
        return self.takeovers > Self.takeoversMax
    }

    /// Ends a suspension: whoever opens the next session is the one.
    package mutating func readmit() {
        self.status = .active
        (self.host, self.hostBefore, self.takeovers) = (nil, nil, 0)
    }

    public init(
        id: ServerID, name: String, status: Status, publicKey: String? = nil, nextKey: String? = nil, cloudKeys: String? = nil, joinDigest: String? = nil,
        joinExpires: Int64 = 0, epoch: Int32 = 1, session: Int64 = 0, nonce: String? = nil, operation: Int64 = 0,
        version: String? = nil, lastSeen: Int64 = 0, host: String? = nil, hostBefore: String? = nil, takeovers: Int = 0, takeoverTime: Int64 = 0
    ) {
        self.id = id
        self.name = name
        self.status = status
        self.publicKey = publicKey
        self.nextKey = nextKey
        self.cloudKeys = cloudKeys
        self.joinDigest = joinDigest
        self.joinExpires = joinExpires
        self.epoch = epoch
        self.session = session
        self.nonce = nonce
        self.operation = operation
        self.version = version
        self.lastSeen = lastSeen
        self.host = host
        self.hostBefore = hostBefore
        self.takeovers = takeovers
        self.takeoverTime = takeoverTime
    }
}
