public import DataSync

/// One of the two sets of people. What belongs to one is of another type than what belongs to the other: a caller whose token was verified
/// for one cannot be handed to what is for the other.
public protocol PeopleSet: Sendable {
    associatedtype Role: PersonRole
    static var kind: PeopleKind { get }
}

/// What somebody may do.
public protocol PersonRole: RawRepresentable<String>, CaseIterable, Hashable, Sendable {
    /// Who may do everything, and the role of whoever sets the first password.
    static var administrator: Self { get }
}

/// People at the cloud.
public enum OperatorSet: PeopleSet {
    public static var kind: PeopleKind { .operators }

    public enum Role: String, PersonRole {
        /// Sees.
        case viewer
        /// Decides about records and branches.
        case `operator`
        /// Decides about people and keys.
        case admin

        public static var administrator: Role { .admin }
    }
}

/// People at a branch, and its applications.
public enum StaffSet: PeopleSet {
    public static var kind: PeopleKind { .staff }

    public enum Role: String, PersonRole {
        case viewer
        case `operator`
        case admin
        /// A program that puts records into the outbox, and nothing else.
        case application

        public static var administrator: Role { .admin }
    }
}

/// Somebody whose access token was verified for this set, and who is still let in: made by ``PeopleLogin`` alone.
public struct Verified<People: PeopleSet>: Sendable {
    public let name: String
    public let role: People.Role
    /// The branches that are seen; nil for all.
    public let branches: [ServerID]?
    /// The login that the token belongs to.
    let login: String
    /// Of the person, when the token was verified.
    let generation: Int64

    init(name: String, role: People.Role, branches: [ServerID]?, login: String, generation: Int64) {
        self.name = name
        self.role = role
        self.branches = branches
        self.login = login
        self.generation = generation
    }

    public func sees(_ branch: ServerID) -> Bool { self.branches.map { $0.contains(branch) } ?? true }

    /// As the audit names whoever did something.
    public var actor: String { "\(People.kind.rawValue) \(self.name)" }
}
