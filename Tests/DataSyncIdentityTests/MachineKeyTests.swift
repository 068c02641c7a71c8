import Crypto
import DataSync
@testable import DataSyncIdentity
import Foundation
import Glibc
import JWTKit
import Testing

/// A folder that goes away with this value.
private final class TemporaryFolder: Sendable {
    let url: URL

    init() throws {
        self.url = FileManager.default.temporaryDirectory.appending(path: "datasync-keys-\(UUID())")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    deinit { try? FileManager.default.removeItem(at: self.url) }

    func path(_ name: String) -> String { self.url.appending(path: name).path }

    func mode(_ name: String) throws -> Int {
        try #require(try FileManager.default.attributesOfItem(atPath: self.path(name))[.posixPermissions] as? Int)
    }

    func write(_ text: String, _ name: String, mode: mode_t = 0o600) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: self.path(name)))
        #expect(chmod(self.path(name), mode) == 0)
    }
}

@Test func aKeyComesBackFromItsFileAndNobodyElseCanReadIt() throws {
    let folder = try TemporaryFolder()
    let key = try MachineKey.generate()
    // Whatever the process lets others do by default.
    let before = umask(0)
    defer { umask(before) }
    try key.write(to: folder.path("key.pem"))
    #expect(try folder.mode("key.pem") == 0o600)
    #expect(try MachineKey(file: folder.path("key.pem")).publicKey == key.publicKey)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["key.pem"])
}

@Test func aKeyIsNeverWrittenOverAnother() throws {
    let folder = try TemporaryFolder()
    let first = try MachineKey.generate()
    try first.write(to: folder.path("key.pem"))
    let error = #expect(throws: DataSyncError.self) { try MachineKey.generate().write(to: folder.path("key.pem")) }
    #expect(error?.code == .invalidConfiguration)
    #expect(error?.detail?.contains("a key exists already") == true)
    #expect(try MachineKey(file: folder.path("key.pem")).publicKey == first.publicKey)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["key.pem"])
}

/// What a crash left behind is no obstacle.
@Test func aLeftoverOfACrashIsNoObstacle() throws {
    let folder = try TemporaryFolder()
    try folder.write("half a key", "key.pem.new", mode: 0o644)
    try MachineKey.generate().write(to: folder.path("key.pem"))
    #expect(try folder.mode("key.pem") == 0o600)
    _ = try MachineKey(file: folder.path("key.pem"))
}

@Test func aKeyThatCannotBeWrittenSaysWhy() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: DataSyncError.self) { try MachineKey.generate().write(to: folder.path("nowhere/key.pem")) }
    #expect(error?.code == .invalidConfiguration)
    #expect(error?.detail?.contains("No such file") == true)
}

@Test(arguments: [0o640, 0o604, 0o660, 0o644, 0o666, 0o610, 0o601, 0o620] as [mode_t])
func aKeyThatOthersCanReadIsRefused(mode: mode_t) throws {
    let folder = try TemporaryFolder()
    try MachineKey.generate().write(to: folder.path("key.pem"))
    #expect(chmod(folder.path("key.pem"), mode) == 0)
    let error = #expect(throws: DataSyncError.self) { try MachineKey(file: folder.path("key.pem")) }
    #expect(error?.code == .invalidConfiguration)
    #expect(error?.detail?.contains("chmod 600") == true)
}

@Test(arguments: [0o600, 0o400] as [mode_t])
func aKeyThatOnlyItsUserCanReadIsTaken(mode: mode_t) throws {
    let folder = try TemporaryFolder()
    try MachineKey.generate().write(to: folder.path("key.pem"))
    #expect(chmod(folder.path("key.pem"), mode) == 0)
    _ = try MachineKey(file: folder.path("key.pem"))
}

/// Of a private file that is no key, or not the whole of one, nothing is shown.
@Test func aDamagedKeyFileIsNamedAndNotShown() throws {
    let folder = try TemporaryFolder()
    let pem = EdDSA.PrivateKey(backing: Curve25519.Signing.PrivateKey()).pemRepresentation
    let lines = pem.split(separator: "\n")
    let material = String(lines[1])
    let elliptic = P256.Signing.PrivateKey().pemRepresentation
    for (index, text) in [
        "", "garbage", String(pem.dropLast(40)), material, pem.replacing(material.prefix(10), with: "!!!!!!!!!!"),
        lines[0] + "\n" + material.dropLast(8) + "\n" + lines[2], elliptic,
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    ].enumerated() {
        try folder.write(text, "key.pem")
        let error = #expect(throws: DataSyncError.self, "text \(index)") { try MachineKey(file: folder.path("key.pem")) }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.detail?.contains("key.pem: this is no Ed25519 key in PEM form") == true)
        let shown = String(reflecting: error)
        #expect(!shown.contains(material.suffix(20)) && !shown.contains("BEGIN"))
    }
    let error = #expect(throws: DataSyncError.self) { try MachineKey(file: folder.path("nothing.pem")) }
    #expect(error?.detail?.contains("there is no key file") == true)
    #expect(throws: DataSyncError.self) { try MachineKey(file: folder.url.path) }
}

@Test func noDescriptionShowsAKey() throws {
    let folder = try TemporaryFolder()
    let key = try MachineKey.generate()
    try key.write(to: folder.path("key.pem"))
    let material = try String(contentsOfFile: folder.path("key.pem"), encoding: .utf8).split(separator: "\n")[1]
    for text in ["\(key)", String(reflecting: key), "\([key])", "\(Optional(key) as Any)"] {
        #expect(text.contains(key.publicKey.thumbprint))
        #expect(!text.contains(material) && !text.contains(material.suffix(24)))
    }
}

@Test func aPublicKeyIsItsTextAndItsThumbprint() throws {
    let key = try MachineKey.generate().publicKey
    #expect(MachinePublicKey(text: key.text) == key)
    #expect(key.text.utf8.count == 43)
    #expect(key.thumbprint.utf8.count == 32)
    #expect(key.thumbprint.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) })
    for text in ["", "AAAA", key.text + "=", key.text + "A", String(key.text.dropLast()), key.text.replacing(key.text.prefix(1), with: "+") + "", "é"]
    where text != key.text {
        #expect(MachinePublicKey(text: text) == nil, "\(text)")
    }
    // As anybody can compute it: sha256sum of the 32 bytes, the first half.
    #expect(Digest.secret("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(Digest.body(Array("abc".utf8)) == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0")
}

@Test func noDumpShowsAPrivateKey() throws {
    let key = try MachineKey.generate()
    let identity = BranchIdentity(branch: 7, key: key, cloudKey: try MachineKey.generate().publicKey)
    var dumped = ""
    dump(key, to: &dumped)
    dump(CloudIdentity(key: key), to: &dumped)
    dump(identity, to: &dumped)
    // Nothing below it is shown: not even which library holds it.
    #expect(dumped.contains("(secret)"))
    #expect(!dumped.contains("PrivateKey"))
    #expect(dumped.contains(key.publicKey.thumbprint))
}

@Test(arguments: [(0o775, false), (0o757, false), (0o777, false), (0o1777, true), (0o755, true), (0o700, true), (0o500, true)] as [(mode_t, Bool)])
func aKeyInAFolderThatOthersCanWriteIsRefused(mode: mode_t, isTaken: Bool) throws {
    let folder = try TemporaryFolder()
    try MachineKey.generate().write(to: folder.path("key.pem"))
    #expect(chmod(folder.url.path, mode) == 0)
    defer { chmod(folder.url.path, 0o700) }
    do {
        _ = try MachineKey(file: folder.path("key.pem"))
        #expect(isTaken)
    } catch {
        #expect(!isTaken)
        #expect(error.code == .invalidConfiguration)
        #expect(error.detail?.contains("chmod go-w") == true)
    }
}

@Test func theNextKeyTakesThePlaceOfTheOneBeforeIt() throws {
    let folder = try TemporaryFolder()
    let (first, second) = (try MachineKey.generate(), try MachineKey.generate())
    let path = folder.path("key.pem")
    try first.write(to: path)
    #expect(throws: DataSyncError.self) { try MachineKey.putNextInPlace(of: path) }
    #expect(try MachineKey(file: path).publicKey == first.publicKey)
    try second.write(to: MachineKey.nextFile(of: path))
    #expect(try MachineKey(file: path).publicKey == first.publicKey)
    try MachineKey.putNextInPlace(of: path)
    #expect(try MachineKey(file: path).publicKey == second.publicKey)
    #expect(try folder.mode("key.pem") == 0o600)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["key.pem"])
}
