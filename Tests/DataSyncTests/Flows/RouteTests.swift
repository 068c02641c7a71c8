import DataSync
import Testing

@Suite struct RouteTests {
    @Test func whatGoesUpReachesTheCloudAlone() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "hello"), .visit, at: 1)
        try await company.settle()
        #expect(try await company.rows(.visit, at: .cloud) == ["visit:1": "hello"])
        #expect(try await company.rows(.visit, at: 2) == [:])
        #expect(try await company.log(4, .all) == [])
        try await company.delete(1, .visit, at: 1)
        try await company.settle()
        #expect(try await company.rows(.visit, at: .cloud) == [:])
    }

    @Test func anOrderIsBetweenTheCloudAndItsHome() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "new"), .order, at: 1)
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "new"])
        // The cloud's application names the home.
        try await company.write(Item(id: 1, text: "paid"), .order, at: .cloud, to: 1)
        try await company.settle()
        #expect(try await company.rows(.order, at: 1) == ["order:1": "paid"])
        #expect(try await company.rows(.order, at: 2) == [:])
        #expect(try await company.log(3, .server(2)) == [])
    }

    @Test func twoBranchesOrdersOfOneNameAreTwoEntities() async throws {
        let company = try await Company(branches: [1, 2])
        for branch in [1, 2] as [ServerID] { try await company.write(Item(id: 1, text: "of \(branch)"), .order, at: branch) }
        try await company.settle()
        for branch in [1, 2] as [ServerID] {
            #expect(try await company.rows(.order, at: branch) == ["order:1": "of \(branch)"])
            #expect(try await company.log(3, .server(branch)).map(\.scope) == [branch])
        }
        #expect(try await company.memos(at: .cloud) == [])
    }

    @Test func aProductReachesEverybodyWhereverItIsWritten() async throws {
        let company = try await Company(branches: [1, 2, 3])
        try await company.write(Item(id: 1, text: "of the cloud"), .product, at: .cloud)
        try await company.write(Item(id: 2, text: "of 2"), .product, at: 2)
        try await company.settle()
        for server in [.cloud, 1, 2, 3] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "of the cloud", "product:2": "of 2"], "\(server)")
        }
    }

    @Test func aParcelReachesTheServerThatItNames() async throws {
        let company = try await Company(branches: [1, 2, 3])
        try await company.write(Item(id: 1, text: "to 2"), .parcel, at: 1, to: 2)
        try await company.write(Item(id: 2, text: "to the cloud"), .parcel, at: 1)
        try await company.write(Item(id: 3, text: "to 3"), .parcel, at: .cloud, to: 3)
        try await company.settle()
        #expect(try await company.rows(.parcel, at: .cloud) == ["parcel:1": "to 2", "parcel:2": "to the cloud", "parcel:3": "to 3"])
        #expect(try await company.rows(.parcel, at: 2) == ["parcel:1": "to 2"])
        #expect(try await company.rows(.parcel, at: 3) == ["parcel:3": "to 3"])
    }

    @Test func aParcelToWhereItsSenderMaySendNothingIsForbidden() async throws {
        let company = try await Company(branches: [1, 2, 3])
        try await company.write(Item(id: 1, text: "to 3"), .parcel, at: 1, to: 3)
        let report = try await company.cycle(1)
        #expect(report.pushed == [.parked: 1])
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.forbidden])
        #expect(try await company.rows(.parcel, at: .cloud) == [:])
    }

    @Test func aParcelOfTheCloudToNobodyIsDeadWhereItWasWritten() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "to 9"), .parcel, at: .cloud, to: 9)
        try await company.write(Item(id: 2, text: "to 1"), .parcel, at: .cloud, to: 1)
        try await company.settle()
        #expect(try await company.memos(at: .cloud).map(\.reason) == [.noTarget])
        #expect(try await company.outbox(.cloud).map(\.reason) == [.noTarget, .applied])
        #expect(try await company.rows(.parcel, at: 1) == ["parcel:2": "to 1"])
    }

    @Test func anOrderOfTheCloudWithoutAHomeIsDeadWhereItWasWritten() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "whose?"), .order, at: .cloud)
        try await company.settle()
        #expect(try await company.outbox(.cloud).map(\.reason) == [.noTarget])
        #expect(try await company.outbox(.cloud).map(\.attempts) == [3])
    }

    @Test func aMemberThatBecomesSharedReachesEverybody() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Member(id: 1, name: "ada", isShared: false), at: 1)
        try await company.settle()
        #expect(try await company.members(at: 2) == [:])
        try await company.write(Member(id: 1, name: "ada", isShared: true), at: 1)
        try await company.settle()
        #expect(try await company.members(at: 2) == ["member:1": "ada/true"])
    }

    @Test func aDeletionReachesWhoeverHasTheEntityAndLeavesATombstone() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "x"), .product, at: 1)
        try await company.write(Member(id: 1, name: "ada", isShared: false), at: 1)
        try await company.settle()
        try await company.delete(1, .product, at: 2)
        try await company.delete(1, at: 1)
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == [:], "\(server)")
            #expect(try await company.members(at: server) == [:], "\(server)")
        }
        let product = EntityID(type: 2, scope: .cloud, key: "product:1")
        for server in [.cloud, 1] as [ServerID] {
            let states = try await company.storage(server).base.withTransaction(.snapshot) { try await $0.entities([product]) }
            #expect(states[product]?.isDeleted == true, "\(server)")
        }
        #expect(try await company.log(1, .server(1)).map(\.isDeletion) == [false, true])
        #expect(try await company.log(1, .all) == [])
    }

    @Test func whatWasDeletedMayBeCreatedAgain() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "old"), .product, at: 1)
        try await company.delete(1, .product, at: 1)
        try await company.write(Item(id: 1, text: "new"), .product, at: 1)
        try await company.settle()
        #expect(try await company.rows(.product, at: 2) == ["product:1": "new"])
    }

    @Test func aLateOlderUpdateDoesNotBringADeletedEntityBack() async throws {
        let company = try await Company(branches: [1, 2])
        try await company.write(Item(id: 1, text: "x"), .product, at: 1)
        try await company.settle()
        try await company.write(Item(id: 1, text: "y"), .product, at: 1)
        try await company.cycle(1)
        // Branch 2 deletes it, which the cloud accepts later, and then pulls the older update.
        try await company.delete(1, .product, at: 2)
        let report = try await company.cycle(2)
        #expect(report.pulled == [.superseded: 1])
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] { #expect(try await company.rows(.product, at: server) == [:], "\(server)") }
    }

    @Test func everyBatchIsCutAndNothingIsLeftBehind() async throws {
        var limits = Company.eagerLimits
        limits.batchRecordsMax = 7
        limits.chunkRecordsMax = 3
        limits.manifestRowsMax = 5
        let company = try await Company(branches: [1, 2], limits: limits)
        for id in 1...60 {
            try await company.write(Item(id: id % 11, text: "\(id)"), .product, at: id % 3 == 0 ? .cloud : 1)
            try await company.write(Item(id: id, text: "\(id)"), .order, at: 1)
            try await company.write(Item(id: id % 2, text: "\(id)"), .points, at: 2)
        }
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 60)
        #expect(try await company.rows(.product, at: .cloud).count == 11)
        for server in [1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == company.rows(.product, at: .cloud), "\(server)")
            #expect(try await company.rows(.points, at: server) == company.rows(.points, at: .cloud), "\(server)")
        }
        #expect(try await company.rows(.points, at: 1).count == 60)
        #expect(try await company.rows(.points, at: 1).values.allSatisfy { $0 == "1" })
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled && $0.reason == .applied })
    }
}
