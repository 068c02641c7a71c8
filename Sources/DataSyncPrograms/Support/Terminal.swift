import DataSync
import Foundation

/// What the programs say to people: results on standard output, complaints on standard error.
package enum Terminal {
    package static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    package static func complain(_ text: String) {
        let program = ProcessInfo.processInfo.processName
        FileHandle.standardError.write(Data("\(program): \(text)\n".utf8))
    }

    /// Columns as wide as their longest cell, two spaces apart.
    package static func table(_ header: [String], _ rows: [[String]]) -> String {
        let all = [header] + rows.map { $0.map(Self.harmless) }
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            let cells = row.indices.map { column in
                row[column] + String(repeating: " ", count: column == row.count - 1 ? 0 : widths[column] - row[column].count)
            }
            return cells.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    /// Without what a terminal would take for orders: some of it is what another machine calls itself.
    package static func harmless(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
    }

    /// `3 s`, `12 min`, `5 h`, `8 d`.
    package static func age(milliseconds: Int64) -> String {
        switch milliseconds / 1_000 {
        case ..<0: "0 s"
        case ..<120: "\(milliseconds / 1_000) s"
        case ..<7_200: "\(milliseconds / 60_000) min"
        case ..<172_800: "\(milliseconds / 3_600_000) h"
        default: "\(milliseconds / 86_400_000) d"
        }
    }
}
