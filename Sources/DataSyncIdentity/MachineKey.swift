import Crypto
public import DataSync
import FoundationEssentials
import Glibc
import JWTKit

/// The Ed25519 key of one machine: a branch's, which never leaves the branch, or the cloud's.
///
public struct MachineKey: Sendable, CustomStringConvertible {
    let key: Secret<EdDSA.PrivateKey>
    public let publicKey: MachinePublicKey

    init(_ key: EdDSA.PrivateKey) {
        self.key = Secret(key)
        self.publicKey = MachinePublicKey(key.publicKey)
    }

    /// A new key.
    public static func generate() throws -> MachineKey { MachineKey(try EdDSA.PrivateKey(curve: .ed25519)) }

    public var description: String { "MachineKey(\(self.publicKey.thumbprint))" }

    // MARK: - Files

    /// Reads a key in PEM form (PKCS #8).
    /// - Throws: `invalidConfiguration` when the file is missing, is no key, or can be read by others, or when others can write its
    ///   folder, unless that is sticky: they could put another key in its place.
    public init(file path: String) throws(DataSyncError) {
        func refuse(_ detail: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "key", detail: "\(path): \(detail)")
        }
        guard let permissions = FilePermissions.of(path) else { throw refuse("there is no key file: run init, or join") }
        guard permissions & 0o077 == 0 else {
            throw refuse("others can read this key: chmod 600 it, and if they may have, replace it")
        }
        guard let folder = FilePermissions.of(Self.folder(of: path)), folder & 0o022 == 0 || folder & 0o1000 != 0 else {
            throw refuse("others can write the folder of this key, and so put another in its place: chmod go-w \(Self.folder(of: path)), or keep it elsewhere")
        }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8), let key = try? EdDSA.PrivateKey(pem: text) else {
            throw refuse("this is no Ed25519 key in PEM form")
        }
        self.init(key)
    }

    /// Writes the key to a new file that only this user can read: whole or not at all, and never over another key.
    public func write(to path: String) throws(DataSyncError) {
        func refuse(_ detail: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "key", detail: "\(path): \(detail)")
        }
        let temporary = path + ".new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw refuse("cannot be written: \(String(cString: strerror(errno)))") }
        var text = self.key.revealed.pemRepresentation + "\n"
        let written = text.withUTF8 { Glibc.write(descriptor, $0.baseAddress, $0.count) == $0.count } && fsync(descriptor) == 0
        close(descriptor)
        // A hard link, unlike a rename, fails where a file of that name exists.
        guard written, link(temporary, path) == 0 else {
            let reason = errno == EEXIST ? "a key exists already" : String(cString: strerror(errno))
            unlink(temporary)
            throw refuse("cannot be written: \(reason)")
        }
        unlink(temporary)
        guard Self.syncFolder(of: path) else { throw refuse("its folder cannot be written to the disk: \(String(cString: strerror(errno)))") }
    }

    /// Where the next key lies until it takes the place of the one in `path`.
    public static func nextFile(of path: String) -> String { path + ".next" }

    /// Puts the key that lies beside the one in `path` in its place, at one moment: whoever reads finds the one or the other. When this
    /// returns, the old one is gone for good.
    public static func putNextInPlace(of path: String) throws(DataSyncError) {
        guard rename(self.nextFile(of: path), path) == 0, self.syncFolder(of: path) else {
            throw DataSyncError(
                .invalidConfiguration, operation: "key",
                detail: "\(path): cannot be replaced by \(self.nextFile(of: path)): \(String(cString: strerror(errno)))")
        }
    }

    private static func folder(of path: String) -> String {
        guard let end = path.lastIndex(of: "/") else { return "." }
        return end == path.startIndex ? "/" : String(path[..<end])
    }

    /// A file that was created or renamed is there after a loss of power once its folder is on the disk.
    private static func syncFolder(of path: String) -> Bool {
        let descriptor = open(self.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return fsync(descriptor) == 0
    }
}

/// The public half of a ``MachineKey``.
public struct MachinePublicKey: Hashable, Sendable, CustomStringConvertible {
    /// The 32 bytes of the key in base64url, as `sync_server` stores them.
    public let text: String
    /// What people compare: the first half of the SHA-256 of those bytes, in hex.
    public let thumbprint: String

    init(_ key: EdDSA.PublicKey) {
        self.text = Base64URL.encode(key.rawRepresentation)
        self.thumbprint = SHA256.hash(data: key.rawRepresentation).prefix(16).map { Self.hex($0) }.joined()
    }

    /// Nil for what is no Ed25519 public key in base64url.
    public init?(text: String) {
        guard let bytes = Base64URL.decode(text), bytes.count == 32, let key = try? EdDSA.PublicKey(x: text, curve: .ed25519) else { return nil }
        self.init(key)
    }

    var key: EdDSA.PublicKey {
        get throws { try EdDSA.PublicKey(x: self.text, curve: .ed25519) }
    }

    public var description: String { self.thumbprint }

    static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}

/// Digests of bodies and of secrets.
public enum Digest {
    /// SHA-256 in base64url, as tokens carry it.
    public static func body(_ bytes: some Sequence<UInt8>) -> String { Base64URL.encode(Data(SHA256.hash(data: Data(bytes)))) }

    /// SHA-256 in hex, as the database keeps it in place of a secret.
    public static func secret(_ secret: Secret<String>) -> String {
        SHA256.hash(data: Data(secret.revealed.utf8)).map { MachinePublicKey.hex($0) }.joined()
    }
}

/// Base64url without padding (RFC 4648, section 5).
enum Base64URL {
    static func encode(_ data: Data) -> String {
        data.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    static func decode(_ text: String) -> Data? {
        guard text.utf8.allSatisfy({ ($0 | 0x20 >= 97 && $0 | 0x20 <= 122) || (48...57).contains($0) || $0 == 45 || $0 == 95 }) else { return nil }
        let padded = text.replacing("-", with: "+").replacing("_", with: "/") + String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: padded), self.encode(data) == text else { return nil }
        return data
    }
}
