import DataSync
import Testing

/// Rows that cannot be sent as they are: the stream goes on, and a person sees why.
@Suite struct OddRowTests {
    @Test func aRecordAboveTheReceiversCapIsDeadAtOnce() async throws {
        var limits = Company.eagerLimits
        limits.recordBytesMax = 100
        let company = try await Company(branches: [1], limits: limits)
        try await company.write(Item(id: 1, text: String(repeating: "x", count: 200)), .order, at: 1)
        try await company.write(Item(id: 1, text: "small"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.dead: 1, .applied: 1])
        #expect(try await company.outbox(1).map(\.reason) == [.tooBig, .applied])
        #expect(try await company.memos(at: .cloud).map(\.holdsPayload) == [false])
        #expect(try await company.memos(at: 1).map(\.reason) == [.tooBig])
        await #expect(throws: DataSyncError.self) {
            try await company.hub.retryMemo(try await company.memos(at: .cloud)[0].id, actor: "ada")
        }
    }

    @Test func aRecordAboveTheBranchsCapIsDeadThereAndTheRestFlows() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: String(repeating: "x", count: 200)), .product, at: .cloud)
        try await company.write(Item(id: 2, text: "small"), .product, at: .cloud)
        var limits = company.limits
        limits.recordBytesMax = 100
        let agent = try Agent(
            server: 1, storage: company.storage(1), transport: company.agents[1]!.transport,
            types: ItemType.all.map { $0 }, limits: limits, environment: company.time.environment, logger: .silent)
        #expect(try await agent.cycle().pulled == [.dead: 1, .applied: 1])
        #expect(try await company.memos(at: 1).map(\.reason) == [.tooBig])
        #expect(try await company.rows(.product, at: 1) == ["product:2": "small"])
    }

    @Test func aCloudRowAboveItsOwnCapIsDeadWhereItWasWritten() async throws {
        var limits = Company.eagerLimits
        limits.recordBytesMax = 100
        let company = try await Company(branches: [1], limits: limits)
        try await company.write(Item(id: 1, text: String(repeating: "x", count: 200)), .product, at: .cloud)
        try await company.settle()
        #expect(try await company.outbox(.cloud).map(\.reason) == [.tooBig])
        #expect(try await company.log(2, .all) == [])
    }

    @Test func aNumberWhoseRowIsGoneIsVoid() async throws {
        let company = try await Company(branches: [1])
        try await company.storage(1).base.withTransaction { transaction in
            // As if the row had been numbered and then deleted by somebody.
            _ = try await transaction.takeNumbers(StreamID(origin: 1, epoch: 1, type: 3), count: 1)
            try await transaction.insertManifests([
                Manifest(key: ManifestKey(epoch: 1, type: 3, firstSynID: 1), run: Fingerprint(rawValue: 1), entries: [Sample.entry(999)])
            ])
        }
        try await company.write(Item(id: 1, text: "x"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.void: 1, .applied: 1])
        #expect(try await company.rows(.order, at: .cloud) == ["order:1": "x"])
        #expect(try await company.memos(at: .cloud) == [])
    }

    @Test func aRowThatChangedAfterItWasNumberedIsNotSent() async throws {
        let company = try await Company(branches: [1])
        try await company.write(Item(id: 1, text: "changed since"), .order, at: 1)
        try await company.storage(1).base.withTransaction { transaction in
            _ = try await transaction.takeNumbers(StreamID(origin: 1, epoch: 1, type: 3), count: 1)
            try await transaction.insertManifests([
                Manifest(key: ManifestKey(epoch: 1, type: 3, firstSynID: 1), run: Fingerprint(rawValue: 1), entries: [Sample.entry(1)])
            ])
            _ = try await transaction.moveOutboxFrontier(from: 0, to: 1)
        }
        try await company.write(Item(id: 2, text: "x"), .order, at: 1)
        #expect(try await company.cycle(1).pushed == [.dead: 1, .applied: 1])
        #expect(try await company.outbox(1).map(\.reason) == [.damaged, .applied])
        #expect(try await company.rows(.order, at: .cloud) == ["order:2": "x"])
    }

    @Test func aRowWithoutANameIsDeadAtOnce() async throws {
        let company = try await Company(branches: [1])
        for server in [.cloud, 1] as [ServerID] {
            try await company.storage(server).base.withTransaction { transaction in
                try await transaction.appendOutbox([NewOutboxRow(type: 2, key: "", payload: #"{"delete":{}}"#)])
            }
        }
        try await company.write(Item(id: 1, text: "x"), .product, at: 1)
        #expect(try await company.cycle(1).pushed == [.dead: 1, .applied: 1])
        #expect(try await company.outbox(1).map(\.reason) == [.unsendable, .applied])
        #expect(try await company.outbox(.cloud).map(\.reason) == [.unsendable])
    }

    @Test func whatCannotBeCarriedIsNotEnqueued() async throws {
        let company = try await Company(branches: [1])
        func refused(_ row: NewOutboxRow) async throws {
            let error = await #expect(throws: DataSyncError.self) {
                try await company.storage(1).base.withTransaction { try await Outbox.enqueue(row, limits: SyncLimits(), in: $0) }
            }
            #expect(error?.code == .invalidRecord)
        }
        try await refused(NewOutboxRow(type: 2, key: "", payload: "{}"))
        try await refused(NewOutboxRow(type: 2, key: EntityKey(String(repeating: "k", count: 191)), payload: "{}"))
        try await refused(NewOutboxRow(type: 2, key: "k", payload: String(repeating: " ", count: (1 << 20) + 1)))
        try await refused(NewOutboxRow(type: 0, key: "k", payload: "{}"))
        try await refused(NewOutboxRow(type: 2, key: "k", payload: "{}", target: -1))
        #expect(try await company.outbox(1) == [])
    }

    // MARK: - Rows that commit late

    @Test func rowsOfABranchThatCommitBelowNumberedOnesAreSent() async throws {
        let company = try await Company(branches: [1])
        // The numbering passes two ids whose transactions are still open.
        try await company.storage(1).base.withTransaction { _ = try await $0.moveOutboxFrontier(from: 0, to: 2) }
        for id in 1...3 { try await company.write(Item(id: id, text: "\(id)"), .order, at: 1) }
        try await company.settle()
        company.time.advance(by: .seconds(2))
        try await company.settle()
        #expect(try await company.rows(.order, at: .cloud).count == 3)
        #expect(try await company.outbox(1).map(\.synID).sorted() == [1, 2, 3])
        #expect(try await company.outbox(1).allSatisfy { $0.state == .settled })
    }

    @Test func rowsOfTheCloudThatCommitBelowNumberedOnesAreSent() async throws {
        let company = try await Company(branches: [1])
        try await company.storage(.cloud).base.withTransaction { _ = try await $0.moveOutboxFrontier(from: 0, to: 2) }
        for id in 1...3 { try await company.write(Item(id: id, text: "\(id)"), .product, at: .cloud) }
        try await company.settle()
        company.time.advance(by: .seconds(2))
        try await company.hub.numberOwnRows()
        try await company.settle()
        #expect(try await company.rows(.product, at: 1).count == 3)
    }

    @Test func aStateThatCommitsBelowTheFrontierGoesBeforeTheNextOfItsEntity() async throws {
        let company = try await Company(branches: [1, 2])
        // The numbering passes an id whose transaction is still open; the next change of the entity waits for it.
        for server in [.cloud, 1] as [ServerID] {
            try await company.storage(server).base.withTransaction { _ = try await $0.moveOutboxFrontier(from: 0, to: 1) }
            for text in ["older", "newer"] {
                try await company.write(Item(id: server.isCloud ? 1 : 2, text: text), .product, at: server)
            }
        }
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "newer", "product:2": "newer"], "\(server)")
        }
        for server in [.cloud, 1] as [ServerID] {
            let rows = try await company.outbox(server)
            #expect(rows.map(\.reason) == [.applied, .applied], "\(server)")
            #expect(rows.map(\.synID) == [1, 2], "\(server)")
        }
    }

    @Test func aStateThatIsFoundAfterANewerOneOfItsEntityIsNotSentAfterIt() async throws {
        let company = try await Company(branches: [1, 2])
        for server in [.cloud, 1] as [ServerID] {
            for text in ["older", "newer"] {
                try await company.write(Item(id: server.isCloud ? 1 : 2, text: text), .product, at: server)
            }
            // Nobody sees the older one while the newer one gets its number, as if its commit took that long.
            try await company.storage(server).base.withTransaction {
                try await $0.updateOutbox([OutboxSettlement(id: 1, type: 2, synID: 0, state: .settled, reason: .applied)])
            }
        }
        try await company.settle()
        for server in [.cloud, 1] as [ServerID] {
            try await company.storage(server).base.withTransaction {
                try await $0.updateOutbox([OutboxSettlement(id: 1, type: 2, synID: 0, state: .new, reason: .none)])
            }
        }
        company.time.advance(by: .seconds(2))
        try await company.hub.numberOwnRows()
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:1": "newer", "product:2": "newer"], "\(server)")
        }
        for server in [.cloud, 1] as [ServerID] {
            #expect(try await company.outbox(server).map(\.reason) == [.superseded, .applied], "\(server)")
        }
    }

    @Test func actionsThatCommitLateAreAllSent() async throws {
        let company = try await Company(branches: [1])
        try await company.storage(1).base.withTransaction { _ = try await $0.moveOutboxFrontier(from: 0, to: 1) }
        for text in ["one", "two"] { try await company.write(Item(id: 1, text: text), .points, at: 1) }
        try await company.settle()
        company.time.advance(by: .seconds(2))
        try await company.settle()
        #expect(try await company.rows(.points, at: .cloud).count == 2)
    }

    // MARK: - Rows that no message can hold

    @Test func aRowThatNoMessageCanHoldBlocksNobody() async throws {
        let company = try await Company(branches: [1, 2])
        for server in [.cloud, 1] as [ServerID] {
            try await company.storage(server).base.withTransaction { transaction in
                try await transaction.appendOutbox([
                    NewOutboxRow(type: 2, key: "product:1", payload: #"{"delete":{}}"#, target: -1),
                    NewOutboxRow(type: 2, key: EntityKey(String(repeating: "k", count: 191)), payload: #"{"delete":{}}"#),
                    NewOutboxRow(type: 0, key: "nothing:1", payload: #"{"delete":{}}"#),
                ])
            }
            try await company.write(Item(id: server.isCloud ? 8 : 9, text: "x"), .product, at: server)
        }
        try await company.settle()
        for server in [.cloud, 1, 2] as [ServerID] {
            #expect(try await company.rows(.product, at: server) == ["product:8": "x", "product:9": "x"], "\(server)")
        }
        for server in [.cloud, 1] as [ServerID] {
            #expect(try await company.outbox(server).map(\.reason) == [.unsendable, .unsendable, .none, .applied], "\(server)")
        }
    }
}
