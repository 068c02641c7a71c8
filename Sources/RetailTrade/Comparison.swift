import DataSync
import DataSyncSQL

/// Both sides' tables beside what the routes say, row for row.
public struct Comparison: Sendable {
    /// What is missing, different, or where it should not be; names of tables, keys and sites, no contents.
    public var differences: [String] = []
    /// Records that took effect more than once.
    public var doubled: [String] = []
    /// Rows that were compared.
    public var rows = 0
    /// The entities that are in one of these lists, such as `order:17`.
    public var names: Set<String> = []

    public init() {}

    public var isEqual: Bool { self.differences.isEmpty && self.doubled.isEmpty }

    /// Takes in what was found in another company.
    public mutating func add(_ other: Comparison) {
        self.differences += other.differences
        self.doubled += other.doubled
        self.rows += other.rows
        self.names.formUnion(other.names)
    }
}

extension Company {
    /// Compares every table of every site. What is written meanwhile shows as a difference.
    /// - Parameters:
    ///   - dead: Names of entities with a dead record, such as `order:17`: they are left out.
    ///   - records: How many records were written about an entity. By default what is in `sync_data` says so.
    ///   - repeats: How often more than that a record may have taken effect at a branch, by branch.
    public func compare(
        except dead: Set<String> = [], records: [String: Int]? = nil, repeats: [Int32: [String: Int]] = [:]
    ) async throws -> Comparison {
        var comparison = Comparison()
        func note(_ name: String, _ key: String, _ what: String) {
            guard !dead.contains("\(name):\(key)") else { return }
            comparison.differences.append("\(name) \(key) \(what)")
            comparison.names.insert("\(name):\(key)")
        }
        func compare(_ found: [String: String], _ expected: [String: String], _ name: String, _ place: String) {
            comparison.rows += expected.count
            for (key, row) in expected {
                switch found[key] {
                case nil: note(name, key, "is missing at \(place)")
                case .some(let other) where other != row: note(name, key, "is different at \(place)")
                case .some: break
                }
            }
            for key in found.keys where expected[key] == nil { note(name, key, "should not be at \(place)") }
        }
        let products = try await self.cloud.table("product", key: "product_id")
        let members = try await self.cloud.table("member", key: "household_id")
        var orders: [String: String] = [:]
        var lines: [String: String] = [:]
        var ownMembers: [String: String] = [:]
        for branch in self.branches {
            let place = "branch \(branch.id)"
            compare(try await branch.table("product", key: "product_id"), products, "product", place)
            let known = try await branch.table("member", key: "household_id")
            // Home, and shared, are the last two columns.
            compare(known, members.filter { $0.value.hasSuffix("|\(branch.id)|0") || $0.value.hasSuffix("|1") }, "member", place)
            ownMembers.merge(known.filter { $0.value.contains("|\(branch.id)|") }) { $1 }
            orders.merge(try await branch.table("orders", key: "basket_id", prefix: "\(branch.id)|")) { $1 }
            lines.merge(try await branch.table("order_lines", key: "basket_id", also: "line", prefix: "\(branch.id)|")) { $1 }
        }
        compare(members, ownMembers, "member", "the cloud")
        compare(try await self.cloud.table("orders", key: "basket_id"), orders, "order", "the cloud")
        compare(try await self.cloud.table("order_lines", key: "basket_id", also: "line"), lines, "order", "the cloud")
        for (name, what) in try await self.doubledEffects(records, repeats) {
            comparison.doubled.append("\(name) \(what)")
            comparison.names.insert(name)
        }
        return comparison
    }

    /// What every site knows of an entity, for whoever wants to find out why it differs: its row, and its rows in DataSync's tables.
    public func story(of name: String) async throws -> [String] {
        let parts = name.split(separator: ":")
        let tables = ["product": ("product", "product_id", 1), "member": ("member", "household_id", 2), "order": ("orders", "basket_id", 3)]
        guard parts.count == 2, let (table, key, type) = tables[String(parts[0])], let id = Int(parts[1]) else { return [] }
        let filter = "where business_type = \(type) and data_from_detail = ?"
        var lines = [name]
        for site in self.branches + [self.cloud] {
            let questions = [
                (table, "select * from \(table) where \(key) = \(id)", []),
                ("sync_data", "select id, syn_id, state, fail_num, reason, data_detail from sync_data \(filter) order by id", [SQLValue.text(name)]),
                (
                    "sync_memo",
                    "select id, receiver, sender, number, disposition, fail_num, tries, reason, needs from sync_memo \(filter) order by id",
                    [.text(name)]
                ),
                (
                    "sync_log",
                    "select log_seq, audience, is_echo, is_deletion, origin, epoch, syn_id, data_detail from sync_log \(filter) order by log_seq",
                    [.text(name)]
                ),
            ]
            for (table, question, values) in questions {
                for row in try await site.read({ try await $0.query(question, values) }) {
                    let text = try (0..<row.count).map { try row.optionalText($0) ?? "NULL" }.joined(separator: "|")
                    lines.append("  \(site.isCloud ? "the cloud" : "branch \(site.id)"): \(table) \(text)")
                }
            }
        }
        return lines
    }

    /// Orders that took effect at the cloud more often than they were sold, and products at a branch.
    private func doubledEffects(_ records: [String: Int]?, _ repeats: [Int32: [String: Int]]) async throws -> [(name: String, what: String)] {
        var doubled: [(name: String, what: String)] = []
        var sold: [String: Int] = [:]
        if let records {
            sold = records
        } else {
            for branch in self.branches { sold.merge(try await branch.tally(recordsOf: 3), uniquingKeysWith: +) }
        }
        for (name, effects) in try await self.cloud.tally(effectsOn: "orders", as: "order") where effects > sold[name] ?? 0 {
            doubled.append((name, "took effect \(effects) times at the cloud"))
        }
        let told = if let records { records } else { try await self.cloud.tally(recordsOf: 1) }
        for branch in self.branches {
            for (name, effects) in try await branch.tally(effectsOn: "product", as: "product")
            where effects > (told[name] ?? 0) + (repeats[branch.id]?[name] ?? 0) {
                doubled.append((name, "took effect \(effects) times at branch \(branch.id)"))
            }
        }
        return doubled
    }

    /// Records that went up, and records that went down: to each branch what is for it and not from it.
    public func traffic() async throws -> (up: Int, down: Int) {
        var (up, down) = (0, 0)
        for branch in self.branches {
            up += try await branch.count("select count(*) from sync_data")
            down += try await self.cloud.count(
                "select count(*) from sync_log where audience in (0, \(branch.id)) and (origin <> \(branch.id) or is_echo = 1)")
        }
        return (up, down)
    }
}

extension Site {
    func orders() async throws -> Set<Int> {
        try await self.read { Set(try await $0.query("select basket_id from orders").map { try Int($0.int(0)) }) }
    }

    /// The rows of a table, by key, as text. A child's rows get the key of their parent, for `dead`, and their own.
    fileprivate func table(_ name: String, key: String, also second: String? = nil, prefix: String = "") async throws -> [String: String] {
        try await self.read { transaction in
            let order = [key, second].compactMap { $0 }.joined(separator: ", ")
            var rows: [String: String] = [:]
            for row in try await transaction.query("select \(key), \(name).* from \(name) order by \(order)") {
                let text = try (1..<row.count).map { Self.plain(try row.optionalText($0) ?? "NULL") }.joined(separator: "|")
                // The lines of an order are one text: an order is compared as a whole.
                rows[try row.text(0), default: ""] += (prefix + text) + (second == nil ? "" : "\n")
            }
            return rows
        }
    }

    /// An amount as any database shows it: MariaDB says 0.50 where SQLite says 0.5.
    private static func plain(_ value: String) -> String {
        guard value.contains("."), value.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D }) else { return value }
        let digits = value.reversed().drop { $0 == "0" }
        return String((digits.first == "." ? digits.dropFirst() : digits).reversed())
    }

    fileprivate func tally(recordsOf type: Int) async throws -> [String: Int] {
        try await self.tally("select data_from_detail, count(*) from sync_data where business_type = \(type) group by data_from_detail", "")
    }

    fileprivate func tally(effectsOn table: String, as name: String) async throws -> [String: Int] {
        try await self.tally("select row_key, count(*) from effects where table_name = '\(table)' group by row_key", "\(name):")
    }

    private func tally(_ question: String, _ prefix: String) async throws -> [String: Int] {
        try await self.read { transaction in
            var counts: [String: Int] = [:]
            for row in try await transaction.query(question) { counts[prefix + (try row.text(0))] = try Int(row.int(1)) }
            return counts
        }
    }
}
