import DataSync
@testable import DataSyncSQL
import DataSyncTesting
import Testing

@Suite struct ManifestCodingTests {
    /// Entries as an outbox makes them, and some as only a damaged clock or a very old database does.
    private static func entries(_ generator: inout SeededGenerator) -> [Manifest.Entry] {
        var id: Int64 = 0
        let isOdd = Int.random(in: 0..<4, using: &generator) == 0
        return (0..<Int.random(in: 0...200, using: &generator)).map { _ in
            id += isOdd ? Int64.random(in: 1...1 << 54, using: &generator) : Int64.random(in: 1...3, using: &generator)
            let time =
                isOdd
                ? [Int64.min, .max, 0, -1, Int64.random(in: .min ... .max, using: &generator)].randomElement(using: &generator)!
                : 1_700_000_000_000 + Int64.random(in: -5_000...5_000, using: &generator)
            return Manifest.Entry(
                id: id, createTime: time, bytes: isOdd ? Int.random(in: 0...Int.max, using: &generator) : Int.random(in: 0...2_000, using: &generator),
                digest: UInt32.random(in: 0...UInt32.max, using: &generator))
        }
    }

    @Test(arguments: UInt64(1)...100)
    func entriesComeBackAsTheyWere(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let entries = Self.entries(&generator)
        #expect(try ManifestCoding.decode(ManifestCoding.encode(entries)) == entries)
    }

    @Test func theExtremesComeBack() throws {
        let entries = [
            Manifest.Entry(id: 1, createTime: .min, bytes: 0, digest: 0), Manifest.Entry(id: 2, createTime: .max, bytes: .max, digest: .max),
            Manifest.Entry(id: .max, createTime: .min, bytes: 1, digest: 1),
        ]
        #expect(try ManifestCoding.decode(ManifestCoding.encode(entries)) == entries)
        #expect(try ManifestCoding.decode(ManifestCoding.encode([])) == [])
    }

    @Test func aThousandOrdinaryRowsTakeAboutTenBytesEach() {
        let entries = (1...1_000).map {
            Manifest.Entry(id: Int64(5_000_000 + $0), createTime: 1_700_000_000_000 + Int64($0), bytes: 300, digest: .max - UInt32($0))
        }
        #expect(ManifestCoding.encode(entries).count < 12_000)
    }

    /// Whatever stands in the table, reading it is an error or entries that make sense: never a crash.
    @Test(arguments: UInt64(1)...100)
    func damageIsAnErrorOrSensible(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let whole = ManifestCoding.encode(Self.entries(&generator))
        for _ in 0..<200 {
            var bytes = whole
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator))
            case 1: bytes += (0..<Int.random(in: 1...20, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            case 2: bytes = (0..<Int.random(in: 0...60, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            default: bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            }
            do {
                let entries = try ManifestCoding.decode(bytes)
                #expect(zip(entries, entries.dropFirst()).allSatisfy { $0.id < $1.id })
                #expect(entries.allSatisfy { $0.id > 0 && $0.bytes >= 0 })
            } catch let error as DataSyncError {
                #expect(error.code == .storageFailed)
            } catch { Issue.record("another error: \(error)") }
        }
    }

    @Test(arguments: [[], [2], [0], [1, 0], [1, 0x80], [1, 1, 0, 0, 1, 2, 3], [1] + Array(repeating: 0xFF, count: 40)] as [[UInt8]])
    func whatIsNoManifestIsRefused(bytes: [UInt8]) {
        #expect(throws: DataSyncError.self) { try ManifestCoding.decode(bytes) }
    }

    @Test(arguments: TestDatabase.available)
    func aDamagedRowStopsItsReaderWithAReason(kind: TestDatabase) async throws {
        let bench = try await Bench(kind, isMigrated: true)
        let manifest = Manifest(
            key: ManifestKey(epoch: 1, type: 1, firstSynID: 1), run: Fingerprint(rawValue: 5),
            entries: (1...3).map { Manifest.Entry(id: $0, createTime: 5, bytes: 1, digest: 2) })
        try await bench.storage.withTransaction { try await $0.insertManifests([manifest]) }
        try await bench.run("update sync_batch set entries = x'64616d61676564'")
        let error = await #expect(throws: DataSyncError.self) {
            try await bench.storage.withTransaction { try await $0.manifests(ofType: 1, after: nil, limit: 1) }
        }
        #expect(error?.detail?.contains("sync_batch") == true)
    }
}
