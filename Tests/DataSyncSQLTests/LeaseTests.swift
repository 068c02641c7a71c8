import DataSync
import DataSyncMySQL
import DataSyncSQL
import Testing

@Suite struct LeaseTests {
    @Test(arguments: TestDatabase.available)
    func oneAgentHoldsADatabase(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let lease = try await bench.storage.takeLease()
        #expect(await lease.isHeld())
        // Another storage on the same database, as another process has one.
        let other = SQLStorage(bench.database)
        for _ in 1...2 {
            let error = await #expect(throws: DataSyncError.self) { _ = try await other.takeLease() }
            #expect(error?.code == .leaseHeld)
        }
        #expect(await lease.isHeld())
        await lease.release()
        #expect(await !lease.isHeld())
        let second = try await self.takeSoon(other)
        #expect(await second.isHeld())
        #expect(await !lease.isHeld())
        await second.release()
        await second.release()
    }

    @Test(arguments: TestDatabase.available)
    func twoDatabasesHaveTwoLeases(kind: TestDatabase) async throws {
        let (first, second) = (try await Bench(kind), try await Bench(kind))
        let leases = [try await first.storage.takeLease(), try await second.storage.takeLease()]
        for lease in leases {
            #expect(await lease.isHeld())
            await lease.release()
        }
    }

    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
    func longNamesOfDatabasesAreToldApart() async throws {
        let bench = try await Bench(.mariadb)
        let unique = bench.database.name.prefix { $0 != " " }
        var leases: [any StorageLease] = []
        for end in ["a", "b"] {
            let name = "\(unique)_\(String(repeating: "x", count: 63 - unique.count - 1))\(end)"
            try #require(name.count == 64)
            try await bench.run("create database \(name)")
            leases.append(try await MySQLDatabase(TestDatabase.configuration(database: name)).takeLease())
        }
        for lease in leases {
            #expect(await lease.isHeld())
            await lease.release()
        }
    }

    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
    func aLeaseGoesWithItsConnection() async throws {
        let bench = try await Bench(.mariadb)
        let lease = try await bench.storage.takeLease()
        let name = bench.database.name.prefix { $0 != " " }
        let holder = try await bench.texts("select is_used_lock(concat('datasync.agent.', left('\(name)', 48)))")
        let id = try #require(holder[0][0])
        try await bench.run("kill \(id)")
        // One that is on its way out may still answer.
        #expect(try await asking { try await bench.query("select 1 from information_schema.processlist where id = \(id)").isEmpty })
        #expect(await !lease.isHeld())
        let next = try await self.takeSoon(bench.storage)
        await next.release()
        await lease.release()
    }

    /// As after a restart of the database: nobody else has taken it meanwhile.
    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint))
    func anAgentThatLosesItsLeaseTakesItAgainAndGoesOn() async throws {
        let company = try await KeepingCompany(.mariadb)
        let name = company.branch.database.name.prefix { $0 != " " }
        let holder = "select is_used_lock(concat('datasync.agent.', left('\(name)', 48)))"
        try await company.running(PassingTime()) { services in
            let first = try #require(try await company.branch.texts(holder)[0][0])
            try await company.branch.run("kill \(first)")
            var second: String?
            let isHeldAgain = try await asking {
                second = try await company.branch.texts(holder)[0][0]
                return second != nil && second != first
            }
            #expect(isHeldAgain)
            try await services.tell([1], at: .branch)
            try await company.until { branch, _ in branch.states == ["note:1": 2] }
        }
    }

    /// The server notices a closed connection in its own time.
    private func takeSoon(_ storage: SQLStorage) async throws -> any StorageLease {
        var lease: (any StorageLease)?
        let isTaken = try await asking {
            do { lease = try await storage.takeLease() } catch let error as DataSyncError where error.code == .leaseHeld {}
            return lease != nil
        }
        #expect(isTaken)
        return try #require(lease)
    }
}
