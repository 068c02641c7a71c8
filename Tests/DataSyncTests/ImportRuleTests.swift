import FoundationEssentials
import Testing

/// What each module may import and say, read from its sources: the layout is kept by a test and not by good will.
@Suite struct ImportRuleTests {
    struct File: Sendable, CustomTestStringConvertible {
        var path: String
        var lines: [Substring]

        var testDescription: String { self.path }
        var module: String { String(self.path.prefix { $0 != "/" }) }

        /// Without comments: what they speak of is not used.
        var code: [(number: Int, text: Substring)] {
            self.lines.enumerated().map { ($0 + 1, $1.split(separator: "//", maxSplits: 1, omittingEmptySubsequences: false)[0]) }
        }

        var imports: [String] {
            self.code.compactMap { _, text in
                let words = text.split(separator: " ")
                guard let index = words.firstIndex(of: "import"), index + 1 < words.count, words[..<index].allSatisfy(Self.isModifier) else { return nil }
                let name = words.last!
                return String(name.prefix { $0 != "." })
            }
        }

        private static func isModifier(_ word: Substring) -> Bool {
            word.hasPrefix("@") || ["public", "package", "internal", "fileprivate", "private"].contains(word)
        }
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Sources")

    static let files: [File] = {
        guard let walk = try? FileManager.default.subpathsOfDirectory(atPath: root.path()) else { return [] }
        return walk.filter { $0.hasSuffix(".swift") }.sorted().compactMap { path in
            guard let data = FileManager.default.contents(atPath: root.appending(path: path).path()) else { return nil }
            return File(path: path, lines: String(decoding: data, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false))
        }
    }()

    private static let programs: Set<String> = [
        "DataSyncPrograms", "datasync-cloud", "datasync-local", "datasync-bench", "datasync-demo", "datasync-torture", "datasync-simulate",
    ]

    /// Who alone imports what.
    private static let owners: [String: Set<String>] = [
        "CMariaDB": ["DataSyncMySQL"], "GRDB": ["DataSyncSQLite"], "CZlib": ["DataSyncCompression"], "JWTKit": ["DataSyncIdentity"],
        "Crypto": ["DataSyncIdentity"], "CryptoExtras": ["DataSyncIdentity"], "FoundationNetworking": ["DataSyncHTTP"], "NIOCore": ["DataSyncServer"],
        "NIOSSL": ["DataSyncServer"],
        "HTTPTypes": ["DataSyncServer"], "HummingbirdCore": ["DataSyncServer"], "HummingbirdTLS": ["DataSyncServer"],
        "Hummingbird": ["DataSyncServer", "DataSyncPrograms"], "Testing": ["DataSyncTesting"], "ArgumentParser": programs,
        "Configuration": programs, "Yams": programs, "DataSyncPrograms": programs,
    ]

    /// What a module never imports, beside what others own.
    private static let never: [String: Set<String>] = [
        "DataSyncSQL": ["DataSyncMySQL", "DataSyncSQLite", "DataSyncHTTP", "DataSyncServer", "DataSyncIdentity", "Foundation"],
        "DataSyncMySQL": ["DataSyncSQLite", "DataSyncHTTP", "DataSyncServer", "DataSyncIdentity"],
        "DataSyncSQLite": ["DataSyncMySQL", "DataSyncHTTP", "DataSyncServer", "DataSyncIdentity"],
        "DataSyncIdentity": ["DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncHTTP", "DataSyncServer"],
        "DataSyncCompression": ["DataSyncSQL", "DataSyncHTTP", "DataSyncServer", "DataSyncIdentity"],
        "DataSyncHTTP": ["DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncServer"],
        "DataSyncServer": ["DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncHTTP"],
        "DataSyncTesting": ["DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncHTTP", "DataSyncServer"],
    ]

    @Test func theSourcesAreFound() {
        #expect(Self.files.count { $0.module == "DataSync" } > 50)
        #expect(Self.files.first { $0.path == "DataSync/Agent/Agent.swift" }?.imports == ["Logging", "Synchronization"])
    }

    @Test func theCoreImportsNoDatabaseNoHTTPAndNoC() {
        let allowed: Set = ["FoundationEssentials", "Logging", "Metrics", "ServiceLifecycle", "Synchronization"]
        for file in Self.files where file.module == "DataSync" {
            #expect(Set(file.imports).subtracting(allowed) == [], "\(file.path)")
        }
    }

    @Test func theModelAndTheDecisionsImportNothingThatActs() {
        for file in Self.files where ["DataSync/Model/", "DataSync/Engine/"].contains(where: { file.path.hasPrefix($0) }) {
            #expect(Set(file.imports).subtracting(["FoundationEssentials"]) == [], "\(file.path)")
            for (number, text) in file.code { #expect(!text.contains("await "), "\(file.path):\(number)") }
        }
    }

    @Test func eachLibraryHasOneImporter() {
        for file in Self.files {
            for name in file.imports {
                if let owners = Self.owners[name] { #expect(owners.contains(file.module), "\(file.path) imports \(name)") }
                #expect(Self.never[file.module]?.contains(name) != true, "\(file.path) imports \(name)")
            }
        }
    }

    /// Clocks and chance come in through `SyncEnvironment`, and no task outlives who began it: so a run can be played again.
    @Test(arguments: [
        "Task {", "Task(", "Task.detached", "Task.sleep", "Date()", "Date.now", "UUID()", "ContinuousClock()", "SuspendingClock()",
        "SystemRandomNumberGenerator()", "DispatchQueue", "print(", "fatalError(", "try!", " assert(",
    ])
    func theCoreNeverSays(_ words: String) {
        for file in Self.files where file.module == "DataSync" && file.path != "DataSync/Support/SyncEnvironment.swift" {
            for (number, text) in file.code where Self.contains(words, in: text) {
                // A clock as a default is one that a caller can replace.
                let isDefault = text.contains("= \(words)")
                #expect(isDefault, "\(file.path):\(number) says \(words)")
            }
        }
    }

    @Test func theCoreDrawsNoNumberOfItsOwn() {
        for file in Self.files where file.module == "DataSync" {
            for (number, text) in file.code where [".random(in", ".shuffled(", ".randomElement("].contains(where: { text.contains($0) }) {
                #expect(text.contains("using: "), "\(file.path):\(number)")
            }
        }
    }

    /// As words: `addTask {` is not `Task {`.
    private static func contains(_ words: String, in text: Substring) -> Bool {
        text.ranges(of: words).contains { range in
            guard range.lowerBound > text.startIndex else { return true }
            let before = text[text.index(before: range.lowerBound)]
            return !(before.isLetter || before.isNumber || before == "_" || before == ".")
        }
    }
}
