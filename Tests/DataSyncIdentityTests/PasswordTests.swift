import DataSync
@testable import DataSyncIdentity
import Synchronization
import Testing

// Which passwords are taken, and how they are hashed.

@Suite struct PasswordHashTests {
    /// RFC 7914, section 12: the vectors that a test can afford.
    @Test func itIsTheScryptOfTheStandard() throws {
        let hash = try PasswordHash(
            of: "pleaseletmein", salt: Array("SodiumChloride".utf8), cost: PasswordCost(logRounds: 14, blockSize: 8, parallelism: 1))
        let expected = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        #expect(hash.hash.revealed.map { MachinePublicKey.hex($0) }.joined() == expected)
    }

    @Test func itIsReadAsItWasWritten() throws {
        let salt = [UInt8](0..<16)
        let hash = try PasswordHash(of: "one two three four", salt: salt, cost: PasswordCost(logRounds: 4))
        #expect(hash.text.revealed.hasPrefix("$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$"))
        let read = try #require(PasswordHash(text: hash.text))
        #expect(read.salt == salt)
        #expect(read.cost == hash.cost)
        #expect(read.equals(hash))
        #expect(!"\(hash)".contains("scrypt$"))
    }

    @Test(arguments: [
        "", "$", "$$$$", "$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw", "$scrypt$ln=4,r=8$AAECAwQFBgcICQoLDA0ODw$HASH",
        "$scrypt$ln=4,p=1,r=8$AAECAwQFBgcICQoLDA0ODw$HASH", "$argon2id$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$HASH",
        // More memory than a login may take.
        "$scrypt$ln=31,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$HASH", "$scrypt$ln=20,r=32,p=1$AAECAwQFBgcICQoLDA0ODw$HASH",
        "$scrypt$ln=0,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$HASH", "$scrypt$ln=-1,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$HASH",
        "$scrypt$ln=4,r=8,p=99$AAECAwQFBgcICQoLDA0ODw$HASH", "$scrypt$ln=4,r=8,p=1$AAE$HASH", "$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$AAAA",
        "$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw==$HASH", "$scrypt$ln=4,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$HASH$",
    ])
    func whatIsNoHashIsNotRead(text: String) {
        let hash = String(repeating: "A", count: 42) + "A"
        #expect(PasswordHash(text: Secret(text.replacing("HASH", with: hash))) == nil)
    }

    @Test func whatTheProgramsUseCostsWhatItShould() {
        #expect(PasswordCost.standard == PasswordCost(logRounds: 17, blockSize: 8, parallelism: 1))
        #expect(PasswordHasher().cost == .standard)
        #expect(PasswordCost.standard.isBearable)
    }
}

@Suite struct PasswordPolicyTests {
    @Test(arguments: [
        ("short", PasswordWeakness.tooShort), ("elevenchars", .tooShort), (String(repeating: "ab3$kQ9!", count: 17), .tooLong),
        ("one two\u{0}three four", .badCharacter), ("one two\nthree four", .badCharacter), ("one two\u{85}three four", .badCharacter),
        ("aaaaaaaaaaaaaaaa", .repeated), ("abababababab", .repeated), ("xk9$xk9$xk9$xk9$", .repeated), ("112211221122112", .repeated),
        ("abcdefghijklmnop", .sequence), ("1234567890123", .sequence), ("987654321098765", .sequence), ("qwertyuiop123", .sequence),
        ("1qaz2wsx3edc4rfv", .sequence), ("1q2w3e4r5t6y", .sequence), ("QWERTYuiop[]1", .sequence),
        ("password1234", .common), ("Password2026!", .common), ("p4$$w0rd2026!", .common), ("letmeinplease", .common), ("iloveyouforever", .common),
        ("administrator", .common), ("adminadmin12", .common), ("changeme2026!!", .common), ("Sunshine!2026", .common), ("datasync-admin", .common),
        ("margaret-2026", .common), ("MARGARET12345", .common), ("teragram2026!", .common), ("margaretpassword", .common), ("footballliverpool", .common),
    ])
    func whatIsTriedFirstIsRefused(password: String, weakness: PasswordWeakness) {
        #expect(PasswordPolicy.weakness(password, name: "margaret") == weakness)
    }

    @Test(arguments: [
        "correct horse battery staple", "orange tiger flower coffee", "twelve chars", "vK8#mPq2$xLw", "日本語のパスワードです", "Zürich liegt am See",
        "the quick brown fox", "a really long sentence about nothing in particular", "hJ7 kM2 pQ9 xT4", "margaret likes blue whales",
    ])
    func whatIsLongAndNotTriedFirstIsTaken(password: String) {
        #expect(PasswordPolicy.weakness(password, name: "margaret") == nil)
    }

    @Test func aRefusalDoesNotQuoteThePassword() {
        let error = #expect(throws: DataSyncError.self) { try PasswordPolicy.check("password1234", of: "ada") }
        #expect(error?.code == .invalidInput)
        #expect(error?.underlying as? PasswordWeakness == .common)
        #expect(!String(reflecting: error).contains("password1234"))
    }
}

/// Those whose turn it is, until they are let go.
private final class Crowd: Sendable {
    private struct Count {
        var inside = 0
        var most = 0
    }

    private let hasher: PasswordHasher
    private let count = Mutex(Count())
    let waiting = AsyncSemaphore(0)

    init(_ hasher: PasswordHasher) { self.hasher = hasher }

    var most: Int { self.count.withLock { $0.most } }

    func hold(_ source: String) async throws {
        try await self.hasher.withTurn(from: source) { _ in
            self.count.withLock { count in
                count.inside += 1
                count.most = max(count.most, count.inside)
            }
            try await self.waiting.wait()
            self.count.withLock { $0.inside -= 1 }
        }
    }
}

@Suite struct PasswordHasherTests {
    private static let cheap = PasswordCost(logRounds: 4)

    @Test func theRightPasswordIsRight() async throws {
        let hasher = PasswordHasher(cost: Self.cheap)
        let (first, second) = (try await hasher.hash("one two three four"), try await hasher.hash("one two three four"))
        #expect(first != second)
        #expect(try await hasher.isRight("one two three four", for: first) == (true, false))
        #expect(try await hasher.isRight("one two three five", for: first) == (false, false))
        #expect(try await hasher.isRight("", for: first) == (false, false))
        #expect(try await hasher.isRight("one two three four", for: "no hash") == (false, false))
        #expect(try await hasher.isRight("one two three four", for: nil) == (false, false))
        // Another cost than today's is still understood, and noticed.
        let old = try await PasswordHasher(cost: PasswordCost(logRounds: 3)).hash("one two three four")
        #expect(try await hasher.isRight("one two three four", for: old) == (true, true))
    }

    /// Every comparison costs one hash, whatever there is to compare with.
    @Test func whoDoesNotExistCostsAsMuch() async throws {
        let hasher = PasswordHasher(cost: Self.cheap)
        let stored = try await hasher.hash("one two three four")
        for known in [stored, "no hash", nil] as [Secret<String>?] {
            let before = hasher.runs
            _ = try await hasher.isRight("one two three five", for: known)
            #expect(hasher.runs == before + 1)
        }
    }

    /// Two at a time, so many behind them, and the rest is sent away; one source has a quarter of it.
    @Test func whatDoesNotFitIsSentAway() async throws {
        let hasher = PasswordHasher(cost: Self.cheap, atOnce: 2, queueMax: 6)
        let crowd = Crowd(hasher)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<20 {
                group.addTask {
                    do {
                        try await crowd.hold(number < 10 ? "one source" : "source \(number)")
                        return true
                    } catch let error as DataSyncError where error.code == .storageBusy {
                        #expect(error.retryAfter != nil)
                        return false
                    }
                }
            }
            var refused = 0
            // Twenty asked, eight have a place: the others are told at once, and nobody has gone on yet.
            while refused < 12, let isIn = try await group.next() {
                #expect(!isIn)
                refused += 1
            }
            for _ in 0..<8 { crowd.waiting.signal() }
            var taken = 0
            while let isIn = try await group.next() {
                #expect(isIn)
                taken += 1
            }
            #expect(taken == 8)
        }
        #expect(crowd.most == 2)
        // All places are free again.
        try await hasher.withTurn(from: "one source") { _ in }
    }

    @Test func oneSourceHasAQuarter() async throws {
        let hasher = PasswordHasher(cost: Self.cheap, atOnce: 2, queueMax: 6)
        let held = AsyncSemaphore(0)
        let isIn = AsyncSemaphore(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    try await hasher.withTurn(from: "192.0.2.1") { _ in
                        isIn.signal()
                        try await held.wait()
                    }
                }
            }
            for _ in 0..<2 { try await isIn.wait() }
            let refused = await #expect(throws: DataSyncError.self) { try await hasher.withTurn(from: "192.0.2.1") { _ in } }
            #expect(refused?.code == .storageBusy)
            for _ in 0..<2 { held.signal() }
            try await group.waitForAll()
        }
    }
}
