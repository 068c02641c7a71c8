import DataSync

/// The entries of a manifest as bytes: about ten for each row, so that a thousand rows are one row of 10 KiB.
///
/// A version byte, then for each entry: the difference of its id to the one before, the difference of its creation time
/// (zigzag), its size, all in base 128 with the lowest digit first, and its digest in four bytes.
enum ManifestCoding {
    private static let version: UInt8 = 1

    static func encode(_ entries: [Manifest.Entry]) -> [UInt8] {
        var bytes: [UInt8] = [self.version]
        bytes.reserveCapacity(1 + 12 * entries.count)
        var (id, time): (Int64, Int64) = (0, 0)
        for entry in entries {
            precondition(entry.id > id, "the entries of a manifest must be ordered by id")
            self.append(UInt64(entry.id - id), to: &bytes)
            let difference = entry.createTime &- time
            self.append(UInt64(bitPattern: difference << 1 ^ difference >> 63), to: &bytes)
            self.append(UInt64(entry.bytes), to: &bytes)
            for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: entry.digest >> UInt32(shift))) }
            (id, time) = (entry.id, entry.createTime)
        }
        return bytes
    }

    static func decode(_ bytes: [UInt8]) throws -> [Manifest.Entry] {
        var index = 0
        func damaged() -> DataSyncError {
            DataSyncError(.storageFailed, operation: "manifest", detail: "the entries of a row of sync_batch are damaged")
        }
        func next() throws -> UInt8 {
            guard index < bytes.count else { throw damaged() }
            defer { index += 1 }
            return bytes[index]
        }
        func number() throws -> UInt64 {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 70, by: 7) {
                let byte = try next()
                guard shift < 63 || byte <= 1 else { throw damaged() }
                value |= UInt64(byte & 0x7F) << shift
                if byte & 0x80 == 0 { return value }
            }
            throw damaged()
        }
        guard try next() == self.version else { throw damaged() }
        var entries: [Manifest.Entry] = []
        var (id, time): (Int64, Int64) = (0, 0)
        while index < bytes.count {
            let step = try number()
            let zigzag = try number()
            let size = try number()
            guard step > 0, let idStep = Int64(exactly: step), let size = Int(exactly: size), id <= Int64.max - idStep else { throw damaged() }
            id += idStep
            time = time &+ (Int64(bitPattern: zigzag >> 1) ^ -Int64(bitPattern: zigzag & 1))
            var digest: UInt32 = 0
            for shift in stride(from: UInt32(0), to: 32, by: 8) { digest |= UInt32(try next()) << shift }
            entries.append(Manifest.Entry(id: id, createTime: time, bytes: size, digest: digest))
        }
        return entries
    }

    private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        var value = value
        while value >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        bytes.append(UInt8(value))
    }
}
