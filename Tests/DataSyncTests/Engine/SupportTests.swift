import DataSync
import Synchronization
import Testing

@Suite struct CRC32Tests {
    @Test(
        arguments: [
            ("", 0x0000_0000), ("a", 0xE8B7_BE43), ("123456789", 0xCBF4_3926), ("The quick brown fox jumps over the lazy dog", 0x414F_A339),
        ] as [(String, UInt32)])
    func knownVectors(text: String, expected: UInt32) {
        var crc = CRC32()
        crc.update(text)
        #expect(crc.value == expected)
    }

    @Test func piecesMakeTheSameAsTheWhole() {
        var crc = CRC32()
        for piece in ["123", "", "456", "789"] { crc.update(piece) }
        #expect(crc.value == 0xCBF4_3926)
    }

    @Test func aRowsDigestChangesWithItsKeyAndWithItsPayload() {
        let digest = CRC32.ofRow(key: "member:1", payload: "{}")
        #expect(CRC32.ofRow(key: "member:2", payload: "{}") != digest)
        #expect(CRC32.ofRow(key: "member:1", payload: "{ }") != digest)
    }
}

@Suite struct TimeoutTests {
    /// Lets a sleep end at once, or never.
    private struct TestClock: Clock {
        var endsAtOnce: Bool
        var now: ContinuousClock.Instant { .now }
        var minimumResolution: Duration { .zero }
        func sleep(until deadline: ContinuousClock.Instant, tolerance: Duration?) async throws {
            if self.endsAtOnce { return }
            try await ContinuousClock().sleep(for: .seconds(3_600))
        }
    }

    @Test func whatEndsInTimeIsReturned() async throws {
        #expect(try await withTimeout(.seconds(1), clock: TestClock(endsAtOnce: false)) { 7 } == 7)
    }

    @Test func whatDoesNotEndIsCancelledAndNil() async throws {
        let never = AsyncSemaphore(0)
        let result = try await withTimeout(.seconds(1), clock: TestClock(endsAtOnce: true)) {
            try await never.wait()
            return 7
        }
        #expect(result == nil)
    }

    @Test func whatReturnsInTheMomentOfItsCancellationCounts() async throws {
        let never = AsyncSemaphore(0)
        let result = try await withTimeout(.seconds(1), clock: TestClock(endsAtOnce: true)) {
            try? await never.wait()
            return 7
        }
        #expect(result == 7)
    }

    @Test func anErrorIsPassedOn() async {
        struct Broken: Error {}
        await #expect(throws: Broken.self) {
            try await withTimeout(.seconds(1), clock: TestClock(endsAtOnce: false)) { () -> Int in throw Broken() }
        }
    }
}

@Suite struct AsyncSemaphoreTests {
    /// How many were inside at a time.
    private final class Crowd: Sendable {
        private let state = Mutex((now: 0, most: 0))
        var most: Int { self.state.withLock { $0.most } }
        func enter() { self.state.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) } }
        func leave() { self.state.withLock { $0.now -= 1 } }
    }

    @Test func givesAsManyTurnsAsItHas() async throws {
        let semaphore = AsyncSemaphore(2)
        try await semaphore.wait()
        #expect(semaphore.tryWait())
        #expect(!semaphore.tryWait())
        semaphore.signal()
        #expect(semaphore.tryWait())
    }

    @Test func turnsAreNeverMoreThanThereAre() async throws {
        let semaphore = AsyncSemaphore(3)
        let inside = Crowd()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    try await semaphore.wait()
                    inside.enter()
                    await Task.yield()
                    inside.leave()
                    semaphore.signal()
                }
            }
            try await group.waitForAll()
        }
        #expect(inside.most <= 3)
        #expect((0..<3).allSatisfy { _ in semaphore.tryWait() })
        #expect(!semaphore.tryWait())
    }

    @Test func aCancelledWaiterLeavesAndItsTurnIsNotLost() async throws {
        let semaphore = AsyncSemaphore(0)
        for _ in 0..<200 {
            await withTaskGroup(of: Bool.self) { group in
                group.addTask { do { try await semaphore.wait(); return true } catch { return false } }
                group.cancelAll()
                if await group.next() == true { Issue.record("a turn was given that did not exist") }
            }
        }
        semaphore.signal()
        #expect(semaphore.tryWait())
        #expect(!semaphore.tryWait())
    }

    @Test func aTurnThatMeetsACancellationIsTakenOrLeftButNeverLost() async throws {
        for _ in 0..<500 {
            let semaphore = AsyncSemaphore(0)
            let wasTaken = await withTaskGroup(of: Bool.self) { group in
                group.addTask { do { try await semaphore.wait(); return true } catch { return false } }
                await Task.yield()
                group.addTask {
                    semaphore.signal(); return false
                }
                group.cancelAll()
                return await group.contains(true)
            }
            #expect(semaphore.tryWait() == !wasTaken)
        }
    }
}
