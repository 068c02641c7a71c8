/// What DataSync needs of a business type to carry its records, whoever understands the payload.
///
/// Swift types that are `Codable` conform to ``BusinessType`` and get this for nothing; mapped tables implement it
/// directly. The two steps are apart so that a bad payload is found before a transaction is begun.
public protocol RecordHandler<Transaction>: Sendable {
    /// The transaction of the storage that the handler writes through.
    associatedtype Transaction: SyncTransaction

    var definition: BusinessTypeDefinition { get }

    /// Reads the payload, without I/O.
    ///
    /// - Parameter scope: The home whose entity this is, for a type that is scoped by home. Nil where the record comes
    ///   from the cloud's own application and the row names no server: then the payload may.
    /// - Throws: What is wrong with the record; it is parked, and other records go on.
    func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord

    /// Reads as much of the payload as says where the record goes: its home, whether it is a deletion, whether it is
    /// shared. For records that are only passed on; `apply` is not called with the result.
    func inspect(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord

    /// Applies `records` through `transaction`: all of them, or it throws.
    ///
    /// There is at most one record of an entity among them, and all are of this type. The transaction is rolled back
    /// whenever this throws: ``RecordFault`` or ``IndexedRecordFault`` blame a record, everything else stops the type.
    /// May be called again for the same records after a rollback, so it must do nothing that the transaction cannot undo.
    func apply(_ records: [PreparedRecord], in transaction: Transaction) async throws

    /// What reads back what was applied; nil, the default, where nothing does: then the type cannot be compared with the other side.
    var reader: (any StateReader<Transaction>)? { get }
}

extension RecordHandler {
    public var reader: (any StateReader<Transaction>)? { nil }

    public func inspect(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        try self.prepare(record, scope: scope)
    }
}

/// A record whose payload was understood.
public struct PreparedRecord: Sendable {
    public var record: SyncRecord
    /// The home in whose space the entity is named; 0 for types whose names are unique everywhere.
    public var scope: ServerID
    public var isDeletion: Bool
    /// For the route `shared`: whether the payload's field says so. Of no meaning for a deletion.
    public var isShared: Bool
    /// What the handler made of the payload, for its own `apply`.
    public var content: any Sendable

    public init(record: SyncRecord, scope: ServerID, isDeletion: Bool, isShared: Bool, content: any Sendable) {
        self.record = record
        self.scope = scope
        self.isDeletion = isDeletion
        self.isShared = isShared
        self.content = content
    }

    public var entity: EntityID { EntityID(type: self.record.type, scope: self.scope, key: self.record.key) }
}

/// The business types of one participant, by id.
public struct TypeRegistry<Transaction: SyncTransaction>: Sendable {
    private var handlers: [BusinessTypeID: any RecordHandler<Transaction>] = [:]
    private var byID: [BusinessTypeID: BusinessTypeDefinition] = [:]
    /// By priority, then by id.
    public let definitions: [BusinessTypeDefinition]

    /// Throws `invalidConfiguration` for a definition that contradicts itself or another one.
    public init(_ handlers: [any RecordHandler<Transaction>]) throws(DataSyncError) {
        var names: Set<String> = []
        for handler in handlers {
            let definition = handler.definition
            try definition.validate()
            guard self.handlers.updateValue(handler, forKey: definition.id) == nil else {
                throw DataSyncError(
                    .invalidConfiguration, operation: "types", detail: "two business types have the id \(definition.id)")
            }
            guard names.insert(definition.name).inserted else {
                throw DataSyncError(
                    .invalidConfiguration, operation: "types", detail: "two business types are named '\(definition.name)'")
            }
            self.byID[definition.id] = definition
        }
        self.definitions = self.byID.values.sorted { ($0.priority, $0.id) < ($1.priority, $1.id) }
    }

    public subscript(id: BusinessTypeID) -> (any RecordHandler<Transaction>)? { self.handlers[id] }

    public func definition(of id: BusinessTypeID) -> BusinessTypeDefinition? { self.byID[id] }
}
