@testable import DataSync
import Testing

@Suite struct LogReadingTests {
    private let owner = LogOwner(origin: 1, epoch: 1)

    private func reading(recordsMax: Int = 10, bytesMax: Int = 10_000) -> LogReading {
        LogReading(cursors: [2: Position(number: 4, fingerprint: .none)], recordsMax: recordsMax, bytesMax: bytesMax)
    }

    private func page(_ places: [Int64], from origin: ServerID = 2, isLast: Bool = true) throws -> LogPage {
        LogPage(records: try places.map { try Sample.log(.product, Int($0), place: $0, from: origin) }, isLast: isLast)
    }

    @Test func ownRecordsMoveThePositionAndAreLeftOut() throws {
        var reading = self.reading()
        #expect(reading.take(try self.page([5, 6], from: 1), of: 2, limit: 10, owner: self.owner, recordBytesMax: 1_000) == 0)
        #expect(reading.position(of: 2).number == 6)
        #expect(reading.run(of: 2)?.records == [])
        #expect(reading.isAtEnd(of: 2))
    }

    @Test func anEchoOfAnOwnRecordIsHandedOut() throws {
        var page = try self.page([5], from: 1)
        page.records[0].isEcho = true
        var reading = self.reading()
        #expect(reading.take(page, of: 2, limit: 10, owner: self.owner, recordBytesMax: 1_000) == 1)
    }

    @Test func theCountIsKept() throws {
        var reading = self.reading(recordsMax: 2)
        #expect(reading.take(try self.page([5, 6, 7]), of: 2, limit: 10, owner: self.owner, recordBytesMax: 1_000) == 2)
        #expect(reading.position(of: 2).number == 6)
        #expect(!reading.isAtEnd(of: 2))
        #expect(reading.recordsLeft == 0)
    }

    @Test func theBytesAreKeptButTheFirstRecordAlwaysGoes() throws {
        var reading = self.reading(bytesMax: 1)
        #expect(reading.take(try self.page([5, 6]), of: 2, limit: 10, owner: self.owner, recordBytesMax: 1_000) == 1)
        #expect(reading.position(of: 2).number == 5)
    }

    @Test func ofARecordTooBigForTheReaderOnlyTheNameGoes() throws {
        var reading = self.reading()
        _ = reading.take(try self.page([5]), of: 2, limit: 10, owner: self.owner, recordBytesMax: 3)
        #expect(reading.run(of: 2)?.records.map(\.omission) == [.tooBig])
        #expect(reading.run(of: 2)?.records.map(\.record.payload) == [""])
        #expect(reading.bytesLeft == 10_000)
    }

    @Test func severalAudiencesAreReadInTheOrderOfTheLog() throws {
        let merged = LogPage.merged([try self.page([1, 4, 9]), try self.page([2, 5])])
        #expect(merged.records.map(\.logSeq) == [1, 2, 4, 5, 9])
        #expect(merged.isLast)
    }

    @Test func whatLiesBehindTheEndOfOnePageIsNotKnown() throws {
        // Of the second audience more may lie between 5 and 9.
        let merged = LogPage.merged([try self.page([1, 4, 9]), try self.page([2, 5], isLast: false)])
        #expect(merged.records.map(\.logSeq) == [1, 2, 4, 5])
        #expect(!merged.isLast)
    }
}
