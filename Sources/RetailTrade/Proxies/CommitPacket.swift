/// Where a client's bytes end with the packet that asks a MySQL or MariaDB server to commit.
///
/// A packet is its length in three bytes, a number, and the command: 3 is a query as text. A client sends nothing behind it before
/// it has the answer, so the packet is the last of what was read. https://mariadb.com/docs/server/reference/clientserver-protocol
enum CommitPacket {
    private static let query = Array("\u{3}commit".utf8)
    private static let packet: [UInt8] = [UInt8(query.count), 0, 0, 0] + query

    /// The offset at which the packet begins; nil where `bytes` do not end with one.
    static func start(in bytes: ArraySlice<UInt8>) -> Int? {
        let start = bytes.endIndex - self.packet.count
        guard start >= bytes.startIndex else { return nil }
        return bytes[start...].elementsEqual(self.packet) { $0 == $1 || self.isSameLetter($0, $1) } ? start : nil
    }

    private static func isSameLetter(_ byte: UInt8, _ letter: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(letter) && byte == letter & 0xDF
    }
}
