import DataSync
import DataSyncSQL
import Testing

/// One column type, with values that it keeps and values that it must not take.
struct ColumnCase: Sendable, CustomTestStringConvertible {
    var sqlite: String?
    var mysql: String?
    /// A value of the payload and how the database shows it as text afterwards, on SQLite where that differs.
    var kept: [(json: String, text: String?, sqlite: String?)]
    var refused: [(json: String, reason: ReasonCode)] = []

    var testDescription: String { self.mysql ?? self.sqlite ?? "" }

    private static func same(_ values: [String]) -> [(json: String, text: String?, sqlite: String?)] {
        values.map { ($0, $0, nil) }
    }

    private static func quoted(_ values: [String]) -> [(json: String, text: String?, sqlite: String?)] {
        values.map { ("\"\($0)\"", $0, nil) }
    }

    static let all: [ColumnCase] = [
        ColumnCase(mysql: "tinyint", kept: same(["-128", "0", "127"]) + [("\"5\"", "5", nil)], refused: [("128", .outOfRange), ("-129", .outOfRange)]),
        ColumnCase(mysql: "tinyint unsigned", kept: same(["0", "255"]), refused: [("256", .outOfRange), ("-1", .outOfRange)]),
        ColumnCase(mysql: "smallint", kept: same(["-32768", "32767"]), refused: [("32768", .outOfRange)]),
        ColumnCase(mysql: "smallint unsigned", kept: same(["65535"]), refused: [("65536", .outOfRange)]),
        ColumnCase(mysql: "mediumint", kept: same(["-8388608", "8388607"]), refused: [("8388608", .outOfRange)]),
        ColumnCase(mysql: "mediumint unsigned", kept: same(["16777215"]), refused: [("16777216", .outOfRange)]),
        ColumnCase(mysql: "int", kept: same(["-2147483648", "2147483647"]), refused: [("2147483648", .outOfRange), ("-2147483649", .outOfRange)]),
        ColumnCase(mysql: "int unsigned", kept: same(["4294967295"]), refused: [("4294967296", .outOfRange)]),
        ColumnCase(
            sqlite: "bigint", mysql: "bigint",
            kept: same(["-9223372036854775808", "9223372036854775807", "9007199254740993"]) + [("\"9223372036854775807\"", "9223372036854775807", nil)],
            refused: [
                ("9223372036854775808", .outOfRange), ("-9223372036854775809", .outOfRange), ("\"\"", .wrongType), ("\"1 \"", .wrongType),
                ("\"0x10\"", .wrongType),
            ]),
        ColumnCase(
            mysql: "bigint unsigned",
            kept: same(["0", "9223372036854775808", "18446744073709551615"]) + [("\"18446744073709551615\"", "18446744073709551615", nil)],
            refused: [("18446744073709551616", .outOfRange), ("-1", .outOfRange)]),
        ColumnCase(
            sqlite: "boolean", mysql: "boolean", kept: same(["0", "1"]) + [("true", "1", nil), ("false", "0", nil)],
            refused: [("\"yes\"", .wrongType), ("1000", .outOfRange)]),
        ColumnCase(mysql: "bit(8)", kept: [("0", "0", nil), ("255", "255", nil)], refused: [("256", .outOfRange)]),
        ColumnCase(
            mysql: "decimal(20,4)",
            kept: same(["1234567890123456.7891", "-0.0001", "9999999999999999.9999"]) + [
                ("\"0.1000\"", "0.1000", nil), ("1.50000", "1.5000", nil), ("7", "7.0000", nil),
            ],
            refused: [
                ("0.00001", .outOfRange), ("12345678901234567", .outOfRange), ("1e3", .wrongType), ("\"1,5\"", .wrongType), ("\".5\"", .wrongType),
                ("\"5.\"", .wrongType), ("\"--5\"", .wrongType), ("\"\"", .wrongType), ("true", .wrongType),
            ]),
        // SQLite has no decimals. What a double cannot hold to the last digit must be refused, not rounded.
        ColumnCase(
            sqlite: "decimal(20,4)", kept: [("1234567890.7891", "1234567890.7891", nil), ("\"-0.0001\"", "-0.0001", nil), ("7", "7", nil)],
            refused: [("1234567890123456.7891", .outOfRange), ("123456789012.12345", .outOfRange), ("\"1,5\"", .wrongType)]),
        ColumnCase(sqlite: "numeric", kept: [("12345.125", "12345.125", nil)], refused: [("12345678901234567.5", .outOfRange)]),
        ColumnCase(sqlite: "decimal(18)", kept: same(["123456789012345678"]), refused: [("1.5", .outOfRange), ("1234567890123456789", .outOfRange)]),
        ColumnCase(sqlite: "text", kept: quoted(["12345678901234567890.123456789", "007"]), refused: [("5", .wrongType)]),
        ColumnCase(
            sqlite: "double", mysql: "double", kept: [("1.5", "1.5", nil), ("-2.5e-3", "-0.0025", nil), ("\"1e3\"", "1000", "1000.0")],
            refused: [("\"nan\"", .wrongType), ("\"infinity\"", .wrongType), ("\"0x1p4\"", .wrongType), ("1e999", .wrongType), ("\"\"", .wrongType)]),
        ColumnCase(
            sqlite: "varchar(12)", mysql: "varchar(12) character set utf8mb4",
            kept: quoted(["", "Ada", "价格 😀👩‍👩‍👧", "e\u{301}é", "it's ``; --", "日本語日本語日本語日本語"]) + [
                (#""a\"b\\c\u00e9""#, "a\"b\\cé", nil), (#""line\nbreak""#, "line\nbreak", nil),
            ],
            refused: [("\"0123456789abc\"", .outOfRange), ("\"日本語日本語日本語日本語日\"", .outOfRange), ("1", .wrongType), ("true", .wrongType), ("[]", .wrongType)]),
        ColumnCase(mysql: "mediumtext character set utf8mb4", kept: quoted([String(repeating: "名😀", count: 10_000)])),
        ColumnCase(mysql: "tinytext character set utf8mb4", kept: quoted(["short"]), refused: [("\"\(String(repeating: "x", count: 256))\"", .outOfRange)]),
        ColumnCase(
            sqlite: "date", mysql: "date", kept: quoted(["2024-02-29", "1000-01-01", "9999-12-31"]),
            refused: [
                ("\"2024-2-9\"", .wrongType), ("\"24-02-09\"", .wrongType), ("\"2024-02-29 10:00:00\"", .wrongType), ("\"20240229\"", .wrongType),
                ("1709164800", .wrongType),
            ]),
        ColumnCase(
            sqlite: "datetime", mysql: "datetime(6)",
            kept: [
                ("\"2024-02-29 23:59:59.123456\"", "2024-02-29 23:59:59.123456", nil),
                ("\"2024-02-29 23:59:59\"", "2024-02-29 23:59:59.000000", "2024-02-29 23:59:59"),
            ],
            refused: [
                ("\"2024-02-29 23:59:59.1234567\"", .outOfRange), ("\"2024-02-29\"", .wrongType), ("\"2024-02-29 23:59:59Z\"", .wrongType),
                ("\"2024-02-29 23:59:59+02:00\"", .wrongType), ("\"2024-02-29 23:59:59.1.2\"", .wrongType), ("\"2024-02-29 23:59:59.\"", .wrongType),
            ]),
        ColumnCase(
            mysql: "datetime", kept: [("\"2024-02-29 23:59:59\"", "2024-02-29 23:59:59", nil), ("\"2024-02-29 23:59:59.000\"", "2024-02-29 23:59:59", nil)],
            refused: [("\"2024-02-29 23:59:59.5\"", .outOfRange)]),
        ColumnCase(mysql: "timestamp(3) null", kept: quoted(["2024-07-01 12:00:00.125"])),
        ColumnCase(
            sqlite: "time", mysql: "time(3)",
            kept: [
                ("\"23:59:59.125\"", "23:59:59.125", nil), ("\"-12:30:00\"", "-12:30:00.000", "-12:30:00"), ("\"838:59:59\"", "838:59:59.000", "838:59:59"),
            ],
            refused: [
                ("\"10\"", .wrongType), ("\"1000\"", .wrongType), ("\"::\"", .wrongType), ("\"10:00\"", .wrongType), ("\"10:00:00.1.2\"", .wrongType),
                ("\"1:2:3\"", .wrongType), ("10", .wrongType),
            ]),
        ColumnCase(mysql: "time", kept: quoted(["10:00:00"]), refused: [("\"10:00:00.5\"", .outOfRange)]),
        // The server takes 5 for 2005.
        ColumnCase(
            mysql: "year", kept: same(["1901", "2024", "2155"]),
            refused: [("5", .outOfRange), ("99", .outOfRange), ("1900", .outOfRange), ("2156", .outOfRange)]),
        ColumnCase(mysql: "enum('red', 'green')", kept: quoted(["red", "green"]), refused: [("\"blue\"", .wrongType), ("1", .wrongType)]),
        ColumnCase(mysql: "set('a', 'b')", kept: quoted(["a", "a,b", ""]), refused: [("\"c\"", .wrongType)]),
    ]
}

@Suite(.serialized) struct MappedColumnTests {
    private func makeType(_ bench: Bench, column: String) async throws -> MappedType {
        try await bench.run("create table cell (id bigint not null primary key, v \(column))")
        return try await bench.type(
            TypeMapping(
                definition: BusinessTypeDefinition(id: 1, name: "cell", priority: 1, route: .all),
                root: TableMapping(table: "cell", key: [ColumnMapping("id")], columns: [ColumnMapping("v")])))
    }

    private func payload(_ id: Int, _ json: String) -> (String, String) { ("cell:\(id)", "{\"upsert\": {\"id\": \(id), \"v\": \(json)}}") }

    @Test(arguments: TestDatabase.available, ColumnCase.all)
    func aColumnKeepsExactlyWhatItTakes(kind: TestDatabase, column: ColumnCase) async throws {
        guard let definition = kind.isSQLite ? column.sqlite : column.mysql else { return }
        let bench = try await Bench(kind)
        let type = try await self.makeType(bench, column: definition)
        // All in one batch, with NULLs between: columns are bound as arrays.
        var records = column.kept.enumerated().map { self.payload(2 * $0.offset, $0.element.json) }
        records += (0...column.kept.count).map { self.payload(2 * $0 + 1, "null") }
        try await bench.apply(type, records)
        let shown = kind.isSQLite ? "cast(v as text)" : definition.hasPrefix("bit") ? "v + 0" : "cast(v as char)"
        let found = try await bench.texts("select id, \(shown) from cell order by id")
        for (index, value) in column.kept.enumerated() {
            let expected = kind.isSQLite ? value.sqlite ?? value.text : value.text
            #expect(found[2 * index][1] == expected, "\(definition): \(value.json)")
            #expect(found[2 * index + 1][1] == nil)
        }
        for (json, reason) in column.refused {
            let (key, payload) = self.payload(1_000, json)
            let fault = try await bench.fault(type, key, payload)
            #expect(fault?.reason == reason, "\(definition): \(json)")
            #expect(fault?.detail?.contains("v") == true, "\(definition): \(json)")
        }
        #expect(try await bench.query("select id from cell where id = 1000").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func bytesTravelInBase64(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await self.makeType(bench, column: kind.isSQLite ? "blob" : "varbinary(300)")
        let all =
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w=="
        try await bench.apply(type, [self.payload(1, "\"\(all)\""), self.payload(2, "\"\""), self.payload(3, "null"), self.payload(4, "\"/w==\"")])
        let rows = try await bench.query("select v from cell order by id").map { $0[0] }
        #expect(rows == [.bytes(Array(0...255)), .bytes([]), .null, .bytes([255])])
        if !kind.isSQLite {
            let long = String(repeating: "AAAA", count: 101)
            #expect(try await bench.fault(type, "cell:9", self.payload(9, "\"\(long)\"").1)?.reason == .outOfRange)
        }
    }

    /// MariaDB's `json` is a text with a check, MySQL's a type of its own. The payload must not show the difference.
    @Test(arguments: TestDatabase.available)
    func jsonIsAValueOfThePayload(kind: TestDatabase) async throws {
        // The server behind `mysqlStatements` has MariaDB's json, and is asked as if it had MySQL's.
        if kind == .mysqlStatements { return }
        let bench = try await Bench(kind)
        let type = try await self.makeType(bench, column: "json")
        let documents = [#"{"a": [1, 2.50, "x"], "b": null}"#, "[]", "17", #""text 😀""#, "true"]
        try await bench.apply(type, documents.enumerated().map { self.payload($0.offset, $0.element) } + [self.payload(50, "null")])
        #expect(try await bench.texts("select v from cell order by id").map { $0[0] } == documents + [nil])
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        // Two levels are the payload's own.
        try await bench.apply(type, "cell:60", self.payload(60, nested(30)).1)
        let deep = try await bench.fault(type, "cell:61", self.payload(61, nested(31)).1)
        #expect(deep?.reason == .malformed)
        #expect(deep?.detail?.contains("deeper than 32") == true)
        #expect(try await bench.fault(type, "cell:61", self.payload(61, nested(100_000)).1)?.reason == .malformed)
        #expect(try await bench.fault(type, "cell:61", self.payload(61, #"{"a": }"#).1)?.reason == .malformed)
    }

    /// SQLite's own interface ends a text at the first NUL, silently.
    @Test(arguments: TestDatabase.available)
    func aTextWithANulIsKeptWholeOrRefused(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await self.makeType(bench, column: "varchar(20)")
        let fault = try await bench.fault(type, "cell:1", self.payload(1, #""before\u0000after""#).1)
        if let fault {
            #expect(fault.reason == .badCharacter)
            #expect(try await bench.query("select * from cell").isEmpty)
        } else {
            #expect(try await bench.texts("select v from cell") == [["before\u{0}after"]])
        }
    }

    @Test(arguments: TestDatabase.available)
    func aColumnThatMayNotBeNullSaysSo(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await self.makeType(bench, column: "int not null")
        #expect(try await bench.fault(type, "cell:1", self.payload(1, "null").1) == .refused(.constraint, detail: "v must not be null"))
    }
}
