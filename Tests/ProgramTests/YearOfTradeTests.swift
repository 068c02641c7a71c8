import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// A year of real trade through ten branches, with both programs as processes of their own. Afterwards every table of every
    /// side is compared with what the routes say, row for row.
    @Suite struct YearOfTradeTests {
        @Test(.enabled(if: Programs.hasYearData, Programs.yearHint))
        func aYearOfTradeArrivesOnSQLite() async throws {
            try await Programs.withFolder { folder in
                try await self.trade(in: folder, database: .sqlite)
            }
        }

        @Test(.enabled(if: Programs.hasYearData, Programs.yearHint), .enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
        func aYearOfTradeArrivesOnMariaDB() async throws {
            try await Programs.withFolder { folder in
                let server = try MariaDBServer(folder: folder.appending(path: "db"))
                defer { server.stop() }
                try await self.trade(in: folder, database: .mariadb(socket: server.socket))
            }
        }

        private func trade(in folder: URL, database: SiteDatabase) async throws {
            let data = try RetailData(folder: Programs.yearData)
            #expect(data.orders.count == 15_491 && data.members.count == 812 && data.products.count == 25_271)
            let company = try await Company(
                stores: data.stores, in: folder.appending(path: "year"), programs: Programs.folder, database: database)
            do {
                try company.open()
                for start in stride(from: 0, to: data.products.count, by: 1_000) {
                    try await company.cloud.stock(Array(data.products[start..<min(start + 1_000, data.products.count)]))
                }
                // An order that the cloud's table refuses, in the middle of the others.
                var poison = data.orders[0]
                poison.id = 1
                poison.total = -100
                for branch in company.branches {
                    try await branch.welcome(data.members.filter { $0.home == branch.id })
                    var orders = data.orders.filter { $0.store == branch.id }
                    if branch.id == poison.store { orders.insert(poison, at: orders.count / 2) }
                    for start in stride(from: 0, to: orders.count, by: 100) {
                        try await branch.sell(Array(orders[start..<min(start + 100, orders.count)]))
                    }
                }
                try await company.settle(within: 3_600)
                let comparison = try await company.compare(except: ["order:1"])
                #expect(comparison.differences == [])
                #expect(comparison.doubled == [])
                #expect(comparison.rows > 25_271 * 10 + 812 + 15_491)
                try await self.expectDead(order: poison, in: company)
                let traffic = try await company.traffic()
                print("a year of trade: \(traffic.up) records up, \(traffic.down) down, \(comparison.rows) rows compared")
            } catch {
                await company.close()
                throw error
            }
            await company.close()
        }

        /// One order is dead after three tries, and both sides say why; nothing else is refused.
        private func expectDead(order: Order, in company: Company) async throws {
            let home = try #require(company.branch(order.store))
            for site in [company.cloud, home] {
                let lines = try site.command(["dead", "list", "--all", "--json"]).output.split(separator: "\n")
                #expect(lines.count == 1, "site \(site.id)")
                let memo = try #require(try JSONSerialization.jsonObject(with: Data((lines.first ?? "{}").utf8)) as? [String: Any])
                #expect(memo["entity"] as? String == "order:\(order.id)")
                #expect(memo["is"] as? String == "dead")
                #expect(memo["attempts"] as? Int == 3)
                #expect(memo["reason"] as? String == "constraint")
                #expect((memo["detail"] as? String ?? "").contains("plausible_total"))
            }
            // And the application that wrote it reads it in its own row.
            #expect(
                try await home.count(
                    "select count(*) from sync_data where data_from_detail = 'order:\(order.id)' and fail_num = 3 and result_of_send_business > 0") == 1)
            for branch in company.branches where branch.id != order.store {
                #expect(try await branch.count("select count(*) from sync_memo") == 0)
            }
        }
    }
}
