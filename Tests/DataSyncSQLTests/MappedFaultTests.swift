import DataSync
import DataSyncSQL
import Testing

/// Letters and digits, so that nothing takes it for a value by its looks: what an error may repeat are names, which look
/// the same. It must not stand in any reason.
private let secret = "s3cretvalue"

/// What is wrong with a payload, and what its sender is told.
struct BadPayload: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var payload: String
    var reason: ReasonCode
    /// What the reason must name.
    var names: String?

    init(_ description: String, _ payload: String, _ reason: ReasonCode, names: String? = nil) {
        self.testDescription = description
        self.payload = payload
        self.reason = reason
        self.names = names
    }

    private static func upsert(_ members: String) -> String { "{\"upsert\": {\(members)}}" }

    static let all: [BadPayload] = [
        BadPayload(
            "text for a number", upsert(#""id": 1, "name": "a", "points": "\#(secret)", "joined": null, "photo": null, "shared": 1"#), .wrongType,
            names: "points"),
        BadPayload(
            "number for a text", upsert(#""id": 1, "name": 424242, "points": 1, "joined": null, "photo": null, "shared": 1"#), .wrongType, names: "name"),
        BadPayload(
            "object for a text", upsert(#""id": 1, "name": {"\#(secret)": 1}, "points": 1, "joined": null, "photo": null, "shared": 1"#), .wrongType,
            names: "name"),
        BadPayload(
            "array for a number", upsert(#""id": 1, "name": "a", "points": ["\#(secret)"], "joined": null, "photo": null, "shared": 1"#), .wrongType,
            names: "points"),
        BadPayload(
            "fraction for an integer", upsert(#""id": 1, "name": "a", "points": 1.5, "joined": null, "photo": null, "shared": 1"#), .wrongType, names: "points"),
        BadPayload(
            "exponent for an integer", upsert(#""id": 1, "name": "a", "points": 1e2, "joined": null, "photo": null, "shared": 1"#), .wrongType, names: "points"),
        BadPayload(
            "text for a date", upsert(#""id": 1, "name": "a", "points": 1, "joined": "\#(secret)", "photo": null, "shared": 1"#), .wrongType, names: "joined"),
        BadPayload(
            "number for a date", upsert(#""id": 1, "name": "a", "points": 1, "joined": 20240102, "photo": null, "shared": 1"#), .wrongType, names: "joined"),
        BadPayload(
            "bytes that are not base64", upsert(#""id": 1, "name": "a", "points": 1, "joined": null, "photo": "\#(secret)", "shared": 1"#), .wrongType,
            names: "photo"),
        BadPayload(
            "base64 without padding", upsert(#""id": 1, "name": "a", "points": 1, "joined": null, "photo": "AQI", "shared": 1"#), .wrongType, names: "photo"),
        BadPayload(
            "base64 with bits left over", upsert(#""id": 1, "name": "a", "points": 1, "joined": null, "photo": "AQJ=", "shared": 1"#), .wrongType,
            names: "photo"),
        BadPayload(
            "null where none may be", upsert(#""id": 1, "name": null, "points": 1, "joined": null, "photo": null, "shared": 1"#), .constraint, names: "name"),
        BadPayload(
            "a column is missing", upsert(#""id": 1, "name": "\#(secret)", "joined": null, "photo": null, "shared": 1"#), .missingColumn, names: "points"),
        BadPayload(
            "the key is missing", upsert(#""name": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1"#), .missingColumn, names: "id"),
        BadPayload("nothing is there", upsert(""), .missingColumn, names: "id"),
        BadPayload(
            "an unknown column", upsert(#""id": 1, "name": "a", "points": 1, "joined": null, "photo": null, "shared": 1, "extra": "\#(secret)""#),
            .unknownColumn, names: "extra"),
        BadPayload(
            "a column of the table that is not mapped",
            upsert(#""id": 1, "name": "a", "points": 1, "joined": null, "photo": null, "shared": 1, "own": "\#(secret)""#), .unknownColumn, names: "own"),
        BadPayload("a deletion with more than its key", #"{"delete": {"id": 1, "name": "\#(secret)"}}"#, .unknownColumn, names: "name"),
        BadPayload(
            "a column twice", upsert(#""id": 1, "name": "a", "name": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1"#), .malformed,
            names: "name"),
        BadPayload("the key twice", #"{"delete": {"id": 1, "id": 1}}"#, .malformed, names: "id"),
        BadPayload(
            "a column twice, once escaped",
            upsert(#""id": 1, "name": "a", "n\u0061me": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1"#), .malformed, names: "name"),
        BadPayload(
            "too long a text",
            upsert(#""id": 1, "name": "\#(secret)\#(String(repeating: "x", count: 40))", "points": 1, "joined": null, "photo": null, "shared": 1"#),
            .outOfRange, names: "name"),
        BadPayload(
            "too great a number", upsert(#""id": 1, "name": "a", "points": 99999999999999999999, "joined": null, "photo": null, "shared": 1"#), .outOfRange,
            names: "points"),
        BadPayload(
            "too small a number", upsert(#""id": 1, "name": "a", "points": -99999999999999999999, "joined": null, "photo": null, "shared": 1"#), .outOfRange,
            names: "points"),
        BadPayload("no JSON", secret, .malformed, names: "data_detail"),
        BadPayload("nothing", "", .malformed, names: "data_detail"),
        BadPayload("an array", "[\"\(secret)\"]", .malformed, names: "data_detail"),
        BadPayload("null", "null", .malformed, names: "data_detail"),
        BadPayload("an empty object", "{}", .malformed, names: "data_detail"),
        BadPayload("an unknown verb", #"{"\#(secret)": {}}"#, .malformed, names: "data_detail"),
        BadPayload("an action", #"{"act": {"id": 1, "points": 5}}"#, .malformed, names: "data_detail"),
        BadPayload("two verbs", #"{"delete": {"id": 1}, "upsert": {"\#(secret)": 1}}"#, .malformed, names: "data_detail"),
        BadPayload("the same verb twice", #"{"delete": {"id": 1}, "delete": {"id": 1}}"#, .malformed, names: "data_detail"),
        BadPayload("text behind the value", #"{"delete": {"id": 1}} \#(secret)"#, .malformed, names: "data_detail"),
        BadPayload("it breaks off", #"{"upsert": {"id": 1, "name": "\#(secret)"#, .malformed, names: "data_detail"),
        BadPayload(
            "half a character", upsert(#""id": 1, "name": "\ud83d", "points": 1, "joined": null, "photo": null, "shared": 1"#), .malformed, names: "data_detail"
        ),
        BadPayload(
            "a control character", upsert("\"id\": 1, \"name\": \"\(secret)\u{1}\", \"points\": 1, \"joined\": null, \"photo\": null, \"shared\": 1"),
            .malformed, names: "data_detail"),
        BadPayload("another entity", upsert(#""id": 2, "name": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1"#), .forbidden),
    ]
}

@Suite(.serialized) struct MappedFaultTests {
    private static let mapping = TypeMapping(
        definition: BusinessTypeDefinition(id: 1, name: "member", priority: 10, route: .shared), sharedField: "shared",
        root: TableMapping(
            table: "member", key: [ColumnMapping("id")],
            columns: ["name", "points", "joined", "photo", "shared"].map { ColumnMapping($0) }))

    private static func makeType(_ bench: Bench) async throws -> MappedType {
        try await bench.run(
            sqlite: """
                create table member (id integer primary key, name varchar(40) not null, points integer not null, joined date,
                  photo blob, shared boolean not null, own varchar(20) not null default 'x')
                """,
            mysql: """
                create table member (id bigint not null primary key, name varchar(40) not null, points int not null, joined date,
                  photo blob, shared boolean not null, own varchar(20) not null default 'x')
                """)
        return try await bench.type(Self.mapping)
    }

    /// The rule of every reason that leaves this machine.
    private func check(_ fault: RecordFault?, _ reason: ReasonCode, names: String?, _ comment: Comment) {
        #expect(fault?.reason == reason, comment)
        let detail = fault?.detail
        #expect(detail?.contains(secret) != true, "\(comment): a reason shows data")
        if let names { #expect(detail?.contains(names) == true, "\(comment): \(detail ?? "no detail")") } else { #expect(detail == nil, comment) }
    }

    @Test(arguments: TestDatabase.available)
    func aBadPayloadIsItsRecordsFaultAndTheReasonNamesTheColumn(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await Self.makeType(bench)
        for bad in BadPayload.all {
            let fault = try await bench.fault(type, "member:1", bad.payload)
            self.check(fault, bad.reason, names: bad.names, Comment(rawValue: bad.testDescription))
        }
        #expect(try await bench.query("select * from member").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aChildThatIsWrongIsItsRecordsFault(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let type = try await bench.type(Shop.orderMapping)
        let cases: [(String, String, ReasonCode, String)] = [
            ("no lines", #"{"upsert": {"id": 1, "total": 1, "member": null}}"#, .missingColumn, "lines"),
            ("lines twice", #"{"upsert": {"id": 1, "total": 1, "member": null, "lines": [], "lines": []}}"#, .malformed, "lines"),
            ("lines are no array", #"{"upsert": {"id": 1, "total": 1, "member": null, "lines": {"a": "\#(secret)"}}}"#, .malformed, "data_detail"),
            ("a line is no object", #"{"upsert": {"id": 1, "total": 1, "member": null, "lines": ["\#(secret)"]}}"#, .malformed, "data_detail"),
            ("a line lacks a column", Shop.order(1, lines: [#"{"order": 1, "line": 1, "product": "\#(secret)"}"#]), .missingColumn, "qty"),
            ("a line's column is wrong", Shop.order(1, lines: [Shop.line(1, 1, quantity: secret)]), .wrongType, "quantity"),
            ("a line has too many digits", Shop.order(1, lines: [Shop.line(1, 1, quantity: "1.2345")]), .outOfRange, "quantity"),
            ("a line twice", Shop.order(1, lines: [Shop.line(1, 1, product: secret), Shop.line(1, 1)]), .constraint, ""),
            ("a line breaks a check", Shop.order(1, lines: [Shop.line(1, 1, product: secret, quantity: "-5")]), .constraint, "line_quantity"),
        ]
        for (name, payload, reason, names) in cases {
            self.check(try await bench.fault(type, "order:1", payload), reason, names: names, Comment(rawValue: name))
        }
        #expect(try await bench.query("select * from orders").isEmpty)
        #expect(try await bench.query("select * from order_line").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aMissingParentRowMakesARecordWait(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await Shop.create(in: bench)
        let (members, orders) = (try await bench.type(Shop.memberMapping), try await bench.type(Shop.orderMapping))
        let fault = try await bench.fault(orders, "order:1", Shop.order(1, member: 1_001, lines: []))
        #expect(fault?.reason == .missingDependency)
        #expect(fault?.detail?.contains("1001") != true)
        if case .missingDependency = fault {} else { Issue.record("it is not counted: \(String(describing: fault))") }
        try await bench.apply(members, "member:1001", Shop.member(1_001))
        try await bench.apply(orders, "order:1", Shop.order(1, member: 1_001, lines: []))
        // Still pointed to: waits too, until the order goes.
        #expect(try await bench.fault(members, "member:1001", #"{"delete": {"id": 1001}}"#)?.reason == .missingDependency)
        try await bench.apply(orders, "order:1", #"{"delete": {"id": 1}}"#)
        try await bench.apply(members, "member:1001", #"{"delete": {"id": 1001}}"#)
        #expect(try await bench.query("select * from member").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aTriggerThatRaisesIsTheBusinessSayingNo(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await Self.makeType(bench)
        try await bench.run(
            sqlite: """
                create trigger no_negative before insert on member when new.points < 0
                begin select raise(abort, 'member failed: \(secret)'); end
                """,
            mysql: """
                create trigger no_negative before insert on member for each row
                if new.points < 0 then signal sqlstate '45000' set message_text = 'for key \(secret) for column \(secret)'; end if
                """)
        let payload = #"{"upsert": {"id": 1, "name": "a", "points": -1, "joined": null, "photo": null, "shared": 1}}"#
        let fault = try await bench.fault(type, "member:1", payload)
        #expect(fault?.reason == .refused)
        #expect(fault?.detail?.contains(secret) == false)
        #expect(try await bench.query("select * from member").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aUniqueKeyThatIsViolatedIsItsRecordsFault(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await Self.makeType(bench)
        // Added by somebody after the start, when it would have been refused.
        try await bench.run("create unique index one_name on member (name)")
        try await bench.apply(type, "member:1", #"{"upsert": {"id": 1, "name": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1}}"#)
        let payload = #"{"upsert": {"id": 2, "name": "\#(secret)", "points": 2, "joined": null, "photo": null, "shared": 1}}"#
        if kind.isSQLite {
            let fault = try await bench.fault(type, "member:2", payload)
            self.check(fault, .constraint, names: "member.name", "unique")
        }
        // A child's key, on every database.
        try await bench.run("create table child (parent bigint not null, tag varchar(300) not null, primary key (parent, tag))")
        let mapping = TypeMapping(
            definition: BusinessTypeDefinition(id: 3, name: "tagged", priority: 1, route: .all),
            root: TableMapping(table: "member", key: [ColumnMapping("id")], columns: []),
            children: [
                ChildMapping(
                    wire: "tags", table: TableMapping(table: "child", key: [ColumnMapping("parent"), ColumnMapping("tag")], columns: []),
                    parentKey: ["parent": "id"])
            ])
        try await bench.run("drop index one_name\(kind.isSQLite ? "" : " on member")")
        try await bench.run(
            sqlite: "create table tagged (id integer primary key)", mysql: "create table tagged (id bigint not null primary key)")
        var tagged = mapping
        tagged.root.table = "tagged"
        let taggedType = try await bench.type(tagged)
        for tag in [secret, "x' for key '\(secret)", String(repeating: secret, count: 25)] {
            let fault = try await bench.fault(
                taggedType, "tagged:1", #"{"upsert": {"id": 1, "tags": [{"parent": 1, "tag": "\#(tag)"}, {"parent": 1, "tag": "\#(tag)"}]}}"#)
            self.check(fault, .constraint, names: "", Comment(rawValue: tag))
        }
    }

    @Test(.enabled(if: TestDatabase.hasServer, TestDatabase.hint), arguments: [TestDatabase.mariadb, .mysqlStatements])
    func whatAStrictServerRefusesIsItsRecordsFault(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        try await bench.run(
            """
            create table strict (id bigint not null primary key, latin varchar(20) character set latin1, moment datetime,
              colour enum('red', 'green'), flags set('a', 'b'), small decimal(5,2) unsigned, years year, note varchar(200),
              constraint note_is_short check (note is null or length(note) < 100))
            """)
        let columns = ["latin", "moment", "colour", "flags", "small", "years", "note"]
        let type = try await bench.type(
            TypeMapping(
                definition: BusinessTypeDefinition(id: 4, name: "strict", priority: 1, route: .all),
                root: TableMapping(table: "strict", key: [ColumnMapping("id")], columns: columns.map { ColumnMapping($0) })))
        func payload(_ column: String, _ value: String) -> String {
            let members = columns.map { "\"\($0)\": \($0 == column ? value : "null")" }
            return "{\"upsert\": {\"id\": 1, \(members.joined(separator: ", "))}}"
        }
        let cases: [(String, String, ReasonCode, String)] = [
            ("latin", "\"\(secret) 😀\"", .badCharacter, "latin"),
            ("moment", #""2024-02-30 10:00:00""#, .wrongType, "moment"),
            ("colour", "\"\(secret)\"", .wrongType, "colour"),
            ("flags", "\"a,\(secret)\"", .wrongType, "flags"),
            ("small", #""-1.50""#, .outOfRange, "small"),
            ("years", "1800", .outOfRange, "years"),
            ("note", "\"\(secret) \(String(repeating: "x", count: 100))\"", .constraint, "note_is_short"),
        ]
        for (column, value, reason, names) in cases {
            self.check(try await bench.fault(type, "strict:1", payload(column, value)), reason, names: names, Comment(rawValue: column))
        }
        #expect(try await bench.query("select * from strict").isEmpty)
    }

    @Test(arguments: TestDatabase.available)
    func aTableThatChangedUnderneathIsTheSystemsFault(kind: TestDatabase) async throws {
        let bench = try await Bench(kind)
        let type = try await Self.makeType(bench)
        try await bench.run("drop table member")
        let payload = #"{"upsert": {"id": 1, "name": "\#(secret)", "points": 1, "joined": null, "photo": null, "shared": 1}}"#
        let error = await #expect(throws: DataSyncError.self) { try await bench.apply(type, "member:1", payload) }
        #expect(error?.code == .storageFailed)
        #expect(error.map { "\($0)".contains("member") } == false)
    }
}
