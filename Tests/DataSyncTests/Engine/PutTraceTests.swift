@testable import DataSync
import Testing

@Suite struct PutTraceTests {
    private let time = TestTime()

    private func put(_ count: Int, _ type: BusinessTypeID?, by actor: String = "staff till", into storage: InMemoryStorage) async throws {
        let environment = self.time.environment
        for _ in 0..<count {
            try await storage.withTransaction { (transaction: InMemoryTransaction) async throws -> Void in
                try await PutTrace.note(type, by: actor, environment: environment, in: transaction)
            }
        }
    }

    private func lines(of storage: InMemoryStorage) async throws -> [String] {
        #expect(try await storage.verifyAudit().fault == nil)
        return try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 1_000) }.map {
            "\($0.entry.actor): \($0.entry.action) \($0.entry.subject)"
        }
    }

    /// However many they put: a day of a login and a type has one line, and the next one says how many there were.
    @Test func aDayOfALoginAndATypeHasALine() async throws {
        let storage = InMemoryStorage(environment: self.time.environment)
        try await self.put(500, 3, into: storage)
        try await self.put(20, 4, into: storage)
        try await self.put(7, 3, by: "staff ada", into: storage)
        let first = ["staff till: record.put records of type 3", "staff till: record.put records of type 4", "staff ada: record.put records of type 3"]
        #expect(try await self.lines(of: storage) == first)
        self.time.advance(by: .seconds(2 * 86_400))
        try await self.put(3, 3, into: storage)
        self.time.advance(by: .seconds(86_400))
        try await self.put(1, 3, into: storage)
        #expect(
            try await self.lines(of: storage).dropFirst(3) == [
                "staff till: record.put records of type 3; 500 on the day of the line before",
                "staff till: record.put records of type 3; 3 on the day of the line before",
            ])
        // What has come today.
        let counts = try await storage.withTransaction(.snapshot) { try await $0.settings(withPrefix: "puts.staff till.") }
        #expect(counts["puts.staff till.3"]?.hasSuffix(" 1") == true)
        #expect(counts["puts.staff till.4"]?.hasSuffix(" 20") == true)
    }

    @Test func whatNobodyKnowsMakesOneLine() async throws {
        let storage = InMemoryStorage(environment: self.time.environment)
        try await self.put(50, nil, into: storage)
        #expect(try await self.lines(of: storage) == ["staff till: record.put records of types that are not configured"])
    }
}
