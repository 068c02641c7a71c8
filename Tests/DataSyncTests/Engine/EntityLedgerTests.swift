@testable import DataSync
import Testing

@Suite struct EntityLedgerTests {
    private func state(_ id: EntityID, version: Int64 = 7, home: ServerID, audience: Audience) -> EntityState {
        EntityState(id: id, version: version, origin: home, home: home, audience: audience)
    }

    @Test func whoeverCreatesAnEntityIsItsHome() throws {
        let prepared = try Sample.prepared(.product, 1, from: 3)
        var ledger = EntityLedger([prepared.entity], locked: [:])
        #expect(ledger.admit(prepared, from: 3, in: ItemType.product.definition) == .all)
        try ledger.setVersion(1, of: prepared.entity)
        #expect(ledger.inserts.map(\.home) == [3])
        #expect(ledger.inserts.map(\.version) == [1])
        #expect(ledger.updates == [])
    }

    @Test func aLogThatIsBehindAnEntityIsNotContinued() throws {
        let prepared = try Sample.prepared(.product, 1, from: 3)
        let state = EntityState(id: prepared.entity, version: 9, origin: 3, home: 3, audience: .all)
        var ledger = EntityLedger([prepared.entity], locked: [prepared.entity: state])
        _ = ledger.admit(prepared, from: 3, in: ItemType.product.definition)
        let error = #expect(throws: DataSyncError.self) { try ledger.setVersion(9, of: prepared.entity) }
        #expect(error?.code == .storageFailed)
        try ledger.setVersion(10, of: prepared.entity)
        #expect(ledger.updates.map(\.version) == [10])
    }

    @Test func theRoutesSayWhomARecordGoesTo() throws {
        let cases: [(ItemType, ServerID, Audience)] = [
            (.product, .cloud, .all), (.order, .cloud, .server(3)), (.visit, .cloud, .nobody), (.parcel, 2, .server(2)),
            (.parcel, .cloud, .nobody),
        ]
        for (type, target, audience) in cases {
            let prepared = try Sample.prepared(type, 1, from: 3, to: target)
            #expect(EntityLedger.audience(for: prepared, existing: nil, in: type.definition) == audience, "\(type.name)")
        }
    }

    @Test func aMemberIsForAllWhileItIsSharedAndForItsHomeElse() throws {
        let type = MemberType()
        func prepared(_ isShared: Bool) throws -> PreparedRecord {
            let row = try type.row(for: .upsert(Member(id: 1, name: "ada", isShared: isShared)))
            let record = SyncRecord(
                stream: StreamID(origin: 4, epoch: 1, type: 1), synID: 1, uid: RecordUID(high: 0, low: 0), key: row.key, target: .cloud,
                createTime: 0, client: nil, payload: row.payload)
            return try type.prepare(record, scope: .cloud)
        }
        let home = self.state(try prepared(true).entity, home: 3, audience: .all)
        #expect(EntityLedger.audience(for: try prepared(true), existing: nil, in: type.definition) == .all)
        #expect(EntityLedger.audience(for: try prepared(false), existing: nil, in: type.definition) == .server(4))
        #expect(EntityLedger.audience(for: try prepared(false), existing: home, in: type.definition) == .server(3))
    }

    @Test func aDeletionGoesToEverybodyWhoHasTheEntity() throws {
        let deletion = try ItemType.product.prepare(try Sample.deletion(.product, 1, from: 3), scope: .cloud)
        let existing = self.state(deletion.entity, home: 5, audience: .server(3))
        var ledger = EntityLedger([deletion.entity], locked: [deletion.entity: existing])
        #expect(ledger.admit(deletion, from: 3, in: ItemType.product.definition) == .server(3))
        #expect(ledger.updates.map(\.isDeleted) == [true])
        #expect(ledger.updates.map(\.home) == [5])
    }

    @Test func onlyWhoSeesAnEntityMayChangeIt() throws {
        let prepared = try Sample.prepared(.product, 1, from: 3)
        func ledger(_ audience: Audience) -> EntityLedger {
            EntityLedger([prepared.entity], locked: [prepared.entity: self.state(prepared.entity, home: 5, audience: audience)])
        }
        let definition = ItemType.product.definition
        var (open, closed) = (ledger(.all), ledger(.server(5)))
        #expect(open.admit(prepared, from: 3, in: definition) == .all)
        #expect(closed.admit(prepared, from: 3, in: definition) == nil)
        // Nothing of what was refused is written.
        #expect(closed.updates == [])
        #expect(closed.admit(prepared, from: .cloud, in: definition) == .all)
    }

    @Test func theSecondRecordOfAChunkIsJudgedByWhatTheFirstMadeOfIt() throws {
        let type = MemberType()
        let row = try type.row(for: .upsert(Member(id: 1, name: "ada", isShared: false)))
        func prepared(from origin: ServerID) throws -> PreparedRecord {
            try type.prepare(
                SyncRecord(
                    stream: StreamID(origin: origin, epoch: 1, type: 1), synID: 1, uid: RecordUID(high: 0, low: 0), key: row.key,
                    target: .cloud, createTime: 0, client: nil, payload: row.payload), scope: .cloud)
        }
        var ledger = EntityLedger(new: [try prepared(from: 3).entity])
        #expect(ledger.admit(try prepared(from: 3), from: 3, in: type.definition) == .server(3))
        #expect(ledger.admit(try prepared(from: 4), from: 4, in: type.definition) == nil)
    }

    @Test func guessedEntitiesMayRepeat() throws {
        let (first, second) = (try Sample.prepared(.order, 1), try Sample.prepared(.order, 2))
        var ledger = EntityLedger(new: [first.entity, second.entity, first.entity])
        #expect(ledger.count == 2)
        _ = ledger.admit(second, from: 1, in: ItemType.order.definition)
        // What no record was admitted for is not inserted.
        #expect(ledger.inserts.map(\.id) == [second.entity])
    }
}

@Suite struct EntityRaisesTests {
    @Test func keepsTheGreatestVersionOfEachEntity() {
        func state(_ key: EntityKey, _ version: Int64) -> EntityState {
            EntityState(id: EntityID(type: 1, scope: 0, key: key), version: version, origin: 1, home: 1, audience: .all)
        }
        var raises = EntityRaises(reservingCapacity: 3)
        for next in [state("a", 5), state("b", 2), state("a", 4), state("b", 9), state("c", 1)] { raises.raise(next) }
        #expect(raises.all == [state("a", 5), state("b", 9), state("c", 1)])
    }
}

@Suite struct NoveltyGuessTests {
    @Test func aWrongGuessIsNotMadeAgainForAWhile() {
        var guess = NoveltyGuess()
        #expect(guess.shouldGuess([1, 2], of: 7) == true)
        guess.wasWrong([1], of: 7)
        for _ in 0..<NoveltyGuess.carefulChunks { #expect(guess.shouldGuess([1], of: 7) == false) }
        #expect(guess.shouldGuess([1], of: 7) == true)
    }

    @Test func itConcernsThatTypeOfThatBranch() {
        var guess = NoveltyGuess()
        guess.wasWrong([1], of: 7)
        #expect(guess.shouldGuess([2], of: 7) == true)
        #expect(guess.shouldGuess([1], of: 8) == true)
        #expect(guess.shouldGuess([2, 1], of: 7) == false)
    }
}

@Suite struct WaveTests {
    @Test func thereIsOneRecordOfAnEntityInAWaveAndTheirOrderIsKept() {
        let names = ["a1", "b1", "a2", "c1", "a3", "b2"]
        let waves = waves(of: names) { EntityID(type: 1, scope: 0, key: EntityKey(String($0.prefix(1)))) }
        #expect(waves == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]])
    }

    @Test func nothingMakesNoWave() { #expect(waves(of: [Int](), entity: { _ in EntityID(type: 1, scope: 0, key: "a") }).isEmpty) }
}

@Suite struct ChunkTests {
    @Test func chunksAreCutByCountAndBytes() {
        #expect(SyncLimits.chunks(of: [], recordsMax: 3, bytesMax: 10) == [])
        #expect(SyncLimits.chunks(of: [1, 1, 1, 1], recordsMax: 3, bytesMax: 10) == [0..<3, 3..<4])
        #expect(SyncLimits.chunks(of: [6, 5, 5, 1], recordsMax: 3, bytesMax: 10) == [0..<1, 1..<3, 3..<4])
        #expect(SyncLimits.chunks(of: [99, 1, 99], recordsMax: 3, bytesMax: 10) == [0..<1, 1..<2, 2..<3])
    }

    @Test func aChunkWithACulpritIsHalvedUntilItStandsAlone() {
        var queue = ChunkQueue([0..<4, 4..<5])
        #expect(queue.next() == 0..<4)
        queue.halve(0..<4)
        #expect(queue.next() == 0..<2)
        queue.halve(0..<2)
        #expect(queue.next() == 0..<1)
        queue.again(0..<1)
        #expect(queue.next() == 0..<1)
        #expect(queue.next() == 1..<2)
        #expect(queue.next() == 2..<4)
        #expect(queue.next() == 4..<5)
        #expect(queue.next() == nil)
    }
}
