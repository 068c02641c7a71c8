/// What every participant must agree on about a business type (业务类型).
public struct BusinessTypeDefinition: Hashable, Sendable {
    public var id: BusinessTypeID
    /// What people call it, such as `order`. Compared when a session opens: two meanings of one id are refused.
    public var name: String
    public var kind: RecordKind
    /// The smaller number goes first. Types that others depend on (members before orders) should have smaller ones.
    public var priority: Int
    public var route: RouteKind
    /// Whom a branch's row of a `target` type may name.
    public var targets: TargetRule

    public init(
        id: BusinessTypeID, name: String, kind: RecordKind = .state, priority: Int, route: RouteKind,
        targets: TargetRule = .anyServer
    ) {
        self.id = id
        self.name = name
        self.kind = kind
        self.priority = priority
        self.route = route
        self.targets = targets
    }

    /// Throws `invalidConfiguration` when the definition contradicts itself.
    public func validate() throws(DataSyncError) {
        func refuse(_ message: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "types", detail: "type \(self.id) '\(self.name)': \(message)")
        }
        guard self.id.rawValue > 0 else { throw refuse("the id must be positive") }
        let isPlain = self.name.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
        }
        guard isPlain, (1...64).contains(self.name.utf8.count) else {
            throw refuse("the name must be 1 to 64 of a-z, 0-9, '_' and '-'")
        }
        // An action has no state to withdraw or to send again, and `shared` is a property of a state.
        if self.kind == .action, self.route == .shared { throw refuse("an action type cannot be routed 'shared'") }
    }
}

public enum RecordKind: String, Hashable, Sendable, CaseIterable {
    /// Each record carries the whole entity, or its deletion; an older one may be dropped.
    case state
    /// Each record counts, once. Actions of one entity must commute.
    case action
}

/// Where records of a type go.
public enum RouteKind: String, Hashable, Sendable, CaseIterable {
    /// To the cloud alone.
    case up
    /// To the cloud and the entity's home.
    case origin
    /// To the cloud and every branch.
    case all
    /// To the server that the row names in `data_to_server_id`.
    case target
    /// `all` while a field of the payload is true, else `origin`.
    case shared

    /// Whether two servers' entities of one name are two entities: then an entity is named by its home too.
    public var isScopedByHome: Bool {
        switch self {
        case .up, .origin, .target: true
        case .all, .shared: false
        }
    }
}

/// Whom a branch's records may be addressed to.
public enum TargetRule: Hashable, Sendable {
    case anyServer
    case servers(Set<ServerID>)

    public func allows(_ server: ServerID) -> Bool {
        switch self {
        case .anyServer: true
        case .servers(let allowed): allowed.contains(server)
        }
    }
}
