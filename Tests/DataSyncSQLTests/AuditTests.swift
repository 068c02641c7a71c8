import DataSync
import DataSyncSQL
import Testing

/// The audit, changed with SQL behind DataSync's back.
@Suite(.serialized) struct AuditTests {
    private func bench(_ kind: TestDatabase) async throws -> Bench {
        let bench = try await Bench(kind, isMigrated: true)
        for number in 1...4 { try await self.append(number, to: bench) }
        return bench
    }

    private func append(_ number: Int, to bench: Bench) async throws {
        try await bench.storage.withTransaction {
            try await $0.appendAudit(AuditEntry(time: 1, actor: "ada", action: "memo.discard", subject: "record 7/1/3/\(number)"))
        }
    }

    @Test(
        arguments: TestDatabase.available,
        [
            ("update sync_audit set actor = 'eve' where id = 2", AuditFault.changed(2)),
            ("update sync_audit set time = 2 where id = 3", .changed(3)),
            ("delete from sync_audit where id = 2", .missing(2)),
            ("delete from sync_audit where id > 2", .cutOff(after: 2, of: 4)),
            ("delete from sync_audit", .cutOff(after: 0, of: 4)),
            ("update sync_audit_head set last = 3", .otherHead(3)),
            ("delete from sync_audit_head", .headMissing),
        ])
    func verifyingNamesTheFirstLineThatIsWrong(kind: TestDatabase, change: (String, AuditFault)) async throws {
        let bench = try await self.bench(kind)
        #expect(try await bench.storage.verifyAudit().intact == 4)
        try await bench.run(change.0)
        #expect(try await bench.storage.verifyAudit().fault == change.1)
    }

    /// Without its head the chain cannot go on, and `init` does not hide that by making another one.
    @Test(arguments: TestDatabase.available)
    func aHeadThatWasRemovedIsNotMadeAnew(kind: TestDatabase) async throws {
        let bench = try await self.bench(kind)
        try await bench.run("delete from sync_audit_head")
        let error = await #expect(throws: DataSyncError.self) { try await self.append(5, to: bench) }
        #expect(error?.code == .storageFailed)
        #expect(error?.detail?.contains("sync_audit_head") == true)
        try await bench.storage.migrate()
        #expect(try await bench.storage.verifyAudit().fault == .headMissing)
        // Where there is no line either, nothing is hidden.
        try await bench.run("delete from sync_audit")
        try await bench.storage.migrate()
        try await self.append(1, to: bench)
        #expect(try await bench.storage.verifyAudit().intact == 1)
    }
}
