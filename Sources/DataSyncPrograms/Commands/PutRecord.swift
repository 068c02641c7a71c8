package import DataSync
package import DataSyncSQL
import Foundation

/// `put` of both programs: inserts one record into the outbox, as any application may with SQL.
package enum PutRecord {
    /// Reads a payload from a file, or from standard input for nil or `-`.
    package static func read(_ path: String?, bytesMax: Int) throws -> String {
        let handle: FileHandle
        if let path, path != "-" {
            guard let file = FileHandle(forReadingAtPath: path) else {
                throw DataSyncError(.notFound, operation: "put", detail: "\(path) cannot be read")
            }
            handle = file
        } else {
            handle = .standardInput
        }
        // One byte more than is allowed, to know that there is more.
        let data = try handle.read(upToCount: bytesMax + 1) ?? Data()
        guard data.count <= bytesMax else {
            throw DataSyncError(.tooLarge, operation: "put", detail: "the payload has more than \(bytesMax) bytes (limits.record_bytes)")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw DataSyncError(.invalidInput, operation: "put", detail: "the payload is not UTF-8")
        }
        return text
    }

    /// Enqueues `row`, after looking at it as its receiver will.
    /// - Parameters:
    ///   - scope: The home that the entity has here.
    ///   - actor: Who puts it, where the audit is to say so.
    package static func enqueue(
        _ row: NewOutboxRow, type: MappedType?, scope: ServerID?, limits: SyncLimits, by actor: String? = nil, in storage: SQLStorage
    ) async throws {
        if let type {
            let record = SyncRecord(
                stream: StreamID(origin: .cloud, epoch: 0, type: row.type), synID: 0, uid: RecordUID(high: 0, low: 0), key: row.key,
                target: row.target, createTime: 0, client: nil, payload: row.payload)
            do throws(RecordFault) { _ = try type.prepare(record, scope: scope) } catch {
                let reason =
                    error.reason == .forbidden
                    ? "its key columns name another entity than --key, or a child row another parent" : error.detail ?? error.reason.name
                throw DataSyncError(.invalidInput, operation: "put", detail: "the payload would be refused: \(reason)")
            }
        } else {
            do { try JSONReader.read(row.payload) { try $0.skipValue() } } catch {
                throw DataSyncError(.invalidInput, operation: "put", detail: "the payload is not JSON: \(error)")
            }
        }
        try await storage.withTransaction { transaction in
            try await Outbox.enqueue(row, limits: limits, in: transaction)
            guard let actor else { return }
            try await PutTrace.note(type?.definition.id, by: actor, environment: .program, in: transaction)
        }
    }

    /// The type that a word means: its name or its number.
    package static func type(_ word: String, among types: [MappedType]) throws -> (id: BusinessTypeID, type: MappedType?) {
        if let type = types.first(where: { $0.definition.name == word || "\($0.definition.id)" == word }) {
            return (type.definition.id, type)
        }
        guard let id = Int32(word), id > 0 else {
            let known = types.map(\.definition.name).joined(separator: ", ")
            throw DataSyncError(.invalidInput, operation: "put", detail: "there is no type '\(word)'\(known.isEmpty ? "" : ": known are \(known)")")
        }
        return (BusinessTypeID(rawValue: id), nil)
    }
}
