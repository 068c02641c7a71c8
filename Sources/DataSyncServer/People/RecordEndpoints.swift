package import DataSync
import DataSyncIdentity
import HTTPTypes

/// The lines about records that were refused or wait: without their payloads.
extension PeopleEndpoint {
    /// - Parameters:
    ///   - names: Of the business types.
    ///   - sees: Whether a caller sees a record.
    static func records(
        in storage: some SyncStorage, for roles: Set<People.Role>, names: [BusinessTypeID: String], environment: SyncEnvironment,
        sees: @escaping @Sendable (Verified<People>, Memo) -> Bool
    ) -> [Self] {
        [
            PeopleEndpoint(.get, "v1/records", for: roles) { caller, call in
                let dispositions = try call.queryFlag("all") ? Set(Disposition.allCases.filter(\.isOpen)).union([.dead]) : [.dead]
                let limit = Int(try call.queryNumber("limit", in: 1...500, otherwise: 200))
                let after = try call.queryNumber("after", in: 0...Int64.max, otherwise: 0)
                let (memos, start) = try await storage.withTransaction(.snapshot) { transaction in
                    (
                        // Where the next page begins would tell of records that are not seen.
                        try await transaction.memos(dispositions, after: after, limit: limit, among: caller.branches.map { Set($0) }),
                        try await transaction.wallTime(ofAge: 0, environment)
                    )
                }
                return .object { writer in
                    writer.key("records")
                    writer.array { writer in
                        for memo in memos where sees(caller, memo) { memo.write(to: &writer, names: names, start: start) }
                    }
                    if memos.count == limit, let last = memos.last { writer.member("next", last.id) }
                }
            },
            PeopleEndpoint(.get, "v1/records/{id}", for: roles) { caller, call in
                let id = try call.number("id")
                let (memo, start) = try await storage.withTransaction(.snapshot) { transaction in
                    (try await transaction.memo(id), try await transaction.wallTime(ofAge: 0, environment))
                }
                guard let memo, sees(caller, memo) else { throw DataSyncError(.notFound, operation: "records", detail: "there is no record \(id)") }
                var writer = JSONWriter()
                memo.write(to: &writer, names: names, start: start)
                return PeopleReply(body: writer.text)
            },
        ]
    }
}

extension Memo {
    /// As commands and the administrative interface show it: without the payload.
    /// - Parameter start: What the machine's clock would have shown when the running time of the database began.
    package func write(to writer: inout JSONWriter, names: [BusinessTypeID: String], start: Int64) {
        writer.object { writer in
            writer.member("id", self.id)
            writer.member("is", self.disposition.name)
            writer.member("type", self.line.type.rawValue)
            if let name = names[self.line.type] { writer.member("type_name", name) }
            writer.member("entity", self.record.key.text)
            writer.member("origin", self.record.origin.rawValue)
            writer.member("epoch", self.record.stream.epoch)
            writer.member("number", self.record.synID)
            writer.member("held_by", self.line.receiver.rawValue)
            writer.member("attempts", self.attempts)
            writer.member("reason", self.reason.name)
            if let detail { writer.member("detail", detail) }
            writer.member("created", self.created)
            writer.member("next_try", start + self.nextTry)
        }
    }
}
