package import DataSync
import DataSyncServer

/// `dead list` of both programs: the records that were refused, and the ones that wait.
package enum DeadRecords {
    /// - Parameters:
    ///   - all: Parked and waiting records too, not only the dead.
    ///   - own: The server whose `retry` and `discard` work on a row.
    package static func list(
        in storage: some SyncStorage, all: Bool, json: Bool, limit: Int, own: ServerID, names: [BusinessTypeID: String]
    ) async throws {
        let dispositions = all ? Overview.openDispositions.union([.dead]) : [.dead]
        let (memos, start) = try await storage.withTransaction(.snapshot) { transaction in
            (try await transaction.memos(dispositions, after: 0, limit: limit), try await transaction.wallTime(ofAge: 0, .system))
        }
        if json {
            for memo in memos { Terminal.say(self.json(memo, names, start: start)) }
            return
        }
        guard !memos.isEmpty else { return Terminal.say(all ? "No record is refused or waiting." : "No record is dead.") }
        let rows = memos.map { memo in
            [
                "\(memo.id)", memo.disposition.name, names[memo.line.type] ?? "type \(memo.line.type)", memo.record.key.text,
                self.name(memo.record.origin), memo.line.receiver == own ? "here" : self.name(memo.line.receiver), "\(memo.attempts)",
                memo.reason.name + (memo.detail.map { ": \($0)" } ?? ""),
            ]
        }
        Terminal.say(Terminal.table(["ID", "IS", "TYPE", "ENTITY", "FROM", "HELD", "TRIES", "REASON"], rows))
        if memos.count == limit { Terminal.say("… and perhaps more: --limit") }
    }

    private static func name(_ server: ServerID) -> String { server.isCloud ? "cloud" : "branch \(server)" }

    /// - Parameter start: What the machine's clock would have shown when the running time of the database began.
    private static func json(_ memo: Memo, _ names: [BusinessTypeID: String], start: Int64) -> String {
        var writer = JSONWriter()
        memo.write(to: &writer, names: names, start: start)
        return writer.text
    }
}
