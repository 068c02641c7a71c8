import DataSync
import DataSyncSQL
import DataSyncSQLite
import Testing

/// An application that writes its own tables enqueues in its own transaction: what it did and what is carried of it are
/// committed together or not at all.
struct EnqueueExamples {
    let branch: Shop
    let cloud: Shop
    let agent: Agent<SQLStorage, InMemoryTransport<SQLStorage>>

    init() async throws {
        (self.branch, self.cloud) = (try await .stocked(10), try await .stocked(100))
        for shop in [self.branch, self.cloud] { try await shop.know(7, "Market Street") }
        let hub = try Hub(storage: self.cloud.storage, types: [ProductType(), SaleType()], logger: quiet)
        self.agent = try Agent(
            server: 7, storage: self.branch.storage, transport: InMemoryTransport(hub: hub, branch: 7),
            types: [ProductType(), SaleType()], logger: quiet)
    }

    @Test func aSaleAndItsRecordAreCommittedTogether() async throws {
        let (storage, agent) = (self.branch.storage, self.agent)
        // example: enqueue
        try await storage.withTransaction { transaction in
            try await transaction.execute("update product set stock = stock - ? where id = ?", [.int(2), .int(1)])
            let sale = Sale(receipt: "7-1001", product: 1, quantity: 2)
            try await agent.enqueue(.act(sale), as: SaleType(), in: transaction)
        }
        // end of example
        #expect(try await self.branch.stock() == 8)
        #expect(try await self.branch.outbox() == [.new])
        #expect(try await self.agent.cycle().pushed == [.applied: 1])
        #expect(try await self.cloud.stock() == 98)
        #expect(try await self.branch.outbox() == [.settled])
        // Once is once.
        #expect(try await self.agent.cycle().isIdle)
        #expect(try await self.cloud.stock() == 98)
    }

    @Test func aSaleThatIsRolledBackIsNotCarried() async throws {
        struct CardRefused: Error {}
        await #expect(throws: CardRefused.self) {
            try await self.branch.storage.withTransaction { transaction in
                try await transaction.execute("update product set stock = stock - 2 where id = 1")
                try await self.agent.enqueue(.act(Sale(receipt: "7-1001", product: 1, quantity: 2)), as: SaleType(), in: transaction)
                throw CardRefused()
            }
        }
        #expect(try await self.branch.stock() == 10)
        #expect(try await self.branch.outbox() == [])
        #expect(try await self.agent.cycle().isIdle)
    }

    @Test func aRecordThatCannotBeCarriedTakesTheSaleWithIt() async throws {
        let receipt = String(repeating: "7", count: EntityKey.bytesMax)
        let error = await #expect(throws: DataSyncError.self) {
            try await self.branch.storage.withTransaction { transaction in
                try await transaction.execute("update product set stock = stock - 2 where id = 1")
                try await self.agent.enqueue(.act(Sale(receipt: receipt, product: 1, quantity: 2)), as: SaleType(), in: transaction)
            }
        }
        #expect(error?.code == .invalidRecord)
        #expect(try await self.branch.stock() == 10)
        #expect(try await self.branch.outbox() == [])
    }

    @Test func anApplicationWithItsOwnConnectionInsertsBySQL() async throws {
        let path = self.branch.path
        // example: enqueue by SQL
        let connection = try await SQLiteDatabase(path: path).connect()
        try await connection.begin(.write)
        // The business row first, the outbox row last.
        _ = try await connection.execute("update product set stock = stock - 2 where id = 1", [])
        _ = try await connection.execute(
            "insert into sync_data (business_type, data_from_detail, data_detail) values (?, ?, ?)",
            [.int(2), .text("sale:7-1002"), .text(#"{"act": {"receipt": "7-1002", "product": 1, "quantity": 2}}"#)])
        try await connection.commit()
        // end of example
        await connection.close()
        #expect(try await self.agent.cycle().pushed == [.applied: 1])
        #expect(try await self.cloud.stock() == 98)
    }

    @Test func aSaleOfAnUnknownProductWaitsAndIsNotCounted() async throws {
        try await self.branch.storage.withTransaction { transaction in
            try await self.agent.enqueue(.act(Sale(receipt: "7-1003", product: 2, quantity: 1)), as: SaleType(), in: transaction)
        }
        #expect(try await self.agent.cycle().pushed == [.waiting: 1])
        let row = try await self.branch.storage.withTransaction(.snapshot) { try await $0.outboxRows([1]) }.first
        #expect(row?.state == .open)
        #expect(row?.attempts == 0)
        #expect(row?.reason == .missingDependency)
    }
}
