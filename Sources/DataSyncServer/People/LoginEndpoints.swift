package import DataSync
import DataSyncIdentity
import HTTPTypes

/// The lines that both sets have: coming in, staying in, and who belongs to the set.
extension PeopleEndpoint {
    static func login<Storage: SyncStorage>(_ login: PeopleLogin<Storage, People>) -> [Self] where Storage.Transaction: PersonTable {
        [
            PeopleEndpoint(
                .post, "v1/login",
                open: .hashing { call in
                    let members = try call.members(["name", "password"])
                    return .login(try await login.logIn(try members.text("name"), try members.secret("password"), from: call.address))
                }),
            PeopleEndpoint(
                .post, "v1/refresh",
                open: .open { call in
                    .login(try await login.renew(try call.members(["refresh_token"]).secret("refresh_token"), from: call.address))
                }),
            PeopleEndpoint(
                .post, "v1/setup",
                open: .hashing { call in
                    let members = try call.members(["token", "name", "password"])
                    try await login.setUp(
                        try members.secret("token"), name: try members.text("name"), password: try members.secret("password"), from: call.address)
                    return .done
                }),
            PeopleEndpoint(.post, "v1/logout", for: Set(People.Role.allCases)) { caller, _ in
                try await login.logOut(caller)
                return .done
            },
            PeopleEndpoint(.get, "v1/me", for: Set(People.Role.allCases)) { caller, _ in
                .object { writer in
                    writer.member("name", caller.name)
                    writer.member("role", caller.role.rawValue)
                    if let branches = caller.branches {
                        writer.key("branches")
                        writer.array { writer in for branch in branches { writer.integer(branch.rawValue) } }
                    }
                }
            },
            PeopleEndpoint(.post, "v1/password", for: Set(People.Role.allCases)) { caller, call in
                let members = try call.members(["old", "new"])
                try await login.changePassword(of: caller, from: try members.secret("old"), to: try members.secret("new"), address: call.address)
                return .done
            },
        ]
    }

    /// Who belongs to the set: for administrators of all of it.
    static func users<Storage: SyncStorage>(_ register: PeopleRegister<Storage, People>) -> [Self] where Storage.Transaction: PersonTable {
        let admins: Set<People.Role> = [.administrator]
        @Sendable func role(_ members: PeopleMembers) throws(DataSyncError) -> (role: People.Role, branches: [ServerID]?) {
            guard let role = People.Role(rawValue: try members.text("role")) else {
                throw DataSyncError(.invalidInput, operation: "users", detail: "there is no such role")
            }
            let branches = try members.branches("branches")
            guard branches == nil || People.kind == .operators else {
                throw DataSyncError(.invalidInput, operation: "users", detail: "branches belong to the people at the cloud")
            }
            return (role, branches)
        }
        return [
            PeopleEndpoint(.get, "v1/users", for: admins, scope: .all) { _, _ in
                let people = try await register.all()
                return .object { writer in
                    writer.key("users")
                    writer.array { writer in for person in people { person.write(to: &writer) } }
                }
            },
            PeopleEndpoint(.post, "v1/users", for: admins, scope: .all) { caller, call in
                let members = try call.members(["name", "role", "password"], optional: ["branches"])
                let may = try role(members)
                try await register.add(
                    try members.text("name"), role: may.role, branches: may.branches, password: try members.secret("password"), by: caller.actor)
                return PeopleReply(.created)
            },
            PeopleEndpoint(.post, "v1/users/{name}/role", for: admins, scope: .all) { caller, call in
                let may = try role(try call.members(["role"], optional: ["branches"]))
                try await register.setRole(may.role, branches: may.branches, of: call.parameter("name"), by: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/users/{name}/password", for: admins, scope: .all) { caller, call in
                let password = try call.members(["password"]).secret("password")
                try await register.setPassword(password, of: call.parameter("name"), by: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/users/{name}/disable", for: admins, scope: .all) { caller, call in
                try await register.disable(call.parameter("name"), by: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/users/{name}/enable", for: admins, scope: .all) { caller, call in
                try await register.enable(call.parameter("name"), by: caller.actor)
                return .done
            },
            PeopleEndpoint(.post, "v1/users/{name}/unlock", for: admins, scope: .all) { caller, call in
                try await register.unlock(call.parameter("name"), by: caller.actor)
                return .done
            },
        ]
    }

    /// The audit of this database: for administrators of all of it.
    static func audit(_ storage: some SyncStorage) -> [Self] {
        [
            PeopleEndpoint(.get, "v1/audit", for: [.administrator], scope: .all) { _, call in
                let limit = Int(try call.queryNumber("limit", in: 1...500, otherwise: 100))
                let after = try call.queryNumber("after", in: 0...Int64.max, otherwise: 0)
                let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: after, limit: limit) }
                return .object { writer in
                    writer.key("lines")
                    writer.array { writer in for row in rows { row.write(to: &writer) } }
                }
            },
            PeopleEndpoint(.get, "v1/audit/verify", for: [.administrator], scope: .all) { _, call in
                let noted = call.query["noted"].map { AuditHead($0) }
                if let noted, noted == nil { throw DataSyncError(.invalidInput, operation: "audit", detail: "'noted' is not the head of a chain") }
                let verdict = try await storage.verifyAudit(noted: noted ?? nil)
                return .object { writer in
                    writer.member("intact", verdict.intact)
                    if let head = verdict.head { writer.member("head", head.description) }
                    if let fault = verdict.fault { writer.member("fault", fault.description) }
                }
            },
        ]
    }
}

extension PeopleReply {
    fileprivate static func login(_ answer: LoginAnswer) -> PeopleReply {
        .object { writer in
            writer.member("access_token", answer.accessToken.revealed)
            writer.member("token_type", "Bearer")
            writer.member("expires_in", answer.lifetime.components.seconds)
            writer.member("refresh_token", answer.refreshToken.revealed)
            writer.member("name", answer.name)
            writer.member("role", answer.role)
        }
    }
}

extension AuditRow {
    /// As commands and the administrative interface show it.
    package func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("line", self.sequence)
            writer.member("time", self.entry.time)
            writer.member("actor", self.entry.actor)
            writer.member("action", self.entry.action)
            writer.member("subject", self.entry.subject)
            writer.member("digest", self.digest)
        }
    }
}
