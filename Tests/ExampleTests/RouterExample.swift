import DataSync
import DataSyncHTTP
import DataSyncIdentity
import DataSyncSQL
import DataSyncServer
import Foundation
import FoundationNetworking
import Hummingbird
import Logging
import ServiceLifecycle
import Testing

// example: a host's router
/// A backend that is also the cloud: its own routes, and the machine routes below a path of its choice.
func makeBackend(
    storage: SQLStorage, hub: Hub<SQLStorage>, key: MachineKey, enrolment: Enrolment<SQLStorage>, logger: Logger
) throws -> Router<BasicRequestContext> {
    let router = Router()
    router.put("products/:id/price") { request, context in
        let id = try context.parameters.require("id", as: Int64.self)
        let price = String(buffer: try await request.body.collect(upTo: 64))
        try await storage.withTransaction { transaction in
            try await transaction.execute("update product set price = ? where id = ?", [.text(price), .int(id)])
            let rows = try await transaction.query("select name from product where id = ?", [.int(id)])
            guard let name = try rows.first?.text(0) else { throw HTTPError(.notFound) }
            try await hub.enqueue(.upsert(Product(id: id, name: name, price: price)), as: ProductType(), in: transaction)
        }
        return HTTPResponse.Status.noContent
    }
    // Branches are told https://shop.example/internal: DataSync adds /datasync/v1/… to it.
    try MachineRoutes(hub: hub, identity: CloudIdentity(key: key), enrolment: enrolment, logger: logger)
        .add(to: router.group("internal/datasync"))
    return router
}
// end of example

@Test(.timeLimit(.minutes(30)))
func theMachineRoutesServeARealAgentBelowAPrefixOfTheHostsOwnRouter() async throws {
    let (branch, cloud) = (try await Shop.stocked(10), try await Shop.stocked(100))
    let logger = quiet
    let key = try MachineKey.generate()
    let hub = try Hub(storage: cloud.storage, types: [ProductType(), SaleType()], logger: logger)
    let enrolment = Enrolment(storage: cloud.storage, cloudKey: key.publicKey)
    let router = try makeBackend(storage: cloud.storage, hub: hub, key: key, enrolment: enrolment, logger: logger)
    let (ports, listening) = AsyncStream.makeStream(of: Int.self)
    let application = Application(
        router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
        onServerRunning: { listening.yield($0.localAddress?.port ?? 0) }, logger: logger)
    let backend = ServiceGroup(services: [hub, application], logger: logger)

    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await backend.run() }
        let port = try #require(await ports.first { _ in true })
        let token = try await enrolment.add(7, name: "Market Street", actor: "a test")
        let agent = try await join(branch.storage, with: token.text, at: "http://127.0.0.1:\(port)/internal", logger: logger)

        // Up: a sale of the branch.
        try await branch.storage.withTransaction { transaction in
            try await transaction.execute("update product set stock = stock - 2 where id = 1")
            try await agent.enqueue(.act(Sale(receipt: "7-1", product: 1, quantity: 2)), as: SaleType(), in: transaction)
        }
        #expect(try await agent.cycle().pushed == [.applied: 1])
        #expect(try await cloud.stock() == 98)

        // Down: a price that the application's own route changed.
        #expect(try await put("2.80", to: "http://127.0.0.1:\(port)/products/1/price") == 204)
        #expect(try await agent.cycle().pulled == [.applied: 1])
        #expect(try await branch.price() == "2.80")
        #expect(try await branch.stock() == 8)

        // The token was good once.
        let error = await #expect(throws: DataSyncError.self) {
            try await join(try await Shop().storage, with: token.text, at: "http://127.0.0.1:\(port)/internal", logger: logger)
        }
        #expect(error?.code == .unauthorized)
        // Without the prefix there is nothing.
        let lost = await #expect(throws: DataSyncError.self) {
            try await join(try await Shop().storage, with: token.text, at: "http://127.0.0.1:\(port)", logger: logger)
        }
        #expect(lost?.code == .peerUnreachable)
        await backend.triggerGracefulShutdown()
        try await tasks.waitForAll()
    }
}

// example: joining
/// Enrols a branch with the token that the cloud printed, and makes its agent. Keep the key: `MachineKey.write(to:)`.
func join(
    _ storage: SQLStorage, with token: String, at url: String, logger: Logger
) async throws -> Agent<SQLStorage, HTTPTransport> {
    let token = try JoinToken(text: token)
    let endpoint = try CloudEndpoint(url)
    let key = try MachineKey.generate()
    let (answer, cloudKey) = try await endpoint.join(token, key: key, software: "shop 1.0")
    try await storage.withTransaction {
        try await $0.insertServer(ServerRow(id: token.server, name: answer.name, status: .active, epoch: answer.epoch))
    }
    let identity = BranchIdentity(branch: token.server, key: key, cloudKey: cloudKey)
    return try Agent(
        server: token.server, storage: storage, transport: HTTPTransport(cloud: endpoint, identity: identity),
        types: [ProductType(), SaleType()], logger: logger)
}
// end of example

private func put(_ text: String, to url: String) async throws -> Int {
    var request = URLRequest(url: try #require(URL(string: url)))
    request.httpMethod = "PUT"
    request.httpBody = Data(text.utf8)
    let (_, response) = try await URLSession.shared.data(for: request)
    return try #require(response as? HTTPURLResponse).statusCode
}
