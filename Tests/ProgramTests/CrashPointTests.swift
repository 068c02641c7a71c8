import DataSync
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// The programs end at places that are chosen, not hit by chance.
    @Suite struct CrashPointTests {
        @Test func everyPointIsWalked() {
            let walks = [CrashWalk.points, JoinWalk.points, KeyWalk.points]
            #expect(walks.reduce([]) { $0.union($1) } == Set(CrashPoint.allCases))
            #expect(walks.map(\.count).reduce(0, +) == CrashPoint.allCases.count)
            #expect(CrashPoint.allCases.count >= 40)
        }

        @Test func aKeyIsChangedAndAMachineReplacedWhereverAProgramEnds() async throws {
            try await Programs.withFolder { folder in
                var walk = try await KeyWalk(in: folder)
                try await walk.run()
                #expect(Set(walk.hits.keys) == KeyWalk.points)
            }
        }

        /// On which kind of database; both share the passes if nothing is said.
        private static let choice = ProcessInfo.processInfo.environment["DATASYNC_TEST_CRASH_POINTS"]

        /// Three of the five passes on MariaDB and two on SQLite, by two companies at the same time.
        @Test func nothingIsLostAndNothingComesTwiceWhereverAProgramEnds() async throws {
            try await Programs.withFolder { folder in
                let start = ContinuousClock.now
                let server = Programs.hasMariaDB && Self.choice != "sqlite" ? try MariaDBServer(folder: folder.appending(path: "db")) : nil
                defer { server?.stop() }
                var hits: [CrashPoint: Int] = [:]
                for round in 1...5 {
                    let isOnServer = Self.choice == nil ? !round.isMultiple(of: 2) : true
                    var join = try await JoinWalk(round: round, in: folder.appending(path: "join\(round)"), server: isOnServer ? server : nil)
                    try await join.run()
                    hits.merge(join.hits, uniquingKeysWith: +)
                    var keys = try await KeyWalk(in: folder.appending(path: "keys\(round)"))
                    try await keys.run()
                    hits.merge(keys.hits, uniquingKeysWith: +)
                }
                var walks: [CrashWalk] = []
                if let server {
                    let passes = Self.choice == nil ? [1, 3, 5] : [1, 2, 3, 4, 5]
                    walks.append(try await CrashWalk(in: folder.appending(path: "mariadb"), server: server, passes: passes))
                }
                if server == nil || Self.choice == nil {
                    let passes = server == nil ? [1, 2, 3, 4, 5] : [2, 4]
                    walks.append(try await CrashWalk(in: folder.appending(path: "sqlite"), server: nil, passes: passes))
                }
                var result = Comparison()
                do {
                    try await withThrowingTaskGroup(of: (hits: [CrashPoint: Int], comparison: Comparison).self) { group in
                        for walk in walks { group.addTask { try await walk.run() } }
                        for try await (found, comparison) in group {
                            hits.merge(found, uniquingKeysWith: +)
                            result.add(comparison)
                        }
                    }
                } catch {
                    for walk in walks { await walk.company.close() }
                    throw error
                }
                for walk in walks { await walk.company.close() }
                let lost = result.differences.count { $0.contains(" is missing ") }
                print(
                    "crash points: points=\(hits.count) hits=\(hits.values.reduce(0, +)) lost=\(lost) doubled=\(result.doubled.count) "
                        + "diverged=\(result.differences.count - lost) rows=\(result.rows) seconds=\(Int(start.seconds))")
                for point in CrashPoint.allCases { #expect(hits[point, default: 0] >= 5, "\(point.rawValue)") }
                #expect(result.differences == [])
                #expect(result.doubled == [])
                #expect(result.rows > 1_000)
                // So that the databases and the logs are left.
                guard result.isEqual else { throw TradeError("the databases and the logs are in \(folder.path)") }
            }
        }
    }
}
