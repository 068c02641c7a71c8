public import DataSync

extension SQLTransaction: EntityTable {
    private static let columns = ["business_type", "scope", "entity", "version", "origin", "home", "audience", "deleted"]

    public func lockEntities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] {
        try await self.entities(ids, suffix: self.dialect.forUpdate)
    }

    public func entities(_ ids: [EntityID]) async throws -> [EntityID: EntityState] {
        try await self.entities(ids, suffix: "")
    }

    private func entities(_ ids: [EntityID], suffix: String) async throws -> [EntityID: EntityState] {
        var states: [EntityID: EntityState] = [:]
        // Consecutive, so that the order of locks stays the order of `ids`.
        var start = 0
        while start < ids.count {
            let (type, scope) = (ids[start].type, ids[start].scope)
            var end = start
            while end < ids.count, ids[end].type == type, ids[end].scope == scope { end += 1 }
            let sql = """
                select entity, version, origin, home, audience, deleted from sync_entity
                where business_type = ? and scope = ? and entity in (%@) order by entity\(suffix)
                """
            let keys = ids[start..<end].map { self.dialect.key($0.key) }
            try await self.readList("entity", sql, before: [.int(type.rawValue), .int(scope.rawValue)], list: keys) { row in
                let state = try self.state(row, type: type, scope: scope)
                states[state.id] = state
            }
            start = end
        }
        return states
    }

    /// A row whose first columns are those of `sync_entity` from the name on.
    private func state(_ row: SQLRow, type: BusinessTypeID, scope: ServerID) throws -> EntityState {
        guard let audience = Audience(rawValue: try row.int(4, as: Int32.self)) else {
            throw SQLError.unexpectedType(column: 4, expected: "an audience")
        }
        return EntityState(
            id: EntityID(type: type, scope: scope, key: EntityKey(try row.text(0))), version: try row.int(1), origin: try row.server(2),
            home: try row.server(3), audience: audience, isDeleted: try row.int(5) != 0)
    }

    public func entities(ofType type: BusinessTypeID, in range: EntityRange, for reader: ServerID?, limit: Int) async throws -> [EntityState] {
        var states: [EntityState] = []
        for part in self.parts(of: range) where states.count < limit {
            // An audience is all, or one server; what a server named itself is its own wherever it goes.
            let isReadable = reader == nil ? "" : " and (audience in (0, ?) or scope = ?)"
            let sql = """
                select entity, version, origin, home, audience, deleted, scope from sync_entity
                where business_type = ? and \(part.condition)\(isReadable) order by scope, entity limit ?
                """
            let readers = reader.map { [SQLValue.int($0.rawValue), .int($0.rawValue)] } ?? []
            for row in try await self.read("entity", sql, [.int(type.rawValue)] + part.values + readers + [.int(limit - states.count)]) {
                states.append(try self.state(row, type: type, scope: try row.server(6)))
            }
        }
        return states
    }

    /// A range as conditions that each read the primary key from one place to another, in the order of their rows. As one condition, no database
    /// would see that.
    private func parts(of range: EntityRange) -> [(condition: String, values: [SQLValue])] {
        func scope(_ place: EntityPlace) -> SQLValue { .int(place.scope.rawValue) }
        func key(_ place: EntityPlace) -> SQLValue { self.dialect.key(place.key) }
        switch (range.after, range.upTo) {
        case (nil, nil): return [("scope >= ?", [.int(0)])]
        case (nil, let upTo?):
            return [("scope < ?", [scope(upTo)]), ("scope = ? and entity <= ?", [scope(upTo), key(upTo)])]
        case (let after?, nil):
            return [("scope = ? and entity > ?", [scope(after), key(after)]), ("scope > ?", [scope(after)])]
        case (let after?, let upTo?) where after.scope == upTo.scope:
            return [("scope = ? and entity > ? and entity <= ?", [scope(after), key(after), key(upTo)])]
        case (let after?, let upTo?):
            return [
                ("scope = ? and entity > ?", [scope(after), key(after)]), ("scope > ? and scope < ?", [scope(after), scope(upTo)]),
                ("scope = ? and entity <= ?", [scope(upTo), key(upTo)]),
            ]
        }
    }

    private func batch(_ states: [EntityState], tail: String) -> SQLBatch {
        var batch = SQLBatch(insertInto: "sync_entity", columns: Self.columns, tail: tail, reservingRows: states.count)
        for state in states {
            batch.appendRow { row in
                row.append(.int(state.id.type.rawValue))
                row.append(.int(state.id.scope.rawValue))
                row.append(self.dialect.key(state.id.key))
                row.append(.int(state.version))
                row.append(.int(state.origin.rawValue))
                row.append(.int(state.home.rawValue))
                row.append(.int(state.audience.rawValue))
                row.append(.bool(state.isDeleted))
            }
        }
        return batch
    }

    public func insertEntities(_ states: [EntityState]) async throws {
        try await self.write("entity", self.batch(states, tail: ""))
    }

    public func updateEntities(_ states: [EntityState]) async throws {
        // The rows exist and are locked, so the upsert updates every one of them, in one statement for all.
        let tail = self.dialect.upsertTail(key: Array(Self.columns[..<3]), replacing: Array(Self.columns[3...]))
        try await self.write("entity", self.batch(states, tail: tail))
    }

    public func raiseEntities(_ states: [EntityState]) async throws {
        let tail = self.dialect.upsertTail(
            key: Array(Self.columns[..<3]), replacing: Array(Self.columns[4...]), whereGreater: "version")
        try await self.write("entity", self.batch(states, tail: tail))
    }
}
