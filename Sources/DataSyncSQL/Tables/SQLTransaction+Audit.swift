public import DataSync

extension SQLTransaction: AuditTable {
    public func appendAudit(_ entry: AuditEntry) async throws {
        // Whoever comes second waits here, or on a cluster fails at its commit, and finds the new head.
        guard try await self.write("audit", "update sync_audit_head set last = last + 1 where id = 1") == 1, let head = try await self.auditHead() else {
            throw DataSyncError(
                .storageFailed, operation: "audit", detail: "the head of the audit (sync_audit_head) is gone: nothing that belongs into it is done")
        }
        let row = AuditRow(entry, after: AuditHead(sequence: head.sequence - 1, digest: head.digest))
        try await self.write(
            "audit", "insert into sync_audit (id, time, actor, action, subject, digest) values (?, ?, ?, ?, ?, ?)",
            [
                .int(row.sequence), .int(row.entry.time), .text(row.entry.actor), .text(row.entry.action), .text(row.entry.subject),
                .text(row.digest),
            ])
        try await self.write("audit", "update sync_audit_head set digest = ? where id = 1", [.text(row.digest)])
    }

    public func auditHead() async throws -> AuditHead? {
        try await self.read("auditHead", "select last, digest from sync_audit_head where id = 1").first.map { row in
            AuditHead(sequence: try row.int(0), digest: try row.text(1))
        }
    }

    public func auditRows(after sequence: Int64, limit: Int) async throws -> [AuditRow] {
        try await self.read(
            "auditRows", "select id, time, actor, action, subject, digest from sync_audit where id > ? order by id limit ?",
            [.int(sequence), .int(limit)]
        ).map { row in
            AuditRow(
                sequence: try row.int(0),
                entry: AuditEntry(time: try row.int(1), actor: try row.text(2), action: try row.text(3), subject: try row.text(4)),
                digest: try row.text(5))
        }
    }
}
