/// What reads back the states that a handler has applied: what ``Agent/reconcile(_:repair:actor:)`` compares, and sends again.
///
/// Mapped tables are read by DataSync itself. A Swift type gets one by conforming to ``ReadableBusinessType``.
public protocol StateReader<Transaction>: Sendable {
    associatedtype Transaction: SyncTransaction

    /// What the business tables hold of `entities`, as payloads that the type's handlers understand. Entities that are not there are left
    /// out.
    ///
    /// Both sides compare digests of these (``StateDigest``), so the same state has to be the same payload, whichever tables it stands in: a list
    /// in one order, a decimal that is written as a text without zeros that mean nothing.
    ///
    /// - Parameters:
    ///   - entities: All of the handler's type, in ascending order, none twice, at most 200.
    ///   - locking: Whether nobody else may change them before the transaction ends. Where it says so, a change that another transaction has not
    ///     committed yet is waited for. Where it does not, the transaction may be read-only.
    func payloads(of entities: [EntityID], locking: Bool, in transaction: Transaction) async throws -> [EntityID: String]

    /// The payload that deletes `entity`; nil if its name is none of this type's.
    func deletion(of entity: EntityID) -> String?
}

/// A ``BusinessType`` of states whose tables can be compared with those of the other side.
public protocol ReadableBusinessType<Transaction>: BusinessType, StateReader {
    associatedtype Transaction

    /// What the business tables hold of `entities`; those that are not there are left out. See ``StateReader/payloads(of:locking:in:)``.
    func states(of entities: [EntityID], locking: Bool, in transaction: Transaction) async throws -> [EntityID: Payload]
}

extension ReadableBusinessType {
    public var reader: (any StateReader<Transaction>)? { self }

    public func payloads(of entities: [EntityID], locking: Bool, in transaction: Transaction) async throws -> [EntityID: String] {
        try await self.states(of: entities, locking: locking, in: transaction).mapValues { try self.row(for: .upsert($0)).payload }
    }

    public func deletion(of entity: EntityID) -> String? { try? self.row(for: .delete(entity.key)).payload }
}

/// What a type's own tables answered that is no answer.
struct UnreadableType: Error {
    var error: any Error
}

enum StateReading {
    /// Most entities that a ``StateReader`` is asked for at once.
    static let entitiesMax = 200
}

extension StateReader {
    /// What the tables hold.
    /// - Throws: ``UnreadableType`` where they are not what the type takes them for.
    func read(_ entities: [EntityID], locking: Bool, in transaction: Transaction) async throws -> [EntityID: String] {
        do { return try await self.payloads(of: entities, locking: locking, in: transaction) } catch let error as RecordFault {
            throw UnreadableType(error: error)
        } catch let error as DataSyncError where error.code == .storageFailed {
            throw UnreadableType(error: error)
        }
    }

    /// The digests of what the tables hold, without holding all of it in memory at once.
    func digests(of entities: [EntityID], in transaction: Transaction) async throws -> [EntityID: StateDigest] {
        var digests: [EntityID: StateDigest] = [:]
        for start in stride(from: 0, to: entities.count, by: StateReading.entitiesMax) {
            let part = Array(entities[start..<min(start + StateReading.entitiesMax, entities.count)])
            for (id, payload) in try await self.read(part, locking: false, in: transaction) { digests[id] = StateDigest(ofPayload: payload) }
        }
        return digests
    }
}
