public import DataSync
import FoundationEssentials
public import Logging
import Synchronization

/// The keys of a cloud at one moment: one, or two while it changes its key.
public struct CloudKeys: Sendable {
    /// Signs what is answered.
    public var present: MachineKey
    /// Is to be trusted as well: the one that follows, or the one before, until it is retired.
    public var other: MachinePublicKey?
    /// Its private half, where this machine has it: signs for who knows this one alone.
    public var otherPrivate: MachineKey?

    public init(present: MachineKey, other: MachinePublicKey? = nil, otherPrivate: MachineKey? = nil) {
        self.present = present
        self.other = other
        self.otherPrivate = otherPrivate
    }

    /// - Parameter trusted: The thumbprints that the receiver of an answer knows; nil for all.
    /// - Returns: The key to sign by, and the other one.
    func chosen(for trusted: [String]?) -> (key: MachineKey, other: MachinePublicKey?) {
        if let trusted, !trusted.contains(self.present.publicKey.thumbprint), let key = self.otherPrivate, trusted.contains(key.publicKey.thumbprint) {
            return (key, self.present.publicKey)
        }
        return (self.present, self.other)
    }
}

/// The cloud's keys as its database and its key files say: every replica goes on with another key without being started again.
///
/// The database says which public key is the present one and which the other; the private ones are in the key file and in the file of
/// the next key beside it. Both change one after the other, so that each state in between is one in which the branches take the answers.
public final class CloudKeyRing<Storage: SyncStorage>: Sendable {
    private struct Known {
        var keys: CloudKeys
        var until: Duration
    }

    private let storage: Storage
    private let path: String
    private let environment: SyncEnvironment
    private let logger: Logger
    private let known = Mutex<Known?>(nil)
    private let hasComplained = Mutex(false)
    private static var lifetime: Duration { .seconds(5) }
    /// What was found so long ago is not relied upon: a replica that goes on by keys of the day before makes branches forget the newer one.
    private static var graceful: Duration { .seconds(60) }

    /// - Parameter path: Of the key file.
    public init(storage: Storage, file path: String, environment: SyncEnvironment = .system, logger: Logger = Logger(label: "datasync.keys")) {
        self.storage = storage
        self.path = path
        self.environment = environment
        self.logger = logger
    }

    /// The keys to be used now. Looked up every few seconds; what was found last is good for a minute while nothing can be found.
    public func keys() async throws -> CloudKeys {
        let now = self.environment.runningTime()
        let known = self.known.withLock { $0 }
        if let known, known.until > now { return known.keys }
        let keys: CloudKeys
        do {
            let row = try await self.storage.withTransaction(.snapshot) { try await $0.server(.cloud) }
            keys = try self.keys(of: row)
        } catch {
            guard let known, now < known.until + Self.graceful else { throw error }
            return known.keys
        }
        self.known.withLock { $0 = Known(keys: keys, until: now + Self.lifetime) }
        return keys
    }

    private func keys(of row: ServerRow?) throws(DataSyncError) -> CloudKeys {
        let first = try MachineKey(file: self.path)
        let held = [first, try? MachineKey(file: MachineKey.nextFile(of: self.path))].compactMap { $0 }
        func key(_ text: String?) -> MachineKey? { held.first { $0.publicKey.text == text } }
        let other = row?.nextKey.flatMap(MachinePublicKey.init(text:))
        if let present = key(row?.publicKey) { return CloudKeys(present: present, other: other, otherPrivate: key(row?.nextKey)) }
        // The branches trust both.
        if let present = key(row?.nextKey) { return CloudKeys(present: present, other: row?.publicKey.flatMap(MachinePublicKey.init(text:))) }
        if row?.publicKey != nil { self.complain(first.publicKey) }
        return CloudKeys(present: first)
    }

    /// Once: it is looked up every few seconds.
    private func complain(_ key: MachinePublicKey) {
        let isFirst = self.hasComplained.withLock { hasComplained in
            defer { hasComplained = true }
            return !hasComplained
        }
        guard isFirst else { return }
        self.logger.critical(
            """
            the key file holds another key than the database says the cloud has: copy the key of the other replicas, or, where the database \
            was put back to a time before the key was changed, run 'datasync-cloud restored'
            """,
            metadata: ["file": "\(self.path)", "key": "\(key)"])
    }

    // MARK: - Another key

    /// How far the change of a key has got.
    public enum Phase: String, Hashable, Sendable {
        /// There is one key.
        case settled
        /// The branches are told of the next key; it signs nothing yet.
        case announced
        /// The next key signs, and the one before it is still trusted.
        case active
    }

    public struct Standing: Sendable {
        public var phase: Phase
        public var present: MachinePublicKey
        public var other: MachinePublicKey?
        /// The branches that have not said that they take answers by the newer key.
        public var unaware: [ServerID]
    }

    public func standing() async throws -> Standing {
        let (servers, noted) = try await self.storage.withTransaction(.snapshot) { transaction in
            (try await transaction.servers(), try await transaction.setting(Self.phaseSetting).flatMap { Phase(rawValue: $0) })
        }
        guard let row = servers.first(where: \.id.isCloud), let present = row.publicKey.flatMap(MachinePublicKey.init(text:)) else {
            throw DataSyncError(.storageNotReady, operation: "key", detail: "the cloud's row in sync_server has no key: run init")
        }
        guard let other = row.nextKey.flatMap(MachinePublicKey.init(text:)) else {
            return Standing(phase: .settled, present: present, other: nil, unaware: [])
        }
        let phase = try noted ?? self.phase(present, other)
        let newer = phase == .announced ? other : present
        let unaware = servers.filter { $0.id.isBranch && $0.status == .active && !($0.cloudKeys ?? "").contains(newer.thumbprint) }.map(\.id)
        return Standing(phase: phase, present: present, other: other, unaware: unaware)
    }

    /// In which step of a change this is, beside the cloud's row, which names both keys in every step.
    private static var phaseSetting: String { "cloud.key.phase" }

    /// By the files of this machine: where the change was begun by a version that did not write it down.
    private func phase(_ present: MachinePublicKey, _ other: MachinePublicKey) throws -> Phase {
        let file = try MachineKey(file: self.path).publicKey
        let next = try? MachineKey(file: MachineKey.nextFile(of: self.path)).publicKey
        guard [present, other].contains(file), next.map([present, other].contains) ?? true else { throw self.strange }
        return next == present || (next == nil && file == present) ? .active : .announced
    }

    private var strange: DataSyncError {
        DataSyncError(
            .invalidState, operation: "key",
            detail: "\(self.path) and the file of the next key beside it do not hold the keys that the database names: is this the machine on which the "
                + "change was begun? If not, copy both from there")
    }

    /// Makes the next key, which lies beside the present one, and has the branches told of it.
    public func announce(by actor: String) async throws -> MachinePublicKey {
        let standing = try await self.standing()
        guard standing.phase == .settled else {
            throw DataSyncError(.invalidState, operation: "key", detail: "the key is being changed already: `key show` says how far that has got")
        }
        let path = MachineKey.nextFile(of: self.path)
        let file = try MachineKey(file: self.path).publicKey
        var next = try? MachineKey(file: path)
        // The end of the last change: its key has not got to its place on this machine.
        if let last = next, last.publicKey == standing.present {
            try MachineKey.putNextInPlace(of: self.path)
            next = nil
        } else if file != standing.present {
            throw self.strange
        }
        // One that an earlier run has left was not announced.
        let key = try next ?? MachineKey.generate()
        if next == nil { try key.write(to: path) }
        await self.environment.passes(.cloudNextKeyWritten)
        try await self.change("cloud.key.announce", key.publicKey, to: .announced, actor) { row in
            guard row.publicKey == standing.present.text, row.nextKey == nil else { return false }
            row.nextKey = key.publicKey.text
            return true
        }
        return key.publicKey
    }

    /// Lets the next key sign. Who knows the one before alone is still answered by that.
    public func activate(by actor: String) async throws -> MachinePublicKey {
        let standing = try await self.standing()
        let next = try? MachineKey(file: MachineKey.nextFile(of: self.path)).publicKey
        // In the place of the present one it is where the database was put back to a time before the change had ended.
        guard standing.phase == .announced, let other = standing.other, try next == other || MachineKey(file: self.path).publicKey == other else {
            throw DataSyncError(.invalidState, operation: "key", detail: "there is no next key that was announced: `key rotate` makes one")
        }
        try await self.change("cloud.key.activate", other, to: .active, actor) { row in
            guard row.publicKey == standing.present.text, row.nextKey == other.text else { return false }
            (row.publicKey, row.nextKey) = (row.nextKey, row.publicKey)
            return true
        }
        return other
    }

    /// Ends the change: the key before is worth nothing any more.
    /// - Parameter isForced: Also where branches have not seen the present key. They need a new join token.
    public func retire(isForced: Bool, by actor: String) async throws -> MachinePublicKey {
        let standing = try await self.standing()
        switch standing.phase {
        case .announced:
            throw DataSyncError(.invalidState, operation: "key", detail: "the next key does not sign yet: `key activate` first")
        case .active:
            guard isForced || standing.unaware.isEmpty else {
                throw DataSyncError(
                    .invalidState, operation: "key",
                    detail: "branches \(standing.unaware.map { "\($0)" }.joined(separator: ", ")) have not seen the present key: wait for them, or give "
                        + "--force; they need a new join token then")
            }
            // What is retired where its follower is not would leave this machine without a key.
            let held = [self.path, MachineKey.nextFile(of: self.path)].compactMap { try? MachineKey(file: $0).publicKey }
            guard held.contains(standing.present) else { throw self.strange }
            try await self.change("cloud.key.retire", standing.present, to: .settled, actor) { row in
                guard row.publicKey == standing.present.text, row.nextKey == standing.other?.text else { return false }
                row.nextKey = nil
                return true
            }
        case .settled:
            // This is what is left to do where the last run broke off.
            guard (try? MachineKey(file: MachineKey.nextFile(of: self.path)).publicKey) == standing.present else {
                throw DataSyncError(.invalidState, operation: "key", detail: "the cloud has one key: there is none to retire")
            }
        }
        if (try? MachineKey(file: MachineKey.nextFile(of: self.path)).publicKey) == standing.present { try MachineKey.putNextInPlace(of: self.path) }
        await self.environment.passes(.cloudKeyInPlace)
        return standing.present
    }

    /// After the database was put back: where it names none of the keys that lie on this machine, the key file is right, and the branches
    /// know its key.
    /// - Returns: The key that the cloud has now; nil if the database names it already.
    public func adoptFile(by actor: String) async throws -> MachinePublicKey? {
        let file = try MachineKey(file: self.path).publicKey
        let next = try? MachineKey(file: MachineKey.nextFile(of: self.path)).publicKey
        let row = try await self.storage.withTransaction(.snapshot) { try await $0.server(.cloud) }
        guard let row, ![file.text, next?.text].contains(row.publicKey), row.nextKey == nil || ![file.text, next?.text].contains(row.nextKey) else {
            return nil
        }
        try await self.change("cloud.key.adopt", file, to: .settled, actor) { changed in
            guard changed.publicKey == row.publicKey, changed.nextKey == row.nextKey else { return false }
            (changed.publicKey, changed.nextKey) = (file.text, nil)
            return true
        }
        return file
    }

    private func change(
        _ action: String, _ key: MachinePublicKey, to phase: Phase, _ actor: String, _ body: (inout ServerRow) -> Bool
    ) async throws {
        try await self.storage.withTransaction { transaction in
            guard var row = try await transaction.server(.cloud), body(&row), try await transaction.replaceServer(row) else {
                throw DataSyncError(.storageBusy, operation: "key", detail: "the cloud's row changed meanwhile: look with `key show`, and try again")
            }
            if phase == .settled {
                try await transaction.removeSetting(Self.phaseSetting)
            } else {
                try await transaction.putSetting(Self.phaseSetting, phase.rawValue)
            }
            try await transaction.appendAudit(
                AuditEntry(time: self.environment.wallTime(), actor: actor, action: action, subject: "cloud, key \(key.thumbprint)"))
            await self.environment.passes(.cloudKeyBeforeCommit)
        }
        await self.environment.passes(.cloudKeyAfterCommit)
    }
}
