import Foundation
import RetailTrade
import Testing

extension WithPrograms {
    /// The same trade, while the programs and the databases are killed (SIGKILL) again and again, at moments that a seed decides.
    @Suite struct KillTests {
        static let seed = ProcessInfo.processInfo.environment["DATASYNC_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1...1_000_000)

        @Test(.enabled(if: Programs.hasYearData, Programs.yearHint), .enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
        func nothingIsLostAndNothingComesTwiceWhateverIsKilled() async throws {
            try await Programs.withFolder { folder in
                let data = try RetailData(folder: Programs.yearData)
                try await self.tradeUnderFire(data, kills: 36, in: folder)
            }
        }

        /// Where there is no year of trade, the small set still shows it.
        @Test(.enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
        func twoStoresSurviveKillsToo() async throws {
            try await Programs.withFolder { folder in
                let data = try RetailData(folder: Programs.demoData)
                try await self.tradeUnderFire(data, kills: 12, in: folder)
            }
        }

        /// Two replicas of the cloud; connections cut, exchanges tampered with, programs and databases stopped, disks full, databases put back to
        /// copies. About a minute.
        @Test(.enabled(if: Programs.hasMariaDB, Programs.mariaDBHint))
        func whateverElseFailsLosesNothingEither() async throws {
            try await Programs.withFolder { folder in
                let data = try RetailData(folder: Programs.demoData)
                let outcome = try await self.tradeUnderFire(data, kills: 12, in: folder, duration: .seconds(40), means: .everything, isRestoring: true)
                #expect(outcome.cuts > 0)
                #expect(outcome.exchanges.values.reduce(0, +) > 0)
            }
        }

        @discardableResult
        private func tradeUnderFire(
            _ data: RetailData, kills: Int, in folder: URL, duration: Duration = .zero, means: Siege.Means = .kills, isRestoring: Bool = false
        ) async throws -> Siege.Outcome {
            print("kills: seed \(Self.seed) (DATASYNC_TEST_SEED=\(Self.seed) plays it again)")
            let siege = Siege(
                data: data, folder: folder, programs: Programs.folder, seed: Self.seed, killsMin: kills, duration: duration, means: means,
                isRestoring: isRestoring)
            let outcome = try await siege.run()
            #expect(outcome.comparison.differences == [])
            #expect(outcome.comparison.doubled == [])
            #expect(outcome.programKills + outcome.databaseKills >= kills)
            #expect(outcome.dead == 0)
            #expect(outcome.mishaps == [])
            print(
                "kills: \(outcome.kinds), \(outcome.gone) gone, \(outcome.up) records up, \(outcome.down) down, \(outcome.comparison.rows) rows compared")
            return outcome
        }
    }
}
