import FoundationEssentials
import Logging
import Synchronization
import Testing

@testable import DataSync

@Suite struct SecretTests {
    private struct Login: Encodable {
        var user = "ada"
        var password: Secret<String>?
        var older: [Secret<String>]
        var keys: [String: Secret<[UInt8]>]
    }

    /// Everything that Swift makes a text of without being asked for the value.
    static func texts(of value: some Sendable) -> [String] {
        var dumped = ""
        dump(value, to: &dumped)
        let mirrored = Mirror(reflecting: value).children.map { "\($0.label ?? "") \($0.value)" }
        return ["\(value)", String(describing: value), String(reflecting: value), dumped, "\([value])", "\(Optional(value) as Any)"] + mirrored
    }

    @Test func noTextShowsIt() throws {
        let login = Login(password: "hunter2", older: ["hunter2-old"], keys: ["k": Secret(Array("hunter2-key".utf8))])
        for text in Self.texts(of: login) + Self.texts(of: try #require(login.password)) {
            #expect(!text.contains("hunter2"), "\(text)")
            #expect(!text.contains("104"), "\(text)")
        }
        #expect("\(Secret("hunter2"))" == "(secret)")
        #expect(Self.texts(of: login)[0].contains("(secret)"))
        #expect(String(decoding: try JSONEncoder().encode(login.password), as: UTF8.self) == "\"(secret)\"")
        let encoded = String(decoding: try JSONEncoder().encode(login), as: UTF8.self)
        #expect(encoded.contains("ada") && encoded.contains("(secret)") && !encoded.contains("hunter2"))
        #expect(login.password?.revealed == "hunter2")
        #expect(login.password == Secret("hunter2"))
        #expect(login.password != Secret("hunter3"))
    }

    @Test func neitherErrorsNorLogsShowIt() {
        let secret = Secret("hunter2")
        let error = DataSyncError(.invalidConfiguration, operation: "test", detail: "the password is \(secret)")
        for text in Self.texts(of: error) { #expect(!text.contains("hunter2")) }
        struct Handler: LogHandler {
            let write: @Sendable (String) -> Void
            var metadata: Logger.Metadata = [:]
            var logLevel = Logger.Level.trace
            subscript(metadataKey key: String) -> Logger.Metadata.Value? {
                get { self.metadata[key] }
                set { self.metadata[key] = newValue }
            }
            func log(event: LogEvent) { self.write("\(event.message) \(event.metadata ?? [:])") }
        }
        let box = LineBox()
        let logger = Logger(label: "test") { _ in Handler(write: { box.add($0) }) }
        logger.info("it is \(secret)", metadata: ["password": "\(secret)", "other": .stringConvertible(secret)])
        #expect(box.lines.count == 1)
        #expect(box.lines.allSatisfy { $0.contains("(secret)") && !$0.contains("hunter2") })
    }
}

private final class LineBox: Sendable {
    private let kept = Mutex<[String]>([])
    func add(_ line: String) { self.kept.withLock { $0.append(line) } }
    var lines: [String] { self.kept.withLock { $0 } }
}
