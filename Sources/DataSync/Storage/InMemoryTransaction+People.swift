extension InMemoryState {
    package struct PersonKey: Hashable, Sendable {
        var kind: PeopleKind
        var name: String
    }
}

extension InMemoryTransaction: PersonTable {
    public func person(_ kind: PeopleKind, _ name: String) async throws -> PersonRow? {
        self.read { $0.persons[InMemoryState.PersonKey(kind: kind, name: name)] }
    }

    public func persons(_ kind: PeopleKind) async throws -> [PersonRow] {
        self.read { state in state.persons.values.filter { $0.kind == kind }.sorted { $0.name < $1.name } }
    }

    public func insertPerson(_ row: PersonRow) async throws {
        try self.write { state in
            let key = InMemoryState.PersonKey(kind: row.kind, name: row.name)
            guard state.persons[key] == nil else { throw PersonRow.isTaken(row.name) }
            state.persons[key] = row
        }
    }

    public func replacePerson(_ row: PersonRow) async throws -> Bool {
        try self.write { state in
            let key = InMemoryState.PersonKey(kind: row.kind, name: row.name)
            guard let old = state.persons[key], old.operation == row.operation else { return false }
            var row = row
            row.created = old.created
            row.operation += 1
            state.persons[key] = row
            return true
        }
    }

    public func login(_ id: String) async throws -> LoginRow? { self.read { $0.logins[id] } }
    public func insertLogin(_ row: LoginRow) async throws { try self.write { $0.logins[row.id] = row } }
    public func removeLogin(_ id: String) async throws -> Bool { try self.write { $0.logins.removeValue(forKey: id) != nil } }

    public func replaceLogin(_ row: LoginRow) async throws -> Bool {
        try self.write { state in
            guard var changed = state.logins[row.id], changed.operation == row.operation else { return false }
            (changed.digest, changed.used) = (row.digest, row.used)
            changed.operation += 1
            state.logins[row.id] = changed
            return true
        }
    }

    public func removeLogins(_ kind: PeopleKind, of name: String) async throws {
        try self.write { state in state.logins = state.logins.filter { $0.value.kind != kind || $0.value.name != name } }
    }

    public func removeLogins(_ kind: PeopleKind, createdBefore created: Int64, usedBefore used: Int64) async throws {
        try self.write { state in
            state.logins = state.logins.filter { $0.value.kind != kind || ($0.value.created >= created && $0.value.used >= used) }
        }
    }

    public func attempts(_ kind: PeopleKind, from source: String, time: Int64) async throws -> AttemptRow {
        try self.write { state in
            let key = InMemoryState.PersonKey(kind: kind, name: source)
            if let row = state.attempts[key] { return row }
            let row = AttemptRow(kind: kind, source: source, time: time)
            state.attempts[key] = row
            return row
        }
    }

    public func replaceAttempts(_ row: AttemptRow) async throws -> Bool {
        try self.write { state in
            let key = InMemoryState.PersonKey(kind: row.kind, name: row.source)
            guard state.attempts[key]?.operation == row.operation else { return false }
            state.attempts[key] = row
            state.attempts[key]?.operation += 1
            return true
        }
    }

    public func removeAttempts(_ kind: PeopleKind, before time: Int64) async throws {
        try self.write { state in state.attempts = state.attempts.filter { $0.value.kind != kind || $0.value.time >= time } }
    }
}

extension PersonRow {
    package static func isTaken(_ name: String) -> DataSyncError {
        DataSyncError(.invalidState, operation: "person", detail: "there is somebody called '\(name)' already")
    }
}
