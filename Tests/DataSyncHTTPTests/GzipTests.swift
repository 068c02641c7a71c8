import DataSync
import DataSyncCompression
import Foundation
import Testing

// Bodies are compressed by whoever sends them, so nothing that a body says of itself is believed.

private func inflate(_ bytes: [UInt8], bytesMax: Int = 64 << 20, ratioMax: Int = 2_000) throws -> [UInt8] {
    try Gzip.decompress(bytes, bytesMax: bytesMax, ratioMax: ratioMax)
}

private func expectFailure(_ code: DataSyncError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> [UInt8]) {
    let error = #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { _ = try body() }
    #expect(error?.code == code, sourceLocation: sourceLocation)
}

/// Bytes of every kind of compressibility.
private func sample(_ kind: Int, _ count: Int, seed: UInt64) -> [UInt8] {
    if kind == 1 { return [UInt8](repeating: 0x61, count: count) }
    var state = seed
    // Longer than the window, so that repeating it does not make it easier.
    let block = (0..<min(count, 40_000)).map { index in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let random = UInt8(truncatingIfNeeded: state >> 33)
        return kind == 0 ? random : kind == 2 ? UInt8(ascii: "0") + random % 10 : UInt8(truncatingIfNeeded: index / 100)
    }
    var bytes: [UInt8] = []
    while bytes.count < count { bytes += block.prefix(count - bytes.count) }
    return bytes
}

@Test(arguments: [0, 1, 2, 17, 511, 4_096, 65_535, 65_536, 65_537, 131_072, 300_000], 0..<4)
func whatIsCompressedComesBack(count: Int, kind: Int) throws {
    let bytes = sample(kind, count, seed: UInt64(count + kind))
    let compressed = try Gzip.compress(bytes)
    #expect(compressed.starts(with: [0x1F, 0x8B]))
    #expect(try inflate(compressed) == bytes)
}

/// What an honest sender makes is never taken for a bomb, by the bounds that a server has by default.
@Test(arguments: [1_000, 50_000, 1 << 20, 4 << 20], 0..<4)
func nothingThatIsCompressedHereLooksLikeABomb(count: Int, kind: Int) throws {
    let bytes = sample(kind, count, seed: 3)
    #expect(try Gzip.decompress(try Gzip.compress(bytes), bytesMax: 16 << 20, ratioMax: 50).count == count)
}

@Test(.enabled(if: Command.isThere("/usr/bin/gzip"), "gzip is needed"))
func gzipAndThisUnderstandEachOther() async throws {
    let bytes = Array(String(repeating: "{\"name\":\"价格表 😀\"}", count: 500).utf8)
    #expect(try inflate(try await Command.run("/usr/bin/gzip", ["-9c"], input: bytes)) == bytes)
    #expect(try await Command.run("/usr/bin/gzip", ["-dc"], input: try Gzip.compress(bytes)) == bytes)
}

/// The bound is on what comes out. The length at the end of the data, which a sender writes as he likes, is not asked.
@Test(.enabled(if: Command.isThere("/usr/bin/gzip"), "gzip is needed"))
func aBombIsStoppedByWhatComesOut() async throws {
    var bomb = try await Command.run("/usr/bin/gzip", ["-9c"], input: [UInt8](repeating: 0, count: 8 << 20))
    #expect(bomb.count < 10_000)
    expectFailure(.tooLarge) { try inflate(bomb, bytesMax: 1 << 20) }
    expectFailure(.tooLarge) { try inflate(bomb, ratioMax: 50) }
    expectFailure(.tooLarge) { try inflate(bomb, bytesMax: (8 << 20) - 1) }
    #expect(try inflate(bomb).count == 8 << 20)
    // It says that it is 16 bytes long.
    bomb.replaceSubrange((bomb.count - 4)..., with: [16, 0, 0, 0])
    expectFailure(.tooLarge) { try inflate(bomb, bytesMax: 1 << 20) }
    expectFailure(.peerInvalid) { try inflate(bomb) }
}

@Test func theBoundsAreExact() throws {
    let bytes = sample(2, 10_000, seed: 1)
    let compressed = try Gzip.compress(bytes)
    #expect(try inflate(compressed, bytesMax: 10_000) == bytes)
    expectFailure(.tooLarge) { try inflate(compressed, bytesMax: 9_999) }
    let ratio = (10_000 + compressed.count - 1) / compressed.count
    #expect(try inflate(compressed, ratioMax: ratio) == bytes)
    expectFailure(.tooLarge) { try inflate(compressed, ratioMax: ratio - 1) }
    #expect(try inflate(compressed, ratioMax: .max) == bytes)
}

@Test func dataThatIsCutOrFollowedByMoreIsRefused() throws {
    let compressed = try Gzip.compress(sample(2, 1_000, seed: 5))
    for count in 0..<compressed.count { expectFailure(.peerInvalid) { try inflate(Array(compressed[..<count])) } }
    for tail in [[0], [0x1F], compressed, Array("x".utf8)] { expectFailure(.peerInvalid) { try inflate(compressed + tail) } }
}

@Test func otherFormatsAreRefused() {
    for bytes in [
        [], [0x1F], [0x1F, 0x8B], Array("{\"plain\":true}".utf8), [0x78, 0x9C, 0x4B, 0x4C, 0x04, 0x00, 0x01, 0x29, 0x00, 0xC4],
        [UInt8](repeating: 0xFF, count: 1_000), [0x1F, 0x8B, 0x09] + [UInt8](repeating: 0, count: 20), Array("PK\u{3}\u{4}".utf8),
    ] { expectFailure(.peerInvalid) { try inflate(bytes) } }
}

/// A changed byte is noticed, by the checksum at the latest, or it was one that says nothing (the header's time and system).
@Test(arguments: UInt64(1)...6)
func aChangedByteNeverChangesWhatComesOut(seed: UInt64) throws {
    var generator = seed
    func next(_ bound: Int) -> Int {
        generator = generator &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((generator >> 33) % UInt64(bound))
    }
    let bytes = sample(2, 3_000, seed: seed)
    let compressed = try Gzip.compress(bytes)
    for _ in 0..<500 {
        var changed = compressed
        changed[next(changed.count)] ^= UInt8(1 << next(8))
        if let result = try? inflate(changed, bytesMax: 100_000) { #expect(result == bytes) }
    }
}
