/// Who put records into the outbox over HTTP: a line of the audit for each login, type and day, and how many they are.
///
/// An application may put something every second. So it is the day that has a line, at its first record; how many came on a day is counted in
/// `sync_config`, and told by the line of the next one.
package enum PutTrace {
    private static let day: Int64 = 86_400_000

    /// Notes a record, in the transaction that puts it and after it is put.
    /// - Parameters:
    ///   - type: Nil for one that is not configured: what nobody here knows must not make a line for each number that there is.
    ///   - actor: As the audit names whoever puts it.
    package static func note(
        _ type: BusinessTypeID?, by actor: String, environment: SyncEnvironment, in transaction: some SyncTransaction
    ) async throws {
        let prefix = "puts.\(actor)."
        var generator = environment
        // Those of one login take turns, to the end of their transactions: none of them counts from what another one is about to change.
        try await transaction.putSetting(prefix + "turn", RecordUID(using: &generator).hex)
        let name = prefix + (type.map { "\($0)" } ?? "other")
        let time = environment.wallTime()
        let known = try await transaction.setting(name)?.split(separator: " ").compactMap { Int64($0) } ?? []
        let (today, last, count) = (time / self.day, known.first, known.count == 2 ? known[1] : 0)
        guard last != today else { return try await transaction.putSetting(name, "\(today) \(count + 1)") }
        try await transaction.putSetting(name, "\(today) 1")
        let what = type.map { "records of type \($0)" } ?? "records of types that are not configured"
        let before = last == nil ? "" : "; \(count) on the day of the line before"
        try await transaction.appendAudit(AuditEntry(time: time, actor: actor, action: "record.put", subject: what + before))
    }
}
