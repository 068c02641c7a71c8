import Configuration
import DataSync
import DataSyncIdentity
import Foundation
import Yams

/// A configuration file, read and compared with what can be set: an unknown key is an error, not a silent default.
struct ConfigurationFile {
    let path: String
    /// The settings, by their dotted names, as they are written.
    private(set) var values: [String: String] = [:]
    /// The business types; nil if the file has none.
    private(set) var types: Node?

    /// - Throws: `invalidConfiguration` with the line.
    init(path: String, program: SettingKey.Program) throws(DataSyncError) {
        self.path = path
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw Self.failure("\(path) cannot be read: is it there, and may this user read it? `\(program.rawValue) init` writes a sample")
        }
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch {
            throw Self.failure("\(path) is not YAML: \(Self.describe(error))")
        }
        // A file with nothing but comments sets nothing.
        guard let root else { return }
        guard case .mapping(let mapping) = root else { throw Self.failure("\(path): the file must be a mapping, such as `storage:`") }
        let keys = SettingKey.keys(of: program)
        for (key, value) in mapping {
            guard let name = key.string else { throw Self.failure("\(path):\(Self.line(key)): a key must be a word") }
            if name == "types" { self.types = value } else { try self.take(value, name: name, at: key, keys, program) }
        }
        try self.checkSecrets()
    }

    private mutating func take(
        _ node: Node, name: String, at key: Node, _ keys: [SettingKey], _ program: SettingKey.Program
    ) throws(DataSyncError) {
        if keys.contains(where: { $0.name == name }) {
            self.values[name] = try Self.text(of: node, name: name, path: self.path)
            return
        }
        guard keys.contains(where: { $0.name.hasPrefix(name + ".") }) else {
            let others = SettingKey.all.contains { $0.name == name || $0.name.hasPrefix(name + ".") }
            let near = keys.map(\.name).min { Self.distance($0, name) < Self.distance($1, name) }
            let hint =
                others
                ? "it belongs to the other program"
                : near.flatMap { Self.distance($0, name) <= 3 ? "is '\($0)' meant?" : nil } ?? "it is not a setting of \(program.rawValue)"
            throw Self.failure("\(self.path):\(Self.line(key)): unknown key '\(name)': \(hint)")
        }
        guard case .mapping(let mapping) = node else {
            if node.string?.isEmpty ?? true { return }
            throw Self.failure("\(self.path):\(Self.line(key)): '\(name)' must be a mapping")
        }
        for (inner, value) in mapping {
            guard let word = inner.string else { throw Self.failure("\(self.path):\(Self.line(inner)): a key must be a word") }
            try self.take(value, name: "\(name).\(word)", at: inner, keys, program)
        }
    }

    private static func text(of node: Node, name: String, path: String) throws(DataSyncError) -> String {
        switch node {
        case .scalar(let scalar): return scalar.string
        case .sequence(let sequence) where sequence.allSatisfy({ $0.scalar != nil }):
            return sequence.compactMap(\.scalar?.string).joined(separator: ", ")
        default: throw self.failure("\(path):\(self.line(node)): '\(name)' must be one value, or a list of values")
        }
    }

    /// A password in a file that others can read is known to them.
    private func checkSecrets() throws(DataSyncError) {
        guard let secret = SettingKey.all.first(where: { $0.isSecret && self.values[$0.name] != nil }) else { return }
        guard let mode = FilePermissions.of(self.path), mode & 0o077 != 0 else { return }
        throw Self.failure("\(self.path) holds \(secret.name) and can be read by others: chmod 600 it, or set DATASYNC_STORAGE_PASSWORD")
    }

    /// For the configuration reader, below the environment and the flags.
    var provider: InMemoryProvider {
        InMemoryProvider(
            name: "file",
            values: self.values.reduce(into: [:]) { values, entry in
                values[AbsoluteConfigKey(entry.key.split(separator: ".").map { String($0) })] = ConfigValue(
                    .string(entry.value), isSecret: SettingKey.all.contains { $0.name == entry.key && $0.isSecret })
            })
    }

    static func line(_ node: Node) -> Int { node.mark?.line ?? 0 }

    static func failure(_ detail: String) -> DataSyncError {
        DataSyncError(.invalidConfiguration, operation: "configuration", detail: detail)
    }

    private static func describe(_ error: any Error) -> String {
        guard let error = error as? YamlError else { return "\(error)" }
        return switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _), .composer(_, let problem, let mark, _):
            "line \(mark.line): \(problem)"
        default: "\(error)"
        }
    }

    /// Edits that make one word of the other (Levenshtein).
    private static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right)
        var row = Array(0...right.count)
        for (i, character) in left.enumerated() {
            var previous = row[0]
            row[0] = i + 1
            for j in right.indices {
                let cost = min(row[j + 1] + 1, row[j] + 1, previous + (character == right[j] ? 0 : 1))
                previous = row[j + 1]
                row[j + 1] = cost
            }
        }
        return row[right.count]
    }
}

extension ConfigurationFile: CustomReflectable {
    /// Without what it says: among it may be a password.
    var customMirror: Mirror { Mirror(self, children: ["path": self.path]) }
}
