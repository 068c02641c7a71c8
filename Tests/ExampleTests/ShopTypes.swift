import DataSync
import DataSyncSQL
import DataSyncSQLite
import Foundation
import Logging

// example: a state
struct Product: Codable, Sendable {
    var id: Int64
    var name: String
    /// A decimal is carried as text: a double would not keep it.
    var price: String
}

/// Products: the same everywhere. Each record holds the whole product.
struct ProductType: BusinessType {
    let id: BusinessTypeID = 1
    let name = "product"
    let priority = 10
    let route: Route<Product> = .all

    func key(of product: Product) -> EntityKey { EntityKey("product:\(product.id)") }

    func apply(_ change: Change<Product>, of entity: EntityID, in transaction: SQLTransaction) async throws {
        switch change {
        case .upsert(let product):
            let tail = transaction.dialect.upsertTail(key: ["id"], replacing: ["name", "price"])
            try await transaction.execute(
                "insert into product (id, name, price) values (?, ?, ?)" + tail,
                [.int(product.id), .text(product.name), .text(product.price)])
        case .delete(let key):
            guard let id = Int64(key.text.dropFirst("product:".count)) else { throw RecordFault.refused(.malformed, detail: nil) }
            try await transaction.execute("delete from product where id = ?", [.int(id)])
        case .act: throw RecordFault.refused("a product is a state")
        }
    }
}
// end of example

// example: an action
struct Sale: Codable, Sendable {
    var receipt: String
    var product: Int64
    var quantity: Int
}

/// Sales: each one counts, once. They go to the cloud and no further.
struct SaleType: BusinessType {
    let id: BusinessTypeID = 2
    let name = "sale"
    let kind = RecordKind.action
    let priority = 20
    let route: Route<Sale> = .up

    func key(of sale: Sale) -> EntityKey { EntityKey("sale:\(sale.receipt)") }

    func apply(_ change: Change<Sale>, of entity: EntityID, in transaction: SQLTransaction) async throws {
        guard case .act(let sale) = change else { throw RecordFault.refused("a sale is an action") }
        guard sale.quantity > 0 else { throw RecordFault.refused("quantity must be positive") }
        let found = try await transaction.execute(
            "update product set stock = stock - ? where id = ?", [.int(sale.quantity), .int(sale.product)])
        // Not a failure: the sale waits until the product is there.
        guard found == 1 else { throw RecordFault.missingDependency(on: EntityKey("product:\(sale.product)")) }
    }
}
// end of example

/// A database of a shop, in a file of its own below the temporary folder: its tables and DataSync's.
struct Shop {
    let path: String
    let storage: SQLStorage

    init() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "datasync-examples")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.path = folder.appending(path: "\(UUID()).sqlite").path
        self.storage = SQLStorage(SQLiteDatabase(path: self.path), connectionsMax: 4, waitMax: .seconds(600))
        try await self.storage.migrate()
        try await self.storage.withTransaction {
            _ = try await $0.execute(
                """
                create table product (
                  id integer primary key, name text not null, price text not null, stock integer not null default 0
                ) strict
                """)
        }
    }

    /// With a product of which there is some.
    static func stocked(_ stock: Int) async throws -> Shop {
        let shop = try await Shop()
        try await shop.storage.withTransaction {
            _ = try await $0.execute("insert into product values (1, 'tea', '2.50', ?)", [.int(stock)])
        }
        return shop
    }

    /// Makes this shop known to its own database or, at the cloud, to the cloud's.
    func know(_ server: ServerID, _ name: String) async throws {
        try await self.storage.withTransaction { try await $0.insertServer(ServerRow(id: server, name: name, status: .active)) }
    }

    func stock(of product: Int64 = 1) async throws -> Int64? {
        try await self.storage.withTransaction(.snapshot) {
            try await $0.query("select stock from product where id = ?", [.int(product)]).first?.int(0)
        }
    }

    func price(of product: Int64 = 1) async throws -> String? {
        try await self.storage.withTransaction(.snapshot) {
            try await $0.query("select price from product where id = ?", [.int(product)]).first?.text(0)
        }
    }

    /// The states of the outbox's rows, by id.
    func outbox() async throws -> [OutboxState] {
        try await self.storage.withTransaction(.snapshot) {
            try await $0.outboxHeads(in: 1...Int64.max, newOnly: false, limit: 100).map(\.state)
        }
    }
}

/// Says nothing below a critical message: what these tests provoke is no news.
let quiet: Logger = {
    var logger = Logger(label: "examples")
    logger.logLevel = .critical
    return logger
}()
