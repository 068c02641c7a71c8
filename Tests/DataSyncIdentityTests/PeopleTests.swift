import DataSync
@testable import DataSyncIdentity
import DataSyncTesting
import Logging
import Synchronization
import Testing

// Who is let in, for how long, and what is said to everybody else.

final class PeopleClock: Sendable {
    private let time = Mutex<Duration>(.seconds(3_600))
    private let start: Int64 = 1_700_000_000_000

    func advance(_ duration: Duration) { self.time.withLock { $0 += duration } }

    var environment: SyncEnvironment {
        var environment = SyncEnvironment.system
        environment.runningTime = { self.time.withLock { $0 } }
        environment.wallTime = { self.start + self.time.withLock { $0 }.components.seconds * 1_000 }
        return environment
    }
}

/// Addresses, each once.
private final class Addresses: Sendable {
    private let count = Mutex(0)

    func next() -> String {
        let number = self.count.withLock { count in
            count += 1
            return count
        }
        return "198.18.\(number / 250).\(number % 250 + 1)"
    }
}

/// People of one set, over a storage in memory.
struct House<People: PeopleSet>: Sendable {
    let storage: InMemoryStorage
    let clock: PeopleClock
    let hasher = PasswordHasher(cost: PasswordCost(logRounds: 4))
    let key: MachineKey
    let register: PeopleRegister<InMemoryStorage, People>
    let login: PeopleLogin<InMemoryStorage, People>
    /// Of which each refusal has one of its own: one that was used enough is sent away before anything is looked at.
    private let addresses = Addresses()

    static var password: Secret<String> { "seven quiet kanarienvogel" }

    init(storage: InMemoryStorage = InMemoryStorage(), clock: PeopleClock = PeopleClock(), key: MachineKey? = nil, limits: LoginLimits = LoginLimits()) throws {
        self.storage = storage
        self.clock = clock
        self.key = try key ?? MachineKey.generate()
        self.register = PeopleRegister(storage: storage, hasher: self.hasher, environment: clock.environment)
        self.login = PeopleLogin(
            register: self.register, authority: TokenAuthority(key: self.key), limits: limits, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// With an administrator, `ada`.
    static func open(limits: LoginLimits = LoginLimits()) async throws -> House {
        let house = try House(limits: limits)
        try await house.register.add("ada", role: .administrator, password: Self.password, by: "test")
        return house
    }

    func person(_ name: String = "ada") async throws -> PersonRow? {
        try await self.storage.withTransaction(.snapshot) { try await $0.person(People.kind, name) }
    }

    func audit() async throws -> [String] {
        #expect(try await self.storage.verifyAudit().fault == nil)
        return try await self.storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 1_000) }.map {
            "\($0.entry.actor): \($0.entry.action) \($0.entry.subject)"
        }
    }

    func logIn(_ name: String = "ada", _ password: Secret<String>? = nil, from address: String = "192.0.2.1") async throws -> LoginAnswer {
        try await self.login.logIn(name, password ?? Self.password, from: address)
    }

    /// Every refusal is the same, and costs one hash.
    func expectRefusal(
        _ name: String = "ada", _ password: Secret<String> = "not the password", sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let before = self.hasher.runs
        let error = await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) {
            _ = try await self.logIn(name, password, from: self.addresses.next())
        }
        #expect(error?.code == .unauthorized, sourceLocation: sourceLocation)
        #expect(error?.detail == "name or password are not right", sourceLocation: sourceLocation)
        #expect(self.hasher.runs == before + 1, sourceLocation: sourceLocation)
    }

    func isLetIn(_ answer: LoginAnswer) async -> Bool { (try? await self.login.verify(answer.accessToken.revealed)) != nil }
}

@Suite struct PeopleLoginTests {
    typealias Operators = House<OperatorSet>

    @Test func whoHasThePasswordIsLetIn() async throws {
        let house = try await Operators.open()
        let answer = try await house.logIn("Ada")
        #expect(answer.name == "ada")
        #expect(answer.role == "admin")
        #expect(answer.lifetime == .seconds(600))
        let caller = try await house.login.verify(answer.accessToken.revealed)
        #expect(caller.name == "ada")
        #expect(caller.role == .admin)
        #expect(caller.actor == "operator ada")
        #expect(try await house.audit() == ["test: person.add operator ada, admin", "address 192.0.2.1: login operator ada"])
        #expect(try await house.person()?.lastLogin ?? 0 > 0)
    }

    @Test func everybodyElseIsRefusedAlikeAndInTheSameTime() async throws {
        let house = try await Operators.open()
        try await house.register.add("eve", role: .viewer, password: Operators.password, by: "test")
        try await house.register.disable("eve", by: "test")
        try await house.expectRefusal("ada")
        try await house.expectRefusal("nobody")
        try await house.expectRefusal("eve")
        try await house.expectRefusal("eve", Operators.password)
        try await house.expectRefusal("no name at all \u{0}")
        try await house.expectRefusal("")
        let refused = try await house.audit().filter { $0.contains("login.refused") }
        #expect(refused.count == 6)
        #expect(refused[0].hasSuffix("operator ada, wrong password"))
        // Somebody may type a password for a name.
        #expect(refused[1].hasSuffix("a name that does not exist"))
        #expect(refused[3].hasSuffix("operator eve, disabled"))
    }

    @Test func wrongPasswordsMakeTheNextOneWait() async throws {
        let house = try await Operators.open()
        for _ in 0..<4 { try await house.expectRefusal() }
        #expect(try await house.person()?.failures == 4)
        _ = try await house.logIn(from: "203.0.113.1")
        #expect(try await house.person()?.failures == 0)

        for _ in 0..<5 { try await house.expectRefusal() }
        // Not looked at, and not counted: the right one is refused alike.
        try await house.expectRefusal("ada", Operators.password)
        try await house.expectRefusal()
        #expect(try await house.person()?.failures == 5)
        house.clock.advance(.seconds(1))
        try await house.expectRefusal()
        #expect(try await house.person()?.failures == 6)
        house.clock.advance(.seconds(1))
        try await house.expectRefusal("ada", Operators.password)
        house.clock.advance(.seconds(1))
        _ = try await house.logIn(from: "203.0.113.1")
        #expect(try await house.person()?.failures == 0)
    }

    @Test func theWaitDoublesToItsEnd() {
        let limits = LoginLimits()
        let delays = [0, 4, 5, 6, 10, 14, 15, 16, 99, 100_000].map { limits.delay(failures: $0) / 1_000 }
        #expect(delays == [0, 0, 1, 2, 32, 512, 900, 900, 900, 900])
    }

    @Test func aHundredWrongOnesAreForAnAdministratorToForgive() async throws {
        let house = try await Operators.open()
        for _ in 0..<100 {
            house.clock.advance(.seconds(900))
            try await house.expectRefusal()
        }
        house.clock.advance(.seconds(90_000))
        try await house.expectRefusal("ada", Operators.password)
        #expect(try await house.person()?.failures == 100)
        #expect(try await house.audit().last?.hasSuffix("operator ada, locked") == true)
        try await house.register.unlock("ada", by: "root")
        _ = try await house.logIn()
    }

    /// Two guesses at the same moment count as two.
    @Test func guessesAtTheSameMomentAreAllCounted() async throws {
        let house = try await Operators.open()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<4 {
                group.addTask { _ = try? await house.logIn("ada", "not the password", from: "192.0.2.\(number)") }
            }
            try await group.waitForAll()
        }
        #expect(try await house.person()?.failures == 4)
    }

    @Test func aSourceThatTriesTooOftenIsSentAwayUnseen() async throws {
        let house = try await Operators.open()
        for _ in 0..<20 { _ = try? await house.logIn("nobody", "not the password") }
        let before = (house.hasher.runs, try await house.audit().count)
        let refused = await #expect(throws: TooManyAttempts.self) { _ = try await house.logIn() }
        #expect(refused?.retryAfter == .seconds(3))
        #expect(house.hasher.runs == before.0)
        #expect(try await house.audit().count == before.1)
        // Others are let in, and so is this one when its time is over.
        _ = try await house.logIn(from: "192.0.2.2")
        house.clock.advance(.seconds(3))
        _ = try await house.logIn()
        // Another process counts in the same rows.
        let other = PeopleLogin(
            register: PeopleRegister<InMemoryStorage, OperatorSet>(storage: house.storage, hasher: house.hasher, environment: house.clock.environment),
            authority: TokenAuthority(key: house.key))
        await #expect(throws: TooManyAttempts.self) { _ = try await other.logIn("ada", Operators.password, from: "192.0.2.1") }
    }

    @Test(arguments: [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"), ("2001:DB8:1:2::9%eth0", "2001:db8:1:2::/64"), ("2001:db8::1", "2001:db8:0:0::/64"), ("::1", "0:0:0:0::/64"),
        ("fe80::1", "fe80:0:0:0::/64"), ("2001:0db8:0001::", "2001:db8:1:0::/64"), ("unknown", "unknown"),
    ])
    func sourcesAreAddressesOrNetworks(address: String, source: String) {
        #expect(AttemptSource.of(address) == source)
    }

    /// That the right password of somebody locked out costs another hash would tell that it is right.
    @Test func anOldHashIsNotMadeAnewForWhoIsNotLetIn() async throws {
        let house = try await Operators.open()
        let old = try await PasswordHasher(cost: PasswordCost(logRounds: 3)).hash(Operators.password)
        try await house.storage.withTransaction { transaction in
            guard var row = try await transaction.person(.operators, "ada") else { return }
            (row.password, row.failures) = (old, 100)
            #expect(try await transaction.replacePerson(row))
        }
        try await house.expectRefusal("ada", Operators.password)
        #expect(try await house.person()?.password == old)
    }

    @Test func anOldHashIsMadeAnewWhenSomebodyLogsIn() async throws {
        let house = try await Operators.open()
        let old = try await PasswordHasher(cost: PasswordCost(logRounds: 3)).hash(Operators.password)
        try await house.storage.withTransaction { transaction in
            guard var row = try await transaction.person(.operators, "ada") else { return }
            row.password = old
            #expect(try await transaction.replacePerson(row))
        }
        try await house.expectRefusal()
        #expect(try await house.person()?.password == old)
        let answer = try await house.logIn()
        #expect(try await house.person()?.password.revealed.hasPrefix("$scrypt$ln=4,") == true)
        #expect(await house.isLetIn(answer))
        _ = try await house.logIn()
    }
}

@Suite struct StayingInTests {
    typealias Operators = House<OperatorSet>

    @Test func aRefreshTokenIsGoodOnce() async throws {
        let house = try await Operators.open()
        let first = try await house.logIn()
        house.clock.advance(.seconds(700))
        #expect(!(await house.isLetIn(first)))
        let second = try await house.login.renew(first.refreshToken, from: "192.0.2.1")
        #expect(await house.isLetIn(second))
        let third = try await house.login.renew(second.refreshToken, from: "192.0.2.1")
        // Whoever comes with one that was used has it from somebody, or somebody has it from him: both are out.
        let reused = await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(first.refreshToken, from: "203.0.113.9") }
        #expect(reused?.code == .unauthorized)
        #expect(!(await house.isLetIn(third)))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(third.refreshToken, from: "192.0.2.1") }
        #expect(try await house.audit().count { $0.contains("login.reuse") } == 1)
        #expect(try await house.audit().last == "address 203.0.113.9: login.reuse operator ada")
        _ = try await house.logIn()
    }

    @Test func twoThatRenewAtTheSameMomentAreOneTooMany() async throws {
        let house = try await Operators.open()
        let answer = try await house.logIn()
        let renewed = await withTaskGroup(of: LoginAnswer?.self) { group in
            for _ in 0..<2 { group.addTask { try? await house.login.renew(answer.refreshToken, from: "192.0.2.1") } }
            return await group.reduce(into: [LoginAnswer]()) { renewed, answer in if let answer { renewed.append(answer) } }
        }
        #expect(renewed.count == 1)
        #expect(!(await house.isLetIn(renewed[0])))
    }

    @Test(arguments: [
        "", "dsr1", "dsr1.operator.", "dsr1.operator..", "dsr1.staff.LOGIN.SECRET", "dsr1.operator.LOGIN.SECREU", "dsr2.operator.LOGIN.SECRET",
        "dsr1.operator.00000000000000000000000000000000.SECRET", "dsr1.operator.LOGIN.SECRET.", "dsr1.operator.LOGIN", "DSR1.operator.LOGIN.SECRET",
    ])
    func whatIsNoRefreshTokenIsRefused(text: String) async throws {
        let house = try await Operators.open()
        let answer = try await house.logIn()
        let parts = answer.refreshToken.revealed.split(separator: ".").map { String($0) }
        let wrong = text.replacing("SECRET", with: parts[3]).replacing("SECREU", with: String(parts[3].dropLast()) + "g").replacing("LOGIN", with: parts[2])
        let error = await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(Secret(wrong), from: "192.0.2.1") }
        #expect(error?.code == .unauthorized)
        #expect(!String(reflecting: error).contains(parts[3]))
    }

    @Test func aLoginEndsByItself() async throws {
        let house = try await Operators.open()
        let idle = try await house.logIn()
        house.clock.advance(.seconds(7 * 86_400 + 1))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(idle.refreshToken, from: "192.0.2.1") }
        var used = try await house.logIn()
        for _ in 0..<5 {
            house.clock.advance(.seconds(6 * 86_400))
            used = try await house.login.renew(used.refreshToken, from: "192.0.2.1")
        }
        house.clock.advance(.seconds(1))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(used.refreshToken, from: "192.0.2.1") }
        // What has ended by itself is no reuse.
        #expect(try await house.audit().count { $0.contains("login.reuse") } == 0)
    }

    @Test func whoLogsOutIsOutAtOnce() async throws {
        let house = try await Operators.open()
        let (first, second) = (try await house.logIn(), try await house.logIn())
        let caller = try await house.login.verify(first.accessToken.revealed)
        try await house.login.logOut(caller)
        try await house.login.logOut(caller)
        #expect(!(await house.isLetIn(first)))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(first.refreshToken, from: "192.0.2.1") }
        #expect(await house.isLetIn(second))
        #expect(try await house.audit().count { $0.contains("logout") } == 1)
    }

    /// Whatever an administrator decides about somebody ends what was given out before, at this moment.
    @Test(arguments: ["disable", "password", "role"])
    func decisionsEndLogins(what: String) async throws {
        let house = try await Operators.open()
        try await house.register.add("eve", role: .viewer, branches: [7], password: Operators.password, by: "test")
        let answer = try await house.logIn("eve")
        let caller = try await house.login.verify(answer.accessToken.revealed)
        #expect(caller.branches == [7])
        #expect(caller.sees(7) && !caller.sees(8))
        switch what {
        case "disable":
            try await house.register.disable("eve", by: "test")
            try await house.register.enable("eve", by: "test")
        case "password": try await house.register.setPassword("eight quiet kanarienvogel", of: "eve", by: "test")
        default: try await house.register.setRole(.operator, branches: nil, of: "eve", by: "test")
        }
        #expect(!(await house.isLetIn(answer)))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(answer.refreshToken, from: "192.0.2.1") }
        let again = try await house.logIn("eve", what == "password" ? "eight quiet kanarienvogel" : nil)
        #expect(try await house.login.verify(again.accessToken.revealed).role == (what == "role" ? .operator : .viewer))
    }

    /// The generation alone, whatever became of the login; and the login alone.
    @Test(arguments: [true, false])
    func generationAndLoginAreEachEnough(isGeneration: Bool) async throws {
        let house = try await Operators.open()
        let answer = try await house.logIn()
        try await house.storage.withTransaction { transaction in
            guard isGeneration else { return try await transaction.removeLogins(.operators, of: "ada") }
            guard var row = try await transaction.person(.operators, "ada") else { return }
            row.generation += 1
            #expect(try await transaction.replacePerson(row))
        }
        #expect(!(await house.isLetIn(answer)))
        await #expect(throws: DataSyncError.self) { _ = try await house.login.renew(answer.refreshToken, from: "192.0.2.1") }
    }

    @Test func anotherPasswordNeedsTheOldOne() async throws {
        let house = try await Operators.open()
        let caller = try await house.login.verify(try await house.logIn().accessToken.revealed)
        let wrong = await #expect(throws: DataSyncError.self) {
            try await house.login.changePassword(of: caller, from: "not the password", to: "eight quiet kanarienvogel", address: "192.0.2.1")
        }
        #expect(wrong?.code == .unauthorized)
        #expect(try await house.person()?.failures == 1)
        let weak = await #expect(throws: DataSyncError.self) {
            try await house.login.changePassword(of: caller, from: Operators.password, to: "password1234", address: "192.0.2.1")
        }
        #expect(weak?.underlying as? PasswordWeakness == .common)
        try await house.login.changePassword(of: caller, from: Operators.password, to: "eight quiet kanarienvogel", address: "192.0.2.1")
        try await house.expectRefusal("ada", Operators.password)
        _ = try await house.logIn("ada", "eight quiet kanarienvogel")
    }
}

@Suite struct PeopleRegisterTests {
    typealias Operators = House<OperatorSet>

    @Test func theLastAdministratorStays() async throws {
        let house = try await Operators.open()
        try await house.register.add("bob", role: .admin, branches: [7], password: Operators.password, by: "test")
        let attempts: [@Sendable () async throws -> Void] = [
            { try await house.register.disable("ada", by: "test") },
            { try await house.register.setRole(.operator, branches: nil, of: "ada", by: "test") },
            { try await house.register.setRole(.admin, branches: [7], of: "ada", by: "test") },
        ]
        for attempt in attempts {
            let error = await #expect(throws: DataSyncError.self) { try await attempt() }
            #expect(error?.code == .invalidState)
        }
        try await house.register.setRole(.admin, branches: nil, of: "bob", by: "test")
        try await house.register.disable("ada", by: "test")
        let error = await #expect(throws: DataSyncError.self) { try await house.register.disable("bob", by: "test") }
        #expect(error?.code == .invalidState)
    }

    @Test func namesAreTakenOnceAndNobodyIsUnknown() async throws {
        let house = try await Operators.open()
        let codes: [(DataSyncError.Code, @Sendable () async throws -> Void)] = [
            (.invalidState, { try await house.register.add("ADA", role: .viewer, password: Operators.password, by: "test") }),
            (.invalidInput, { try await house.register.add("", role: .viewer, password: Operators.password, by: "test") }),
            (.invalidInput, { try await house.register.add("a b", role: .viewer, password: Operators.password, by: "test") }),
            (.invalidInput, { try await house.register.add("eve", role: .viewer, password: "short", by: "test") }),
            (.notFound, { try await house.register.disable("eve", by: "test") }),
            (.notFound, { try await house.register.setPassword("eight quiet kanarienvogel", of: "eve", by: "test") }),
            (.invalidState, { try await house.register.enable("ada", by: "test") }),
        ]
        for (code, attempt) in codes {
            let error = await #expect(throws: DataSyncError.self) { try await attempt() }
            #expect(error?.code == code)
        }
        #expect(try await house.audit() == ["test: person.add operator ada, admin"])
    }

    @Test func everyDecisionIsALineOfTheAudit() async throws {
        let house = try await Operators.open()
        try await house.register.add("eve", role: .viewer, branches: [8, 7, 8], password: Operators.password, by: "root")
        try await house.register.setRole(.operator, branches: [9], of: "eve", by: "root")
        try await house.register.setPassword("eight quiet kanarienvogel", of: "eve", by: "root")
        try await house.register.disable("eve", by: "root")
        try await house.register.enable("eve", by: "root")
        try await house.register.unlock("eve", by: "root")
        #expect(
            try await house.audit().dropFirst() == [
                "root: person.add operator eve, viewer, branches 8 7 8", "root: person.role operator eve, operator, branches 9",
                "root: person.password operator eve, operator, branches 9", "root: person.disable operator eve, operator, branches 9",
                "root: person.enable operator eve, operator, branches 9", "root: person.unlock operator eve, operator, branches 9",
            ])
        #expect(try await house.person("eve")?.branches == [9])
    }

    @Test func theFirstAdministratorComesInByATokenOnce() async throws {
        let house = try Operators()
        let old = try await house.register.makeSetupToken(by: "root")
        let token = try await house.register.makeSetupToken(by: "root")
        #expect("\(token)" == "SetupToken(operator)")
        func setUp(_ text: String, _ name: String = "ada", _ password: Secret<String> = Operators.password) async throws {
            house.clock.advance(.seconds(30))
            try await house.login.setUp(Secret(text), name: name, password: password, from: "192.0.2.1")
        }
        func refusal(_ text: String) async -> DataSyncError.Code? {
            await #expect(throws: DataSyncError.self) { try await setUp(text) }?.code
        }
        #expect(await refusal(old.text) == .unauthorized)
        #expect(await refusal("") == .unauthorized)
        #expect(await refusal(token.text.replacing("operator", with: "staff")) == .unauthorized)
        // A password that is not taken leaves the token as it is.
        await #expect(throws: DataSyncError.self) { try await setUp(token.text, "ada", "password1234") }
        try await setUp(token.text)
        #expect(try await house.logIn().role == "admin")
        #expect(await refusal(token.text) == .unauthorized)
        let late = await #expect(throws: DataSyncError.self) { _ = try await house.register.makeSetupToken(by: "root") }
        #expect(late?.code == .invalidState)
        let audit = try await house.audit()
        #expect(audit.filter { $0.contains("person.setup") }.count == 2)
        #expect(audit.filter { $0.contains("setup.refused") }.count == 4)
        #expect(audit.filter { $0.contains("person.first") } == ["address 192.0.2.1: person.first operator ada"])
        #expect(!audit.contains { $0.contains(token.secret.revealed) })
    }

    @Test func aSetupTokenIsTooOldAfterAnHour() async throws {
        let house = try Operators()
        let token = try await house.register.makeSetupToken(by: "root")
        house.clock.advance(.seconds(3_601))
        let error = await #expect(throws: DataSyncError.self) {
            try await house.login.setUp(Secret(token.text), name: "ada", password: Operators.password, from: "192.0.2.1")
        }
        #expect(error?.code == .unauthorized)
    }

    /// What is kept of the two sets lies in one database, and neither finds what is the other's.
    @Test func oneDatabaseHoldsTwoSets() async throws {
        let operators = try await Operators.open()
        let staff = try House<StaffSet>(storage: operators.storage, clock: operators.clock, key: operators.key)
        try await staff.expectRefusal("ada", Operators.password)
        try await staff.register.add("ada", role: .application, password: "eight quiet kanarienvogel", by: "test")
        try await staff.expectRefusal("ada", Operators.password)
        try await operators.expectRefusal("ada", "eight quiet kanarienvogel")
        let answer = try await operators.logIn()
        await #expect(throws: DataSyncError.self) { _ = try await staff.login.renew(answer.refreshToken, from: "192.0.2.1") }
        await #expect(throws: DataSyncError.self) {
            _ = try await staff.login.renew(Secret(answer.refreshToken.revealed.replacing("operator", with: "staff")), from: "192.0.2.1")
        }
        #expect(await operators.isLetIn(answer))
    }
}
