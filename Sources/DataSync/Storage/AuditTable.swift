/// `sync_audit`: who did what to what, as one chain of lines that are only ever added. Never a payload, never a secret.
///
/// Each line carries a digest over itself and the digest before it, and the head of the chain, which is kept apart, the number of
/// lines and the last digest: what is changed, taken out or cut off afterwards shows (``SyncStorage/verifyAudit(noted:)``).
public protocol AuditTable {
    /// Writes the next line of the chain, in the transaction of what it tells of.
    ///
    /// The head is changed first, and so is locked to the end of the transaction: two writers take turns, and on a cluster the second
    /// of two commits fails. It is the last lock that a transaction takes, after all others of DataSync.
    func appendAudit(_ entry: AuditEntry) async throws
    /// Nil if somebody has removed it.
    func auditHead() async throws -> AuditHead?
    /// By sequence.
    func auditRows(after sequence: Int64, limit: Int) async throws -> [AuditRow]
}

public struct AuditEntry: Hashable, Sendable {
    /// Milliseconds since 1970.
    public var time: Int64
    /// Who: a system user, a program, later a login.
    public var actor: String
    /// What, such as `memo.discard`.
    public var action: String
    /// To what, such as `record 7/1/3/42`.
    public var subject: String

    public init(time: Int64, actor: String, action: String, subject: String) {
        self.time = time
        self.actor = actor
        self.action = action
        self.subject = subject
    }
}

/// How far the chain reaches.
public struct AuditHead: Hashable, Sendable {
    /// Of its last line, and so how many there are.
    public var sequence: Int64
    /// Of its last line.
    public var digest: String

    public init(sequence: Int64, digest: String) {
        self.sequence = sequence
        self.digest = digest
    }

    /// Of a chain without lines.
    public static let start = AuditHead(sequence: 0, digest: "")
}

extension AuditHead: LosslessStringConvertible {
    /// `17:` and the digest, as people note it.
    public var description: String { "\(self.sequence):\(self.digest)" }

    public init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let sequence = Int64(parts[0]), sequence >= 0, parts[1].utf8.count == (sequence == 0 ? 0 : 64) else { return nil }
        self.init(sequence: sequence, digest: String(parts[1]))
    }
}

/// A line of the chain.
public struct AuditRow: Hashable, Sendable {
    /// 1, 2, 3, …
    public var sequence: Int64
    public var entry: AuditEntry
    /// SHA-256 over this line and the digest before it, in hexadecimal.
    public var digest: String

    public init(sequence: Int64, entry: AuditEntry, digest: String) {
        self.sequence = sequence
        self.entry = entry
        self.digest = digest
    }

    /// The line that follows `head`. Its texts are cut to what a column for short texts holds.
    public init(_ entry: AuditEntry, after head: AuditHead) {
        var entry = entry
        (entry.actor, entry.action, entry.subject) = (entry.actor.shortened, entry.action.shortened, entry.subject.shortened)
        self.init(sequence: head.sequence + 1, entry: entry, digest: Self.digest(of: entry, after: head))
    }

    var head: AuditHead { AuditHead(sequence: self.sequence, digest: self.digest) }

    /// Whether its digest is that of what it says, behind `head`.
    func follows(_ head: AuditHead) -> Bool {
        self.sequence == head.sequence + 1 && self.digest == Self.digest(of: self.entry, after: head)
    }

    /// The SHA-256 of the UTF-8 of `text`, in hexadecimal.
    static func hash(_ text: String) -> String {
        SHA256Hash.hash(Array(text.utf8)).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Texts come with their lengths, so that no two lines look alike.
    private static func digest(of entry: AuditEntry, after head: AuditHead) -> String {
        let texts = [entry.actor, entry.action, entry.subject].map { "\($0.utf8.count):\($0)" }
        return self.hash("datasync audit\n\(head.digest)\n\(head.sequence + 1)\n\(entry.time)\n\(texts.joined(separator: "\n"))")
    }
}

/// What is wrong with a chain, in words for who has to find out how it came to that.
public enum AuditFault: Hashable, Sendable, CustomStringConvertible {
    /// The line is not the one that was written, or the one before it is not.
    case changed(Int64)
    /// A line that was written is not there, and later ones are.
    case missing(Int64)
    /// The last lines are not there.
    case cutOff(after: Int64, of: Int64)
    /// There are lines that the head does not count.
    case beyondHead(Int64)
    /// The head says another digest than the last line.
    case otherHead(Int64)
    case headMissing
    /// The line is not the one that somebody noted.
    case otherThanNoted(Int64)

    public var description: String {
        switch self {
        case .changed(let line): "line \(line) was changed after it was written"
        case .missing(let line): "line \(line) was taken out"
        case .cutOff(let last, let count): "the chain was cut off: \(count) lines were written, and it ends with line \(last)"
        case .beyondHead(let line): "line \(line) is beyond the head of the chain: the head was put back, or the line was not written by DataSync"
        case .otherHead(let line): "line \(line), the last, is another than the head says"
        case .headMissing: "the head of the chain (sync_audit_head) was removed"
        case .otherThanNoted(let line): "line \(line) is not there as it was noted: the chain was written anew, or cut off"
        }
    }
}

/// What came of going through a chain.
public struct AuditVerdict: Hashable, Sendable {
    /// Lines that are as they were written, from the first.
    public var intact: Int64
    /// Where the chain ends, for people to note. Nil where something is wrong.
    public var head: AuditHead?
    public var fault: AuditFault?

    public init(intact: Int64, head: AuditHead? = nil, fault: AuditFault? = nil) {
        self.intact = intact
        self.head = head
        self.fault = fault
    }
}

/// Goes through a chain, line by line.
struct AuditCheck {
    /// The last line that is as it was written.
    private(set) var last = AuditHead.start
    private let noted: AuditHead?

    init(noted: AuditHead?) { self.noted = noted }

    mutating func take(_ row: AuditRow) -> AuditFault? {
        guard row.sequence == self.last.sequence + 1 else { return .missing(self.last.sequence + 1) }
        guard row.follows(self.last) else { return .changed(row.sequence) }
        self.last = row.head
        if let noted = self.noted, noted.sequence == row.sequence, noted.digest != row.digest { return .otherThanNoted(row.sequence) }
        return nil
    }

    func end(at head: AuditHead) -> AuditFault? {
        guard self.last.sequence == head.sequence else { return .cutOff(after: self.last.sequence, of: head.sequence) }
        guard self.last.digest == head.digest else { return .otherHead(head.sequence) }
        if let noted = self.noted, noted.sequence > head.sequence { return .otherThanNoted(noted.sequence) }
        return nil
    }
}

extension SyncStorage {
    /// Goes through the audit, a page at a time: lines that are there are not changed any more, so others may write meanwhile.
    ///
    /// The chain shows what was changed behind DataSync's back, unless who did it has computed all digests and the head anew. Against
    /// that helps a head that was noted where this database's administrator cannot write.
    /// - Parameter noted: A head that was noted earlier.
    public func verifyAudit(noted: AuditHead? = nil) async throws -> AuditVerdict {
        var check = AuditCheck(noted: noted)
        let (head, beyond) = try await self.withTransaction(.snapshot) { transaction in
            let head = try await transaction.auditHead()
            return (head, try await transaction.auditRows(after: head?.sequence ?? 0, limit: 1).first)
        }
        guard let head else { return AuditVerdict(intact: 0, fault: .headMissing) }
        while check.last.sequence < head.sequence {
            let last = check.last.sequence
            let rows = try await self.withTransaction(.snapshot) { try await $0.auditRows(after: last, limit: 500) }
            guard !rows.isEmpty else { break }
            for row in rows where row.sequence <= head.sequence {
                if let fault = check.take(row) { return AuditVerdict(intact: check.last.sequence, fault: fault) }
            }
            if let end = rows.last, end.sequence > head.sequence { break }
        }
        if let fault = check.end(at: head) { return AuditVerdict(intact: check.last.sequence, fault: fault) }
        if let beyond { return AuditVerdict(intact: check.last.sequence, fault: .beyondHead(beyond.sequence)) }
        return AuditVerdict(intact: check.last.sequence, head: check.last)
    }
}

extension String {
    /// As much as a column for short texts holds.
    package var shortened: String { self.unicodeScalars.count <= 255 ? self : String(self.unicodeScalars.prefix(254)) + "…" }
}
