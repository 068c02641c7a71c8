import DataSync
public import DataSyncSQL
public import Foundation

/// A cloud and its branches, each a process and a database of its own, that trade with real data.
public final class Company: Sendable {
    public let cloud: Site
    public let branches: [Site]
    /// Where the cloud listens; kept when it is started again, as a real address is.
    public let port: Int

    /// Creates the sites, introduces the branches to the cloud and starts all programs.
    /// - Parameters:
    ///   - stores: The ids of the branches.
    ///   - programs: Where the two programs are.
    ///   - cloudDatabase: The cloud's, where it is another than the branches'.
    ///   - port: Where the cloud listens; by default where nobody does.
    ///   - visiblePort: Where the branches look for it, if something stands between.
    ///   - settings: More YAML for every site, such as shorter waits.
    ///   - branchSettings: More YAML for the branches.
    public init(
        stores: [Int32], in folder: URL, programs: String, database: SiteDatabase, cloudDatabase: SiteDatabase? = nil,
        port: Int? = nil, visiblePort: Int? = nil, settings: String = Company.quickSettings,
        branchSettings: String = ""
    ) async throws {
        self.port = try port ?? freePort()
        self.cloud = try await Site(
            id: 0, in: folder, programs: programs, database: cloudDatabase ?? database, settings: "http:\n  port: \(self.port)\n" + settings,
            types: RetailTables.types(.cloud)
        ) { RetailTables.definitions(.cloud, isSQLite: $0) }
        var branches: [Site] = []
        for store in stores {
            branches.append(
                try await Site(
                    id: store, in: folder, programs: programs, database: database,
                    settings: "cloud:\n  url: http://127.0.0.1:\(visiblePort ?? self.port)\nschedule:\n  interval: 200ms\n  backoff: 100ms\n  backoff_max: 1s\n"
                        + branchSettings + settings,
                    types: RetailTables.types(.branch)
                ) { RetailTables.definitions(.branch, isSQLite: $0) })
        }
        self.branches = branches
    }

    /// Waits of seconds where a company would have minutes.
    public static let quickSettings = "limits:\n  retry_delays: 1s, 2s\n  waiting_delay: 1s\n  waiting_delay_max: 5s"

    public func branch(_ store: Int32) -> Site? { self.branches.first { $0.id == store } }

    /// Starts the cloud, lets every branch join, and starts the branches.
    public func open() throws {
        try self.cloud.start()
        try self.cloud.program?.waitUntilReady()
        for branch in self.branches {
            let token = try self.cloud.succeed(["branch", "add", "\(branch.id)", "store \(branch.id)"])
            // The token goes through standard input: arguments are seen by everybody on the machine.
            try branch.succeed(["join"], input: token + "\n")
            try branch.start()
        }
        for branch in self.branches { try branch.program?.waitUntilReady() }
    }

    /// Stops everything that still runs.
    public func close() async {
        for site in self.branches + [self.cloud] {
            site.stop()
            await site.storage.close()
        }
    }

    // MARK: - Coming to rest

    /// Waits until nothing is under way: every outbox settled, every branch at the end of the cloud's log, nothing parked.
    public func settle(within seconds: Double) async throws {
        let start = ContinuousClock.now
        while let reason = try await self.unrest() {
            guard start.seconds < seconds else { throw TradeError("after \(Int(seconds)) s still under way: \(reason)") }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    /// Records of the branches that are numbered and not settled.
    func backlog() async throws -> Int {
        var sum = 0
        for branch in self.branches { sum += try await branch.count("select coalesce(sum(n - settled), 0) from sync_batch") }
        return sum
    }

    /// What is still under way; nil for nothing.
    public func unrest() async throws -> String? {
        for site in self.branches + [self.cloud] {
            let open = try await site.count("select count(*) from sync_data where state = 0 and id > (select frontier from sync_frontier)")
            if open > 0 { return "site \(site.id) has \(open) records without a number" }
            let unsettled = try await site.count("select coalesce(sum(n - settled), 0) from sync_batch")
            if unsettled > 0 { return "site \(site.id) has \(unsettled) unsettled records" }
            // Parked, waiting or suspect (`Disposition.isOpen`).
            let parked = try await site.count("select count(*) from sync_memo where disposition in (3, 4, 5)")
            if parked > 0 { return "site \(site.id) has \(parked) refused records that will be tried again" }
        }
        for branch in self.branches {
            let tails = try await self.cloud.read { transaction in
                try await transaction.query(
                    "select business_type, max(last) from sync_log_tail where audience in (0, ?) group by business_type", [.int(branch.id)]
                ).map { (try $0.int(0), try $0.int(1)) }
            }
            for (type, tail) in tails {
                let cursor = try await branch.count("select coalesce(max(number), 0) from sync_position where peer = 0 and business_type = \(type)")
                if cursor < tail { return "branch \(branch.id) has read type \(type) up to \(cursor) of \(tail)" }
            }
        }
        return nil
    }
}

extension Site {
    public func count(_ question: String) async throws -> Int {
        try await self.read { try await Int($0.query(question)[0].int(0)) }
    }

    /// Reads in one snapshot; again where the connection turns out to be that of a server that was killed.
    public func read<Result: Sendable>(_ body: (SQLTransaction) async throws -> Result) async throws -> Result {
        var attempt = 1
        while true {
            do { return try await self.storage.withTransaction(.snapshot, body) } catch let error as DataSyncError
                where [.storageUnavailable, .storageBusy].contains(error.code) && attempt < 50
            {
                attempt += 1
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}

/// A port of 127.0.0.1 that nothing has now, and that no outgoing connection gets (`net.ipv4.ip_local_port_range` begins at 32768): a program that
/// is killed finds its port free when it is started again.
public func freePort() throws -> Int {
    for _ in 0..<100 {
        let port = UInt16.random(in: 15_000..<32_768)
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Foundation.close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let isFree = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
        if isFree { return Int(port) }
    }
    throw TradeError("no free port on 127.0.0.1")
}
