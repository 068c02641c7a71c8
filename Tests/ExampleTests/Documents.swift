import Foundation
import Testing

/// The repository's texts, found from where this file is.
enum Repository {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func text(_ path: String) throws -> String { try String(contentsOf: self.root.appending(path: path), encoding: .utf8) }

    /// The lines between two lines that are these comments, moved to the left margin.
    static func example(in path: String, from start: String, to end: String) throws -> String {
        let lines = try self.text(path).components(separatedBy: "\n")
        func isMarker(_ line: String, _ text: String) -> Bool { line.drop { $0 == " " } == "// \(text)" }
        let first = try #require(lines.firstIndex { isMarker($0, start) }, "\(path) has no line '// \(start)'")
        let last = try #require(lines[first...].firstIndex { isMarker($0, end) }, "'// \(start)' in \(path) has no end")
        let example = lines[(first + 1)..<last]
        let margin = example.filter { !$0.isEmpty }.map { $0.prefix { $0 == " " }.count }.min() ?? 0
        return example.map { $0.isEmpty ? "" : String($0.dropFirst(margin)) }.joined(separator: "\n")
    }

    /// What stands in the Swift blocks of a document.
    static func swiftBlocks(_ path: String) throws -> [String] {
        var blocks: [String] = []
        var block: [String]?
        for line in try self.text(path).components(separatedBy: "\n") {
            if let lines = block {
                if line == "```" {
                    blocks.append(lines.joined(separator: "\n"))
                    block = nil
                } else {
                    block = lines + [line]
                }
            } else if line == "```swift" {
                block = []
            }
        }
        return blocks
    }
}

@Test func theReadmeShowsTheExampleThatIsCompiled() throws {
    let example = try Repository.example(in: "Tests/ExampleTests/ReadmeExample.swift", from: "README begins", to: "README ends")
    #expect(try Repository.swiftBlocks("README.md").first == example)
}

@Test func theReadmesExampleDoesWhatItSays() async throws {
    #expect(try await carryOneMember() == "Ada")
}

@Test(
    "The documents show the examples that are compiled",
    arguments: [
        ("ShopTypes.swift", "example: a state", "Docs/business-types.md"),
        ("ShopTypes.swift", "example: an action", "Docs/business-types.md"),
        ("EnqueueExamples.swift", "example: enqueue", "Docs/business-types.md"),
        ("EnqueueExamples.swift", "example: enqueue by SQL", "Docs/storage.md"),
        ("ServiceGroupExample.swift", "example: a host's service", "Docs/business-types.md"),
        ("ServiceGroupExample.swift", "example: a service group", "Docs/business-types.md"),
        ("RouterExample.swift", "example: a host's router", "Docs/business-types.md"),
        ("RouterExample.swift", "example: joining", "Docs/business-types.md"),
    ])
func theDocumentsShowTheExamplesThatAreCompiled(file: String, name: String, document: String) throws {
    let example = try Repository.example(in: "Tests/ExampleTests/\(file)", from: name, to: "end of example")
    #expect(try Repository.swiftBlocks(document).contains(example))
}
