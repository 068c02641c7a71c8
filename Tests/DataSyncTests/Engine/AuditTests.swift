import Testing

@testable import DataSync

@Suite struct AuditTests {
    private static func entry(_ number: Int) -> AuditEntry {
        AuditEntry(time: Int64(number), actor: "ada", action: "memo.discard", subject: "record 7/1/3/\(number)")
    }

    private func storage(lines: Int) async throws -> InMemoryStorage {
        let storage = InMemoryStorage()
        for number in 0..<lines { try await storage.withTransaction { try await $0.appendAudit(Self.entry(number + 1)) } }
        return storage
    }

    /// What a line's digest is made of does not change: chains are older than programs.
    @Test func theChainIsTheOneThatIsDocumented() {
        let first = AuditRow(AuditEntry(time: 5, actor: "ada", action: "memo.discard", subject: "record 7/1/3/42"), after: .start)
        #expect(first.digest == AuditRow.hash("datasync audit\n\n1\n5\n3:ada\n12:memo.discard\n15:record 7/1/3/42"))
        let second = AuditRow(AuditEntry(time: -5, actor: "", action: "é", subject: "a\nb"), after: first.head)
        #expect(second.digest == AuditRow.hash("datasync audit\n\(first.digest)\n2\n-5\n0:\n2:é\n3:a\nb"))
    }

    @Test func longChainsAreReadInPages() async throws {
        let storage = try await self.storage(lines: 1_203)
        #expect(try await storage.verifyAudit().intact == 1_203)
        #expect(try await storage.verifyAudit().fault == nil)
        try await storage.withTransaction { try $0.write { $0.audit[1_100].entry.actor = "eve" } }
        #expect(try await storage.verifyAudit() == AuditVerdict(intact: 1_100, fault: .changed(1_101)))
    }

    enum Tampering: CaseIterable {
        case time, actor, action, subject, digest, whole, removed, swapped, cutOff, emptied, added, headPutBack, headDigest

        func change(_ state: inout InMemoryState) {
            switch self {
            case .time: state.audit[2].entry.time += 1
            case .actor: state.audit[2].entry.actor = "eve"
            case .action: state.audit[2].entry.action = "memo.retry"
            case .subject: state.audit[2].entry.subject += "0"
            case .digest: state.audit[2].digest = String(state.audit[2].digest.reversed())
            // With the right digest for what it says: the next line does not follow it.
            case .whole: state.audit[2] = AuditRow(AuditTests.entry(99), after: state.audit[1].head)
            case .removed: state.audit.remove(at: 2)
            case .swapped: (state.audit[2].entry, state.audit[3].entry) = (state.audit[3].entry, state.audit[2].entry)
            case .cutOff: state.audit.removeLast(2)
            case .emptied: state.audit = []
            case .added: state.audit.append(AuditRow(AuditTests.entry(99), after: state.audit[4].head))
            case .headPutBack: state.auditHead = state.audit[3].head
            case .headDigest: state.auditHead.digest = state.audit[3].digest
            }
        }

        var verdict: AuditVerdict {
            switch self {
            case .time, .actor, .action, .subject, .digest, .swapped: AuditVerdict(intact: 2, fault: .changed(3))
            case .whole: AuditVerdict(intact: 3, fault: .changed(4))
            case .removed: AuditVerdict(intact: 2, fault: .missing(3))
            case .cutOff: AuditVerdict(intact: 3, fault: .cutOff(after: 3, of: 5))
            case .emptied: AuditVerdict(intact: 0, fault: .cutOff(after: 0, of: 5))
            case .added: AuditVerdict(intact: 5, fault: .beyondHead(6))
            case .headPutBack: AuditVerdict(intact: 4, fault: .beyondHead(5))
            case .headDigest: AuditVerdict(intact: 5, fault: .otherHead(5))
            }
        }
    }

    @Test(arguments: Tampering.allCases)
    func whatWasChangedIsNamed(tampering: Tampering) async throws {
        let storage = try await self.storage(lines: 5)
        try await storage.withTransaction { try $0.write { tampering.change(&$0) } }
        #expect(try await storage.verifyAudit() == tampering.verdict)
    }

    /// Whoever may write everything can write a chain that is whole. What was noted elsewhere is not in it.
    @Test func aChainThatWasWrittenAnewIsNotTheOneThatWasNoted() async throws {
        let storage = try await self.storage(lines: 5)
        let noted = try #require(try await storage.verifyAudit().head)
        try await storage.withTransaction { try await $0.appendAudit(Self.entry(6)) }
        #expect(try await storage.verifyAudit(noted: noted).fault == nil)
        for lines in [7, 4] {
            try await storage.withTransaction { transaction in
                try transaction.write { ($0.audit, $0.auditHead) = ([], .start) }
                for number in 1...lines { try await transaction.appendAudit(Self.entry(number + 10)) }
            }
            #expect(try await storage.verifyAudit().fault == nil)
            #expect(try await storage.verifyAudit(noted: noted).fault == .otherThanNoted(5))
        }
    }

    @Test func headsAreWrittenAndRead() {
        let head = AuditHead(sequence: 17, digest: AuditRow.hash("a"))
        #expect(AuditHead(head.description) == head)
        #expect(AuditHead(AuditHead.start.description) == .start)
        for text in ["", "17", "17:", "17:abc", "-1:\(head.digest)", "x:\(head.digest)", "17:\(head.digest)0"] { #expect(AuditHead(text) == nil, "\(text)") }
    }
}
