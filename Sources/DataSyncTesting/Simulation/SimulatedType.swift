import DataSync

/// What the applications of a simulated fleet put into `data_detail`: what is done, and a number that tells this change from
/// every other, such as `set:17` or `delete:18`.
struct SimulatedPayload {
    enum Verb: String { case set, delete, act }

    var verb: Verb
    var token: Int

    init(verb: Verb, token: Int) {
        self.verb = verb
        self.token = token
    }

    init?(_ text: String) {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let verb = Verb(rawValue: String(parts[0])), let token = Int(parts[1]) else { return nil }
        self.init(verb: verb, token: token)
    }

    var text: String { "\(self.verb.rawValue):\(self.token)" }

    func change(of row: OutboxRow, at server: ServerID) -> SimulatedChange {
        let route = SimulatedType.route(of: row.head.type)
        // The cloud's own rows of an `origin` type name the home.
        let scope = route.isScopedByHome ? (server.isCloud && route == .origin ? row.target : server) : .cloud
        return SimulatedChange(
            type: row.head.type, scope: scope, key: row.key ?? "", target: row.target, token: self.token, isDeletion: self.verb == .delete,
            uid: row.uid)
    }
}

/// How a server's handlers take records.
protocol SimulatedConduct: AnyObject, Sendable {
    /// Throws what is held against the record, or is wrong with the system, at this moment.
    func judge(_ token: Int, of type: BusinessTypeID, at server: ServerID) throws
}

/// A type of the simulated fleet: one for each route, and one of actions. A row of its table holds the token of the last change;
/// of an action type there is one for each action, with how often it took effect.
struct SimulatedType: RecordHandler, StateReader {
    typealias Transaction = SimulatedTransaction

    let definition: BusinessTypeDefinition
    let server: ServerID
    let conduct: any SimulatedConduct

    static let definitions: [BusinessTypeDefinition] = [
        BusinessTypeDefinition(id: 1, name: "member", priority: 10, route: .shared),
        BusinessTypeDefinition(id: 2, name: "product", priority: 5, route: .all),
        BusinessTypeDefinition(id: 3, name: "order", priority: 20, route: .origin),
        BusinessTypeDefinition(id: 4, name: "visit", priority: 40, route: .up),
        BusinessTypeDefinition(id: 5, name: "parcel", priority: 20, route: .target),
        BusinessTypeDefinition(id: 6, name: "points", kind: .action, priority: 15, route: .all),
        BusinessTypeDefinition(id: 7, name: "transfer", kind: .action, priority: 15, route: .all),
    ]

    /// The table of accounts, of which a transfer changes two.
    static let balances = "balance"
    private static let transfer: BusinessTypeID = 7

    static func definition(of type: BusinessTypeID) -> BusinessTypeDefinition {
        guard let definition = self.definitions.first(where: { $0.id == type }) else { preconditionFailure("no type \(type)") }
        return definition
    }

    static func route(of type: BusinessTypeID) -> RouteKind { self.definition(of: type).route }
    static func table(of type: BusinessTypeID) -> String { self.definition(of: type).name }
    static func row(of entity: EntityID) -> String { "\(entity.scope)/\(entity.key)" }
    static func row(of entity: EntityID, action token: Int) -> String { "\(entity.scope)/\(entity.key)/\(token)" }

    func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        guard let payload = SimulatedPayload(record.payload) else { throw .refused(.malformed, detail: nil) }
        guard let scope = self.definition.route.isScopedByHome ? scope : .cloud else { throw .refused(.noTarget, detail: nil) }
        return PreparedRecord(
            record: record, scope: scope, isDeletion: payload.verb == .delete, isShared: record.key.text.hasPrefix("shared"),
            content: payload.token)
    }

    func apply(_ records: [PreparedRecord], in transaction: SimulatedTransaction) async throws {
        let table = self.definition.name
        for (index, prepared) in records.enumerated() {
            guard let token = prepared.content as? Int else { preconditionFailure("a record was prepared by another handler") }
            do { try self.conduct.judge(token, of: self.definition.id, at: self.server) } catch let fault as RecordFault {
                if case .refused = fault { transaction.database.log.append(.refused(at: self.server, token: token)) }
                // Set-based statements say that something is wrong, and not with which row.
                if transaction.database.executor.random(0...1) == 0 { throw fault }
                throw IndexedRecordFault(index: index, fault: fault)
            }
            try await Self.write(prepared.entity, token: token, isDeletion: prepared.isDeletion, kind: self.definition.kind, table, in: transaction)
            transaction.note(
                .applied(at: self.server, stream: prepared.record.stream, synID: prepared.record.synID, entity: prepared.entity, token: token))
        }
    }

    /// What a change does to the business table, where it is made and where it is applied.
    /// - Returns: Whether it did anything: to delete what is not there does not.
    @discardableResult
    static func write(
        _ entity: EntityID, token: Int, isDeletion: Bool, kind: RecordKind, _ table: String, in transaction: SimulatedTransaction
    ) async throws -> Bool {
        switch kind {
        case .state: return try await transaction.setRow(table, self.row(of: entity), isDeletion ? nil : String(token)) || !isDeletion
        case .action:
            try await transaction.increaseRow(table, self.row(of: entity, action: token), by: 1)
            guard entity.type == self.transfer else { return true }
            try await transaction.increaseRow(self.balances, "\(entity.key)/from", by: -token)
            try await transaction.increaseRow(self.balances, "\(entity.key)/to", by: token)
            return true
        }
    }

    // MARK: - Reading back

    var reader: (any StateReader<SimulatedTransaction>)? { self }

    func payloads(of entities: [EntityID], locking: Bool, in transaction: SimulatedTransaction) async throws -> [EntityID: String] {
        let table = self.definition.name
        if locking { try await transaction.lock(entities.map { .row(table, Self.row(of: $0)) }) }
        let rows = try await transaction.rows(table)
        return entities.reduce(into: [:]) { payloads, entity in
            if let token = rows[Self.row(of: entity)] { payloads[entity] = "set:\(token)" }
        }
    }

    func deletion(of entity: EntityID) -> String? { "delete:0" }
}
