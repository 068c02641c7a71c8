public import DataSync
import FoundationEssentials

/// What introduces a branch to its cloud: printed once by `branch add`, good for one branch, one use and one hour.
///
/// It carries the fingerprint of the cloud's key, so that the branch knows whom it talks to before it trusts anybody.
public struct JoinToken: Sendable {
    public let server: ServerID
    /// Only its digest is stored.
    public let secret: Secret<String>
    public let cloudThumbprint: String

    public static let lifetime: Duration = .seconds(3_600)

    init(server: ServerID, secret: Secret<String>, cloudThumbprint: String) {
        self.server = server
        self.secret = secret
        self.cloudThumbprint = cloudThumbprint
    }

    /// As it is printed and pasted: with its secret.
    public var text: String { "dsj1.\(self.server.rawValue).\(self.secret.revealed).\(self.cloudThumbprint)" }

    /// - Throws: `invalidInput` for what is no join token.
    public init(text: String) throws(DataSyncError) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { String($0) }
        guard parts.count == 4, parts[0] == "dsj1", let server = Int32(parts[1]), server > 0, parts[2].utf8.count == 32,
            parts[3].utf8.count == 32
        else {
            throw DataSyncError(.invalidInput, operation: "join", detail: "this is no join token: it is what `datasync-cloud branch add` prints, whole")
        }
        self.init(server: ServerID(rawValue: server), secret: Secret(parts[2]), cloudThumbprint: parts[3])
    }
}

extension JoinToken: CustomStringConvertible {
    public var description: String { "JoinToken(\(self.server))" }
}

/// What a branch sends to be enrolled. Signed by the key that it brings.
public struct JoinRequest: WireMessage {
    public var secret: Secret<String>
    public var publicKey: String
    public var software: String

    public init(secret: Secret<String>, publicKey: String, software: String) {
        self.secret = secret
        self.publicKey = publicKey
        self.software = software
    }

    public init(from reader: inout JSONReader) throws {
        var members: [String: String] = [:]
        try reader.readObject { reader, name in
            switch name {
            case "secret", "public_key", "software": members[name] = try reader.readString()
            default: try reader.skipValue()
            }
        }
        guard let secret = members["secret"], let publicKey = members["public_key"], let software = members["software"],
            secret.utf8.count <= 64, publicKey.utf8.count <= 64, software.utf8.count <= 64
        else { throw reader.failure("'secret', 'public_key' and 'software' are needed, with at most 64 bytes each") }
        self.init(secret: Secret(secret), publicKey: publicKey, software: software)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("secret", self.secret.revealed)
            writer.member("public_key", self.publicKey)
            writer.member("software", self.software)
        }
    }
}

extension JoinRequest: CustomStringConvertible {
    public var description: String { "JoinRequest(\(self.software))" }
}

/// What a branch is told when it is enrolled.
public struct JoinAnswer: WireMessage {
    public var name: String
    public var epoch: Int32
    public var cloudPublicKey: String

    public init(name: String, epoch: Int32, cloudPublicKey: String) {
        self.name = name
        self.epoch = epoch
        self.cloudPublicKey = cloudPublicKey
    }

    public init(from reader: inout JSONReader) throws {
        var (name, epoch, key): (String?, Int32?, String?) = (nil, nil, nil)
        try reader.readObject { reader, member in
            switch member {
            case "name": name = try reader.readString()
            case "epoch": epoch = try reader.readInteger()
            case "cloud_public_key": key = try reader.readString()
            default: try reader.skipValue()
            }
        }
        guard let name, let epoch, let key else { throw reader.failure("'name', 'epoch' and 'cloud_public_key' are needed") }
        self.init(name: name, epoch: epoch, cloudPublicKey: key)
    }

    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("name", self.name)
            writer.member("epoch", self.epoch)
            writer.member("cloud_public_key", self.cloudPublicKey)
        }
    }
}

/// The cloud's side of introducing branches.
public struct Enrolment<Storage: SyncStorage>: Sendable {
    private let storage: Storage
    private let cloudKey: MachinePublicKey
    private let environment: SyncEnvironment

    public init(storage: Storage, cloudKey: MachinePublicKey, environment: SyncEnvironment = .system) {
        self.storage = storage
        self.cloudKey = cloudKey
        self.environment = environment
    }

    private func makeSecret() -> (secret: Secret<String>, token: (ServerID) -> JoinToken) {
        // A secret is drawn from the system, whatever the environment says.
        var generator = SystemRandomNumberGenerator()
        let secret = Secret(RecordUID(using: &generator).hex)
        return (secret, { JoinToken(server: $0, secret: secret, cloudThumbprint: self.cloudKey.thumbprint) })
    }

    private var expiry: Int64 { self.environment.wallTime() + JoinToken.lifetime.components.seconds * 1_000 }

    /// Introduces a new branch.
    /// - Throws: `invalidState` if the id is taken.
    public func add(_ branch: ServerID, name: String, actor: String) async throws -> JoinToken {
        guard branch.isBranch else { throw DataSyncError(.invalidInput, operation: "branch", detail: "a branch's id must be positive") }
        guard (1...100).contains(name.unicodeScalars.count) else {
            throw DataSyncError(.invalidInput, operation: "branch", detail: "a branch's name must have 1 to 100 characters")
        }
        let (secret, token) = self.makeSecret()
        try await self.storage.withTransaction { transaction in
            try await transaction.insertServer(
                ServerRow(id: branch, name: name, status: .invited, joinDigest: Digest.secret(secret), joinExpires: self.expiry))
            try await transaction.appendAudit(self.audit("branch.add", branch, actor))
            await self.environment.passes(.inviteBeforeCommit)
        }
        await self.environment.passes(.inviteAfterCommit)
        return token(branch)
    }

    /// A new join token for a branch that has not joined yet.
    public func renewToken(of branch: ServerID, actor: String) async throws -> JoinToken {
        let (secret, token) = self.makeSecret()
        try await self.change(branch, action: "branch.token", actor: actor) { row throws(DataSyncError) in
            guard row.status == .invited else {
                throw DataSyncError(.invalidState, operation: "branch", detail: "branch \(branch) has joined already")
            }
            row.joinDigest = Digest.secret(secret)
            row.joinExpires = self.expiry
        }
        return token(branch)
    }

    /// Stops a branch: from its next write on, nothing it sends has an effect.
    public func suspend(_ branch: ServerID, actor: String) async throws {
        try await self.change(branch, action: "branch.suspend", actor: actor) { row throws(DataSyncError) in
            guard row.status == .active else {
                throw DataSyncError(.invalidState, operation: "branch", detail: "branch \(branch) is \(row.status.rawValue)")
            }
            row.status = .suspended
        }
    }

    public func resume(_ branch: ServerID, actor: String) async throws {
        try await self.change(branch, action: "branch.resume", actor: actor) { row throws(DataSyncError) in
            guard row.status == .suspended else {
                throw DataSyncError(.invalidState, operation: "branch", detail: "branch \(branch) is \(row.status.rawValue)")
            }
            row.readmit()
        }
    }

    /// Enrols the branch that brings a valid secret, with its key. The same key again gets the same answer: the first
    /// one may have been lost.
    /// - Throws: `unauthorized`, whatever was wrong.
    public func join(_ request: JoinRequest, from branch: ServerID) async throws -> JoinAnswer {
        let refusal = DataSyncError(.unauthorized, operation: "join", detail: "the join token is not valid, was used, or is too old")
        guard let key = MachinePublicKey(text: request.publicKey) else { throw refusal }
        let row = try await self.storage.withTransaction { transaction in
            guard var row = try await transaction.server(branch), row.joinDigest == Digest.secret(request.secret),
                self.environment.wallTime() <= row.joinExpires
            else { throw refusal }
            if let known = row.publicKey {
                guard known == key.text, row.status == .active else {
                    try await transaction.appendAudit(self.audit("branch.join.second_key", branch, "branch \(branch)"))
                    return row
                }
                return row
            }
            row.publicKey = key.text
            row.status = .active
            row.version = request.software
            guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "join") }
            try await transaction.appendAudit(self.audit("branch.join", branch, "branch \(branch)"))
            await self.environment.passes(.enrolBeforeCommit)
            return row
        }
        await self.environment.passes(.enrolAfterCommit)
        guard row.publicKey == key.text, row.status == .active else { throw refusal }
        return JoinAnswer(name: row.name, epoch: row.epoch, cloudPublicKey: self.cloudKey.text)
    }

    private func change(
        _ branch: ServerID, action: String, actor: String, _ body: (inout ServerRow) throws(DataSyncError) -> Void
    ) async throws {
        try await self.storage.withTransaction { transaction in
            guard branch.isBranch, var row = try await transaction.server(branch) else {
                throw DataSyncError(.notFound, operation: "branch", detail: "there is no branch \(branch)")
            }
            try body(&row)
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "branch", detail: "the branch's row changed meanwhile: try again")
            }
            try await transaction.appendAudit(self.audit(action, branch, actor))
        }
    }

    private func audit(_ action: String, _ branch: ServerID, _ actor: String) -> AuditEntry {
        AuditEntry(time: self.environment.wallTime(), actor: actor, action: action, subject: "branch \(branch)")
    }
}
