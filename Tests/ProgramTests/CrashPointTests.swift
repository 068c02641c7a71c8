import DataSync
import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// The programs end at places that are chosen, not hit by chance.
    @Suite struct CrashPointTests {
        @Test func everyPointIsWalked() {
            #expect(CrashWalk.points.union(JoinWalk.points) == Set(CrashPoint.allCases))
            #expect(CrashWalk.points.isDisjoint(with: JoinWalk.points))
            #expect(CrashPoint.allCases.count >= 40)
        }

        /// Some five minutes, and only where it is asked for: how soon a point is passed hangs on how the applications and the programs
        /// keep pace, and on a busy machine one of them may not be passed in time.
        @Test(
            .enabled(
                if: ProcessInfo.processInfo.environment["DATASYNC_TEST_CRASH_POINTS"] != nil,
                "set DATASYNC_TEST_CRASH_POINTS=1 to walk through all labelled points"))
        func nothingIsLostAndNothingComesTwiceWhereverAProgramEnds() async throws {
            try await Programs.withFolder { folder in
                let server = Programs.hasMariaDB ? try MariaDBServer(folder: folder.appending(path: "db")) : nil
                defer { server?.stop() }
                var hits: [CrashPoint: Int] = [:]
                for round in 1...5 {
                    var join = try await JoinWalk(round: round, in: folder.appending(path: "join\(round)"), server: round.isMultiple(of: 2) ? nil : server)
                    try await join.run()
                    hits.merge(join.hits, uniquingKeysWith: +)
                }
                let walk = try await CrashWalk(in: folder.appending(path: "walk"), server: server)
                let comparison: Comparison
                do {
                    let result = try await walk.run()
                    hits.merge(result.hits, uniquingKeysWith: +)
                    comparison = result.comparison
                    await walk.company.close()
                } catch {
                    await walk.company.close()
                    throw error
                }
                for point in CrashPoint.allCases { #expect(hits[point, default: 0] >= 5, "\(point.rawValue)") }
                #expect(comparison.differences == [])
                #expect(comparison.doubled == [])
                #expect(comparison.rows > 1_000)
                let lost = comparison.differences.count { $0.contains(" is missing ") }
                print(
                    "crash points: points=\(hits.count) hits=\(hits.values.reduce(0, +)) lost=\(lost) doubled=\(comparison.doubled.count) "
                        + "diverged=\(comparison.differences.count - lost)")
            }
        }
    }
}
