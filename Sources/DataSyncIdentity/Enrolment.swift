public import DataSync
import FoundationEssentials
public import Logging

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

/// The cloud's side of introducing branches, of their keys, and of parting with them.
public struct Enrolment<Storage: SyncStorage>: Sendable {
    private let storage: Storage
    /// Where the database does not say which key the cloud has.
    private let cloudKey: MachinePublicKey
    private let environment: SyncEnvironment
    private let logger: Logger

    public init(
        storage: Storage, cloudKey: MachinePublicKey, environment: SyncEnvironment = .system, logger: Logger = Logger(label: "datasync.enrolment")
    ) {
        self.storage = storage
        self.cloudKey = cloudKey
        self.environment = environment
        self.logger = logger
    }

    private func makeSecret() async throws -> (secret: Secret<String>, token: (ServerID) -> JoinToken) {
        // A secret is drawn from the system, whatever the environment says.
        var generator = SystemRandomNumberGenerator()
        let secret = Secret(RecordUID(using: &generator).hex)
        let key = try await self.storage.withTransaction(.snapshot) { try await self.presentKey(in: $0) }
        return (secret, { JoinToken(server: $0, secret: secret, cloudThumbprint: key.thumbprint) })
    }

    /// The key that signs for the cloud now.
    private func presentKey(in transaction: Storage.Transaction) async throws -> MachinePublicKey {
        try await transaction.server(.cloud)?.publicKey.flatMap(MachinePublicKey.init(text:)) ?? self.cloudKey
    }

    private var expiry: Int64 { self.environment.wallTime() + JoinToken.lifetime.components.seconds * 1_000 }

    // MARK: - What people decide

    /// Introduces a new branch.
    /// - Throws: `invalidState` if the id is taken.
    public func add(_ branch: ServerID, name: String, actor: String) async throws -> JoinToken {
        guard branch.isBranch else { throw DataSyncError(.invalidInput, operation: "branch", detail: "a branch's id must be positive") }
        guard (1...100).contains(name.unicodeScalars.count) else {
            throw DataSyncError(.invalidInput, operation: "branch", detail: "a branch's name must have 1 to 100 characters")
        }
        let (secret, token) = try await self.makeSecret()
        try await self.unit { transaction in
            try await transaction.insertServer(
                ServerRow(id: branch, name: name, status: .invited, joinDigest: Digest.secret(secret), joinExpires: self.expiry))
            try await transaction.appendAudit(self.audit("branch.add", branch, actor))
            await self.environment.passes(.inviteBeforeCommit)
        }
        await self.environment.passes(.inviteAfterCommit)
        return token(branch)
    }

    /// A new join token. For a branch that has not joined yet, or for one that joins again with the key it has: its database is a new
    /// one, or it does not know the cloud's present key.
    public func renewToken(of branch: ServerID, actor: String) async throws -> JoinToken {
        let (secret, token) = try await self.makeSecret()
        try await self.change(branch, action: "branch.token", actor: actor) { row throws(DataSyncError) in
            guard row.status != .suspended else {
                throw DataSyncError(.invalidState, operation: "branch", detail: "branch \(branch) is suspended")
            }
            row.joinDigest = Digest.secret(secret)
            row.joinExpires = self.expiry
        }
        return token(branch)
    }

    /// Parts with the machine of a branch, which was lost or stolen, and lets another take its place: from the next write on the old key
    /// is worth nothing. What was received of it stays. The new machine numbers in a new epoch, and finds in the log what the branch had.
    /// - Returns: A join token for the new machine.
    public func replace(_ branch: ServerID, actor: String) async throws -> JoinToken {
        let (secret, token) = try await self.makeSecret()
        try await self.change(branch, action: "branch.replace", actor: actor, before: .replaceBeforeCommit) { row throws(DataSyncError) in
            guard row.publicKey != nil else {
                throw DataSyncError(.invalidState, operation: "branch", detail: "branch \(branch) has not joined: `branch token` prints another join token")
            }
            row.status = .invited
            (row.publicKey, row.nextKey, row.cloudKeys) = (nil, row.publicKey, nil)
            row.joinDigest = Digest.secret(secret)
            row.joinExpires = self.expiry
            row.epoch += 1
            row.session += 1
            row.nonce = nil
            (row.host, row.hostBefore, row.takeovers) = (nil, nil, 0)
        }
        await self.environment.passes(.replaceAfterCommit)
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

    // MARK: - What branches ask

    /// Enrols the branch that brings a valid secret, with its key. The same key again gets the same answer: the first
    /// one may have been lost. Another one means that two have the token: it is refused, with an alarm.
    /// - Throws: `unauthorized`, whatever was wrong.
    public func join(_ request: JoinRequest, from branch: ServerID) async throws -> JoinAnswer {
        let refusal = DataSyncError(.unauthorized, operation: "join", detail: "the join token is not valid, was used, or is too old")
        guard let key = MachinePublicKey(text: request.publicKey) else { throw refusal }
        let digest = Digest.secret(request.secret)
        @Sendable func invited(in transaction: Storage.Transaction) async throws -> ServerRow {
            guard let row = try await transaction.server(branch), row.joinDigest == digest, self.environment.wallTime() <= row.joinExpires else {
                throw refusal
            }
            return row
        }
        // Who has no token is refused without a transaction that writes: on SQLite there is one at a time.
        _ = try await self.storage.withTransaction(.snapshot) { try await invited(in: $0) }
        let (row, cloudKey) = try await self.unit { transaction in
            let cloudKey = try await self.presentKey(in: transaction)
            var row = try await invited(in: transaction)
            if let known = row.publicKey {
                guard known == key.text else {
                    try await transaction.appendAudit(self.audit("branch.join.second_key", branch, "branch \(branch)", key))
                    return (row, cloudKey)
                }
                return (row, cloudKey)
            }
            guard row.nextKey != key.text else {
                self.logger.critical(
                    "a branch that was replaced comes with the key that was shut out: remove the key file there, and join again",
                    metadata: ["branch": "\(branch)", "key": "\(key)"])
                throw refusal
            }
            (row.publicKey, row.nextKey) = (key.text, nil)
            row.status = .active
            row.version = request.software
            guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "join") }
            try await transaction.appendAudit(self.audit("branch.join", branch, "branch \(branch)", key))
            await self.environment.passes(.enrolBeforeCommit)
            return (row, cloudKey)
        }
        await self.environment.passes(.enrolAfterCommit)
        guard row.publicKey == key.text else {
            self.logger.critical(
                "a join token was presented with a second key: who else has it? Find out which machine is the branch, or replace it",
                metadata: ["branch": "\(branch)", "key": "\(row.publicKey.flatMap { MachinePublicKey(text: $0) }?.thumbprint ?? "")", "second_key": "\(key)"])
            throw refusal
        }
        guard row.status == .active else { throw refusal }
        return JoinAnswer(name: row.name, epoch: row.epoch, cloudPublicKey: cloudKey.text)
    }

    /// Takes in the key that is to follow the one that `caller` signs by. Both are good until the new one is first used.
    /// - Throws: `peerInvalid` for a key whose owner did not sign for it.
    public func takeOffer(_ request: KeyRequest, from caller: CloudIdentity.Caller) async throws -> KeyAnswer {
        guard let key = MachinePublicKey(text: request.publicKey), await request.isProven(by: key, of: caller) else {
            throw DataSyncError(.peerInvalid, operation: "key", detail: "the new key has not signed that it is to follow the present one")
        }
        let isNew = try await self.unit { transaction in
            let row = try await transaction.server(caller.branch)
            guard var row, row.status == .active else {
                throw DataSyncError(row?.status == .suspended ? .suspended : .unauthorized, operation: "key", detail: "the branch is not active")
            }
            // It was told before: its answer was lost.
            if row.publicKey == key.text || row.nextKey == key.text { return false }
            guard row.publicKey == caller.key.text else {
                throw DataSyncError(.unauthorized, operation: "key", detail: "the key that signed is not the branch's any more")
            }
            row.nextKey = key.text
            guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "key") }
            try await transaction.appendAudit(self.audit("branch.key.offer", caller.branch, "branch \(caller.branch)", key))
            await self.environment.passes(.offerBeforeCommit)
            return true
        }
        if isNew { self.logger.notice("a branch has offered a new key", metadata: ["branch": "\(caller.branch)", "key": "\(key)"]) }
        await self.environment.passes(.offerAfterCommit)
        return KeyAnswer()
    }

    /// Makes the key that `caller` signed by the only one of its branch, if it is the one that was to follow. Sessions that were opened
    /// with the old one end: nothing that it signed has an effect from now on.
    public func takeUse(of key: MachinePublicKey, by branch: ServerID) async throws {
        let isChanged = try await self.unit { transaction in
            guard var row = try await transaction.server(branch), row.status == .active, row.nextKey == key.text else { return false }
            (row.publicKey, row.nextKey) = (key.text, nil)
            row.session += 1
            row.nonce = nil
            guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "key") }
            try await transaction.appendAudit(self.audit("branch.key.change", branch, "branch \(branch)", key))
            await self.environment.passes(.keyChangeBeforeCommit)
            return true
        }
        if isChanged { self.logger.notice("a branch has a new key", metadata: ["branch": "\(branch)", "key": "\(key)"]) }
        await self.environment.passes(.keyChangeAfterCommit)
    }

    /// Notes which of the cloud's keys a branch takes answers by: until all know the next one, the one before is not retired.
    public func note(trusted: String, by branch: ServerID) async throws {
        try await self.unit { transaction in
            guard var row = try await transaction.server(branch), row.status == .active, row.cloudKeys != trusted else { return }
            row.cloudKeys = trusted
            guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "key") }
        }
    }

    // MARK: - Units

    /// Runs a unit again that met another one. After a commit of unknown outcome it is not: who asked looks, or asks again.
    private func unit<Result: Sendable>(_ body: (Storage.Transaction) async throws -> Result) async throws -> Result {
        for _ in 1..<5 {
            do { return try await self.storage.withTransaction(body) } catch let error as DataSyncError where error.code == .storageBusy {
                try await self.environment.clock.sleep(for: .milliseconds(20 + 200 * self.environment.jitter()))
            }
        }
        return try await self.storage.withTransaction(body)
    }

    private func change(
        _ branch: ServerID, action: String, actor: String, before point: CrashPoint? = nil, _ body: (inout ServerRow) throws(DataSyncError) -> Void
    ) async throws {
        try await self.unit { transaction in
            guard branch.isBranch, var row = try await transaction.server(branch) else {
                throw DataSyncError(.notFound, operation: "branch", detail: "there is no branch \(branch)")
            }
            try body(&row)
            guard try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "branch", detail: "the branch's row changed meanwhile: try again")
            }
            try await transaction.appendAudit(self.audit(action, branch, actor))
            if let point { await self.environment.passes(point) }
        }
    }

    private func audit(_ action: String, _ branch: ServerID, _ actor: String, _ key: MachinePublicKey? = nil) -> AuditEntry {
        AuditEntry(
            time: self.environment.wallTime(), actor: actor, action: action,
            subject: "branch \(branch)" + (key.map { ", key \($0.thumbprint)" } ?? ""))
    }
}
