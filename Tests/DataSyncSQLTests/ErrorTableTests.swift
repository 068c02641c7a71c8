import DataSync
@testable import DataSyncMySQL
@testable import DataSyncSQL
import Testing

@Suite struct MySQLErrorTableTests {
    private func fault(_ number: UInt32, inCommit: Bool = false, _ message: String = "") -> SQLError.Fault {
        MySQLErrorTable.fault(number, message: message, inCommit: inCommit)
    }

    @Test(arguments: [1205, 1213, 1020, 1412, 1615] as [UInt32])
    func aUnitThatMetAnotherIsRunAgain(number: UInt32) {
        #expect(self.fault(number) == .retry)
        // A commit that was refused was not made: Galera's failed certification.
        #expect(self.fault(number, inCommit: true) == .retry)
    }

    @Test(arguments: [1451, 1452] as [UInt32])
    func aForeignKeyIsAMissingDependency(number: UInt32) { #expect(self.fault(number) == .dependency) }

    @Test(
        arguments: [
            (1062, .constraint), (1048, .constraint), (3819, .constraint), (4025, .constraint), (1264, .outOfRange), (1406, .outOfRange),
            (1690, .outOfRange), (1265, .wrongType), (1292, .wrongType), (3140, .wrongType), (1644, .refused),
        ] as [(UInt32, ReasonCode)])
    func dataThatDoesNotFitIsItsRecordsFault(number: UInt32, reason: ReasonCode) { #expect(self.fault(number) == .record(reason)) }

    @Test func oneNumberForTwoFaultsIsToldApartByItsFirstWords() {
        #expect(self.fault(1366, #"Incorrect string value: '\xF0\x9F' for column `d`.`t`.`c` at row 1"#) == .record(.badCharacter))
        #expect(self.fault(1366, "Incorrect integer value: 'Incorrect string value' for column `d`.`t`.`c` at row 1") == .record(.wrongType))
    }

    @Test(arguments: [2006, 2013, 2002, 1927, 1053, 1040, 1047, 1203, 4031] as [UInt32])
    func aLostConnectionIsNobodysFaultAndAtTheCommitAnOpenQuestion(number: UInt32) {
        #expect(self.fault(number) == .connection)
        #expect(self.fault(number, inCommit: true) == .commitUnknown)
    }

    /// Disk full, table missing, column missing, rights, read-only, statement too long, packet too large, engine's own, and
    /// what nobody has heard of.
    @Test(arguments: [1021, 1114, 1146, 1054, 1142, 1290, 1836, 1969, 3024, 1153 + 100_000, 1030, 1364, 1064, 9_999, 0] as [UInt32])
    func whatIsNotListedIsTheSystems(number: UInt32) { #expect(self.fault(number) == .system) }

    @Test func onlyRecordsAndDependenciesAreHeldAgainstARecord() {
        func blames(_ fault: SQLError.Fault) -> Bool { SQLError(fault, number: 1, message: "").inHandler("test") is RecordFault }
        #expect(blames(.record(.constraint)) && blames(.dependency))
        for fault in [SQLError.Fault.retry, .connection, .commitUnknown, .system] { #expect(!blames(fault)) }
        func code(_ fault: SQLError.Fault) -> DataSyncError.Code { SQLError(fault, number: 1, message: "").inStorage("test").code }
        #expect(code(.retry) == .storageBusy)
        #expect(code(.connection) == .storageUnavailable)
        #expect(code(.commitUnknown) == .commitUnknown)
        #expect(code(.system) == .storageFailed)
        #expect(code(.record(.wrongType)) == .storageFailed)
        // Two that inserted the same row have met.
        #expect(code(.record(.constraint)) == .storageBusy)
    }

    @Test(
        arguments: [
            (1062, "Duplicate entry 's3cretvalue' for key 'member.email'", "member.email"),
            (1062, "Duplicate entry 's3cretvalue' for key 'PRIMARY'", "PRIMARY"),
            (1048, "Column 'name' cannot be null", "name"),
            (1406, "Data too long for column 'name' at row 17", "name"),
            (1264, "Out of range value for column 'points' at row 1", "points"),
            (1366, "Incorrect integer value: 's3cretvalue' for column `shop`.`member`.`points` at row 1", "points"),
            (1366, "Incorrect integer value: 's3cretvalue' for column 'points' at row 1", "points"),
            (1292, "Incorrect datetime value: 's3cretvalue' for column `shop`.`member`.`born` at row 3", "born"),
            (3819, "Check constraint 'positive' is violated.", "positive"),
            (4025, "CONSTRAINT `positive` failed for `shop`.`member`", "positive"),
            (
                1452,
                "Cannot add or update a child row: a foreign key constraint fails (`shop`.`orders`, CONSTRAINT `order_member` FOREIGN KEY (`member_id`) REFERENCES `member` (`id`))",
                "order_member"
            ),
        ] as [(UInt32, String, String)])
    func aMessageIsReadForTheNameInIt(number: UInt32, message: String, subject: String) {
        #expect(SQLError(.system, number: Int(number), message: message, subject: MySQLErrorTable.subject(number, message: message)).subject == subject)
    }

    /// Messages quote what was sent. Whoever sends may write what looks like the end of a message.
    @Test(
        arguments: [
            (1292, "Truncated incorrect DOUBLE value: 's3cretvalue'"),
            (1292, "Truncated incorrect DOUBLE value: 'for column s3cretvalue '"),
            (1292, "Truncated incorrect DOUBLE value: 'for column s3cretvalue at row 1'"),
            (1292, "Incorrect datetime value: 'for column `s3cretvalue` at row 1'"),
            (1366, "Incorrect integer value: 'x' for column `d`.`t`.`s3cretvalue of somebody` at row 1"),
            (1062, "Duplicate entry 'x' for key 's3cretvalue' for key 'a b'"),
            (1644, "for key 's3cretvalue'"), (1644, "CONSTRAINT `s3cretvalue`"), (1048, "s3cretvalue 's3cretvalue'"),
            (4025, "x CONSTRAINT `s3cretvalue`"), (3819, "x Check constraint 's3cretvalue'"), (9_999, "for column 's3cretvalue'"),
        ] as [(UInt32, String)])
    func whatLooksLikeANameButIsDataIsNotRepeated(number: UInt32, message: String) {
        let error = SQLError(.record(.wrongType), number: Int(number), message: message, subject: MySQLErrorTable.subject(number, message: message))
        #expect(!error.publicDetail.contains("s3cretvalue"))
        #expect(!"\(error)".contains("s3cretvalue"))
    }
}

/// Real errors of a real file: SQLite has few numbers, and its messages are its own.
@Suite struct SQLiteErrorTableTests {
    private func error(_ statement: String, after setup: String...) async throws -> SQLError {
        let connection = try await TestDatabase.sqlite.make().connect()
        for statement in setup { _ = try await connection.execute(statement, []) }
        do { _ = try await connection.execute(statement, []) } catch let error as SQLError {
            await connection.close()
            return error
        }
        Issue.record("it was not refused: \(statement)")
        return SQLError(.system, number: -1, message: "")
    }

    @Test func constraintsAreTheRecordsFault() async throws {
        let table = "create table t (id integer primary key, name text not null unique, n integer, constraint positive check (n > 0)) strict"
        let unique = try await self.error("insert into t (id, name) values (2, 's3cretvalue')", after: table, "insert into t values (1, 's3cretvalue', 1)")
        #expect(unique.fault == .record(.constraint))
        #expect(unique.subject == "t.name")
        let null = try await self.error("insert into t (id) values (1)", after: table)
        #expect(null.fault == .record(.constraint))
        #expect(null.subject == "t.name")
        let check = try await self.error("insert into t values (1, 's3cretvalue', -1)", after: table)
        #expect(check.fault == .record(.constraint))
        #expect(check.subject == "positive")
        let type = try await self.error("insert into t values (1, 'a', 's3cretvalue')", after: table)
        #expect(type.fault == .record(.wrongType))
        for error in [unique, null, check, type] { #expect(!error.publicDetail.contains("s3cretvalue")) }
    }

    @Test func foreignKeysAreDependenciesAndTriggersSayNo() async throws {
        let parent = "create table parent (id integer primary key)"
        let child = "create table child (id integer primary key, parent integer references parent (id))"
        #expect(try await self.error("insert into child values (1, 5)", after: parent, child).fault == .dependency)
        let raised = try await self.error(
            "insert into parent values (1)", after: parent,
            "create trigger never before insert on parent begin select raise(abort, 'constraint failed: s3cretvalue'); end")
        #expect(raised.fault == .record(.refused))
        #expect(!raised.publicDetail.contains("s3cretvalue"))
    }

    @Test func aLockedFileIsRunAgainAndEverythingElseIsTheSystems() async throws {
        #expect(try await self.error("insert into nowhere values (1)").fault == .system)
        #expect(try await self.error("nonsense").fault == .system)
        #expect(try await self.error("insert into t values (1)", after: "create table t (id integer)", "pragma query_only = 1").fault == .system)
    }
}
