import CZlib
public import DataSync

/// Bodies of messages in the gzip format (RFC 1952).
public enum Gzip {
    /// Below this a body is sent as it is: the header costs more than is gained.
    public static let worthwhileBytes = 512

    /// More than so many bytes out of one are never made: receivers take that for a bomb, and a record that happens to be a
    /// million equal characters could never be sent.
    static let ratioMax = 40

    /// Compresses `bytes`, quickly rather than well: the link is mostly faster than the processor that is shared with the
    /// database.
    public static func compress(_ bytes: [UInt8]) throws -> [UInt8] {
        let compressed = try self.compress(bytes, strategy: Z_DEFAULT_STRATEGY)
        guard bytes.count / self.ratioMax > compressed.count else { return compressed }
        // At least one bit for each byte: eight to one.
        return try self.compress(bytes, strategy: Z_HUFFMAN_ONLY)
    }

    private static func compress(_ bytes: [UInt8], strategy: Int32) throws -> [UInt8] {
        var stream = z_stream()
        guard datasync_deflate_init(&stream, 1, strategy) == Z_OK else { throw self.failure("compress") }
        defer { deflateEnd(&stream) }
        let capacity = Int(deflateBound(&stream, UInt(bytes.count)))
        return try bytes.withUnsafeBufferPointer { input in
            // zlib takes a pointer to mutable bytes, and does not write to them.
            stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
            stream.avail_in = UInt32(input.count)
            return try [UInt8](unsafeUninitializedCapacity: capacity) { output, count in
                stream.next_out = output.baseAddress
                stream.avail_out = UInt32(capacity)
                guard deflate(&stream, Z_FINISH) == Z_STREAM_END else { throw self.failure("compress") }
                count = capacity - Int(stream.avail_out)
            }
        }
    }

    /// Inflates one gzip member, and nothing after it.
    ///
    /// - Parameters:
    ///   - bytesMax: Most bytes of the result.
    ///   - ratioMax: Most bytes of the result for each byte of the input. Both are measured on what comes out: what a
    ///     header claims is not believed.
    /// - Throws: `tooLarge` beyond either, `peerInvalid` for what is no gzip data.
    public static func decompress(_ bytes: [UInt8], bytesMax: Int, ratioMax: Int) throws(DataSyncError) -> [UInt8] {
        let invalid = DataSyncError(.peerInvalid, operation: "inflate", detail: "the body is not gzip data")
        var stream = z_stream()
        guard datasync_inflate_init(&stream) == Z_OK else { throw self.failure("inflate") }
        defer { inflateEnd(&stream) }
        let limit = min(bytesMax, bytes.count.multipliedReportingOverflow(by: ratioMax).overflow ? bytesMax : bytes.count * ratioMax)
        var output: [UInt8] = []
        output.reserveCapacity(min(limit, 4 * bytes.count))
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        let status: Int32? = bytes.withUnsafeBufferPointer { input in
            stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
            stream.avail_in = UInt32(input.count)
            while true {
                let (status, produced) = piece.withUnsafeMutableBufferPointer { piece in
                    stream.next_out = piece.baseAddress
                    stream.avail_out = UInt32(piece.count)
                    return (inflate(&stream, Z_NO_FLUSH), piece.count - Int(stream.avail_out))
                }
                guard output.count + produced <= limit else { return nil }
                output.append(contentsOf: piece[..<produced])
                if status == Z_STREAM_END { return stream.avail_in == 0 ? Z_STREAM_END : Z_DATA_ERROR }
                guard status == Z_OK, produced > 0 || stream.avail_in > 0 else { return Z_DATA_ERROR }
            }
        }
        guard let status else {
            throw DataSyncError(.tooLarge, operation: "inflate", detail: "the body inflates to more than \(limit) bytes")
        }
        guard status == Z_STREAM_END else { throw invalid }
        return output
    }

    private static func failure(_ operation: StaticString) -> DataSyncError {
        DataSyncError(.storageFailed, operation: operation, detail: "zlib: no memory")
    }
}
