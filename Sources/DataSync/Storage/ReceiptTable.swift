/// `sync_receipt` and `sync_uid`: what was received, by the identity that a row keeps whatever number it is given.
///
/// They are for databases that are restored from a backup alone, and are kept for the retention. By the receipts of the cloud a
/// restored branch finds out which of its rows had been sent; by the uids a branch sees which actions it has, when a restored
/// cloud relays them under new places.
public protocol ReceiptTable {
    /// Notes what `peer` sent under which numbers. In the transaction that moves the position over them.
    func insertReceipts(_ receipts: [Receipt], from peer: ServerID) async throws
    /// The receipts of one stream of `peer` that reach beyond `number`, by number.
    func receipts(from peer: ServerID, epoch: Int32, type: BusinessTypeID, after number: Int64, limit: Int) async throws -> [Receipt]
    /// Notes that the records with these uids were taken in. Known ones are passed over.
    func keepUIDs(_ uids: [RecordUID], ofType type: BusinessTypeID, time: Int64) async throws
    /// Those of `uids` that were taken in.
    func knownUIDs(among uids: [RecordUID]) async throws -> Set<RecordUID>
    /// Removes receipts and uids that were noted before `time`, at most `limit` of each.
    /// - Returns: How many were removed.
    func removeReceipts(before time: Int64, limit: Int) async throws -> Int
}

/// That consecutive numbers of one stream, given by one numbering step, were received.
public struct Receipt: Hashable, Sendable {
    public var epoch: Int32
    public var type: BusinessTypeID
    public var firstSynID: Int64
    public var run: Fingerprint
    /// By number. ``RecordUID/void`` for a number whose row was gone.
    public var uids: [RecordUID]
    /// When it was received: running time of the database, in milliseconds.
    public var time: Int64

    public init(epoch: Int32, type: BusinessTypeID, firstSynID: Int64, run: Fingerprint, uids: [RecordUID], time: Int64) {
        self.epoch = epoch
        self.type = type
        self.firstSynID = firstSynID
        self.run = run
        self.uids = uids
        self.time = time
    }

    public var lastSynID: Int64 { self.firstSynID + Int64(self.uids.count) - 1 }
}

extension RecordUID {
    /// Stands for a row that is gone.
    public static let void = RecordUID(high: 0, low: 0)
}
