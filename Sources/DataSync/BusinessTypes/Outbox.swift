/// Putting records into the outbox from Swift.
public enum Outbox {
    /// Inserts `row` in the caller's transaction, after looking whether it could be carried.
    ///
    /// Change the business row first and enqueue after it: its lock then makes the order in the outbox the order of
    /// commits.
    /// - Throws: `invalidRecord` for a name that is empty or too long, or a payload above `limits.recordBytesMax`.
    public static func enqueue(
        _ row: NewOutboxRow, limits: SyncLimits, in transaction: some SyncTransaction
    ) async throws {
        func refuse(_ detail: String) -> DataSyncError { DataSyncError(.invalidRecord, operation: "enqueue", detail: detail) }
        guard (1...EntityKey.bytesMax).contains(row.key.text.utf8.count) else {
            throw refuse("the entity's name must have 1 to \(EntityKey.bytesMax) bytes")
        }
        guard row.payload.utf8.count <= limits.recordBytesMax else {
            throw refuse("the payload has \(row.payload.utf8.count) bytes, more than limits.record_bytes allows (\(limits.recordBytesMax))")
        }
        guard row.type.rawValue > 0, row.target >= .cloud else {
            throw refuse("the business type must be positive, and the target a server")
        }
        try await transaction.appendOutbox([row])
    }
}
