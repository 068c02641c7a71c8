/// Where an entity stands among those of its type: by the space that its name is unique in, and then by its name, as bytes.
public struct EntityPlace: Hashable, Sendable {
    public var scope: ServerID
    public var key: EntityKey

    public init(scope: ServerID = .cloud, key: EntityKey) {
        self.scope = scope
        self.key = key
    }

    public init(_ entity: EntityID) { self.init(scope: entity.scope, key: entity.key) }

    public func entity(ofType type: BusinessTypeID) -> EntityID { EntityID(type: type, scope: self.scope, key: self.key) }
}

extension EntityPlace: Comparable {
    public static func < (left: Self, right: Self) -> Bool {
        left.scope == right.scope ? left.key < right.key : left.scope < right.scope
    }
}

/// Consecutive places.
public struct EntityRange: Hashable, Sendable {
    /// Exclusive; nil for the beginning.
    public var after: EntityPlace?
    /// Inclusive; nil for the end.
    public var upTo: EntityPlace?

    public init(after: EntityPlace? = nil, upTo: EntityPlace? = nil) {
        self.after = after
        self.upTo = upTo
    }

    public func contains(_ place: EntityPlace) -> Bool {
        if let after, place <= after { return false }
        if let upTo, place > upTo { return false }
        return true
    }
}
