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

    public var isEqual: Bool { self.differences.isEmpty && self.doubled.isEmpty }
}

extension Company {
    /// Compares every table of every site. What is written meanwhile shows as a difference.
    /// - Parameter dead: Names of entities with a dead record, such as `order:17`: they are left out.
    public func compare(except dead: Set<String> = []) async throws -> Comparison {
        var comparison = Comparison()
        func compare(_ found: [String: String], _ expected: [String: String], _ name: String, _ place: String) {
            comparison.rows += expected.count
            for (key, row) in expected where !dead.contains("\(name):\(key)") {
                switch found[key] {
                case nil: comparison.differences.append("\(name) \(key) is missing at \(place)")
                case .some(let other) where other != row: comparison.differences.append("\(name) \(key) is different at \(place)")
                case .some: break
                }
            }
            for key in found.keys where expected[key] == nil && !dead.contains("\(name):\(key)") {
                comparison.differences.append("\(name) \(key) should not be at \(place)")
            }
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
        comparison.doubled = try await self.doubledEffects()
        return comparison
    }

    /// Orders that took effect at the cloud more often than they were sold, and products at a branch.
    private func doubledEffects() async throws -> [String] {
        var doubled: [String] = []
        var sold: [String: Int] = [:]
        for branch in self.branches { sold.merge(try await branch.tally(recordsOf: 3), uniquingKeysWith: +) }
        for (name, effects) in try await self.cloud.tally(effectsOn: "orders", as: "order") where effects > sold[name] ?? 0 {
            doubled.append("\(name) took effect \(effects) times at the cloud")
        }
        let told = try await self.cloud.tally(recordsOf: 1)
        for branch in self.branches {
            for (name, effects) in try await branch.tally(effectsOn: "product", as: "product") where effects > told[name] ?? 0 {
                doubled.append("\(name) took effect \(effects) times at branch \(branch.id)")
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
    /// The rows of a table, by key, as text. A child's rows get the key of their parent, for `dead`, and their own.
    fileprivate func table(_ name: String, key: String, also second: String? = nil, prefix: String = "") async throws -> [String: String] {
        try await self.read { transaction in
            let order = [key, second].compactMap { $0 }.joined(separator: ", ")
            var rows: [String: String] = [:]
            for row in try await transaction.query("select \(key), \(name).* from \(name) order by \(order)") {
                let text = try (1..<row.count).map { try row.optionalText($0) ?? "NULL" }.joined(separator: "|")
                // The lines of an order are one text: an order is compared as a whole.
                rows[try row.text(0), default: ""] += (prefix + text) + (second == nil ? "" : "\n")
            }
            return rows
        }
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
