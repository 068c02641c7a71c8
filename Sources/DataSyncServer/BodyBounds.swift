import DataSync
import Hummingbird
import NIOCore

/// How large a body may be, and how long it may take: absolute, so that a sender that trickles is cut off whatever it has sent.
struct BodyBounds: Sendable {
    let bytesMax: Int
    let deadline: Duration

    private var tooLarge: DataSyncError { DataSyncError(.tooLarge, operation: "body", detail: "more than \(self.bytesMax) bytes") }

    /// - Parameter length: As the sender announces it, if it does.
    /// - Throws: `tooLarge`
    func check(length: Int?) throws(DataSyncError) {
        if let length, length > self.bytesMax { throw self.tooLarge }
    }

    /// Reads all of a body, and gives each piece of it to `take`.
    /// - Returns: What became of `start`; nil where the body did not come in time.
    /// - Throws: `tooLarge`, or that the connection ended.
    func read<Result: Sendable>(
        _ body: RequestBody, into start: Result, _ take: @escaping @Sendable (inout Result, ByteBuffer) -> Void
    ) async throws -> Result? {
        try await withTimeout(self.deadline) {
            var (result, count) = (start, 0)
            for try await piece in body {
                count += piece.readableBytes
                guard count <= self.bytesMax else { throw self.tooLarge }
                take(&result, piece)
            }
            return result
        }
    }
}
