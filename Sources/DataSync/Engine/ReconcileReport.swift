/// What a comparison of a branch's tables with those of the cloud found.
public struct ReconcileReport: Codable, Hashable, Sendable {
    public struct Types: Codable, Hashable, Sendable {
        public var type: Int32
        public var name: String
        /// Entities of which at least one side holds something.
        public internal(set) var compared = 0
        /// Those that differ and do not wait for anything.
        public internal(set) var different = 0
        /// Those that differ because a record about them was refused, or is not decided: a person may have to.
        public internal(set) var heldUp = 0
        /// Those that were changed whenever they were looked at.
        public internal(set) var moving = 0
        /// Those of the different ones that are sent again.
        public internal(set) var repaired = 0
        /// Why the type was not compared, or not to its end; nil if it was.
        public internal(set) var notCompared: String?
        /// Whether the reason is one that may pass, so that it is worth another try.
        public internal(set) var wasStopped = false
    }

    public enum Kind: String, Codable, Hashable, Sendable {
        case differs
        case onlyHere = "only_here"
        case onlyAtCloud = "only_at_cloud"
        case heldUp = "held_up"
    }

    public struct Difference: Codable, Hashable, Sendable {
        public var type: Int32
        /// The home whose name this is, 0 where names are unique everywhere.
        public var scope: Int32
        public var entity: String
        public var kind: Kind
        /// How the record stands that holds it up, such as `dead`, and whether that is `here` or at the `cloud`.
        public var held: String?
        public var heldAt: String?
        /// The id of that record here, as `datasync-local dead list` shows it.
        public var memo: Int64?
        public internal(set) var isRepaired: Bool
    }

    /// In the order in which they were compared.
    public internal(set) var types: [Types] = []
    /// The first ``differencesMax`` of those that differ or are held up.
    public internal(set) var differences: [Difference] = []

    public static let differencesMax = 1_000

    /// How many differences there are that nobody works on.
    public var unrepaired: Int { self.types.reduce(0) { $0 + $1.different - $1.repaired + $1.heldUp } }

    /// Whether both sides hold the same of all types that can be compared.
    public var isEqual: Bool { self.types.allSatisfy { $0.different + $0.heldUp + $0.moving == 0 && !$0.wasStopped } }

    /// Whether nothing is left for anybody to do: all is equal, or what was not is sent again.
    public var isDone: Bool { self.unrepaired == 0 && self.types.allSatisfy { $0.moving == 0 && !$0.wasStopped } }

    /// In one line for each type.
    public var summary: String {
        self.types.map { type in
            let left = type.notCompared.map { " \(type.compared > 0 ? "stopped" : "not compared"): \($0)" } ?? ""
            guard type.notCompared == nil || type.compared > 0 else { return "\(type.name):\(left)" }
            let counts = [
                (type.different, "different"), (type.repaired, "sent again"), (type.heldUp, "held up by a record that waits"),
                (type.moving, "changing"),
            ]
            let found = counts.filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
            return "\(type.name): \(type.compared) compared, " + (found.isEmpty ? "all equal" : found.joined(separator: ", ")) + left
        }.joined(separator: "\n")
    }
}

/// Whose present state is sent to the other side where they differ.
public enum ReconcileRepair: String, Codable, Hashable, Sendable, CaseIterable { case cloud, branch }
