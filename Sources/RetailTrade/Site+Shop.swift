import DataSync
import DataSyncSQL

/// What a site's applications do: they change their tables and, in the same transaction, insert into `sync_data` what
/// other servers should hear of it.
extension Site {
    /// - Parameter row: The id in `sync_data` of the first record, where it is not the next: as that of a transaction which took it early
    ///   and commits late.
    public func stock(_ products: [Product], row: Int? = nil) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.insert(
                "product", ["product_id", "department", "brand", "kind", "package_size", "price"], products.map(\.values))
            try await transaction.tell(1, products.map { ("product:\($0.id)", Payload.upsert($0)) }, row: row)
        }
    }

    public func reprice(_ product: Product) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.execute("update product set price = ? where product_id = ?", [.text(Cents.text(product.price)), .int(product.id)])
            try await transaction.tell(1, [("product:\(product.id)", Payload.upsert(product))])
        }
    }

    public func delist(_ product: Product) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.execute("delete from product where product_id = ?", [.int(product.id)])
            try await transaction.tell(1, [("product:\(product.id)", "{\"delete\":{\"product_id\":\(product.id)}}")])
        }
    }

    public func welcome(_ members: [Member]) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.insert(
                "member", ["household_id", "age", "income", "household_size", "home_store_id", "is_shared"], members.map(\.values))
            try await transaction.tell(2, members.map { ("member:\($0.id)", Payload.upsert($0)) })
        }
    }

    /// Changes a member that this site knows.
    public func change(_ member: Member) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.execute(
                "update member set age = ?, income = ?, household_size = ? where household_id = ?",
                [.text(member.age), .text(member.income), .text(member.householdSize), .int(member.id)])
            try await transaction.tell(2, [("member:\(member.id)", Payload.upsert(member))])
        }
    }

    public func forget(_ member: Member) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.execute("delete from member where household_id = ?", [.int(member.id)])
            try await transaction.tell(2, [("member:\(member.id)", "{\"delete\":{\"household_id\":\(member.id)}}")])
        }
    }

    /// - Parameter row: As for ``stock(_:row:)``.
    public func sell(_ orders: [Order], row: Int? = nil) async throws {
        try await self.storage.withTransaction(.write) { transaction in
            try await transaction.insert("orders", ["basket_id", "household_id", "ordered_at", "total"], orders.map(\.values))
            try await transaction.insert(
                "order_lines", ["basket_id", "line", "product_id", "quantity", "sales_value", "discount"], orders.flatMap(\.lineValues))
            try await transaction.tell(3, orders.map { ("order:\($0.id)", Payload.upsert($0)) }, row: row)
        }
    }
}

extension SQLTransaction {
    fileprivate func insert(_ table: String, _ columns: [String], _ rows: [[SQLValue]]) async throws {
        var batch = SQLBatch(insertInto: table, columns: columns)
        for row in rows { batch.append(row) }
        try await self.execute(batch)
    }

    /// As any application does, in any language.
    fileprivate func tell(_ type: Int, _ records: [(name: String, payload: String)], row: Int? = nil) async throws {
        let columns = ["business_type", "data_from_detail", "data_detail"]
        let rows: [[SQLValue]] = records.map { [.int(type), .text($0.name), .text($0.payload)] }
        guard let row else { return try await self.insert("sync_data", columns, rows) }
        try await self.insert("sync_data", ["id"] + columns, rows.enumerated().map { [.int(row + $0)] + $1 })
    }
}

extension Product {
    var values: [SQLValue] {
        [.int(self.id), .text(self.department), .text(self.brand), .text(self.kind), .text(self.packageSize), .text(Cents.text(self.price))]
    }
}

extension Member {
    var values: [SQLValue] {
        [.int(self.id), .text(self.age), .text(self.income), .text(self.householdSize), .int(self.home), .bool(self.isShared)]
    }
}

extension Order {
    var values: [SQLValue] { [.int(self.id), .int(self.member), .text(self.orderedAt), .text(Cents.text(self.total))] }

    var lineValues: [[SQLValue]] {
        self.lines.map {
            [.int(self.id), .int($0.line), .int($0.product), .int($0.quantity), .text(Cents.text($0.sales)), .text(Cents.text($0.discount))]
        }
    }
}

/// The payloads: whole rows, by the names of the configuration.
private enum Payload {
    static func upsert(_ product: Product) -> String {
        self.upsert { writer in
            writer.member("product_id", product.id)
            writer.member("department", product.department)
            writer.member("brand", product.brand)
            writer.member("kind", product.kind)
            writer.member("package_size", product.packageSize)
            writer.member("price", Cents.text(product.price))
        }
    }

    static func upsert(_ member: Member) -> String {
        self.upsert { writer in
            writer.member("household_id", member.id)
            writer.member("age", member.age)
            writer.member("income", member.income)
            writer.member("household_size", member.householdSize)
            writer.member("home_store_id", member.home)
            writer.member("is_shared", member.isShared ? 1 : 0)
        }
    }

    static func upsert(_ order: Order) -> String {
        self.upsert { writer in
            writer.member("basket_id", order.id)
            writer.member("household_id", order.member)
            writer.member("ordered_at", order.orderedAt)
            writer.member("total", Cents.text(order.total))
            writer.key("lines")
            writer.array { writer in
                for line in order.lines {
                    writer.object { writer in
                        writer.member("basket_id", order.id)
                        writer.member("line", line.line)
                        writer.member("product_id", line.product)
                        writer.member("quantity", line.quantity)
                        writer.member("sales_value", Cents.text(line.sales))
                        writer.member("discount", Cents.text(line.discount))
                    }
                }
            }
        }
    }

    private static func upsert(_ members: (inout JSONWriter) -> Void) -> String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("upsert")
            writer.object(members)
        }
        return writer.text
    }
}
