/// How far this server has received what a peer sends (`sync_position`), and how far a peer has confirmed what this
/// server sends (`sync_send`).
///
/// The received position is moved in the transaction that applies: it is the truth about what was received, the peer's
/// confirmation is only information.
public protocol PositionTable {
    /// The positions in all lines of `peer`'s `epoch`. At the cloud the lines are a branch's streams, at a branch the
    /// log of each type.
    func positions(from peer: ServerID, epoch: Int32) async throws -> [BusinessTypeID: ReceivedPosition]
    /// The positions in all lines of `peer`, by epoch.
    func positions(from peer: ServerID) async throws -> [Int32: [BusinessTypeID: ReceivedPosition]]
    /// Moves a position if its number is still `expected`, 0 for a line of which nothing was received.
    /// - Returns: Whether it was. If not, another transaction received the same records: roll back.
    func movePosition(
        from peer: ServerID, epoch: Int32, type: BusinessTypeID, expected: Int64, to position: Position
    ) async throws -> Bool
    /// Says that `peer` knows of everything up to `number`.
    func reportPosition(from peer: ServerID, epoch: Int32, type: BusinessTypeID, number: Int64) async throws

    /// Creates or replaces what is known of a peer's progress.
    func putConfirmation(_ confirmation: Confirmation) async throws
    func confirmations() async throws -> [Confirmation]
}

public struct ReceivedPosition: Hashable, Sendable {
    public var position: Position
    /// Up to where the sender was told what became of its records.
    public var reported: Int64

    public init(position: Position, reported: Int64) {
        self.position = position
        self.reported = reported
    }
}

/// A row of `sync_send`.
public struct Confirmation: Hashable, Sendable {
    public var peer: ServerID
    public var type: BusinessTypeID
    public var epoch: Int32
    public var position: Position
    /// Milliseconds since 1970, by this server's clock.
    public var time: Int64
    /// From the record's creation to its confirmation, in milliseconds; clocks of two servers may be in it.
    public var lag: Int64

    public init(peer: ServerID, type: BusinessTypeID, epoch: Int32, position: Position, time: Int64, lag: Int64) {
        self.peer = peer
        self.type = type
        self.epoch = epoch
        self.position = position
        self.time = time
        self.lag = lag
    }
}
