import CMariaDB
import DataSync
import DataSyncSQL

/// The one table from error numbers to whose fault they are. What is not listed is the system's.
///
/// Numbers: https://mariadb.com/docs/server/reference/error-codes and
/// https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
enum MySQLErrorTable {
    static func fault(_ number: UInt32, message: String, inCommit: Bool) -> SQLError.Fault {
        switch number {
        case 1205, 1213:  // lock wait timeout, deadlock; Galera reports a failed certification as 1213
            return .retry
        case 1020, 1412, 1615, 3101:  // snapshot changed, table definition changed, statement to be prepared again, group conflict
            return .retry
        case 1180:  // "Got error during COMMIT": with Galera's quorum lost, nobody knows
            return .commitUnknown
        case 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2026, 2027, 2055,  // the client lost, or never had, the server
            1040, 1042, 1043, 1047, 1053, 1077, 1079, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1203,
            1226, 1927, 3159, 4031:  // too many connections, going down, killed, idle for too long, not part of a Galera quorum
            return inCommit && !PlantedBug.isOn(.unknownCommitIsNotDone) ? .commitUnknown : .connection
        case 1451, 1452, 1216, 1217:  // foreign keys
            return .dependency
        case 1062, 1169, 1586, 1048, 1557, 1761, 1762, 3819, 4025:  // unique key, NULL, check
            return .record(.constraint)
        case 1264, 1406, 1441, 1690, 3156:  // out of range, too long
            return .record(.outOfRange)
        case 1300: return .record(.badCharacter)
        case 1366:  // one number for a character that the column cannot hold and for a text that is no number
            return .record(message.hasPrefix("Incorrect string value") ? .badCharacter : .wrongType)
        case 1265, 1292, 1367, 1411, 1525, 3140, 4038:  // truncated, not a date, not JSON
            return .record(.wrongType)
        case 1644, 1645, 1646: return .record(.refused)  // SIGNAL in a trigger: the business says no
        default: return .system
        }
    }

    /// The column, key or constraint that a message names. Messages quote values too, so only the places where a name must
    /// stand are read.
    static func subject(_ number: UInt32, message: String) -> String? {
        switch number {
        case 1062, 1586: return self.between(message, after: "for key '", last: true)
        case 1048, 1364:
            return self.between(message, after: " '", last: false).flatMap { message.hasPrefix("Column '") || message.hasPrefix("Field '") ? $0 : nil }
        case 1406, 1264, 1265: return self.between(message, after: "for column '", last: true)
        case 1366, 1292: return self.columnOfIncorrectValue(message)
        case 4025: return message.hasPrefix("CONSTRAINT `") ? self.between(message, after: "CONSTRAINT `", last: false, end: "`") : nil
        case 3819: return message.hasPrefix("Check constraint '") ? self.between(message, after: "Check constraint '", last: false) : nil
        case 1451, 1452: return self.between(message, after: "CONSTRAINT `", last: false, end: "`")
        default: return nil
        }
    }

    private static func columnOfIncorrectValue(_ message: String) -> String? {
        // MariaDB: … for column `db`.`table`.`column` at row 1; MySQL: … for column 'column' at row 1. A message without a
        // column ends in the value, which may look like one: nothing may follow the row.
        guard let range = message.ranges(of: "for column ").last else { return nil }
        let words = message[range.upperBound...].split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 4, words[1] == "at", words[2] == "row", Int(words[3]) != nil else { return nil }
        return words[0].split(separator: ".").last.map { $0.filter { $0 != "`" && $0 != "'" } }.map { String($0) }
    }

    private static func between(_ message: String, after start: String, last: Bool, end: Character = "'") -> String? {
        let ranges = message.ranges(of: start)
        guard let range = last ? ranges.last : ranges.first else { return nil }
        return String(message[range.upperBound...].prefix { $0 != end })
    }
}
