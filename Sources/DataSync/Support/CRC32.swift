/// The checksum of a row, as MySQL's and MariaDB's `crc32()` and zlib compute it (ISO 3309, polynomial 0xEDB88320).
///
/// A manifest keeps one for each row that it numbered. It finds damage, not malice.
public struct CRC32: Sendable {
    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
    }

    private var state: UInt32 = ~0

    public init() {}

    public mutating func update(_ bytes: UnsafeBufferPointer<UInt8>) {
        Self.table.withUnsafeBufferPointer { table in
            var state = self.state
            for byte in bytes { state = table[Int((state ^ UInt32(byte)) & 0xFF)] ^ (state >> 8) }
            self.state = state
        }
    }

    public mutating func update(_ text: String) {
        var text = text
        text.withUTF8 { self.update($0) }
    }

    public var value: UInt32 { ~self.state }

    /// The digest of an outbox row: of its key and of its payload, which a database joins without copying either.
    public static func ofRow(key: String, payload: String) -> UInt32 {
        var (keyCRC, payloadCRC) = (CRC32(), CRC32())
        keyCRC.update(key)
        payloadCRC.update(payload)
        return keyCRC.value ^ payloadCRC.value
    }
}
