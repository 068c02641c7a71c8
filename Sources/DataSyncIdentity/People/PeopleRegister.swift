import Crypto
public import DataSync
import FoundationEssentials

/// Who belongs to a set of people: what administrators decide, on the command line and over HTTP. Every decision is a line of the audit.
public struct PeopleRegister<Storage: SyncStorage, People: PeopleSet>: Sendable where Storage.Transaction: PersonTable {
    let storage: Storage
    let hasher: PasswordHasher
    let environment: SyncEnvironment
    let clock: DatabaseClock

    public init(storage: Storage, hasher: PasswordHasher = PasswordHasher(), environment: SyncEnvironment = .system) {
        self.storage = storage
        self.hasher = hasher
        self.environment = environment
        self.clock = DatabaseClock(environment)
    }

    /// How long the token is good by which the first administrator comes in.
    public static var setupLifetime: Duration { .seconds(3_600) }

    // MARK: - Looking

    public func all() async throws -> [PersonRow] { try await self.storage.withTransaction(.snapshot) { try await $0.persons(People.kind) } }

    // MARK: - Deciding

    /// - Parameter branches: What an operator sees; nil for all.
    public func add(_ name: String, role: People.Role, branches: [ServerID]? = nil, password: Secret<String>, by actor: String) async throws {
        let name = try self.normalised(name)
        try PasswordPolicy.check(password, of: name)
        let hash = try await self.hasher.withTurn(from: nil) { try await $0.hash(password) }
        try await self.unit { transaction in
            try await self.takeTurn(in: transaction)
            try await self.insert(name, role: role, branches: branches, hash: hash, in: transaction)
            try await transaction.appendAudit(self.audit("person.add", self.subject(name, role, branches), by: actor))
        }
    }

    func insert(_ name: String, role: People.Role, branches: [ServerID]?, hash: Secret<String>, in transaction: Storage.Transaction) async throws {
        let now = self.environment.wallTime()
        try await transaction.insertPerson(
            PersonRow(
                kind: People.kind, name: name, role: role.rawValue, branches: branches.map { Array(Set($0)).sorted() }, password: hash, created: now,
                changed: now))
    }

    /// Shuts somebody out: what was given out is worth nothing from this moment on.
    public func disable(_ name: String, by actor: String) async throws {
        try await self.change(name, "person.disable", by: actor, endsLogins: true) { row throws(DataSyncError) in
            guard row.state == .active else { throw Self.refusal("'\(row.name)' is disabled already") }
            row.state = .disabled
        }
    }

    public func enable(_ name: String, by actor: String) async throws {
        try await self.change(name, "person.enable", by: actor, endsLogins: false) { row throws(DataSyncError) in
            guard row.state == .disabled else { throw Self.refusal("'\(row.name)' is active already") }
            row.state = .active
        }
    }

    /// Ends what wrong passwords have brought about.
    public func unlock(_ name: String, by actor: String) async throws {
        try await self.change(name, "person.unlock", by: actor, endsLogins: false) { row throws(DataSyncError) in
            (row.failures, row.lockedUntil) = (0, 0)
        }
    }

    /// - Parameter branches: What an operator sees from now on; nil for all.
    public func setRole(_ role: People.Role, branches: [ServerID]?, of name: String, by actor: String) async throws {
        try await self.change(name, "person.role", by: actor, endsLogins: true) { row throws(DataSyncError) in
            row.role = role.rawValue
            row.branches = branches.map { Array(Set($0)).sorted() }
        }
    }

    /// Gives somebody another password, and lets in who was locked out by wrong ones.
    /// - Parameter generation: Of the person, where it must still be this one: an administrator may have given them another password
    ///   while this one was made.
    public func setPassword(_ password: Secret<String>, of name: String, by actor: String, generation: Int64? = nil) async throws {
        let name = try self.normalised(name)
        try PasswordPolicy.check(password, of: name)
        guard try await self.storage.withTransaction(.snapshot, { try await $0.person(People.kind, name) }) != nil else { throw Self.unknown(name) }
        let hash = try await self.hasher.withTurn(from: nil) { try await $0.hash(password) }
        try await self.change(name, "person.password", by: actor, endsLogins: true) { row throws(DataSyncError) in
            guard generation.map({ $0 == row.generation }) ?? true else {
                throw DataSyncError(.unauthorized, operation: "password", detail: "somebody else changed this account meanwhile")
            }
            row.password = hash
            (row.failures, row.lockedUntil) = (0, 0)
        }
    }

    // MARK: - The first administrator

    static var setupSetting: String { "people.\(People.kind.rawValue).setup" }

    /// A token by which somebody becomes the first administrator, good once and for an hour. The one before is worth nothing then.
    /// - Throws: `invalidState` where there is an administrator.
    public func makeSetupToken(by actor: String) async throws -> SetupToken<People> {
        let token = SetupToken<People>(secret: OpaqueSecret.generate())
        try await self.unit { transaction in
            try await self.takeTurn(in: transaction)
            guard try await self.administrators(in: transaction).isEmpty else {
                throw Self.refusal("there is an administrator already: `user passwd` gives somebody another password")
            }
            let expiry = try await self.clock.age(in: transaction) + Self.setupLifetime.components.seconds * 1_000
            try await transaction.putSetting(Self.setupSetting, "\(Digest.secret(token.secret)) \(expiry)")
            try await transaction.appendAudit(self.audit("person.setup", "a token for the first administrator", by: actor))
        }
        return token
    }

    /// Those who may do everything: an administrator of some branches alone could not let others in again.
    func administrators(in transaction: Storage.Transaction) async throws -> [PersonRow] {
        try await transaction.persons(People.kind).filter {
            $0.state == .active && $0.role == People.Role.administrator.rawValue && $0.branches == nil
        }
    }

    // MARK: - Units

    /// Runs a unit again that met another one. After a commit of unknown outcome it is not: who asked looks, or asks again.
    func unit<Result: Sendable>(_ body: (Storage.Transaction) async throws -> Result) async throws -> Result {
        for _ in 1..<5 {
            do { return try await self.storage.withTransaction(body) } catch let error as DataSyncError where error.code == .storageBusy {
                try await self.environment.clock.sleep(for: .milliseconds(20 + 200 * self.environment.jitter()))
            }
        }
        return try await self.storage.withTransaction(body)
    }

    /// Decisions about people take turns, since one may depend on all the others: the last administrator stays.
    func takeTurn(in transaction: Storage.Transaction) async throws {
        var generator = self.environment
        try await transaction.putSetting("people.\(People.kind.rawValue).turn", RecordUID(using: &generator).hex)
    }

    private func change(
        _ name: String, _ action: String, by actor: String, endsLogins: Bool, _ body: (inout PersonRow) throws(DataSyncError) -> Void
    ) async throws {
        let name = try self.normalised(name)
        try await self.unit { transaction in
            try await self.takeTurn(in: transaction)
            guard var row = try await transaction.person(People.kind, name) else { throw Self.unknown(name) }
            let before = try await self.administrators(in: transaction)
            try body(&row)
            row.changed = self.environment.wallTime()
            if endsLogins {
                row.generation += 1
                try await transaction.removeLogins(People.kind, of: name)
            }
            guard try await transaction.replacePerson(row) else { throw DataSyncError(.storageBusy, operation: "person") }
            if !before.isEmpty, try await self.administrators(in: transaction).isEmpty {
                throw Self.refusal("'\(name)' is the last administrator: make somebody else one first")
            }
            try await transaction.appendAudit(
                self.audit(action, self.subject(name, People.Role(rawValue: row.role), row.branches), by: actor))
        }
    }

    private func normalised(_ name: String) throws(DataSyncError) -> String {
        guard let name = PersonRow.normalised(name) else {
            throw DataSyncError(
                .invalidInput, operation: "person",
                detail: "a name has 1 to 64 of the letters a to z, digits, '.', '_', '-' and '@', and begins with a letter or digit")
        }
        return name
    }

    private func subject(_ name: String, _ role: People.Role?, _ branches: [ServerID]?) -> String {
        let seen = branches.map { ", branches \($0.map { "\($0)" }.joined(separator: " "))" } ?? ""
        return "\(People.kind.rawValue) \(name)\(role.map { ", \($0.rawValue)" } ?? "")\(seen)"
    }

    func audit(_ action: String, _ subject: String, by actor: String) -> AuditEntry {
        AuditEntry(time: self.environment.wallTime(), actor: actor, action: action, subject: subject)
    }

    private static func refusal(_ detail: String) -> DataSyncError { DataSyncError(.invalidState, operation: "person", detail: detail) }

    private static func unknown(_ name: String) -> DataSyncError {
        DataSyncError(.notFound, operation: "person", detail: "there is nobody called '\(name)'")
    }
}

/// Printed once, for whoever is to be the first administrator of a set.
public struct SetupToken<People: PeopleSet>: Sendable, CustomStringConvertible {
    let secret: Secret<String>

    init(secret: Secret<String>) { self.secret = secret }

    private static var prefix: String { "dss1.\(People.kind.rawValue)." }

    /// As it is printed and pasted: with its secret.
    public var text: String { Self.prefix + self.secret.revealed }

    /// Nil for what is no such token of this set.
    init?(text: String) {
        guard text.hasPrefix(Self.prefix), text.utf8.count == Self.prefix.utf8.count + OpaqueSecret.characters else { return nil }
        self.init(secret: Secret(String(text.dropFirst(Self.prefix.count))))
    }

    public var description: String { "SetupToken(\(People.kind.rawValue))" }
}

/// 256 bits from the system, as text.
enum OpaqueSecret {
    static var characters: Int { 64 }

    static func generate() -> Secret<String> {
        var generator = SystemRandomNumberGenerator()
        return Secret(RecordUID(using: &generator).hex + RecordUID(using: &generator).hex)
    }

    /// Whether `digest` is that of the secret.
    static func matches(_ secret: Secret<String>, _ digest: String) -> Bool { PasswordHash.areEqual(Digest.secret(secret).utf8, digest.utf8) }
}
