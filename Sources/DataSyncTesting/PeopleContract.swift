public import DataSync
public import Testing

/// What every storage that keeps people must do, beside ``StorageContract``. Each case runs against a fresh, empty storage.
public struct PeopleContract<Storage: SyncStorage>: Sendable where Storage.Transaction: PersonTable {
    public enum Case: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case aPersonIsReplacedOnlyByWhoReadItLast, theTwoSetsDoNotMeet, namesAreComparedAsBytes, allBranchesAreNotNone
        case aLoginIsRenewedByOne, loginsEndByPersonAndByAge, attemptsAreCountedOnce, oldAttemptsGo

        public var testDescription: String { self.rawValue }
    }

    private let makeStorage: @Sendable () async throws -> Storage

    public init(makeStorage: @escaping @Sendable () async throws -> Storage) { self.makeStorage = makeStorage }

    public func run(_ testCase: Case) async throws {
        let storage = try await self.makeStorage()
        switch testCase {
        case .aPersonIsReplacedOnlyByWhoReadItLast: try await self.persons(storage)
        case .theTwoSetsDoNotMeet: try await self.sets(storage)
        case .namesAreComparedAsBytes: try await self.names(storage)
        case .allBranchesAreNotNone: try await self.branches(storage)
        case .aLoginIsRenewedByOne: try await self.renewals(storage)
        case .loginsEndByPersonAndByAge: try await self.endedLogins(storage)
        case .attemptsAreCountedOnce: try await self.attempts(storage)
        case .oldAttemptsGo: try await self.oldAttempts(storage)
        }
    }

    private static func person(_ name: String, _ kind: PeopleKind = .operators) -> PersonRow {
        PersonRow(kind: kind, name: name, role: "viewer", password: "$scrypt$", created: 5, changed: 6)
    }

    private static func login(_ id: String, of name: String = "ada", _ kind: PeopleKind = .operators, created: Int64 = 10, used: Int64 = 10) -> LoginRow {
        LoginRow(id: id, kind: kind, name: name, generation: 1, digest: "first", created: created, used: used)
    }

    private func persons(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.insertPerson(Self.person("ada")) }
        let taken = await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
                try await transaction.insertPerson(Self.person("ada"))
            }
        }
        #expect(taken?.code == .invalidState)
        var row = try #require(try await storage.withTransaction(.snapshot) { try await $0.person(.operators, "ada") })
        #expect(row == Self.person("ada"))
        row.role = "admin"
        row.branches = [7, 8]
        row.password = "$scrypt$other"
        row.state = .disabled
        (row.failures, row.lockedUntil, row.generation, row.changed, row.lastLogin) = (3, 99, 2, 7, 8)
        let changed = row
        #expect(try await storage.withTransaction { try await $0.replacePerson(changed) })
        #expect(try await storage.withTransaction { try await $0.replacePerson(changed) } == false)
        row.operation += 1
        #expect(try await storage.withTransaction(.snapshot) { try await $0.person(.operators, "ada") } == row)
        let nobody = Self.person("nobody")
        #expect(try await storage.withTransaction { try await $0.replacePerson(nobody) } == false)
        try await storage.withTransaction { try await $0.insertPerson(Self.person("aaron")) }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.persons(.operators) }.map(\.name) == ["aaron", "ada"])
    }

    private func sets(_ storage: Storage) async throws {
        try await storage.withTransaction { transaction in
            try await transaction.insertPerson(Self.person("ada"))
            try await transaction.insertLogin(Self.login("a"))
            try await transaction.insertLogin(Self.login("b", .staff))
        }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.person(.staff, "ada") } == nil)
        #expect(try await storage.withTransaction(.snapshot) { try await $0.persons(.staff) } == [])
        try await storage.withTransaction { try await $0.insertPerson(Self.person("ada", .staff)) }
        try await storage.withTransaction { try await $0.removeLogins(.staff, of: "ada") }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.login("a") }?.kind == .operators)
        #expect(try await storage.withTransaction(.snapshot) { try await $0.login("b") } == nil)
    }

    private func names(_ storage: Storage) async throws {
        let names = ["ada", "ada.", "ada-", "ada_", "adb", "adé", "Ada"]
        try await storage.withTransaction { transaction in
            for name in names { try await transaction.insertPerson(Self.person(name)) }
        }
        for name in names {
            #expect(try await storage.withTransaction(.snapshot) { try await $0.person(.operators, name) }?.name == name)
        }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.person(.operators, "ADA") } == nil)
    }

    private func branches(_ storage: Storage) async throws {
        for (name, branches) in [("all", nil), ("none", []), ("some", [3, 1, 2_147_483_647])] as [(String, [ServerID]?)] {
            var row = Self.person(name)
            row.branches = branches
            let person = row
            try await storage.withTransaction { try await $0.insertPerson(person) }
            #expect(try await storage.withTransaction(.snapshot) { try await $0.person(.operators, name) }?.branches == branches)
        }
    }

    private func renewals(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.insertLogin(Self.login("a")) }
        var row = try #require(try await storage.withTransaction(.snapshot) { try await $0.login("a") })
        #expect(row == Self.login("a"))
        (row.digest, row.used) = ("second", 20)
        let changed = row
        #expect(try await storage.withTransaction { try await $0.replaceLogin(changed) })
        #expect(try await storage.withTransaction { try await $0.replaceLogin(changed) } == false)
        row.operation += 1
        #expect(try await storage.withTransaction(.snapshot) { try await $0.login("a") } == row)
        #expect(try await storage.withTransaction { try await $0.removeLogin("a") })
        #expect(try await storage.withTransaction { try await $0.removeLogin("a") } == false)
        let gone = row
        #expect(try await storage.withTransaction { try await $0.replaceLogin(gone) } == false)
        #expect(try await storage.withTransaction(.snapshot) { try await $0.login("a") } == nil)
    }

    private func endedLogins(_ storage: Storage) async throws {
        try await storage.withTransaction { transaction in
            try await transaction.insertLogin(Self.login("a", created: 10, used: 50))
            try await transaction.insertLogin(Self.login("b", created: 30, used: 35))
            try await transaction.insertLogin(Self.login("c", created: 30, used: 50))
            try await transaction.insertLogin(Self.login("d", of: "eve", created: 30, used: 50))
            try await transaction.insertLogin(Self.login("e", .staff, created: 1, used: 1))
            try await transaction.removeLogins(.operators, createdBefore: 30, usedBefore: 50)
        }
        func left() async throws -> [String] {
            var left: [String] = []
            for id in ["a", "b", "c", "d", "e"] where try await storage.withTransaction(.snapshot, { try await $0.login(id) }) != nil { left.append(id) }
            return left
        }
        #expect(try await left() == ["c", "d", "e"])
        try await storage.withTransaction { try await $0.removeLogins(.operators, of: "ada") }
        #expect(try await left() == ["d", "e"])
    }

    /// Eight at the same moment: each sees what the one before has made of the row.
    private func attempts(_ storage: Storage) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    while true {
                        do {
                            let isDone = try await storage.withTransaction { transaction in
                                var row = try await transaction.attempts(.operators, from: "192.0.2.1", time: 5)
                                row.level += 1
                                return try await transaction.replaceAttempts(row)
                            }
                            if isDone { return }
                        } catch let error as DataSyncError where error.code == .storageBusy {}
                    }
                }
            }
            try await group.waitForAll()
        }
        let row = try await storage.withTransaction { try await $0.attempts(.operators, from: "192.0.2.1", time: 6) }
        #expect(row == AttemptRow(kind: .operators, source: "192.0.2.1", level: 8, time: 5, operation: 8))
        #expect(try await storage.withTransaction { try await $0.attempts(.staff, from: "192.0.2.1", time: 6) }.level == 0)
        #expect(try await storage.withTransaction { try await $0.attempts(.operators, from: "192.0.2.2", time: 6) }.level == 0)
    }

    private func oldAttempts(_ storage: Storage) async throws {
        for (source, time) in [("a", 1), ("b", 2)] as [(String, Int64)] {
            let isReplaced = try await storage.withTransaction { transaction in
                var row = try await transaction.attempts(.operators, from: source, time: time)
                row.level = 9
                return try await transaction.replaceAttempts(row)
            }
            #expect(isReplaced)
        }
        try await storage.withTransaction { try await $0.removeAttempts(.staff, before: 100) }
        try await storage.withTransaction { try await $0.removeAttempts(.operators, before: 2) }
        #expect(try await storage.withTransaction { try await $0.attempts(.operators, from: "a", time: 7) }.level == 0)
        #expect(try await storage.withTransaction { try await $0.attempts(.operators, from: "b", time: 7) }.level == 9)
    }
}
