import DataSync
import Testing

/// One fault at each step of a run, for every step that there is. Afterwards nothing is lost and nothing happened twice.
@Suite struct CrashTests {
    enum Fault: CaseIterable, Sendable, CustomTestStringConvertible {
        /// All processes die, and are started again.
        case crash
        /// A commit succeeds and nobody knows.
        case unknownCommit
        /// A transaction cannot begin: a deadlock, or the database is away for a moment.
        case busyStorage, absentStorage
        /// A request or an answer is lost.
        case cutLink

        var testDescription: String { "\(self)" }

        var places: Set<FaultPlace> {
            switch self {
            case .crash: [.transaction, .commit, .request, .answer]
            case .unknownCommit: [.commit]
            case .busyStorage, .absentStorage: [.transaction]
            case .cutLink: [.request, .answer]
            }
        }

        var error: any Error {
            switch self {
            case .crash: FaultPlan.Crash()
            case .unknownCommit: DataSyncError(.commitUnknown, operation: "test")
            case .busyStorage: DataSyncError(.storageBusy, operation: "test")
            case .absentStorage: DataSyncError(.storageUnavailable, operation: "test")
            case .cutLink: DataSyncError(.peerUnreachable, operation: "test")
            }
        }
    }

    private func makeCompany() async throws -> Company {
        var limits = Company.eagerLimits
        // Several batches, chunks and manifests, though there is little to send.
        limits.batchRecordsMax = 3
        limits.chunkRecordsMax = 2
        limits.manifestRowsMax = 2
        let company = try await Company(branches: [1, 2], limits: limits)
        try await company.write(Item(id: 1, text: "of 1"), .product, at: 1)
        try await company.write(Item(id: 1, text: "+5"), .points, at: 1)
        try await company.write(Item(id: 1, text: "poison"), .order, at: 1)
        try await company.write(Item(id: 1, text: "behind"), .order, at: 1)
        try await company.write(Item(id: 1, text: "+7"), .points, at: 1)
        try await company.write(Item(id: 2, text: "x"), .order, at: 1)
        try await company.write(Item(id: 2, text: "of the cloud"), .product, at: .cloud)
        try await company.write(Item(id: 1, text: "+9"), .points, at: .cloud)
        try await company.write(Item(id: 1, text: "of 2"), .product, at: 2)
        try await company.delete(2, .product, at: 2)
        return company
    }

    /// Two rounds of everything that is done in turn.
    private func run(_ company: Company) async throws {
        for _ in 0..<2 {
            for branch in [1, 2] as [ServerID] { try await company.cycle(branch) }
            try await company.hub.retryDue()
            try await company.hub.numberOwnRows()
        }
    }

    private func check(_ company: Company, _ what: String) async throws {
        for _ in 0..<5 {
            try await company.settle()
            company.time.advance(by: .seconds(400))
            try await company.hub.retryDue()
            try await company.hub.numberOwnRows()
        }
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == company.rows(.product, at: .cloud), "\(what), products of \(server)")
            #expect(
                try await company.rows(.points, at: server) == ["points:1/+5": "1", "points:1/+7": "1", "points:1/+9": "1"],
                "\(what), points of \(server)")
            #expect(try await company.outbox(server).allSatisfy { $0.state == .settled }, "\(what), outbox of \(server)")
        }
        #expect(try await company.rows(.product, at: .cloud).keys.contains("product:1"), "\(what)")
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "behind", "order:2": "x"], "\(what)")
        #expect(try await company.rows(.order, at: 1) == company.rows(.order, at: .cloud), "\(what)")
        for server in [.cloud, 1] as [ServerID] {
            let dead = try await company.memos(at: server, [.dead])
            #expect(dead.map(\.attempts) == [3], "\(what), dead at \(server)")
            #expect(try await company.memos(at: server, [.parked, .waiting, .suspect]) == [], "\(what)")
        }
    }

    @Test(arguments: Fault.allCases)
    func aFaultAtAnyStepLosesNothingAndDoublesNothing(fault: Fault) async throws {
        var step = 1
        while true {
            var company = try await self.makeCompany()
            company.plan.arm(step: step, at: fault.places, fault.error)
            try? await self.run(company)
            guard !company.plan.isArmed else { break }
            if fault == .crash { try company.startAll() }
            try await self.check(company, "\(fault) at step \(step)")
            step += 1
            try #require(step < 1_000)
        }
        // A run without a fault does as much; one that meets too few steps tests little.
        #expect(step > 15, "\(fault): \(step) steps")
    }

    @Test func aSecondFaultDuringTheRecoveryIsSurvivedToo() async throws {
        for first in stride(from: 3, to: 60, by: 7) {
            for second in stride(from: 1, to: 40, by: 5) {
                var company = try await self.makeCompany()
                for step in [first, second] {
                    company.plan.arm(step: step)
                    try? await self.run(company)
                    company.plan.disarm()
                    try company.startAll()
                }
                try await self.check(company, "crash at \(first), then at \(second)")
            }
        }
    }
}
