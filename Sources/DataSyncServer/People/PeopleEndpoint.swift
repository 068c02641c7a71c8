import DataSync
public import DataSyncIdentity
import FoundationEssentials
public import HTTPTypes

/// One line of the table that says what people of a set may ask for: the router is made from it, and so is the test that asks for
/// everything as everybody.
public struct PeopleEndpoint<People: PeopleSet>: Sendable {
    /// Whom a line is for.
    public enum Audience: Hashable, Sendable {
        /// Whoever has no token yet: these bring their own proof.
        case anybody
        case roles(Set<People.Role>)
    }

    /// Which of the branches a line is about.
    public enum Scope: Hashable, Sendable {
        /// None, or those that the caller sees.
        case seen
        /// The one that `{branch}` of its path names: for who does not see it, it does not exist.
        case branch
        /// All: who sees only some is refused.
        case all
    }

    enum Work: Sendable {
        /// Looks at a password: that has a queue of its own.
        case hashing(@Sendable (PeopleCall) async throws -> PeopleReply)
        case open(@Sendable (PeopleCall) async throws -> PeopleReply)
        case known(@Sendable (Verified<People>, PeopleCall) async throws -> PeopleReply)
        /// Waits for somebody else, such as an agent between two of its cycles: takes no turn from those who do not.
        case waiting(@Sendable (Verified<People>, PeopleCall) async throws -> PeopleReply)
    }

    public let method: HTTPRequest.Method
    /// Below the listener's root, with its parameters in braces.
    public let path: String
    public let audience: Audience
    public let scope: Scope
    /// Of a body.
    public let bytesMax: Int
    let work: Work

    /// For whoever has no token yet.
    init(_ method: HTTPRequest.Method, _ path: String, open work: Work) {
        self.method = method
        self.path = path
        self.audience = .anybody
        self.scope = .seen
        self.bytesMax = 4 << 10
        self.work = work
    }

    /// For whose token was verified for this set: what carries it out gets no other caller.
    init(
        _ method: HTTPRequest.Method, _ path: String, for roles: Set<People.Role>, scope: Scope = .seen, bytesMax: Int = 16 << 10,
        _ work: @escaping @Sendable (Verified<People>, PeopleCall) async throws -> PeopleReply
    ) {
        self.init(method, path, for: roles, scope: scope, bytesMax: bytesMax, work: .known(work))
    }

    /// Likewise, for what takes the time of somebody else. By a name of its own: trailing closures are told apart by nothing else.
    static func waiting(
        _ method: HTTPRequest.Method, _ path: String, for roles: Set<People.Role>,
        _ work: @escaping @Sendable (Verified<People>, PeopleCall) async throws -> PeopleReply
    ) -> Self {
        Self(method, path, for: roles, scope: .seen, bytesMax: 16 << 10, work: .waiting(work))
    }

    private init(_ method: HTTPRequest.Method, _ path: String, for roles: Set<People.Role>, scope: Scope, bytesMax: Int, work: Work) {
        self.method = method
        self.path = path
        self.audience = .roles(roles)
        self.scope = scope
        self.bytesMax = bytesMax
        self.work = work
    }
}

/// A request as those see it who carry it out.
public struct PeopleCall: Sendable {
    /// Where it comes from.
    let address: String
    let parameters: [String: String]
    let query: [String: String]
    let body: [UInt8]

    private static func refusal(_ detail: String) -> DataSyncError { DataSyncError(.invalidInput, operation: "request", detail: detail) }

    /// The parameter of the path, which is there.
    func parameter(_ name: String) -> String { self.parameters[name] ?? "" }

    /// - Throws: `notFound`: what has no number does not exist.
    func number(_ name: String) throws(DataSyncError) -> Int64 {
        guard let number = Int64(self.parameter(name)) else { throw DataSyncError(.notFound, operation: "request") }
        return number
    }

    func branch() throws(DataSyncError) -> ServerID {
        guard let id = Int32(self.parameter("branch")), id > 0 else { throw DataSyncError(.notFound, operation: "request") }
        return ServerID(rawValue: id)
    }

    func queryNumber(_ name: String, in range: ClosedRange<Int64>, otherwise standard: Int64) throws(DataSyncError) -> Int64 {
        guard let text = self.query[name] else { return standard }
        guard let number = Int64(text), range.contains(number) else { throw Self.refusal("'\(name)' is out of its range") }
        return number
    }

    func queryFlag(_ name: String) throws(DataSyncError) -> Bool {
        switch self.query[name] {
        case nil, "false": return false
        case "true": return true
        default: throw Self.refusal("'\(name)' is neither true nor false")
        }
    }

    /// The members of the body, which is an object that has these, perhaps those, and no other ones, none twice.
    func members(_ needed: Set<String>, optional: Set<String> = []) throws(DataSyncError) -> PeopleMembers {
        var members = PeopleMembers()
        do {
            try JSONReader.read(self.body) { reader in
                try reader.readObject { reader, name in
                    guard needed.contains(name) || optional.contains(name), members.values[name] == nil else { throw reader.failure("a member is not known") }
                    switch try reader.peek() {
                    case .string: members.values[name] = .text(Secret(try reader.readString()))
                    case .number: members.values[name] = .number(try reader.readInteger())
                    case .bool: members.values[name] = .flag(try reader.readBool())
                    case .array:
                        var numbers: [Int64] = []
                        try reader.readArray { reader in numbers.append(try reader.readInteger()) }
                        members.values[name] = .numbers(numbers)
                    case .object: members.values[name] = .raw(try reader.readRawValue())
                    case .null: throw reader.failure("null is no value")
                    }
                }
            }
        } catch { throw Self.refusal("the body is not the object that is expected: \(error)") }
        guard needed.isSubset(of: members.values.keys) else { throw Self.refusal("a member of the body is missing") }
        return members
    }
}

/// What a body holds, by name.
struct PeopleMembers {
    enum Value {
        case text(Secret<String>), number(Int64), flag(Bool), numbers([Int64]), raw(String)
    }

    var values: [String: Value] = [:]

    private func refusal(_ name: String) -> DataSyncError {
        DataSyncError(.invalidInput, operation: "request", detail: "'\(name)' is not of the kind that is expected")
    }

    func secret(_ name: String) throws(DataSyncError) -> Secret<String> {
        guard case .text(let text) = self.values[name] else { throw self.refusal(name) }
        return text
    }

    func text(_ name: String) throws(DataSyncError) -> String { try self.secret(name).revealed }

    func optionalText(_ name: String) throws(DataSyncError) -> String? { self.values[name] == nil ? nil : try self.text(name) }

    func server(_ name: String) throws(DataSyncError) -> ServerID {
        guard case .number(let number) = self.values[name], let id = Int32(exactly: number), id >= 0 else { throw self.refusal(name) }
        return ServerID(rawValue: id)
    }

    func flag(_ name: String) throws(DataSyncError) -> Bool {
        guard let value = self.values[name] else { return false }
        guard case .flag(let flag) = value else { throw self.refusal(name) }
        return flag
    }

    func branches(_ name: String) throws(DataSyncError) -> [ServerID]? {
        guard let value = self.values[name] else { return nil }
        guard case .numbers(let numbers) = value, !numbers.isEmpty, numbers.count <= 1_000 else { throw self.refusal(name) }
        let ids = numbers.compactMap { Int32(exactly: $0).map(ServerID.init(rawValue:)) }
        guard ids.count == numbers.count, ids.allSatisfy(\.isBranch) else { throw self.refusal(name) }
        return ids
    }

    /// An object, as it was written.
    func raw(_ name: String) throws(DataSyncError) -> String {
        guard case .raw(let text) = self.values[name] else { throw self.refusal(name) }
        return text
    }
}

/// What goes back.
public struct PeopleReply: Sendable {
    var status: HTTPResponse.Status
    /// JSON; nil for none.
    var body: String?
    var retryAfter: Duration?

    init(_ status: HTTPResponse.Status = .ok, body: String? = nil, retryAfter: Duration? = nil) {
        self.status = status
        self.body = body
        self.retryAfter = retryAfter
    }

    static let done = PeopleReply(.noContent)

    static func object(_ status: HTTPResponse.Status = .ok, _ members: (inout JSONWriter) throws -> Void) rethrows -> PeopleReply {
        var writer = JSONWriter()
        try writer.object(members)
        return PeopleReply(status, body: writer.text)
    }

    /// An error, in words from a closed list.
    static func error(_ status: HTTPResponse.Status, _ code: StaticString, reason: String? = nil, retryAfter: Duration? = nil) -> PeopleReply {
        var reply = self.object(status) { writer in
            writer.key("error")
            writer.string("\(code)")
            if let reason { writer.member("reason", reason) }
        }
        reply.retryAfter = retryAfter
        return reply
    }

    /// What somebody is told of an error. Which one it was exactly is in the log.
    init(_ error: any Error) {
        switch error {
        case let error as TooManyAttempts: self = .error(.tooManyRequests, "too_many_attempts", retryAfter: error.retryAfter)
        case let error as DataSyncError:
            if let weakness = error.underlying as? PasswordWeakness {
                self = .error(.badRequest, "weak_password", reason: weakness.rawValue)
                return
            }
            switch error.code {
            case .unauthorized: self = .error(.unauthorized, "unauthorized")
            case .suspended: self = .error(.forbidden, "forbidden")
            case .notFound: self = .error(.notFound, "not_found")
            case .invalidInput, .invalidRecord: self = .error(.badRequest, "invalid")
            case .invalidState: self = .error(.conflict, "conflict")
            case .tooLarge: self = .error(.contentTooLarge, "too_large")
            case .storageBusy: self = .error(.serviceUnavailable, "busy", retryAfter: error.retryAfter ?? .seconds(2))
            default: self = .error(.serviceUnavailable, "unavailable", retryAfter: error.retryAfter ?? .seconds(5))
            }
        default: self = .error(.serviceUnavailable, "unavailable", retryAfter: .seconds(5))
        }
    }
}
