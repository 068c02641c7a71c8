import DataSync
@testable import DataSyncServer
import Testing

@Suite struct BranchQuotaTests {
    private func take(_ quota: inout BranchQuota, bytes: Int = 0, of branch: ServerID = 7, at seconds: Double) -> BranchQuota.Refusal? {
        do { try quota.take(bytes: bytes, of: branch, at: .seconds(seconds)) } catch { return error }
        return nil
    }

    @Test func aMinutesRequestsMayComeAtOnceAndNoMore() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 1_000)
        for _ in 0..<60 { #expect(self.take(&quota, at: 10) == nil) }
        let refusal = self.take(&quota, at: 10)
        #expect(refusal?.excess == .requests)
        #expect(refusal.map { $0.retryAfter > .zero && $0.retryAfter <= .seconds(1) } == true)
        // Whoever comes back at the time named is let in, once.
        #expect(self.take(&quota, at: 10.01) == nil)
        #expect(self.take(&quota, at: 10.01) != nil)
        #expect(self.take(&quota, of: 8, at: 10) == nil)
    }

    @Test func whatIsRefusedFillsNothing() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 1_000)
        for _ in 0..<60 { _ = self.take(&quota, at: 10) }
        for _ in 0..<10_000 { #expect(self.take(&quota, bytes: 500, at: 10) != nil) }
        #expect(self.take(&quota, at: 12) == nil)
    }

    /// Over ten minutes a branch that asks all the time gets ten minutes' worth, and the one minute that it may have at once.
    @Test func inTheLongRunAQuotaIsKept() {
        var quota = BranchQuota(requestsPerMinute: 600, bytesPerDay: 1 << 30)
        var taken = 0
        for step in 0..<60_000 where self.take(&quota, at: 10 + Double(step) / 100) == nil { taken += 1 }
        #expect((6_590...6_610).contains(taken), "\(taken)")
    }

    @Test func aBodyThatIsLargerThanWhatIsLeftIsTakenAndPaidForAfterwards() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 86_400)
        #expect(self.take(&quota, bytes: 86_399, at: 10) == nil)
        #expect(self.take(&quota, bytes: 86_400, at: 10) == nil)
        let refusal = self.take(&quota, bytes: 1, at: 10)
        #expect(refusal?.excess == .bytes)
        #expect(refusal.map { abs($0.retryAfter / .seconds(1) - 86_399) < 1 } == true)
        #expect(self.take(&quota, bytes: 1, at: 10 + 86_398) != nil)
        #expect(self.take(&quota, bytes: 1, at: 10 + 86_400) == nil)
    }

    /// A time that stands still, or goes back, fills and empties nothing.
    @Test func theSameMomentIsTheSameMoment() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 1_000)
        for _ in 0..<60 { _ = self.take(&quota, at: 10) }
        #expect(self.take(&quota, at: 5) != nil)
        #expect(self.take(&quota, at: 10) != nil)
    }

    @Test func theLogHearsOfABranchOnceAMinute() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 1)
        _ = self.take(&quota, bytes: 1_000, at: 10)
        let lines = (0..<1_200).count { self.take(&quota, at: 10 + Double($0) / 10)?.isWorthALine == true }
        #expect(lines == 2)
    }

    @Test func howManyBranchesThereWereIsForgotten() {
        var quota = BranchQuota(requestsPerMinute: 60, bytesPerDay: 1_000)
        for _ in 0..<60 { _ = self.take(&quota, at: 100) }
        for branch in 1...9_998 { _ = self.take(&quota, of: ServerID(rawValue: Int32(branch + 100)), at: 1) }
        #expect(quota.branchCount == 9_999)
        _ = self.take(&quota, of: 50, at: 101)
        _ = self.take(&quota, of: 51, at: 101)
        #expect(quota.branchCount < 10)
        // Who is at its bound is not forgotten.
        #expect(self.take(&quota, at: 100) != nil)
    }
}
