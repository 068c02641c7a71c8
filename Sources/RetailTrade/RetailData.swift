public import Foundation

public struct Product: Hashable, Sendable {
    public var id: Int
    public var department: String
    public var brand: String
    public var kind: String
    public var packageSize: String
    /// In cents.
    public var price: Int

    public init(id: Int, department: String, brand: String, kind: String, packageSize: String, price: Int) {
        self.id = id
        self.department = department
        self.brand = brand
        self.kind = kind
        self.packageSize = packageSize
        self.price = price
    }
}

public struct Member: Hashable, Sendable {
    public var id: Int
    public var age: String
    public var income: String
    public var householdSize: String
    /// The branch where the member is at home.
    public var home: Int32
    /// Whether every branch knows the member.
    public var isShared: Bool

    public init(id: Int, age: String, income: String, householdSize: String, home: Int32, isShared: Bool) {
        self.id = id
        self.age = age
        self.income = income
        self.householdSize = householdSize
        self.home = home
        self.isShared = isShared
    }
}

public struct Order: Hashable, Sendable {
    public struct Line: Hashable, Sendable {
        public var line: Int
        public var product: Int
        public var quantity: Int
        /// In cents, as the others.
        public var sales: Int
        public var discount: Int

        public init(line: Int, product: Int, quantity: Int, sales: Int, discount: Int) {
            self.line = line
            self.product = product
            self.quantity = quantity
            self.sales = sales
            self.discount = discount
        }
    }

    public var id: Int
    public var store: Int32
    public var member: Int
    /// `2017-01-01 15:05:51`
    public var orderedAt: String
    /// In cents.
    public var total: Int
    public var lines: [Line]

    public init(id: Int, store: Int32, member: Int, orderedAt: String, total: Int, lines: [Line]) {
        self.id = id
        self.store = store
        self.member = member
        self.orderedAt = orderedAt
        self.total = total
        self.lines = lines
    }
}

/// Retail trade out of the "Complete Journey" data of 84.51°/dunnhumby: members, products, and orders in order of time.
public struct RetailData: Sendable {
    public var products: [Product]
    public var members: [Member]
    public var orders: [Order]

    public var stores: [Int32] { Set(self.orders.map(\.store)).sorted() }

    /// Reads `products.csv`, `members.csv`, `orders.csv` and `order_lines.csv`.
    public init(folder: URL) throws {
        var lines: [Int: [Order.Line]] = [:]
        // The source knows no shelf price: the dearest sale of one piece, before discounts, stands for it.
        var prices: [Int: Int] = [:]
        for row in try CSV.rows(folder.appending(path: "order_lines.csv")) {
            let line = Order.Line(
                line: try row.int("line"), product: try row.int("product_id"), quantity: try row.int("quantity"),
                sales: try row.cents("sales_value"), discount: try row.cents("retail_disc"))
            lines[try row.int("basket_id"), default: []].append(line)
            if line.quantity > 0 { prices[line.product] = max(prices[line.product] ?? 1, (line.sales + line.discount) / line.quantity) }
        }
        self.products = try CSV.rows(folder.appending(path: "products.csv")).map { row in
            let id = try row.int("product_id")
            return Product(
                id: id, department: row["department"], brand: row["brand"], kind: row["product_type"],
                packageSize: row["package_size"], price: prices[id] ?? 1)
        }
        self.members = try CSV.rows(folder.appending(path: "members.csv")).map { row in
            Member(
                id: try row.int("household_id"), age: row["age"], income: row["income"], householdSize: row["household_size"],
                home: Int32(try row.int("home_store_id")), isShared: row["shared"] == "1")
        }
        self.orders = try CSV.rows(folder.appending(path: "orders.csv")).map { row in
            let id = try row.int("basket_id")
            return Order(
                id: id, store: Int32(try row.int("store_id")), member: try row.int("household_id"), orderedAt: row["ordered_at"],
                total: try row.cents("total"), lines: lines[id] ?? [])
        }
    }
}

/// Comma-separated values with quotes, as much of RFC 4180 as these files use: no line breaks inside a value.
private enum CSV {
    struct Row {
        let positions: [String: Int]
        let values: [String]

        subscript(name: String) -> String { self.positions[name].map { self.values[$0] } ?? "" }

        func int(_ name: String) throws -> Int {
            guard let value = Int(self[name]) else { throw TradeError("\(name) is no whole number: \(self[name])") }
            return value
        }

        func cents(_ name: String) throws -> Int {
            guard let value = Cents.read(self[name]) else { throw TradeError("\(name) is no amount: \(self[name])") }
            return value
        }
    }

    static func rows(_ url: URL) throws -> [Row] {
        let text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        var lines = text.split(whereSeparator: \.isNewline).makeIterator()
        guard let header = lines.next() else { throw TradeError("\(url.lastPathComponent) is empty") }
        let names = self.values(header)
        let positions = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        var rows: [Row] = []
        while let line = lines.next() {
            let values = self.values(line)
            guard values.count == names.count else { throw TradeError("\(url.lastPathComponent): a line has \(values.count) values, not \(names.count)") }
            rows.append(Row(positions: positions, values: values))
        }
        return rows
    }

    private static func values(_ line: Substring) -> [String] {
        let comma = UInt8(ascii: ","), quote = UInt8(ascii: "\"")
        guard line.utf8.contains(quote) else {
            return line.utf8.split(separator: comma, omittingEmptySubsequences: false).map { String(Substring($0)) }
        }
        var (values, value, isQuoted) = ([String](), [UInt8](), false)
        var bytes = line.utf8.makeIterator()
        var next = bytes.next()
        while let byte = next {
            next = bytes.next()
            if byte == quote, isQuoted, next == quote {
                value.append(quote)
                next = bytes.next()
            } else if byte == quote {
                isQuoted.toggle()
            } else if byte == comma, !isQuoted {
                values.append(String(decoding: value, as: UTF8.self))
                value = []
            } else {
                value.append(byte)
            }
        }
        return values + [String(decoding: value, as: UTF8.self)]
    }
}

/// Amounts with two decimals, exactly.
public enum Cents {
    public static func text(_ cents: Int) -> String {
        let fraction = abs(cents) % 100
        return "\(cents < 0 ? "-" : "")\(abs(cents) / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }

    static func read(_ text: String) -> Int? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[1].count == 2, let whole = Int(parts[0]), let fraction = Int(parts[1]) else { return nil }
        return text.hasPrefix("-") ? whole * 100 - fraction : whole * 100 + fraction
    }
}
