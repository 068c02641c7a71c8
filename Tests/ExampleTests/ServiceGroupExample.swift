import DataSync
import DataSyncSQL
import Logging
import ServiceLifecycle
import Testing

// example: a host's service
/// The host's own work: it sells, and its sales are carried while it does.
struct Till: Service {
    let storage: SQLStorage
    let agent: Agent<SQLStorage, InMemoryTransport<SQLStorage>>
    let sales: AsyncStream<Sale>

    func run() async throws {
        for await sale in self.sales.cancelOnGracefulShutdown() {
            try await self.storage.withTransaction { transaction in
                try await transaction.execute(
                    "update product set stock = stock - ? where id = ?", [.int(sale.quantity), .int(sale.product)])
                try await self.agent.enqueue(.act(sale), as: SaleType(), in: transaction)
            }
            // At once, rather than at the next look into the outbox.
            self.agent.nudge()
        }
    }
}
// end of example

/// Applies sales, and tells the test of each: within the transaction, so before it is committed.
struct WatchedSaleType: RecordHandler {
    let watcher: AsyncStream<Void>.Continuation
    var definition: BusinessTypeDefinition { SaleType().definition }

    func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        try SaleType().prepare(record, scope: scope)
    }

    func apply(_ records: [PreparedRecord], in transaction: SQLTransaction) async throws {
        try await SaleType().apply(records, in: transaction)
        self.watcher.yield()
    }
}

@Test(.timeLimit(.minutes(30)))
func anAgentWorksInTheServiceGroupOfItsHostAndFinishesItsBatchWhenTheGroupIsShutDown() async throws {
    let (branch, cloud) = (try await Shop.stocked(10), try await Shop.stocked(100))
    for shop in [branch, cloud] { try await shop.know(7, "Market Street") }
    let (applied, watcher) = AsyncStream.makeStream(of: Void.self)
    let (sales, counter) = AsyncStream.makeStream(of: Sale.self)
    let hub = try Hub(storage: cloud.storage, types: [WatchedSaleType(watcher: watcher)], logger: quiet)
    let (storage, transport, logger) = (branch.storage, InMemoryTransport(hub: hub, branch: 7), quiet)
    // example: a service group
    let agent = try Agent(server: 7, storage: storage, transport: transport, types: [SaleType()], logger: logger)
    let till = Till(storage: storage, agent: agent, sales: sales)
    // Shut down from the last to the first: the till stops selling before the agent stops carrying.
    let group = ServiceGroup(
        configuration: ServiceGroupConfiguration(
            services: [
                .init(service: agent), .init(service: till, successTerminationBehavior: .gracefullyShutdownGroup),
            ],
            logger: logger))
    // end of example
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await group.run() }
        counter.yield(Sale(receipt: "7-1", product: 1, quantity: 3))
        for await _ in applied { break }
        // The cloud has not committed yet, and the branch has not heard: the batch under way is finished all the same.
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
    }
    #expect(try await branch.stock() == 7)
    #expect(try await cloud.stock() == 97)
    #expect(try await branch.outbox() == [.settled])
    #expect(agent.health.failures == 0)
}

@Test(.timeLimit(.minutes(30)))
func aSecondAgentOnTheDatabaseIsRefusedAndEndsItsGroup() async throws {
    let branch = try await Shop.stocked(1)
    try await branch.know(7, "Market Street")
    let lease = try await branch.storage.takeLease()
    let hub = try Hub(storage: try await Shop().storage, types: [SaleType()], logger: quiet)
    let agent = try Agent(
        server: 7, storage: branch.storage, transport: InMemoryTransport(hub: hub, branch: 7), types: [SaleType()], logger: quiet)
    let error = await #expect(throws: DataSyncError.self) { try await ServiceGroup(services: [agent], logger: quiet).run() }
    #expect(error?.code == .leaseHeld)
    await lease.release()
}
