public import DataSync
public import Logging
import Synchronization

/// What keeps logins and guesses within bounds.
public struct LoginLimits: Hashable, Sendable {
    /// From so many wrong passwords on, the next is looked at only after a time, which doubles with each.
    public var failuresFree = 5
    public var delayMax: Duration = .seconds(900)
    /// After so many wrong passwords none is looked at until an administrator unlocks.
    public var failuresMax = 100
    /// Each attempt costs its source so much time, and so much of it may be owed.
    public var attemptCost: Duration = .seconds(3)
    public var attemptsOwedMax: Duration = .seconds(60)
    /// A login ends after this without being used, and after that whatever happens.
    public var idleMax: Duration = .seconds(7 * 86_400)
    public var lifetimeMax: Duration = .seconds(30 * 86_400)

    public init() {}

    /// How long no password is looked at after so many wrong ones. 5 wait for 1 s, 10 for 32 s, 15 and more for `delayMax`.
    func delay(failures: Int) -> Int64 {
        guard failures >= self.failuresFree else { return 0 }
        return min(1_000 << Int64(min(failures - self.failuresFree, 20)), self.delayMax.components.seconds * 1_000)
    }
}

/// Too many attempts came from one source: none is looked at before the time is over.
public struct TooManyAttempts: Error, Hashable, Sendable {
    public var retryAfter: Duration
}

/// What somebody gets who logs in.
public struct LoginAnswer: Sendable {
    public var accessToken: Secret<String>
    public var lifetime: Duration
    /// Good once: the answer to it brings the next.
    public var refreshToken: Secret<String>
    public var name: String
    public var role: String
}

/// Lets people of one set in, and knows them again.
///
/// Whoever is not let in is told nothing else: not whether the name exists, whether it is disabled or locked, or whether the password was right
/// while it was not looked at. All that takes the time of one hash.
public struct PeopleLogin<Storage: SyncStorage, People: PeopleSet>: Sendable where Storage.Transaction: PersonTable {
    public let register: PeopleRegister<Storage, People>
    private let authority: TokenAuthority<People>
    private let limits: LoginLimits
    private let logger: Logger
    private let sweep = Sweep()

    private var storage: Storage { self.register.storage }
    private var environment: SyncEnvironment { self.register.environment }

    public init(
        register: PeopleRegister<Storage, People>, authority: TokenAuthority<People>, limits: LoginLimits = LoginLimits(),
        logger: Logger = Logger(label: "datasync.people")
    ) {
        self.register = register
        self.authority = authority
        self.limits = limits
        self.logger = logger
    }

    private static var refusal: DataSyncError { DataSyncError(.unauthorized, operation: "login", detail: "name or password are not right") }

    // MARK: - Knowing somebody again

    /// - Parameter token: An access token.
    /// - Throws: `unauthorized`, whatever is wrong.
    public func verify(_ token: String?) async throws -> Verified<People> {
        let refusal = DataSyncError(.unauthorized, operation: "token", detail: "the token is not valid")
        guard let token else { throw refusal }
        let claims = try await self.authority.verify(token, now: self.environment.wallTime() / 1_000)
        let (row, login) = try await self.storage.withTransaction(.snapshot) { transaction in
            (try await transaction.person(People.kind, claims.subject), try await transaction.login(claims.login))
        }
        guard let row, row.state == .active, row.generation == claims.generation, let login, login.kind == People.kind, login.name == row.name,
            login.generation == row.generation, let role = People.Role(rawValue: row.role)
        else { throw refusal }
        return Verified(name: row.name, role: role, branches: row.branches, login: login.id, generation: row.generation)
    }

    // MARK: - Logging in

    /// - Parameter address: Where it comes from.
    /// - Throws: `unauthorized`; `storageBusy` or ``TooManyAttempts`` when nothing was looked at.
    public func logIn(_ name: String, _ password: Secret<String>, from address: String) async throws -> LoginAnswer {
        let source = AttemptSource.of(address)
        return try await self.register.hasher.withTurn(from: source) { hasher in
            let name = PersonRow.normalised(name)
            let row = try await self.attempt(from: source, of: name)
            let (isRight, isOld) = try await hasher.isRight(password, for: row?.password)
            guard let row else {
                try await self.refuse("login.refused", "a name that does not exist", from: address)
                throw Self.refusal
            }
            let answer = try await self.decide(row, isRight: isRight, from: address)
            // Not before it is decided: or the time would tell that a password is right which is not looked at.
            if isOld { try await self.renewHash(of: password, known: row, hasher) }
            return answer
        }
    }

    /// Hashes a password anew, at today's cost, unless it was changed meanwhile.
    private func renewHash(of password: Secret<String>, known: PersonRow, _ hasher: PasswordHasher) async throws {
        let hash = try await hasher.hash(password)
        try await self.register.unit { transaction in
            guard var row = try await transaction.person(People.kind, known.name), row.password == known.password else { return }
            row.password = hash
            guard try await transaction.replacePerson(row) else { throw DataSyncError(.storageBusy, operation: "login") }
        }
    }

    /// Counts an attempt, and looks up of whom.
    private func attempt(from source: String, of name: String?) async throws -> PersonRow? {
        try await self.register.unit { transaction in
            let age = try await self.register.clock.age(in: transaction)
            if self.sweep.isDue(at: self.environment.runningTime()) { try await self.removeOld(at: age, in: transaction) }
            var bucket = try await transaction.attempts(People.kind, from: source, time: age)
            bucket.level = max(0, bucket.level - max(0, age - bucket.time)) + self.limits.attemptCost.components.seconds * 1_000
            // The clocks of replicas differ a little: a bucket must not drain by the difference again and again.
            bucket.time = max(bucket.time, age)
            let over = bucket.level - self.limits.attemptsOwedMax.components.seconds * 1_000
            // What is sent away is not counted: or a flood would shut its source out for ever.
            guard over <= 0 else { throw TooManyAttempts(retryAfter: .milliseconds(over)) }
            guard try await transaction.replaceAttempts(bucket) else { throw DataSyncError(.storageBusy, operation: "login") }
            guard let name else { return nil }
            return try await transaction.person(People.kind, name)
        }
    }

    private func removeOld(at age: Int64, in transaction: Storage.Transaction) async throws {
        let limits = self.limits
        try await transaction.removeLogins(
            People.kind, createdBefore: age - limits.lifetimeMax.components.seconds * 1_000, usedBefore: age - limits.idleMax.components.seconds * 1_000)
        try await transaction.removeAttempts(People.kind, before: age - limits.attemptsOwedMax.components.seconds * 1_000)
    }

    /// What comes of a password that was compared with that of `seen`.
    private func decide(_ seen: PersonRow, isRight: Bool, from address: String) async throws -> LoginAnswer {
        let secret = OpaqueSecret.generate()
        let id = self.newID()
        let subject = "\(People.kind.rawValue) \(seen.name)"
        let decided: PersonRow? = try await self.register.unit { transaction in
            guard var row = try await transaction.person(People.kind, seen.name) else { return nil }
            let age = try await self.register.clock.age(in: transaction)
            let reason: String?
            if row.state != .active || People.Role(rawValue: row.role) == nil {
                reason = "disabled"
            } else if row.failures >= self.limits.failuresMax {
                reason = "locked"
            } else if row.lockedUntil > age {
                // Not looked at, and so not counted either: or whoever keeps guessing would keep its owner out.
                reason = "delayed"
            } else if row.password != seen.password {
                reason = "changed meanwhile"
            } else if !isRight {
                row.failures += 1
                row.lockedUntil = age + self.limits.delay(failures: row.failures)
                guard try await transaction.replacePerson(row) else { throw DataSyncError(.storageBusy, operation: "login") }
                reason = row.failures >= self.limits.failuresMax ? "wrong password, and locked now" : "wrong password"
            } else {
                reason = nil
            }
            if let reason {
                try await transaction.appendAudit(self.register.audit("login.refused", "\(subject), \(reason)", by: "address \(address)"))
                return nil
            }
            (row.failures, row.lockedUntil, row.lastLogin) = (0, 0, self.environment.wallTime())
            guard try await transaction.replacePerson(row) else { throw DataSyncError(.storageBusy, operation: "login") }
            try await transaction.insertLogin(
                LoginRow(
                    id: id, kind: People.kind, name: row.name, generation: row.generation, digest: Digest.secret(secret), created: age, used: age))
            try await transaction.appendAudit(self.register.audit("login", subject, by: "address \(address)"))
            return row
        }
        guard let decided else {
            self.logger.notice("a login was refused", metadata: ["address": "\(address)"])
            throw Self.refusal
        }
        return try await self.answer(decided, login: id, secret: secret)
    }

    private func refuse(_ action: String, _ subject: String, from address: String) async throws {
        self.logger.notice("a login was refused", metadata: ["address": "\(address)"])
        try await self.register.unit { try await $0.appendAudit(self.register.audit(action, subject, by: "address \(address)")) }
    }

    private func newID() -> String {
        var generator = SystemRandomNumberGenerator()
        return RecordUID(using: &generator).hex
    }

    private func answer(_ row: PersonRow, login id: String, secret: Secret<String>) async throws -> LoginAnswer {
        let claims = PersonClaims<People>(
            id: self.newID(), issued: self.environment.wallTime() / 1_000, subject: row.name, generation: row.generation, login: id)
        return LoginAnswer(
            accessToken: try await self.authority.sign(claims), lifetime: TokenAuthority<People>.lifetime,
            refreshToken: RefreshToken<People>(login: id, secret: secret).text, name: row.name, role: row.role)
    }

    // MARK: - Staying in

    /// Exchanges a refresh token for the next, and an access token. One that was exchanged before ends the login: two have it.
    /// - Throws: `unauthorized`, whatever is wrong.
    public func renew(_ text: Secret<String>, from address: String) async throws -> LoginAnswer {
        let refusal = DataSyncError(.unauthorized, operation: "refresh", detail: "the refresh token is not good any more")
        guard let token = RefreshToken<People>(text: text) else { throw refusal }
        // Who has none of a login that there is, is refused without a transaction that writes: on SQLite there is one at a time.
        guard try await self.storage.withTransaction(.snapshot, { try await $0.login(token.login) }) != nil else { throw refusal }
        let secret = OpaqueSecret.generate()
        let renewal: Renewal = try await self.register.unit { transaction in
            guard var login = try await transaction.login(token.login), login.kind == People.kind else { return .ended }
            let age = try await self.register.clock.age(in: transaction)
            guard let row = try await transaction.person(People.kind, login.name), row.state == .active, row.generation == login.generation,
                age - login.created <= self.limits.lifetimeMax.components.seconds * 1_000,
                age - login.used <= self.limits.idleMax.components.seconds * 1_000
            else {
                _ = try await transaction.removeLogin(login.id)
                return .ended
            }
            guard OpaqueSecret.matches(token.secret, login.digest) else {
                guard try await transaction.removeLogin(login.id) else { throw DataSyncError(.storageBusy, operation: "refresh") }
                try await transaction.appendAudit(
                    self.register.audit("login.reuse", "\(People.kind.rawValue) \(login.name)", by: "address \(address)"))
                return .reused(login.name)
            }
            (login.digest, login.used) = (Digest.secret(secret), age)
            guard try await transaction.replaceLogin(login) else { throw DataSyncError(.storageBusy, operation: "refresh") }
            return .renewed(row)
        }
        switch renewal {
        case .renewed(let row): return try await self.answer(row, login: token.login, secret: secret)
        case .reused(let name):
            self.logger.warning(
                "a refresh token was used twice: the login is ended, since somebody else may have the token",
                metadata: ["person": "\(name)", "address": "\(address)"])
            throw refusal
        case .ended: throw refusal
        }
    }

    /// Ends the login that `caller` came with: what was given out for it is worth nothing from this moment on.
    public func logOut(_ caller: Verified<People>) async throws {
        try await self.register.unit { transaction in
            guard try await transaction.removeLogin(caller.login) else { return }
            try await transaction.appendAudit(self.register.audit("logout", caller.actor, by: caller.actor))
        }
    }

    // MARK: - Passwords

    /// Gives `caller` another password, if the old one is right. All logins end.
    /// - Throws: `unauthorized` for a wrong old one, which counts as a wrong password at a login does.
    public func changePassword(of caller: Verified<People>, from old: Secret<String>, to new: Secret<String>, address: String) async throws {
        try PasswordPolicy.check(new, of: caller.name)
        _ = try await self.logIn(caller.name, old, from: address)
        try await self.register.setPassword(new, of: caller.name, by: caller.actor, generation: caller.generation)
    }

    /// Makes whoever has the setup token the first administrator.
    /// - Throws: `unauthorized`, whatever is wrong with the token; `invalidInput` for a name or a password that is not taken.
    public func setUp(_ text: Secret<String>, name: String, password: Secret<String>, from address: String) async throws {
        let refusal = DataSyncError(.unauthorized, operation: "setup", detail: "the setup token is not valid, was used, or is too old")
        let source = AttemptSource.of(address)
        try await self.register.hasher.withTurn(from: source) { hasher in
            _ = try await self.attempt(from: source, of: nil)
            let token = SetupToken<People>(text: text.revealed)
            guard let token, try await self.storage.withTransaction(.snapshot, { try await self.isGood(token, in: $0) }) else {
                try await self.refuse("setup.refused", "a token for the first administrator", from: address)
                throw refusal
            }
            guard let name = PersonRow.normalised(name) else {
                throw DataSyncError(.invalidInput, operation: "setup", detail: "the name is not one that is taken")
            }
            try PasswordPolicy.check(password, of: name)
            let hash = try await hasher.hash(password)
            try await self.register.unit { transaction in
                try await self.register.takeTurn(in: transaction)
                guard try await self.isGood(token, in: transaction) else { throw refusal }
                try await transaction.removeSetting(PeopleRegister<Storage, People>.setupSetting)
                try await self.register.insert(name, role: .administrator, branches: nil, hash: hash, in: transaction)
                try await transaction.appendAudit(
                    self.register.audit("person.first", "\(People.kind.rawValue) \(name)", by: "address \(address)"))
            }
        }
    }

    private func isGood(_ token: SetupToken<People>, in transaction: Storage.Transaction) async throws -> Bool {
        let parts = try await transaction.setting(PeopleRegister<Storage, People>.setupSetting)?.split(separator: " ").map { String($0) } ?? []
        guard parts.count == 2, let expiry = Int64(parts[1]), OpaqueSecret.matches(token.secret, parts[0]) else { return false }
        guard try await self.register.clock.age(in: transaction) <= expiry else { return false }
        return try await self.register.administrators(in: transaction).isEmpty
    }
}

/// What becomes of a refresh token.
private enum Renewal: Sendable { case renewed(PersonRow), reused(String), ended }

/// When what is old was removed last by this process.
private final class Sweep: Sendable {
    private let last = Mutex<Duration?>(nil)
    private static let interval: Duration = .seconds(600)

    func isDue(at time: Duration) -> Bool {
        self.last.withLock { last in
            if let known = last, time - known < Self.interval { return false }
            last = time
            return true
        }
    }
}

/// What a refresh token is made of: which login, and the secret that is good now.
struct RefreshToken<People: PeopleSet> {
    let login: String
    let secret: Secret<String>

    init(login: String, secret: Secret<String>) {
        self.login = login
        self.secret = secret
    }

    private static var prefix: String { "dsr1.\(People.kind.rawValue)." }

    var text: Secret<String> { Secret("\(Self.prefix)\(self.login).\(self.secret.revealed)") }

    /// Nil for what is no refresh token of this set.
    init?(text: Secret<String>) {
        guard text.revealed.hasPrefix(Self.prefix) else { return nil }
        let parts = text.revealed.dropFirst(Self.prefix.count).split(separator: ".", omittingEmptySubsequences: false).map { String($0) }
        guard parts.count == 2, parts[0].utf8.count == 32, parts[1].utf8.count == OpaqueSecret.characters else { return nil }
        self.init(login: parts[0], secret: Secret(parts[1]))
    }
}

/// By what attempts are counted: an address, or of the newer ones the network, of which one customer has all.
package enum AttemptSource {
    package static func of(_ address: String) -> String {
        guard address.contains(":") else { return String(address.prefix(64)) }
        // Without the zone, and with `::` filled up.
        let text = address.prefix { $0 != "%" }.lowercased()
        if let dotted = text.split(separator: ":").last, dotted.contains("."), text.hasPrefix("::ffff:") { return String(dotted.prefix(64)) }
        let halves = text.components(of: "::")
        let front = halves[0].split(separator: ":").map { String($0) }
        let back = halves.count > 1 ? halves[1].split(separator: ":").map { String($0) } : []
        let groups = front + Array(repeating: "0", count: max(0, 8 - front.count - back.count)) + back
        return groups.prefix(4).map { String($0.drop { $0 == "0" }.prefix(4)) }.map { $0.isEmpty ? "0" : $0 }.joined(separator: ":") + "::/64"
    }
}

extension String {
    fileprivate func components(of separator: String) -> [Substring] {
        guard let range = self.firstRange(of: separator) else { return [self[...]] }
        return [self[..<range.lowerBound], self[range.upperBound...]]
    }
}
