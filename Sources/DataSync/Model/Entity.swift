/// The name of what a record is about within its business type, as the application wrote it into `data_from_detail`:
/// source table and row id, such as `member:1001`.
///
/// Compared as bytes: Swift's `String` and most database collations take different spellings for equal, and two
/// servers that disagree about which entity a record is of would apply its changes in different orders.
public struct EntityKey: Sendable {
    public var text: String

    /// The column is `varbinary(190)`.
    public static let bytesMax = 190

    public init(_ text: String) { self.text = text }
}

extension EntityKey: Hashable {
    public static func == (left: Self, right: Self) -> Bool {
        left.text.utf8.count == right.text.utf8.count && self.compare(left, right) == 0
    }

    public func hash(into hasher: inout Hasher) {
        var text = self.text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

extension EntityKey: Comparable {
    public static func < (left: Self, right: Self) -> Bool { self.compare(left, right) < 0 }

    /// Negative, zero or positive, as the first bytes that differ, or else the lengths, are ordered.
    private static func compare(_ left: Self, _ right: Self) -> Int {
        // Not over `utf8` element by element: a chunk is sorted by key several times.
        var (left, right) = (left.text, right.text)
        return left.withUTF8 { left in
            right.withUTF8 { right in
                for index in 0..<min(left.count, right.count) where left[index] != right[index] {
                    return Int(left[index]) - Int(right[index])
                }
                return left.count - right.count
            }
        }
    }
}

extension EntityKey: ExpressibleByStringLiteral, CustomStringConvertible {
    public init(stringLiteral value: String) { self.init(value) }
    public var description: String { self.text }
}

/// An entity with the space its name is unique in.
///
/// Two branches' `order:1` are two entities where the type is routed `up`, `origin` or `target`; `member:1001` is one
/// entity everywhere where the type goes, or can go, to all.
public struct EntityID: Hashable, Sendable {
    public var type: BusinessTypeID
    /// The home whose name this is, or 0 where names are unique everywhere.
    public var scope: ServerID
    public var key: EntityKey

    public init(type: BusinessTypeID, scope: ServerID, key: EntityKey) {
        self.type = type
        self.scope = scope
        self.key = key
    }
}

extension EntityID: Comparable {
    /// The order in which rows of `sync_entity` are locked, everywhere: two transactions cannot wait for each other.
    public static func < (left: Self, right: Self) -> Bool {
        if left.type != right.type { return left.type < right.type }
        if left.scope != right.scope { return left.scope < right.scope }
        return left.key < right.key
    }
}

/// Who may get a record from the cloud's log, and so who may change its entity.
public enum Audience: Hashable, Sendable {
    case all
    /// One server: the home of an entity that is not shared, or the target of a record.
    case server(ServerID)
    /// The cloud alone: nothing is written to the log.
    case nobody

    /// As stored: 0 is all, a positive number a server. Negative numbers are kept for groups, the least for nobody.
    public var rawValue: Int32 {
        switch self {
        case .all: 0
        case .server(let id): id.rawValue
        case .nobody: .min
        }
    }

    public init?(rawValue: Int32) {
        switch rawValue {
        case 0: self = .all
        case .min: self = .nobody
        case 1...: self = .server(ServerID(rawValue: rawValue))
        default: return nil
        }
    }

    public func contains(_ server: ServerID) -> Bool {
        switch self {
        case .all: true
        case .server(let id): id == server
        case .nobody: false
        }
    }

    /// The audience of one server: nobody, if that is the cloud, which keeps the log itself.
    public static func only(_ server: ServerID) -> Audience { server.isBranch ? .server(server) : .nobody }
}

/// What a server knows of an entity: a row of `sync_entity`. DataSync alone locks these rows, so they are where
/// concurrent changes of one entity meet.
public struct EntityState: Hashable, Sendable {
    public var id: EntityID
    /// The place in the cloud's log of the last record of this entity that counts here; 0 if it was never in the log.
    public var version: Int64
    /// Whose record that was.
    public var origin: ServerID
    /// Whose record created the entity.
    public var home: ServerID
    public var audience: Audience
    /// Whether that record was a deletion. A deleted entity keeps its row, or a late older update would bring it back.
    public var isDeleted: Bool

    public init(
        id: EntityID, version: Int64, origin: ServerID, home: ServerID, audience: Audience, isDeleted: Bool = false
    ) {
        self.id = id
        self.version = version
        self.origin = origin
        self.home = home
        self.audience = audience
        self.isDeleted = isDeleted
    }

    /// Whether `server` may know of it: it gets its records, or named it.
    public func isVisible(to server: ServerID) -> Bool {
        self.audience.contains(server) || (self.id.scope.isBranch && self.id.scope == server)
    }
}
