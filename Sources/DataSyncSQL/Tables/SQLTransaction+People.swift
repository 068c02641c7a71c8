public import DataSync

extension SQLTransaction: PersonTable {
    private static let personColumns =
        "people, name, role, branches, password, state, failures, locked_until, generation, created, changed, last_login, op"

    private static func person(_ row: SQLRow) throws -> PersonRow {
        guard let kind = PeopleKind(rawValue: try row.text(0)), let state = PersonRow.State(rawValue: try row.text(5)) else {
            throw DataSyncError(.storageFailed, operation: "person", detail: "sync_person has an unknown set of people, or an unknown state")
        }
        return PersonRow(
            kind: kind, name: try row.text(1), role: try row.text(2), branches: try row.optionalText(3).map(Self.branches),
            password: Secret(try row.text(4)), state: state, failures: try row.int(6, as: Int.self), lockedUntil: try row.int(7),
            generation: try row.int(8), created: try row.int(9), changed: try row.int(10), lastLogin: try row.int(11), operation: try row.int(12))
    }

    /// What cannot be read stands for no branch.
    private static func branches(_ text: String) -> [ServerID] {
        text.split(separator: ",").compactMap { Int32($0).map(ServerID.init(rawValue:)) }
    }

    /// From the role to the generation.
    private static func values(_ row: PersonRow) -> [SQLValue] {
        [
            .text(row.role), .text(row.branches.map { $0.map { "\($0.rawValue)" }.joined(separator: ",") }), .text(row.password.revealed),
            .text(row.state.rawValue), .int(row.failures), .int(row.lockedUntil), .int(row.generation),
        ]
    }

    public func person(_ kind: PeopleKind, _ name: String) async throws -> PersonRow? {
        try await self.read(
            "person", "select \(Self.personColumns) from sync_person where people = ? and name = ?", [.text(kind.rawValue), .text(name)]
        ).first.map(Self.person)
    }

    public func persons(_ kind: PeopleKind) async throws -> [PersonRow] {
        try await self.read("persons", "select \(Self.personColumns) from sync_person where people = ? order by name", [.text(kind.rawValue)])
            .map(Self.person)
    }

    public func insertPerson(_ row: PersonRow) async throws {
        guard try await self.person(row.kind, row.name) == nil else { throw PersonRow.isTaken(row.name) }
        try await self.write(
            "insertPerson", "insert into sync_person (\(Self.personColumns)) values (\(SQLDialect.placeholders(13)))",
            [.text(row.kind.rawValue), .text(row.name)] + Self.values(row)
                + [.int(row.created), .int(row.changed), .int(row.lastLogin), .int(row.operation)])
    }

    public func replacePerson(_ row: PersonRow) async throws -> Bool {
        let sql = """
            update sync_person set role = ?, branches = ?, password = ?, state = ?, failures = ?, locked_until = ?, generation = ?, changed = ?,
              last_login = ?, op = op + 1
            where people = ? and name = ? and op = ?
            """
        return try await self.write(
            "replacePerson", sql,
            Self.values(row) + [.int(row.changed), .int(row.lastLogin), .text(row.kind.rawValue), .text(row.name), .int(row.operation)]) == 1
    }

    // MARK: - Logins

    public func login(_ id: String) async throws -> LoginRow? {
        guard
            let row = try await self.read(
                "login", "select id, people, name, generation, digest, created, used, op from sync_login where id = ?", [.text(id)]
            ).first, let kind = PeopleKind(rawValue: try row.text(1))
        else { return nil }
        return LoginRow(
            id: try row.text(0), kind: kind, name: try row.text(2), generation: try row.int(3), digest: try row.text(4), created: try row.int(5),
            used: try row.int(6), operation: try row.int(7))
    }

    public func insertLogin(_ row: LoginRow) async throws {
        try await self.write(
            "insertLogin", "insert into sync_login (id, people, name, generation, digest, created, used, op) values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                .text(row.id), .text(row.kind.rawValue), .text(row.name), .int(row.generation), .text(row.digest), .int(row.created), .int(row.used),
                .int(row.operation),
            ])
    }

    public func replaceLogin(_ row: LoginRow) async throws -> Bool {
        try await self.write(
            "replaceLogin", "update sync_login set digest = ?, used = ?, op = op + 1 where id = ? and op = ?",
            [.text(row.digest), .int(row.used), .text(row.id), .int(row.operation)]) == 1
    }

    public func removeLogin(_ id: String) async throws -> Bool {
        try await self.write("removeLogin", "delete from sync_login where id = ?", [.text(id)]) == 1
    }

    public func removeLogins(_ kind: PeopleKind, of name: String) async throws {
        try await self.write("removeLogins", "delete from sync_login where people = ? and name = ?", [.text(kind.rawValue), .text(name)])
    }

    public func removeLogins(_ kind: PeopleKind, createdBefore created: Int64, usedBefore used: Int64) async throws {
        try await self.write(
            "removeLogins", "delete from sync_login where people = ? and (created < ? or used < ?)",
            [.text(kind.rawValue), .int(created), .int(used)])
    }

    // MARK: - Attempts

    public func attempts(_ kind: PeopleKind, from source: String, time: Int64) async throws -> AttemptRow {
        // Finds the row or makes it, and locks it either way.
        try await self.write(
            "attempts",
            "insert into sync_attempt (people, source, level, time, op) values (?, ?, 0, ?, 0)"
                + self.dialect.upsertTail(key: ["people", "source"], replacing: []),
            [.text(kind.rawValue), .text(source), .int(time)])
        guard
            let row = try await self.read(
                "attempts", "select level, time, op from sync_attempt where people = ? and source = ?", [.text(kind.rawValue), .text(source)]
            ).first
        else { throw DataSyncError(.storageBusy, operation: "attempts") }
        return AttemptRow(kind: kind, source: source, level: try row.int(0), time: try row.int(1), operation: try row.int(2))
    }

    public func replaceAttempts(_ row: AttemptRow) async throws -> Bool {
        try await self.write(
            "replaceAttempts", "update sync_attempt set level = ?, time = ?, op = op + 1 where people = ? and source = ? and op = ?",
            [.int(row.level), .int(row.time), .text(row.kind.rawValue), .text(row.source), .int(row.operation)]) == 1
    }

    public func removeAttempts(_ kind: PeopleKind, before time: Int64) async throws {
        try await self.write("removeAttempts", "delete from sync_attempt where people = ? and time < ?", [.text(kind.rawValue), .int(time)])
    }
}
