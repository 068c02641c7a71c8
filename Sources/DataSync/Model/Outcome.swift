/// What became of a record at its receiver. A closed list: the numbers are stored and the names travel (`Docs/protocol.md`).
public enum Disposition: UInt8, Hashable, Sendable, CaseIterable {
    /// In the receiver's business tables and, at the cloud, in the log where others may get it.
    case applied = 1
    /// A later record of its entity prevails. Never said of an action.
    case superseded = 2
    /// Refused by its handler; the receiver keeps it and tries it again, or it waits behind another of its entity.
    case parked = 3
    /// Something it depends on is not there yet. Not a failure, until the age limit.
    case waiting = 4
    /// Set aside while it is open whether the record or the system is at fault.
    case suspect = 5
    /// Refused three times, or never to be sent as it is. Waits for a person.
    case dead = 6
    /// A person decided that it shall have no effect.
    case discarded = 7
    /// A number whose row is gone: it moves the position and nothing else.
    case void = 8

    /// Whether the sender is done with the record.
    public var isSettled: Bool {
        switch self {
        case .applied, .superseded, .dead, .discarded, .void: true
        case .parked, .waiting, .suspect: false
        }
    }

    /// Whether later records of the entity wait behind this one.
    public var isOpen: Bool { !self.isSettled }

    /// The word used on the wire, in tables and in logs.
    public var name: String {
        switch self {
        case .applied: "applied"
        case .superseded: "superseded"
        case .parked: "parked"
        case .waiting: "waiting"
        case .suspect: "suspect"
        case .dead: "dead"
        case .discarded: "discarded"
        case .void: "void"
        }
    }

    private static let byName = Dictionary(uniqueKeysWithValues: Self.allCases.map { ($0.name, $0) })

    public init?(name: String) {
        guard let match = Self.byName[name] else { return nil }
        self = match
    }
}

/// Why a record stands where it stands: `result_of_send_business` of `sync_data`, a tinyint, and the `reason` on the wire.
/// A closed list; a number that is unknown to an older reader is shown as a number.
public struct ReasonCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Nothing to say: not sent yet, or nothing wrong.
    public static let none = ReasonCode(rawValue: 0)
    // Ends without a fault.
    public static let applied = ReasonCode(rawValue: 1)
    public static let superseded = ReasonCode(rawValue: 2)
    public static let discarded = ReasonCode(rawValue: 3)
    public static let void = ReasonCode(rawValue: 4)
    // Waiting: nobody's fault.
    /// Waits behind an earlier record of its entity.
    public static let behind = ReasonCode(rawValue: 10)
    /// A foreign key, or an entity that the handler named, is missing.
    public static let missingDependency = ReasonCode(rawValue: 11)
    /// The payload's version is newer than the handler.
    public static let unknownVersion = ReasonCode(rawValue: 12)
    // The record's own fault: these count.
    /// The handler refused it for a reason of the business.
    public static let refused = ReasonCode(rawValue: 20)
    /// Not the JSON that its type asks for.
    public static let malformed = ReasonCode(rawValue: 21)
    public static let wrongType = ReasonCode(rawValue: 22)
    public static let missingColumn = ReasonCode(rawValue: 23)
    public static let unknownColumn = ReasonCode(rawValue: 24)
    /// Too long or out of the column's range.
    public static let outOfRange = ReasonCode(rawValue: 25)
    /// A unique key, a check or a NOT NULL of the receiving table.
    public static let constraint = ReasonCode(rawValue: 26)
    /// A character that the column cannot hold.
    public static let badCharacter = ReasonCode(rawValue: 27)
    /// The sender may not change this entity, or the payload names another one. Never explained.
    public static let forbidden = ReasonCode(rawValue: 28)
    /// What it depends on did not come within the age limit.
    public static let dependencyTooOld = ReasonCode(rawValue: 29)
    /// Its receiver ended whenever it began with it, three times, while no other record was at work.
    public static let crashSuspect = ReasonCode(rawValue: 30)
    // Never sent as it is: dead at once.
    /// Larger than the receiver accepts.
    public static let tooBig = ReasonCode(rawValue: 40)
    /// The row changed after it was numbered: its digest differs from the manifest's.
    public static let damaged = ReasonCode(rawValue: 41)
    /// The row cannot be put into a message, such as an empty or non-UTF-8 `data_from_detail`.
    public static let unsendable = ReasonCode(rawValue: 42)
    /// The route needs a server that the row does not name.
    public static let noTarget = ReasonCode(rawValue: 43)
    // The system's fault: never counted, the type stops.
    public static let unsupportedType = ReasonCode(rawValue: 60)
    public static let system = ReasonCode(rawValue: 61)
    public static let quota = ReasonCode(rawValue: 62)

    private static let names: [ReasonCode: String] = [
        .none: "none", .applied: "applied", .superseded: "superseded", .discarded: "discarded", .void: "void",
        .behind: "behind", .missingDependency: "missing_dependency", .unknownVersion: "unknown_version",
        .refused: "refused", .malformed: "malformed", .wrongType: "wrong_type", .missingColumn: "missing_column",
        .unknownColumn: "unknown_column", .outOfRange: "out_of_range", .constraint: "constraint",
        .badCharacter: "bad_character", .forbidden: "forbidden", .dependencyTooOld: "dependency_too_old",
        .crashSuspect: "crash_suspect",
        .tooBig: "too_big", .damaged: "damaged", .unsendable: "unsendable", .noTarget: "no_target",
        .unsupportedType: "unsupported_type", .system: "system", .quota: "quota",
    ]

    private static let byName = Dictionary(uniqueKeysWithValues: Self.names.map { ($0.value, $0.key) })

    public static let all: [ReasonCode] = Self.names.keys.sorted { $0.rawValue < $1.rawValue }

    /// The known code of this name.
    public init?(name: String) {
        guard let match = Self.byName[name] else { return nil }
        self = match
    }

    public var name: String { Self.names[self] ?? "reason_\(self.rawValue)" }
}

extension ReasonCode: CustomStringConvertible {
    public var description: String { self.name }
}

/// What became of one record, as its receiver answers it.
public struct Outcome: Hashable, Sendable {
    public var disposition: Disposition
    public var reason: ReasonCode
    /// The reason in words. Names columns and constraints, never shows a value: it goes to the peer and into tables.
    public var detail: String?
    /// How many definite refusals were counted.
    public var attempts: Int
    /// For `applied` at the cloud: the record's place in the log, its version. 0 where the type has no log.
    public var version: Int64
    /// Whether the receiver had the record already; the rest tells what became of the first copy.
    public var isDuplicate: Bool

    public init(
        _ disposition: Disposition, reason: ReasonCode, detail: String? = nil, attempts: Int = 0, version: Int64 = 0,
        isDuplicate: Bool = false
    ) {
        self.disposition = disposition
        self.reason = reason
        self.detail = detail
        self.attempts = attempts
        self.version = version
        self.isDuplicate = isDuplicate
    }

    public static func applied(version: Int64) -> Outcome { Outcome(.applied, reason: .applied, version: version) }

    /// What a fault makes of a record that was refused `attemptsBefore` times.
    /// - Parameter isTooOld: Whether it has waited for a dependency beyond the age limit.
    public init(_ fault: RecordFault, attemptsBefore: Int, isTooOld: Bool = false) {
        switch fault {
        case .missingDependency(_, let detail) where !isTooOld:
            self.init(.waiting, reason: .missingDependency, detail: detail, attempts: attemptsBefore)
        case .missingDependency(_, let detail):
            self.init(.refused(.dependencyTooOld, detail: detail), attemptsBefore: attemptsBefore)
        case .refused(.unknownVersion, let detail):
            // An older receiver is not the record's fault.
            self.init(.parked, reason: .unknownVersion, detail: detail, attempts: attemptsBefore)
        case .refused(.crashSuspect, let detail):
            // Each of the three tries ended its receiver: a fourth would, too.
            self.init(.dead, reason: .crashSuspect, detail: detail, attempts: Self.attemptsMax)
        case .refused(let reason, let detail):
            let attempts = attemptsBefore + (PlantedBug.isOn(.refusalCountedTwice) ? 2 : 1)
            let attemptsMax = Self.attemptsMax + (PlantedBug.isOn(.deadAfterTwo) ? -1 : PlantedBug.isOn(.deadAfterFour) ? 1 : 0)
            self.init(attempts >= attemptsMax ? .dead : .parked, reason: reason, detail: detail, attempts: attempts)
        }
    }

    /// Whether the record may be applied later: by itself, or by a person who has mended what ended its receiver.
    var mayBeTried: Bool { self.disposition.isOpen || self.reason == .crashSuspect }

    /// Three definite refusals make a record dead.
    public static let attemptsMax = 3
}
