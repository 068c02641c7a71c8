import DataSync
import DataSyncSQL
import DataSyncTesting
import Foundation
import Synchronization
import Testing

/// The four rules that make state types converge, where applications have transactions open on a real server while the agents and the hub
/// work. Each test plays a race that its rule closes, and fails without it. SQLite has one writer at a time, and no such races.
@Suite(.serialized, .enabled(if: TestDatabase.hasServer, TestDatabase.hint)) struct ConcurrentWriterTests {
    /// Every server's table, when all has come to rest.
    private func converged(
        _ company: WriterCompany, on names: [Int: String], _ table: WriterTable = .product, _ location: SourceLocation = #_sourceLocation
    ) async throws {
        try await company.settle()
        for server in WriterCompany.servers {
            #expect(try await company.names(table, at: server) == names, "\(server)", sourceLocation: location)
            // Nothing of this is a record's fault.
            #expect(try await company.outbox(server).allSatisfy { $0.state == 2 && $0.failures == 0 }, "\(server)", sourceLocation: location)
        }
    }

    /// A company in which every server has product 1.
    private func company(with name: String = "first") async throws -> WriterCompany {
        let company = try await WriterCompany()
        try await company.write(.put(.product, 1, name), at: .cloud)
        try await self.converged(company, on: [1: name])
        return company
    }

    // MARK: - Rule 1: what the cloud's applications committed is numbered before what is applied over it

    /// The push waits for the row that the application has locked; what it finds when it has it was not there when it began.
    @Test(arguments: WriteOrder.allCases, [1, 2])
    func aPushThatWaitedForAnApplicationOfTheCloudComesAfterIt(order: WriteOrder, id: Int) async throws {
        let company = try await self.company()
        try await company.write(.put(.product, id, "of 1"), at: 1)
        let report = try await company.whileItWaits(for: .put(.product, id, "of the cloud"), order, at: .cloud) { try await company.cycle(1) }
        #expect(report.pushed == [.applied: 1])
        #expect(try await company.log() == [.cloud, .cloud, 1])
        try await self.converged(company, on: [1: "first"].merging([id: "of 1"]) { $1 })
    }

    @Test func aPushThatWaitedForADeletionOfTheCloudComesAfterIt() async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        let report = try await company.whileItWaits(for: .remove(.product, 1), at: .cloud) { try await company.cycle(1) }
        #expect(report.pushed == [.applied: 1])
        #expect(try await company.log() == [.cloud, .cloud, 1])
        try await self.converged(company, on: [1: "of 1"])
    }

    /// What is found is numbered by the push itself: nobody else need have looked.
    @Test(arguments: WriteOrder.allCases)
    func aChangeThatWasCommittedBeforeThePushComesBeforeIt(order: WriteOrder) async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 1, "of the cloud"), at: .cloud, order)
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.log() == [.cloud, .cloud, 1])
        try await self.converged(company, on: [1: "of 1"])
    }

    /// Begun before others were numbered, committed afterwards: its row has an id that the numbering has passed.
    @Test(arguments: WriteOrder.allCases)
    func aChangeThatCommitsLateComesBeforeThePushThatIsAppliedOverIt(order: WriteOrder) async throws {
        let company = try await self.company()
        try await company.withWriter(at: .cloud) { writer in
            try await writer.begin()
            try await writer.carryOut(.put(.product, 1, "of the cloud"), order)
            try await company.write(.put(.product, 9, "other"), at: .cloud)
            try await company.hub.numberOwnRows()
            #expect(try await company.log() == [.cloud, .cloud])
            try await writer.commit()
        }
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.log() == [.cloud, .cloud, .cloud, 1])
        try await self.converged(company, on: [1: "of 1", 9: "other"])
    }

    /// Nobody waits for a transaction that has not come to the business row yet: it will be the later one.
    @Test func anApplicationOfTheCloudThatComesToItsRowAfterThePushComesAfterIt() async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        let report = try await company.whileAnnounced(.put(.product, 1, "of the cloud"), at: .cloud) { try await company.cycle(1) }
        #expect(report.pushed == [.applied: 1])
        try await self.converged(company, on: [1: "of the cloud"])
        #expect(try await company.log() == [.cloud, 1, .cloud])
    }

    /// Nothing was there to be locked, so the push is not held up; it must see the row of the outbox all the same.
    @Test func aDeletionOfNothingThatCommitsBetweenTheLocksAndTheRowComesBeforeThePush() async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 2, "of 1"), at: 1)
        company.gate(.cloud).beforeNext { try await company.write(.remove(.product, 2), at: .cloud) }
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.log() == [.cloud, .cloud, 1])
        try await self.converged(company, on: [1: "first", 2: "of 1"])
    }

    /// As the contract has it: who removed nothing tells nothing.
    @Test func aDeletionOfNothingThatIsNotToldChangesNothing() async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 2, "of 1"), at: 1)
        try await company.withWriter(at: .cloud) { writer in
            try await writer.begin()
            #expect(try await !writer.change(.remove(.product, 2)))
            #expect(try await company.cycle(1).pushed == [.applied: 1])
            try await writer.commit()
        }
        try await self.converged(company, on: [1: "first", 2: "of 1"])
    }

    /// The handler blanks a label that is not there, and meets no lock; the application makes it before or after.
    @Test(arguments: [true, false])
    func aPushWhoseHandlerTouchesNoRowComesAfterWhatWasCommittedMeanwhile(isBefore: Bool) async throws {
        let company = try await self.company()
        try await company.write(.blank(1), at: 1)
        let write = { @Sendable () async throws -> Void in try await company.write(.put(.label, 1, "of the cloud"), at: .cloud) }
        if isBefore { company.gate(.cloud).beforeNext(write) } else { company.gate(.cloud).afterNext(write) }
        #expect(try await company.cycle(1).pushed == [.applied: 1])
        #expect(try await company.log(.label) == [.cloud, 1])
        try await self.converged(company, on: [:], .label)
    }

    @Test func anApplicationThatMakesTheRowAfterThePushFoundNoneComesAfterIt() async throws {
        let company = try await self.company()
        try await company.write(.blank(1), at: 1)
        let report = try await company.whileAnnounced(.put(.label, 1, "of the cloud"), at: .cloud) { try await company.cycle(1) }
        #expect(report.pushed == [.applied: 1])
        try await self.converged(company, on: [1: "of the cloud"], .label)
    }

    @Test func aRetryThatWaitedForAnApplicationOfTheCloudComesAfterIt() async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        company.gate(.cloud).beforeNext { throw RecordFault.refused("not today") }
        #expect(try await company.cycle(1).pushed == [.parked: 1])
        _ = try await company.whileItWaits(for: .put(.product, 1, "of the cloud"), at: .cloud) { try await company.hub.retryDue() }
        #expect(try await company.log() == [.cloud, .cloud, 1])
        try await company.settle()
        for server in WriterCompany.servers { #expect(try await company.names(at: server) == [1: "of 1"], "\(server)") }
    }

    // MARK: - Rule 2: the branch applies first, and gives way to a change of its own that is not settled

    /// A company in which the change of branch 2 is in the log, and branch 1 has not pulled it.
    private func companyWithNews(_ action: WriterAction = .put(.product, 1, "of 2")) async throws -> WriterCompany {
        let company = try await self.company()
        try await company.write(action, at: 2)
        try await company.cycle(2)
        return company
    }

    @Test(arguments: WriteOrder.allCases, [1, 2])
    func aPulledRecordThatWaitedForAnApplicationGivesWay(order: WriteOrder, id: Int) async throws {
        let company = try await self.companyWithNews(.put(.product, id, "of 2"))
        let report = try await company.whileItWaits(for: .put(.product, id, "of 1"), order, at: 1) { try await company.cycle(1) }
        #expect(report.pulled == [.superseded: 1])
        #expect(try await company.names(at: 1)[id] == "of 1")
        try await self.converged(company, on: [1: "first"].merging([id: "of 1"]) { $1 })
        #expect(try await company.log() == [.cloud, 2, 1])
    }

    @Test func aPulledRecordThatWaitedForADeletionGivesWay() async throws {
        let company = try await self.companyWithNews()
        let report = try await company.whileItWaits(for: .remove(.product, 1), at: 1) { try await company.cycle(1) }
        #expect(report.pulled == [.superseded: 1])
        try await self.converged(company, on: [:])
    }

    /// It says what the row says already: there is nothing to be written, and the row is locked nevertheless.
    @Test func aPulledRecordThatChangesNothingGivesWayToo() async throws {
        let company = try await self.companyWithNews(.put(.product, 1, "first"))
        let report = try await company.whileItWaits(for: .put(.product, 1, "of 1"), at: 1) { try await company.cycle(1) }
        #expect(report.pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "of 1"])
    }

    @Test func anApplicationThatComesToItsRowAfterThePulledRecordPrevails() async throws {
        let company = try await self.companyWithNews()
        let report = try await company.whileAnnounced(.put(.product, 1, "of 1"), at: 1) { try await company.cycle(1) }
        #expect(report.pulled == [.applied: 1])
        try await self.converged(company, on: [1: "of 1"])
        #expect(try await company.log() == [.cloud, 2, 1])
    }

    @Test(arguments: WriteOrder.allCases)
    func aChangeThatCommitsLateIsSentAndPrevails(order: WriteOrder) async throws {
        let company = try await self.companyWithNews()
        // Its row stays locked: the other is numbered and sent, and what is pulled waits.
        let report = try await company.whileItWaits(for: .put(.product, 1, "of 1"), order, at: 1) {
            try await company.write(.put(.product, 9, "other"), at: 1)
            return try await company.cycle(1)
        }
        #expect(report.pushed == [.applied: 1])
        #expect(report.pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "of 1", 9: "other"])
        #expect(try await company.log() == [.cloud, 2, 1, 1])
    }

    @Test func aPulledRecordGivesWayToADeletionOfNothing() async throws {
        let company = try await self.companyWithNews(.put(.product, 2, "of 2"))
        company.gate(1).beforeNext { try await company.write(.remove(.product, 2), at: 1) }
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "first"])
    }

    @Test func aPulledRecordDoesNotGiveWayToADeletionOfNothingThatIsNotTold() async throws {
        let company = try await self.companyWithNews(.put(.product, 2, "of 2"))
        try await company.withWriter(at: 1) { writer in
            try await writer.begin()
            #expect(try await !writer.change(.remove(.product, 2)))
            #expect(try await company.cycle(1).pulled == [.applied: 1])
            try await writer.commit()
        }
        try await self.converged(company, on: [1: "first", 2: "of 2"])
    }

    @Test(arguments: [true, false])
    func aPulledRecordWhoseHandlerTouchesNoRowGivesWay(isBefore: Bool) async throws {
        let company = try await self.company()
        try await company.write(.blank(1), at: 2)
        try await company.cycle(2)
        let write = { @Sendable () async throws -> Void in try await company.write(.put(.label, 1, "of 1"), at: 1) }
        if isBefore { company.gate(1).beforeNext(write) } else { company.gate(1).afterNext(write) }
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "of 1"], .label)
    }

    @Test func aRetryOfAPulledRecordThatWaitedForAnApplicationGivesWay() async throws {
        let company = try await self.companyWithNews()
        company.gate(1).beforeNext { throw RecordFault.refused("not today") }
        #expect(try await company.cycle(1).pulled == [.parked: 1])
        _ = try await company.whileItWaits(for: .put(.product, 1, "of 1"), at: 1) { try await company.cycle(1) }
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        try await company.settle()
        for server in WriterCompany.servers { #expect(try await company.names(at: server) == [1: "of 1"], "\(server)") }
    }

    // MARK: - Rule 3: no pull of a type while nobody knows what became of a row

    /// The cloud accepts a change whose answer is lost, then that of another branch; then the type stops, so that the second copy of the
    /// first is not answered either.
    @Test(arguments: [false, true])
    func noTypeIsPulledWhileARowOfItHasNoAnswer(startsAgain: Bool) async throws {
        let company = try await self.company()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        company.link(1).loseNextAnswerToPush()
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        try await company.write(.put(.product, 1, "of 2"), at: 2)
        #expect(try await company.cycle(2).pushed == [.applied: 1])
        company.gate(.cloud).isBroken = true
        try await company.write(.put(.product, 9, "other"), at: 2)
        #expect(try await company.cycle(2).stopped[WriterTable.product.type] != nil)
        var started = company
        if startsAgain { try started.start(1) }
        let running = started
        // Meanwhile an application is about to change another product: what is held back is the type.
        try await running.withWriter(at: 1) { writer in
            try await writer.begin()
            try await writer.carryOut(.put(.product, 8, "later"), .outboxFirst)
            #expect(try await running.cycle(1).pulled == [:])
            #expect(try await running.names(at: 1) == [1: "of 1"])
            try await writer.commit()
        }
        company.gate(.cloud).isBroken = false
        try await self.converged(running, on: [1: "of 2", 8: "later", 9: "other"])
    }

    // MARK: - Rule 4: what was accepted or applied keeps its version

    @Test func anOlderRecordDoesNotOverwriteAChangeThatTheCloudAcceptedLater() async throws {
        let company = try await self.companyWithNews()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        let report = try await company.cycle(1)
        #expect(report.pushed == [.applied: 1])
        #expect(report.pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "of 1"])
    }

    /// The answer is lost and comes again as that of a duplicate, after which the other's older record is pulled.
    @Test func theVersionComesWithTheAnswerToADuplicateToo() async throws {
        let company = try await self.companyWithNews()
        try await company.write(.put(.product, 1, "of 1"), at: 1)
        company.link(1).loseNextAnswerToPush()
        await #expect(throws: DataSyncError.self) { try await company.cycle(1) }
        #expect(try await company.cycle(1).pulled == [.superseded: 1])
        try await self.converged(company, on: [1: "of 1"])
    }

    /// It was refused here twice; meanwhile a newer one came.
    @Test func anOlderParkedRecordDoesNotOverwriteANewerOne() async throws {
        let company = try await self.companyWithNews()
        company.gate(1).beforeNext { throw RecordFault.refused("not today") }
        #expect(try await company.cycle(1).pulled == [.parked: 1])
        try await company.write(.put(.product, 1, "newer"), at: 2)
        try await company.cycle(2)
        // It is tried again before the newer one is fetched: refused once more.
        company.gate(1).beforeNext { throw RecordFault.refused("not today") }
        try await company.cycle(1)
        #expect(try await company.names(at: 1) == [1: "newer"])
        try await company.settle()
        #expect(try await company.memos(at: 1).map(\.disposition) == [.superseded])
        for server in WriterCompany.servers { #expect(try await company.names(at: server) == [1: "newer"], "\(server)") }
    }

    // MARK: - The order of the outbox

    /// Who follows the contract waits for the row's lock before it has an id in the outbox: that order is the order of the commits.
    @Test func twoApplicationsThatChangeTheRowFirstAreCarriedInTheOrderOfTheirCommits() async throws {
        let company = try await self.company()
        let (early, late) = (WriterAction.put(.product, 1, "early"), WriterAction.put(.product, 1, "late"))
        try await company.withWriter(at: 1) { first in
            try await company.withWriter(at: 1) { second in
                try await first.begin()
                try await second.begin()
                try await first.change(early)
                async let isLate: Void = second.carryOut(late, .businessFirst)
                try await company.untilSomebodyWaits(at: 1)
                try await first.announce(early)
                try await first.commit()
                try await isLate
                // Numbered before the second has committed.
                #expect(try await company.cycle(1).pushed == [.applied: 1])
                try await second.commit()
            }
        }
        try await self.converged(company, on: [1: "late"])
        #expect(try await company.log() == [.cloud, 1, 1])
    }

    /// What is not promised, and what is nevertheless: of two transactions that insert the outbox row first, the one with the later id counts
    /// for everybody else. The other's row says so.
    @Test func twoApplicationsThatInsertTheOutboxRowFirstAreCarriedInTheOrderOfTheirRows() async throws {
        let company = try await self.company()
        let (first, second) = (WriterAction.put(.product, 1, "first id"), WriterAction.put(.product, 1, "second id"))
        try await company.withWriter(at: 1) { writer in
            try await writer.begin()
            try await writer.announce(first)
            try await company.write(second, at: 1, .outboxFirst)
            #expect(try await company.cycle(1).pushed == [.applied: 1])
            try await writer.change(first)
            try await writer.commit()
        }
        try await company.settle()
        for server in [.cloud, 2] as [ServerID] { #expect(try await company.names(at: server) == [1: "second id"], "\(server)") }
        #expect(try await company.names(at: 1) == [1: "first id"])
        let rows = try await company.outbox(1)
        #expect(rows.map(\.state) == [2, 2])
        #expect(rows.map(\.reason) == [Int(ReasonCode.superseded.rawValue), Int(ReasonCode.applied.rawValue)])
    }

    // MARK: - Everything at once

    private static let seed =
        ProcessInfo.processInfo.environment["DATASYNC_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1...1_000_000)

    /// Several connections write at each server while all agents cycle and the hub works. The seed chooses what is written and where the
    /// transactions pause; how they meet is the machine's.
    @Test func applicationsThatWriteEverywhereAtOnceAgreeInTheEnd() async throws {
        print("writers: seed \(Self.seed) (DATASYNC_TEST_SEED=\(Self.seed) writes the same again)")
        let company = try await WriterCompany(seed: Self.seed)
        let writing = Countdown(WriterLoad.count)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for load in WriterLoad.all(seed: Self.seed) {
                group.addTask {
                    defer { writing.count() }
                    try await load.run(in: company)
                }
            }
            for branch in WriterCompany.servers where branch.isBranch {
                group.addTask { while !writing.isOver { try await Self.tolerant { _ = try await company.cycle(branch) } } }
            }
            group.addTask {
                while !writing.isOver {
                    try await Self.tolerant { _ = try await company.hub.numberOwnRows() }
                    try await Self.tolerant { _ = try await company.hub.retryDue() }
                    company.advance()
                }
            }
            try await group.waitForAll()
        }
        try await company.settle()
        for table in WriterTable.allCases {
            let names = try await company.names(table, at: .cloud)
            for server in WriterCompany.servers { #expect(try await company.names(table, at: server) == names, "\(table) at \(server)") }
            #expect(try await company.log(table).count > WriterLoad.count, "hardly anything was written")
        }
        for server in WriterCompany.servers {
            let rows = try await company.outbox(server)
            #expect(rows.allSatisfy { $0.state == 2 && $0.failures == 0 }, "\(server)")
            #expect(try await company.memos(at: server).isEmpty, "\(server)")
        }
    }

    /// What others are in the way of is tried again, as the loops of the programs do. Nothing else may happen.
    private static func tolerant(_ work: () async throws -> Void) async throws {
        do { try await work() } catch let error as DataSyncError where [.storageBusy, .peerUnreachable].contains(error.code) {}
    }
}

/// Counts those that are not done yet.
private final class Countdown: Sendable {
    private let left: Mutex<Int>

    init(_ count: Int) { self.left = Mutex(count) }

    func count() { self.left.withLock { $0 -= 1 } }
    var isOver: Bool { self.left.withLock { $0 == 0 } }
}

/// One connection of an application, and what it writes.
struct WriterLoad: Sendable {
    static let connections = 3
    static let transactions = 60
    static let count = WriterCompany.servers.count * Self.connections

    let server: ServerID
    let connection: Int
    let seed: UInt64

    static func all(seed: UInt64) -> [WriterLoad] {
        WriterCompany.servers.flatMap { server in
            (0..<Self.connections).map {
                WriterLoad(server: server, connection: $0, seed: seed &* 1_000 &+ UInt64(server.rawValue) * 10 &+ UInt64($0))
            }
        }
    }

    func run(in company: WriterCompany) async throws {
        var generator = SeededGenerator(seed: self.seed)
        try await company.withWriter(at: self.server) { writer in
            for number in 0..<Self.transactions {
                do { try await self.transact(number, writer, &generator) } catch let error as SQLError where error.fault == .retry {
                    // It met another application, or DataSync. An application would try again; this one goes on.
                    try await writer.rollback()
                }
            }
        }
    }

    /// One transaction about one or two entities.
    private func transact(_ number: Int, _ writer: Writer, _ generator: inout SeededGenerator) async throws {
        try await writer.begin()
        for _ in 0..<Int.random(in: 1...2, using: &generator) {
            let (action, order) = self.action(number, &generator)
            switch order {
            case .outboxFirst:
                try await writer.announce(action)
                await self.pause(&generator)
                try await writer.change(action)
            case .businessFirst:
                let hasChanged = try await writer.change(action)
                await self.pause(&generator)
                if hasChanged { try await writer.announce(action) }
            }
            await self.pause(&generator)
        }
        if Int.random(in: 0..<10, using: &generator) == 0 { try await writer.rollback() } else { try await writer.commit() }
    }

    /// The few entities that everybody writes are written as the contract has it. Those that one connection of each server writes may have
    /// their outbox row first: their order is that of one application, which does one thing after the other.
    private func action(_ number: Int, _ generator: inout SeededGenerator) -> (WriterAction, WriteOrder) {
        let name = "\(self.server)/\(self.connection)/\(number)"
        let isAlone = Int.random(in: 0..<3, using: &generator) == 0
        let id = isAlone ? 10 + self.connection : Int.random(in: 1...4, using: &generator)
        let table = Bool.random(using: &generator) ? WriterTable.product : .label
        let order = isAlone && Bool.random(using: &generator) ? WriteOrder.outboxFirst : .businessFirst
        switch Int.random(in: 0..<10, using: &generator) {
        // Who inserts the outbox row first does not know yet whether there will be something to remove.
        case 0..<3 where order == .businessFirst: return (.remove(table, id), order)
        case 3..<5 where table == .label && order == .businessFirst: return (.blank(id), order)
        default: return (.put(table, id, name), order)
        }
    }

    /// Others get their turn while the transaction is open.
    private func pause(_ generator: inout SeededGenerator) async {
        for _ in 0..<Int.random(in: 0...20, using: &generator) { await Task.yield() }
    }
}
