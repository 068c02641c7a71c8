/// What a waiting record waits for.
public enum Dependency: Hashable, Sendable {
    /// The entity of this name, of whatever type and from whomever.
    case entity(EntityKey)
    /// Something that has no name here, such as the row that a foreign key asks for.
    case unnamed
}
