import DataSync
import Foundation
package import Logging

/// Writes one line for each message to standard error, as text or as a JSON object.
///
/// Control characters are escaped in both: what a stranger sent cannot begin a line of its own.
package struct LineLogHandler: LogHandler {
    package enum Format: String, Sendable { case text, json }

    private let label: String
    private let format: Format
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?

    package init(label: String, format: Format, level: Logger.Level) {
        self.label = label
        self.format = format
        self.logLevel = level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let fields = self.metadata.merging(self.metadataProvider?.get() ?? [:]) { $1 }.merging(event.metadata ?? [:]) { $1 }
        let ordered = fields.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
        let time = Date().formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        switch self.format {
        case .json:
            var writer = JSONWriter()
            writer.object { writer in
                writer.member("time", time)
                writer.member("level", event.level.rawValue)
                writer.member("logger", self.label)
                writer.member("message", "\(event.message)")
                for (name, value) in ordered {
                    writer.key(name)
                    writer.string(value)
                }
            }
            Self.write(writer.text)
        case .text:
            let details = ordered.map { " \($0.0)=\(Self.quoted($0.1))" }.joined()
            Self.write("\(time) \(event.level.rawValue.uppercased()) \(Self.escaped("\(event.message)"))\(details)")
        }
    }

    private static func write(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

    private static func quoted(_ text: String) -> String {
        let escaped = self.escaped(text)
        return escaped.contains(" ") || escaped.isEmpty ? "\"\(escaped)\"" : escaped
    }

    private static func escaped(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F || $0 == "\"" }) else { return text }
        return text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "\n": result += "\\n"
            case "\"": result += "\\\""
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: result += "\\x" + String(scalar.value, radix: 16)
            default: result.unicodeScalars.append(scalar)
            }
        }
    }
}
