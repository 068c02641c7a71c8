import FoundationEssentials

/// A business type in Swift: what it is called, where it goes, and how it is applied.
///
/// ```swift
/// struct MemberType: BusinessType {
///     let id: BusinessTypeID = 1
///     let name = "member"
///     let priority = 10
///     let route: Route<Member> = .shared(where: \.isShared)
///
///     func key(of member: Member) -> EntityKey { EntityKey("member:\(member.id)") }
///
///     func apply(_ change: Change<Member>, of entity: EntityID, in transaction: SQLTransaction) async throws { … }
/// }
/// ```
///
/// The payload is written as JSON with one member: `{"upsert": …}`, `{"delete": {}}` or, for an action type,
/// `{"act": …}`, so that applications in other languages can write it too.
public protocol BusinessType<Transaction>: RecordHandler {
    associatedtype Payload: Codable & Sendable
    associatedtype Transaction

    var id: BusinessTypeID { get }
    var name: String { get }
    /// Default: a state type.
    var kind: RecordKind { get }
    /// The smaller number goes first.
    var priority: Int { get }
    var route: Route<Payload> { get }
    /// Whom a branch's record of a `target` type may name. Default: any server.
    var targets: TargetRule { get }

    /// The name of the entity that `payload` is about. A record that claims to be about another one is refused as
    /// `forbidden`: it would be a way around the check of who may change what.
    func key(of payload: Payload) -> EntityKey

    /// Applies one change. Throw ``RecordFault`` to refuse it; any other error counts as the system's.
    ///
    /// - Parameter entity: What it is about. With the routes `up`, `origin` and `target` two branches may have an `order:1` each, which
    ///   are two entities: a handler of such a type keeps them apart by `entity.scope`, their home, or one branch writes another's row.
    func apply(_ change: Change<Payload>, of entity: EntityID, in transaction: Transaction) async throws
}

/// What a typed record says of its entity.
public enum Change<Payload: Sendable>: Sendable {
    case upsert(Payload)
    case delete(EntityKey)
    /// For action types: one thing that happened.
    case act(Payload)
}

extension Change: Equatable where Payload: Equatable {}

/// Where the records of a typed business type go.
public struct Route<Payload: Sendable>: Sendable {
    public let kind: RouteKind
    let isShared: @Sendable (Payload) -> Bool

    public static var up: Route { Route(kind: .up) { _ in false } }
    public static var origin: Route { Route(kind: .origin) { _ in false } }
    public static var all: Route { Route(kind: .all) { _ in true } }
    public static var target: Route { Route(kind: .target) { _ in false } }

    /// To every branch while `field` is true, else to the cloud and the entity's home.
    ///
    /// A change from true to false reaches the home alone; the copies that other branches have are not withdrawn yet.
    public static func shared(where field: any KeyPath<Payload, Bool> & Sendable) -> Route {
        Route(kind: .shared) { $0[keyPath: field] }
    }
}

extension BusinessType {
    public var kind: RecordKind { .state }
    public var targets: TargetRule { .anyServer }

    public var definition: BusinessTypeDefinition {
        BusinessTypeDefinition(
            id: self.id, name: self.name, kind: self.kind, priority: self.priority, route: self.route.kind,
            targets: self.targets)
    }

    /// The row of the outbox that carries `change`.
    public func row(
        for change: Change<Payload>, to target: ServerID = .cloud, client: Int8? = nil
    ) throws -> NewOutboxRow {
        let (verb, key, body): (PayloadVerb, EntityKey, String) =
            switch change {
            case .upsert(let payload): (.upsert, self.key(of: payload), try Self.encode(payload))
            case .act(let payload): (.act, self.key(of: payload), try Self.encode(payload))
            case .delete(let key): (.delete, key, "{}")
            }
        guard (verb == .act) == (self.kind == .action) else {
            throw DataSyncError(
                .invalidRecord, operation: "enqueue", detail: "type '\(self.name)' is of kind \(self.kind.rawValue)")
        }
        return NewOutboxRow(
            type: self.id, key: key, payload: "{\"\(verb.rawValue)\":\(body)}", target: target, client: client)
    }

    public func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        let envelope = try PayloadEnvelope(record.payload, kind: self.kind)
        let isScoped = self.route.kind.isScopedByHome
        guard let scope = isScoped ? scope : .cloud else {
            throw .refused(.noTarget, detail: "data_to_server_id must name the home of the entity")
        }
        let change: Change<Payload>
        var isShared = false
        switch envelope.verb {
        case .delete: change = .delete(record.key)
        case .upsert, .act:
            let payload = try Self.decode(envelope.body)
            guard self.key(of: payload) == record.key else { throw .refused(.forbidden, detail: nil) }
            isShared = self.route.isShared(payload)
            change = envelope.verb == .act ? .act(payload) : .upsert(payload)
        }
        return PreparedRecord(
            record: record, scope: scope, isDeletion: envelope.verb == .delete, isShared: isShared, content: change)
    }

    public func apply(_ records: [PreparedRecord], in transaction: Transaction) async throws {
        for (index, prepared) in records.enumerated() {
            guard let change = prepared.content as? Change<Payload> else {
                preconditionFailure("a record of type \(self.id) was prepared by another handler")
            }
            do { try await self.apply(change, of: prepared.entity, in: transaction) } catch let fault as RecordFault {
                throw IndexedRecordFault(index: index, fault: fault)
            }
        }
    }

    private static func encode(_ payload: Payload) throws -> String {
        let encoder = JSONEncoder()
        // The same payload is the same text, whatever the order of a dictionary.
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(payload), as: UTF8.self)
    }

    private static func decode(_ body: String) throws(RecordFault) -> Payload {
        do { return try JSONDecoder().decode(Payload.self, from: Data(body.utf8)) } catch let error as DecodingError {
            throw .refused(.malformed, detail: Self.describe(error))
        } catch { throw .refused(.malformed, detail: nil) }
    }

    /// Names the field, never its value: a decoding error's own description quotes the payload.
    private static func describe(_ error: DecodingError) -> String {
        let (path, problem): ([any CodingKey], String) =
            switch error {
            case .keyNotFound(let key, let context): (context.codingPath + [key], "is missing")
            case .typeMismatch(_, let context): (context.codingPath, "has the wrong type")
            case .valueNotFound(_, let context): (context.codingPath, "is null")
            case .dataCorrupted(let context): (context.codingPath, "is not valid")
            @unknown default: ([], "is not valid")
            }
        return "\(path.isEmpty ? "the payload" : path.map(\.stringValue).joined(separator: ".")) \(problem)"
    }
}
