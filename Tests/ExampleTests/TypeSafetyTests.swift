import Foundation
import Testing

/// That a token of one set is good for nothing of another is said by types: these are programs that must not compile, beside one that does.
@Suite struct TypeSafetyTests {
    private static let head = """
        import DataSync
        import DataSyncIdentity

        func decide(_ caller: Verified<OperatorSet>) -> Bool { caller.sees(7) }

        """

    /// What the compiler has against `program`.
    private func complaints(about program: String) throws -> (status: Int32, text: String) {
        let built = Bundle.main.bundleURL.path.hasSuffix(".xctest") ? Bundle.main.bundleURL.deletingLastPathComponent() : Bundle.main.bundleURL
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).swift")
        try (Self.head + program).write(to: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        let (process, output) = (Process(), Pipe())
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["swiftc", "-typecheck", "-swift-version", "6", "-I", built.appending(path: "Modules").path, file.path]
        (process.standardOutput, process.standardError) = (output, output)
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    @Test func whoWasVerifiedForASetMayActInIt() throws {
        let (status, text) = try self.complaints(about: "func act(_ caller: Verified<OperatorSet>) -> Bool { decide(caller) }")
        #expect(status == 0, "\(text)")
    }

    @Test(arguments: [
        (
            "func act(_ caller: Verified<StaffSet>) -> Bool { decide(caller) }",
            "cannot convert value of type 'Verified<StaffSet>' to expected argument type 'Verified<OperatorSet>'"
        ),
        (
            "func act(_ caller: CloudIdentity.Caller) -> Bool { decide(caller) }",
            "cannot convert value of type 'CloudIdentity.Caller' to expected argument type 'Verified<OperatorSet>'"
        ),
        (
            "func act() -> Bool { decide(Verified(name: \"ada\", role: .admin, branches: nil, login: \"\", generation: 1)) }",
            "initializer is inaccessible due to 'internal' protection level"
        ),
        (
            "func act(_ caller: Verified<OperatorSet>) -> Bool { caller.role == StaffSet.Role.admin }",
            "binary operator '==' cannot be applied to operands of type 'OperatorSet.Role' and 'StaffSet.Role'"
        ),
    ])
    func nobodyElseMay(program: String, complaint: String) throws {
        let (status, text) = try self.complaints(about: program)
        #expect(status != 0)
        #expect(text.contains(complaint), "\(text)")
    }
}
