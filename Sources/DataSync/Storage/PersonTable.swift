/// The two sets of people, beside the machines: those at the cloud, and those at a branch with its applications. What is kept of one is
/// nothing in the other, even where two databases were made one.
public enum PeopleKind: String, Hashable, Sendable, CaseIterable {
    /// People at the cloud.
    case operators = "operator"
    /// People at a branch, and the applications there that enqueue over HTTP.
    case staff
}

/// `sync_person`, `sync_login` and `sync_attempt`: who may log in, who is logged in, and how often it was tried.
///
/// Not every storage keeps people: those that do conform their transactions to this.
public protocol PersonTable: SettingTable, AuditTable {
    func person(_ kind: PeopleKind, _ name: String) async throws -> PersonRow?
    /// By name.
    func persons(_ kind: PeopleKind) async throws -> [PersonRow]
    /// - Throws: `invalidState` if the name is taken.
    func insertPerson(_ row: PersonRow) async throws
    /// Replaces the row if nobody has changed it since it was read.
    func replacePerson(_ row: PersonRow) async throws -> Bool

    func login(_ id: String) async throws -> LoginRow?
    func insertLogin(_ row: LoginRow) async throws
    /// Replaces the row if nobody has changed it since it was read.
    func replaceLogin(_ row: LoginRow) async throws -> Bool
    /// - Returns: Whether there was one.
    func removeLogin(_ id: String) async throws -> Bool
    /// Removes all logins of a person.
    func removeLogins(_ kind: PeopleKind, of name: String) async throws
    /// Removes the logins that began before `created`, and those that were used last before `used`.
    func removeLogins(_ kind: PeopleKind, createdBefore created: Int64, usedBefore used: Int64) async throws

    /// The row of a source, which is made where there is none, and locked to the end of the transaction.
    func attempts(_ kind: PeopleKind, from source: String, time: Int64) async throws -> AttemptRow
    /// Replaces the row if nobody has changed it since it was read.
    func replaceAttempts(_ row: AttemptRow) async throws -> Bool
    /// Removes the rows that were changed last before `time`.
    func removeAttempts(_ kind: PeopleKind, before time: Int64) async throws
}

/// Somebody who may log in.
public struct PersonRow: Hashable, Sendable {
    public enum State: String, Hashable, Sendable, CaseIterable { case active, disabled }

    public var kind: PeopleKind
    /// As ``PersonRow/normalised(_:)`` makes it: a key, compared as bytes.
    public var name: String
    public var role: String
    /// The branches that an operator sees; nil for all.
    public var branches: [ServerID]?
    /// A salted hash with its parameters, in PHC form. No password is anywhere.
    public var password: Secret<String>
    public var state: State
    /// Wrong passwords since the last right one.
    public var failures: Int
    /// Until this running time of the database, in milliseconds, no password is looked at.
    public var lockedUntil: Int64
    /// Raised by whatever makes logins worthless: another password, another role, disabling.
    public var generation: Int64
    /// Milliseconds since 1970, for people to see.
    public var created: Int64
    public var changed: Int64
    /// 0 for never.
    public var lastLogin: Int64
    /// Counts changes of the row.
    public var operation: Int64

    public init(
        kind: PeopleKind, name: String, role: String, branches: [ServerID]? = nil, password: Secret<String>, state: State = .active, failures: Int = 0,
        lockedUntil: Int64 = 0, generation: Int64 = 1, created: Int64, changed: Int64, lastLogin: Int64 = 0, operation: Int64 = 0
    ) {
        self.kind = kind
        self.name = name
        self.role = role
        self.branches = branches
        self.password = password
        self.state = state
        self.failures = failures
        self.lockedUntil = lockedUntil
        self.generation = generation
        self.created = created
        self.changed = changed
        self.lastLogin = lastLogin
        self.operation = operation
    }

    /// The name as the key that it is: 1 to 64 of `a` to `z`, digits, `.`, `_`, `-` and `@`, beginning with a letter or digit. Capitals
    /// become small ones; nil for everything else.
    public static func normalised(_ name: String) -> String? {
        let name = String(decoding: name.utf8.map { (65...90).contains($0) ? $0 + 32 : $0 }, as: UTF8.self)
        func isPlain(_ byte: UInt8) -> Bool { (97...122).contains(byte) || (48...57).contains(byte) }
        guard (1...64).contains(name.utf8.count), let first = name.utf8.first, isPlain(first) else { return nil }
        return name.utf8.allSatisfy { isPlain($0) || [46, 95, 45, 64].contains($0) } ? name : nil
    }
}

extension PersonRow {
    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.kind)
        hasher.combine(self.name)
        hasher.combine(self.operation)
    }
}

/// A login, and all that was renewed from it: what ends together.
public struct LoginRow: Hashable, Sendable {
    /// Random; names the login in its tokens.
    public var id: String
    public var kind: PeopleKind
    public var name: String
    /// That of the person when the login began.
    public var generation: Int64
    /// SHA-256 of the one refresh token that is good now.
    public var digest: String
    /// Running time of the database, in milliseconds.
    public var created: Int64
    public var used: Int64
    /// Counts changes of the row.
    public var operation: Int64

    public init(
        id: String, kind: PeopleKind, name: String, generation: Int64, digest: String, created: Int64, used: Int64, operation: Int64 = 0
    ) {
        self.id = id
        self.kind = kind
        self.name = name
        self.generation = generation
        self.digest = digest
        self.created = created
        self.used = used
        self.operation = operation
    }
}

/// How often it was tried to log in from one source, as a bucket that runs empty.
public struct AttemptRow: Hashable, Sendable {
    public var kind: PeopleKind
    public var source: String
    /// What is in the bucket, in milliseconds until it is empty.
    public var level: Int64
    /// Running time of the database, in milliseconds, at which that was so.
    public var time: Int64
    /// Counts changes of the row.
    public var operation: Int64

    public init(kind: PeopleKind, source: String, level: Int64 = 0, time: Int64, operation: Int64 = 0) {
        self.kind = kind
        self.source = source
        self.level = level
        self.time = time
        self.operation = operation
    }
}
