import Crypto
import CryptoExtras
import DataSync
import FoundationEssentials

/// What hashing one password costs: memory of 128 · 2^`logRounds` · `blockSize` bytes, and time in proportion.
public struct PasswordCost: Hashable, Sendable {
    public var logRounds: Int
    public var blockSize: Int
    public var parallelism: Int

    public init(logRounds: Int, blockSize: Int = 8, parallelism: Int = 1) {
        self.logRounds = logRounds
        self.blockSize = blockSize
        self.parallelism = parallelism
    }

    /// 128 MiB, and a few tenths of a second.
    public static let standard = PasswordCost(logRounds: 17)

    /// What is read from a database must not make this process use up its memory, or wait for ever.
    var isBearable: Bool {
        (1...20).contains(self.logRounds) && (1...32).contains(self.blockSize) && (1...4).contains(self.parallelism)
            && 128 * (1 << self.logRounds) * self.blockSize <= 512 << 20
    }
}

/// A salted scrypt hash in the PHC string format: `$scrypt$ln=17,r=8,p=1$salt$hash`.
struct PasswordHash: Sendable {
    var cost: PasswordCost
    var salt: [UInt8]
    var hash: Secret<[UInt8]>

    static var saltBytes: Int { 16 }
    static var hashBytes: Int { 32 }

    /// Blocks its thread for as long as it takes.
    init(of password: Secret<String>, salt: [UInt8], cost: PasswordCost) throws {
        let key = try KDF.Scrypt.deriveKey(
            from: Array(password.revealed.utf8), salt: salt, outputByteCount: Self.hashBytes, rounds: 1 << cost.logRounds, blockSize: cost.blockSize,
            parallelism: cost.parallelism)
        self.cost = cost
        self.salt = salt
        self.hash = Secret(key.withUnsafeBytes { Array($0) })
    }

    var text: Secret<String> {
        let cost = "ln=\(self.cost.logRounds),r=\(self.cost.blockSize),p=\(self.cost.parallelism)"
        return Secret("$scrypt$\(cost)$\(Self.encode(self.salt))$\(Self.encode(self.hash.revealed))")
    }

    /// Nil for what is no such string, or names a cost that is out of bounds.
    init?(text: Secret<String>) {
        let parts = text.revealed.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        let names = ["ln=", "r=", "p="]
        let members = parts[2].split(separator: ",", omittingEmptySubsequences: false)
        guard members.count == names.count else { return nil }
        var numbers: [Int] = []
        for (member, name) in zip(members, names) {
            guard member.hasPrefix(name), let number = Int(member.dropFirst(name.count)) else { return nil }
            numbers.append(number)
        }
        self.cost = PasswordCost(logRounds: numbers[0], blockSize: numbers[1], parallelism: numbers[2])
        guard self.cost.isBearable, let salt = Self.decode(parts[3]), let hash = Self.decode(parts[4]), (8...64).contains(salt.count),
            hash.count == Self.hashBytes
        else { return nil }
        self.salt = salt
        self.hash = Secret(hash)
    }

    /// In a time that does not depend on where they differ.
    func equals(_ other: PasswordHash) -> Bool { Self.areEqual(self.hash.revealed, other.hash.revealed) }

    static func areEqual(_ left: some Collection<UInt8>, _ right: some Collection<UInt8>) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(0 as UInt8) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static func encode(_ bytes: [UInt8]) -> String { Data(bytes).base64EncodedString().replacing("=", with: "") }

    private static func decode(_ text: Substring) -> [UInt8]? {
        let padded = text + String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: String(padded)), self.encode([UInt8](data)) == text else { return nil }
        return [UInt8](data)
    }
}
