public import DataSync
public import Testing

/// What every ``SyncStorage`` must do. A storage's tests run each case against a fresh, empty storage.
public struct StorageContract<Storage: SyncStorage>: Sendable {
    public enum Case: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case whatThrowsLeavesNothing, aCommitThatFailsLeavesNothing, whatIsCommittedIsSeen, aSnapshotIsOneState, aSnapshotCannotWrite
        case settingsAreReplacedAndFoundByPrefix, aServerIsReplacedOnlyByWhoReadItLast, theFenceNeedsSessionEpochAndStatus
        case outboxRowsGetWhatTheyDoNotSay, payloadsAreKeptByteForByte, digestsAreThoseOfTheModel, theFrontierMovesOnce
        case newerRowsOvertakeOlderOnes, settlingTouchesItsRowsOnly, settlingTypesInTurn, faultsAreShownInTheirRows, namesAreComparedAsBytes
        case numbersAreDense, manifestsAreSettledFromTheFront, manifestsKnowTheirRows, positionsMoveFromWhereTheyAre
        case logPlacesRise, pagesAreBoundedAndOrdered, ownRecordsComeWithoutPayload, tailsAreThoseOfTheAudience
        case anEntityIsInsertedOnce, versionsAreNeverLowered, aTryBeginsOnce, dueMemosComeInOrder, openMemosBlockTheirEntity
        case memosEndAndKeepTheirReason, twoWritersOfOneEntityTakeTurns, confirmationsAreReplaced
        case idsWithoutARowAreLeftOut, typesAreFoundWhateverTheirRowsState, manifestsComeByEpochAndNumber
        case anyOpenMemoIsNoticed, suspectsAreFoundAndClearedTogether, whatIsWaitedForIsReleased, whatIsWaitedForIsKeptWhileItIs
        case theAuditTakesLongTexts, theAuditIsOneChain, theAuditShowsWhatWasRolledBackNowhere, emptyListsAreNoWork
        case sentManifestsAreKept, lostRowsArePutBack, receiptsAreKeptByNumber, actionsAreKnownByTheirUID, marksAndPositionsTellRestores
        case whatIsOldIsRemovedWithItsSettledRows
        case entitiesAreFoundInRanges

        public var testDescription: String { self.rawValue }
    }

    private let makeStorage: @Sendable () async throws -> Storage
    private let breakCommit: (@Sendable (Storage.Transaction) async throws -> Void)?

    /// - Parameters:
    ///   - breakCommit: Does something to a transaction that makes its commit fail, for a storage where that can happen.
    ///   - makeStorage: Makes a storage whose tables are there and empty.
    public init(
        breakCommit: (@Sendable (Storage.Transaction) async throws -> Void)? = nil, makeStorage: @escaping @Sendable () async throws -> Storage
    ) {
        self.breakCommit = breakCommit
        self.makeStorage = makeStorage
    }

    public func run(_ testCase: Case) async throws {
        let storage = try await self.makeStorage()
        switch testCase {
        case .whatThrowsLeavesNothing: try await self.whatThrowsLeavesNothing(storage)
        case .aCommitThatFailsLeavesNothing: try await self.aCommitThatFailsLeavesNothing(storage)
        case .whatIsCommittedIsSeen: try await self.whatIsCommittedIsSeen(storage)
        case .aSnapshotIsOneState: try await self.aSnapshotIsOneState(storage)
        case .aSnapshotCannotWrite: try await self.aSnapshotCannotWrite(storage)
        case .settingsAreReplacedAndFoundByPrefix: try await self.settings(storage)
        case .aServerIsReplacedOnlyByWhoReadItLast: try await self.servers(storage)
        case .theFenceNeedsSessionEpochAndStatus: try await self.fence(storage)
        case .outboxRowsGetWhatTheyDoNotSay: try await self.outboxDefaults(storage)
        case .payloadsAreKeptByteForByte: try await self.payloads(storage)
        case .digestsAreThoseOfTheModel: try await self.digests(storage)
        case .theFrontierMovesOnce: try await self.frontier(storage)
        case .newerRowsOvertakeOlderOnes: try await self.overtakenRows(storage)
        case .settlingTouchesItsRowsOnly: try await self.settlingWithGaps(storage)
        case .settlingTypesInTurn: try await self.settlingInTurn(storage)
        case .faultsAreShownInTheirRows: try await self.faults(storage)
        case .namesAreComparedAsBytes: try await self.names(storage)
        case .numbersAreDense: try await self.numbers(storage)
        case .manifestsAreSettledFromTheFront: try await self.manifests(storage)
        case .manifestsKnowTheirRows: try await self.manifestedRows(storage)
        case .positionsMoveFromWhereTheyAre: try await self.positions(storage)
        case .logPlacesRise: try await self.logPlaces(storage)
        case .pagesAreBoundedAndOrdered: try await self.pages(storage)
        case .ownRecordsComeWithoutPayload: try await self.ownRecords(storage)
        case .tailsAreThoseOfTheAudience: try await self.tails(storage)
        case .anEntityIsInsertedOnce: try await self.entityInsert(storage)
        case .versionsAreNeverLowered: try await self.versions(storage)
        case .aTryBeginsOnce: try await self.tries(storage)
        case .dueMemosComeInOrder: try await self.dueMemos(storage)
        case .openMemosBlockTheirEntity: try await self.openMemos(storage)
        case .memosEndAndKeepTheirReason: try await self.endedMemos(storage)
        case .twoWritersOfOneEntityTakeTurns: try await self.twoWriters(storage)
        case .confirmationsAreReplaced: try await self.confirmations(storage)
        case .idsWithoutARowAreLeftOut: try await self.missingRows(storage)
        case .typesAreFoundWhateverTheirRowsState: try await self.typesInOutbox(storage)
        case .manifestsComeByEpochAndNumber: try await self.manifestOrder(storage)
        case .anyOpenMemoIsNoticed: try await self.anyOpenMemo(storage)
        case .suspectsAreFoundAndClearedTogether: try await self.suspects(storage)
        case .whatIsWaitedForIsReleased: try await self.releases(storage)
        case .whatIsWaitedForIsKeptWhileItIs: try await self.dependencies(storage)
        case .theAuditTakesLongTexts: try await self.audit(storage)
        case .theAuditIsOneChain: try await self.auditChain(storage)
        case .theAuditShowsWhatWasRolledBackNowhere: try await self.auditRollback(storage)
        case .emptyListsAreNoWork: try await self.emptyLists(storage)
        case .sentManifestsAreKept: try await self.sentManifests(storage)
        case .lostRowsArePutBack: try await self.putBack(storage)
        case .receiptsAreKeptByNumber: try await self.receipts(storage)
        case .actionsAreKnownByTheirUID: try await self.uids(storage)
        case .marksAndPositionsTellRestores: try await self.marks(storage)
        case .whatIsOldIsRemovedWithItsSettledRows: try await self.retention(storage)
        case .entitiesAreFoundInRanges: try await self.entityRanges(storage)
        }
    }
}

// MARK: - Transactions

extension StorageContract {
    private struct Abort: Error {}

    private func whatThrowsLeavesNothing(_ storage: Storage) async throws {
        await #expect(throws: Abort.self) {
            try await storage.withTransaction { transaction in
                try await transaction.putSetting("a", "1")
                try await transaction.appendOutbox([Self.row(1)])
                throw Abort()
            }
        }
        let (setting, hasRows) = try await storage.withTransaction {
            (try await $0.setting("a"), try await $0.hasOutboxRows(after: 0))
        }
        #expect(setting == nil)
        #expect(!hasRows)
    }

    /// Neither of what was written, nor of the transaction itself: whoever comes next has a fresh one.
    private func aCommitThatFailsLeavesNothing(_ storage: Storage) async throws {
        guard let breakCommit = self.breakCommit else { return }
        for _ in 0..<3 {
            await #expect(throws: (any Error).self) {
                try await storage.withTransaction { transaction in
                    try await transaction.putSetting("a", "1")
                    try await breakCommit(transaction)
                }
            }
            #expect(try await storage.withTransaction(.snapshot) { try await $0.setting("a") } == nil)
        }
        try await storage.withTransaction { try await $0.putSetting("b", "1") }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.setting("b") } == "1")
    }

    private func whatIsCommittedIsSeen(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.putSetting("a", "1") }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.setting("a") } == "1")
        // A transaction sees what it wrote itself.
        let own = try await storage.withTransaction { transaction in
            try await transaction.putSetting("a", "2")
            return try await transaction.setting("a")
        }
        #expect(own == "2")
    }

    private func aSnapshotIsOneState(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.putSetting("a", "1") }
        let seen = try await storage.withTransaction(.snapshot) { transaction in
            let before = try await transaction.setting("a")
            try await storage.withTransaction { try await $0.putSetting("a", "2") }
            return [before, try await transaction.setting("a")]
        }
        #expect(seen == ["1", "1"])
    }

    private func aSnapshotCannotWrite(_ storage: Storage) async throws {
        await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction(.snapshot) { try await $0.putSetting("a", "1") }
        }
        try await storage.withTransaction { try await $0.putSetting("b", "1") }
        #expect(try await storage.withTransaction(.snapshot) { try await $0.setting("a") } == nil)
    }

    private func twoWriters(_ storage: Storage) async throws {
        let id = Self.entity("member:1")
        try await storage.withTransaction { try await $0.insertEntities([Self.state(id, version: 0)]) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    try await self.retrying(storage) { transaction in
                        var state = try await transaction.lockEntities([id])[id]
                        state?.version += 1
                        try await transaction.updateEntities([state].compactMap { $0 })
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await storage.withTransaction { try await $0.entities([id])[id]?.version } == 20)
    }

    /// As the engine does: a unit that met another one is run again.
    private func retrying(_ storage: Storage, _ body: (Storage.Transaction) async throws -> Void) async throws {
        for attempt in 1...50 {
            do { return try await storage.withTransaction(body) } catch let error as DataSyncError
                where error.code.isWorthRunningAgain && attempt < 50
            { await Task.yield() }
        }
    }
}

// MARK: - Settings and servers

extension StorageContract {
    private func settings(_ storage: Storage) async throws {
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.putSetting("x.a", "1")
            try await transaction.putSetting("x.a", "2")
            try await transaction.putSetting("x.b", "3")
            try await transaction.putSetting("xya", "4")
            try await transaction.putSetting("x%a", "5")
        }
        let (found, none) = try await storage.withTransaction { transaction in
            let found = try await transaction.settings(withPrefix: "x.")
            try await transaction.removeSetting("x.a")
            return (found, try await transaction.setting("x.a"))
        }
        #expect(found == ["x.a": "2", "x.b": "3"])
        #expect(none == nil)
    }

    private func servers(_ storage: Storage) async throws {
        var row = ServerRow(
            id: 7, name: "Markt 1 · 市场", status: .invited, publicKey: nil, joinDigest: "digest", joinExpires: 5, epoch: 2,
            session: 3, nonce: nil, operation: 0, version: "1.0", lastSeen: 9)
        let first = row
        try await storage.withTransaction { try await $0.insertServer(first) }
        await #expect(throws: DataSyncError.self) { try await storage.withTransaction { try await $0.insertServer(first) } }
        #expect(try await storage.withTransaction { try await $0.server(7) } == row)
        row.status = .active
        (row.publicKey, row.nextKey, row.cloudKeys) = ("key", "next key", "one two")
        row.joinDigest = nil
        let changed = row
        #expect(try await storage.withTransaction { try await $0.replaceServer(changed) })
        // The row has moved on: who read it before must read it again.
        #expect(try await storage.withTransaction { try await $0.replaceServer(changed) } == false)
        row.operation = 1
        let expected = row
        #expect(try await storage.withTransaction { try await $0.servers() } == [expected])
    }

    private func fence(_ storage: Storage) async throws {
        try await storage.withTransaction {
            try await $0.insertServer(ServerRow(id: 7, name: "a", status: .active, epoch: 2, session: 3))
            try await $0.insertServer(ServerRow(id: 8, name: "b", status: .suspended, epoch: 2, session: 3))
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.raiseFence(7, session: 3, epoch: 2, time: 50))
            #expect(try await !transaction.raiseFence(7, session: 2, epoch: 2, time: 50))
            #expect(try await !transaction.raiseFence(7, session: 3, epoch: 1, time: 50))
            #expect(try await !transaction.raiseFence(8, session: 3, epoch: 2, time: 50))
            #expect(try await !transaction.raiseFence(9, session: 3, epoch: 2, time: 50))
        }
        let row = try await storage.withTransaction { try await $0.server(7) }
        #expect(row?.operation == 1)
        #expect(row?.lastSeen == 50)
    }
}

// MARK: - Outbox

extension StorageContract {
    static func row(_ number: Int, type: BusinessTypeID = 1, key: String? = nil, payload: String? = nil) -> NewOutboxRow {
        NewOutboxRow(
            type: type, key: EntityKey(key ?? "member:\(number)"), payload: payload ?? "{\"upsert\":{\"id\":\(number)}}",
            createTime: Int64(1_000 + number))
    }

    private func append(_ rows: [NewOutboxRow], to storage: Storage) async throws {
        try await storage.withTransaction { try await $0.appendOutbox(rows) }
    }

    private func allRows(of storage: Storage) async throws -> [OutboxRow] {
        try await storage.withTransaction { transaction in
            let heads = try await transaction.outboxHeads(in: 1...Int64.max, newOnly: false, limit: 10_000)
            return try await transaction.outboxRows(heads.map(\.id))
        }
    }

    private func outboxDefaults(_ storage: Storage) async throws {
        var explicit = Self.row(2)
        explicit.target = 9
        explicit.client = 3
        try await self.append([NewOutboxRow(type: 1, key: "member:1", payload: "{}"), explicit], to: storage)
        let rows = try await self.allRows(of: storage)
        #expect(rows.map(\.key) == ["member:1", "member:2"])
        #expect(Set(rows.map(\.uid)).count == 2)
        #expect(rows.map(\.state) == [.new, .new])
        #expect(rows.map(\.synID) == [0, 0])
        #expect(rows.map(\.target) == [.cloud, 9])
        #expect(rows.map(\.client) == [nil, 3])
        #expect(rows[1].head.createTime == 1_002)
        // 2020 or later: the default is the time of the insert, in milliseconds.
        #expect(rows[0].head.createTime > 1_577_836_800_000)
        #expect(rows[0].id < rows[1].id)
    }

    private func payloads(_ storage: Storage) async throws {
        let payloads = [
            "", "{}", #"{"a":"quote \" backslash \\ slash \/ tab \t"}"#, "{\"名\":\"价格表 😀 é e\u{301}\"}", "  spaces  ", "%_'`;--",
            String(repeating: "0123456789", count: 20_000),
        ]
        try await self.append(payloads.enumerated().map { Self.row($0.offset, key: "名:\($0.offset)", payload: $0.element) }, to: storage)
        let rows = try await self.allRows(of: storage)
        #expect(rows.map { Array($0.payload.utf8) } == payloads.map { Array($0.utf8) })
        #expect(rows.map(\.head.bytes) == payloads.map(\.utf8.count))
        #expect(rows[0].key == "名:0")
    }

    private func digests(_ storage: Storage) async throws {
        try await self.append([Self.row(1), Self.row(2, key: "名:😀", payload: "{\"é\":1}")], to: storage)
        let rows = try await self.allRows(of: storage)
        for row in rows { #expect(row.head.digest == CRC32.ofRow(key: row.key?.text ?? "", payload: row.payload)) }
        let heads = try await storage.withTransaction { try await $0.outboxHeads(in: 1...100, newOnly: true, limit: 10) }
        #expect(heads == rows.map(\.head))
    }

    private func frontier(_ storage: Storage) async throws {
        try await self.append([Self.row(1), Self.row(2), Self.row(3)], to: storage)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.outboxFrontier() == 0)
            #expect(try await transaction.hasOutboxRows(after: 0))
            #expect(try await transaction.moveOutboxFrontier(from: 0, to: 2))
            #expect(try await !transaction.moveOutboxFrontier(from: 0, to: 3))
            #expect(try await transaction.hasOutboxRows(after: 2))
            #expect(try await transaction.outboxHeads(in: 2...Int64.max, newOnly: false, limit: 1).map(\.id) == [2])
            #expect(try await !transaction.hasOutboxRows(after: 3))
            let page = try await transaction.outboxRows(after: 1, limit: 10, bytesMax: 1_000)
            #expect(page.rows.map(\.id) == [2, 3])
            #expect(page.isLast)
            let short = try await transaction.outboxRows(after: 0, limit: 10, bytesMax: 1)
            #expect(short.rows.map(\.id) == [1])
            #expect(!short.isLast)
            let few = try await transaction.outboxRows(after: 0, limit: 2, bytesMax: 1_000)
            #expect(few.rows.map(\.id) == [1, 2])
            #expect(!few.isLast)
        }
    }

    private func settlingWithGaps(_ storage: Storage) async throws {
        try await self.append((1...40).map { Self.row($0) }, to: storage)
        // Row 20 stands for one that committed late inside the range: it has no number and must stay as it is.
        let ids = (1...40).filter { $0 != 20 }.map { Int64($0) }
        let settlements = ids.enumerated().map { OutboxSettlement(id: $0.element, type: 1, synID: Int64($0.offset) + 101, state: .settled, reason: .applied) }
        #expect(try await storage.withTransaction { try await $0.settleOutbox(settlements, origin: 7) } == 39)
        #expect(try await storage.withTransaction { try await $0.settleOutbox(settlements, origin: 7) } == 0)
        let rows = try await self.allRows(of: storage)
        #expect(rows.filter { $0.state == .settled }.map(\.synID) == (101...139).map { Int64($0) })
        #expect(rows.filter { $0.state == .new }.map(\.id) == [20])
        let new = try await storage.withTransaction { try await $0.outboxHeads(in: 1...100, newOnly: true, limit: 100) }
        #expect(new.map(\.id) == [20])
        // One more has the number between its neighbours', and was not simply applied.
        try await self.append((41...80).map { Self.row($0) }, to: storage)
        let more = try await self.allRows(of: storage).map(\.id).suffix(40)
        let refused = more[more.startIndex + 20]
        let others = more.filter { $0 != refused }.map { OutboxSettlement(id: $0, type: 1, synID: $0 + 100, state: .settled, reason: .applied) }
        #expect(try await storage.withTransaction { try await $0.settleOutbox(others, origin: 7) } == 39)
        #expect(try await self.allRows(of: storage).filter { $0.state == .new }.map(\.id) == [20, refused])
    }

    private func settlingInTurn(_ storage: Storage) async throws {
        try await self.append((1...600).map { Self.row($0, type: $0.isMultiple(of: 2) ? 2 : 1) }, to: storage)
        let settlements = (1...600).map { id in
            OutboxSettlement(
                id: Int64(id), type: id.isMultiple(of: 2) ? 2 : 1, synID: Int64((id + 1) / 2), state: .settled, reason: .applied)
        }
        #expect(try await storage.withTransaction { try await $0.settleOutbox(settlements, origin: 7) } == 600)
        let rows = try await self.allRows(of: storage)
        let expected = (1...600).map { Int64(($0 + 1) / 2) }
        #expect(rows.map(\.synID) == expected)
        #expect(rows.allSatisfy { $0.state == .settled && $0.reason == .applied })
    }

    private func faults(_ storage: Storage) async throws {
        try await self.append([Self.row(1), Self.row(2)], to: storage)
        let parked = OutboxSettlement(
            id: 1, type: 1, synID: 1, state: .open, attempts: 1, reason: .constraint, detail: String(repeating: "名", count: 400))
        #expect(try await storage.withTransaction { try await $0.settleOutbox([parked], origin: 7) } == 1)
        let uid = try await self.allRows(of: storage)[0].uid
        var row = try await storage.withTransaction { try await $0.outboxRow(EntityName(type: 1, key: "member:1"), uid: uid) }
        #expect(row?.state == .open)
        #expect(row?.attempts == 1)
        #expect(row?.reason == .constraint)
        var dead = parked
        (dead.state, dead.attempts) = (.settled, 3)
        let update = dead
        try await storage.withTransaction { try await $0.updateOutbox([update]) }
        row = try await storage.withTransaction { try await $0.outboxRow(EntityName(type: 1, key: "member:1"), uid: uid) }
        #expect(row?.state == .settled)
        #expect(row?.attempts == 3)
    }

    private func names(_ storage: Storage) async throws {
        let keys = ["abc", "ABC", "ábc", "a\u{301}bc", "abc ", "x:1"]
        try await self.append(keys.enumerated().map { Self.row($0.offset, key: $0.element) }, to: storage)
        let settled = OutboxSettlement(id: 6, type: 1, synID: 1, state: .settled, reason: .applied)
        let open = OutboxSettlement(id: 1, type: 1, synID: 2, state: .open, reason: .refused)
        try await storage.withTransaction { _ = try await $0.settleOutbox([settled, open], origin: 7) }
        for key in keys {
            let found = try await storage.withTransaction {
                try await $0.unsettledNames(among: [EntityName(type: 1, key: EntityKey(key)), EntityName(type: 2, key: EntityKey(key))])
            }
            #expect(found == (key == "x:1" ? [] : [EntityName(type: 1, key: EntityKey(key))]))
        }
        let new = try await storage.withTransaction {
            try await $0.newOutboxRows(of: Set(["abc", "ABC", "x:1"].map { EntityName(type: 1, key: EntityKey($0)) }), upTo: .max, limit: 10)
        }
        #expect(new.map(\.key) == ["ABC"])
        let below = try await storage.withTransaction { [first = new[0].id - 1] in
            try await $0.newOutboxRows(of: Set(["abc", "ABC"].map { EntityName(type: 1, key: EntityKey($0)) }), upTo: first, limit: 10)
        }
        #expect(below == [])
        let ofType = try await storage.withTransaction { try await $0.newOutboxRows(ofType: 1, after: 2, limit: 2) }
        #expect(ofType.map(\.id) == [3, 4])
    }

    private func missingRows(_ storage: Storage) async throws {
        try await self.append((1...60).map { Self.row($0) }, to: storage)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            // Close together and far apart, in any order: two ways to read them.
            #expect(try await transaction.outboxRows([7, 5, 6, 62, 61]).map(\.id) == [5, 6, 7])
            #expect(try await transaction.outboxRows([60, 1, 900, 30]).map(\.id) == [1, 30, 60])
            #expect(try await transaction.outboxRows([900]) == [])
            #expect(try await transaction.outboxRow(EntityName(type: 1, key: "member:900"), uid: .void) == nil)
        }
    }

    private func typesInOutbox(_ storage: Storage) async throws {
        try await self.append([Self.row(1, type: 1), Self.row(2, type: 2)], to: storage)
        let settled = OutboxSettlement(id: 1, type: 1, synID: 1, state: .settled, reason: .applied)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            _ = try await transaction.settleOutbox([settled], origin: 7)
            #expect(try await transaction.typesInOutbox(among: [1, 2, 3]) == [1, 2])
            #expect(try await transaction.typesInOutbox(among: [2, 3]) == [2])
            #expect(try await transaction.typesInOutbox(among: [3]) == [])
        }
    }

    private func manifestOrder(_ storage: Storage) async throws {
        func manifest(_ epoch: Int32, _ first: Int64, _ id: Int64) -> Manifest {
            Manifest(
                key: ManifestKey(epoch: epoch, type: 1, firstSynID: first), run: Fingerprint(rawValue: 1),
                entries: [Manifest.Entry(id: id, createTime: id, bytes: 1, digest: 1)])
        }
        let ordered = [manifest(1, 5, 4), manifest(1, 6, 3), manifest(2, 1, 2), manifest(2, 9, 1)]
        try await storage.withTransaction { try await $0.insertManifests(ordered.reversed()) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 10) == ordered)
            for index in ordered.indices {
                let rest = try await transaction.manifests(ofType: 1, after: ordered[index].key, limit: 10)
                #expect(rest == Array(ordered[(index + 1)...]))
            }
            // The same numbers in another epoch are other rows.
            try await transaction.settleManifest(ordered[0].key, settled: 1, time: 5)
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 1) == [ordered[1]])
        }
    }

    private func numbers(_ storage: Storage) async throws {
        let stream = StreamID(origin: 7, epoch: 1, type: 1)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.takeNumbers(stream, count: 5) == 1)
            #expect(try await transaction.takeNumbers(stream, count: 2) == 6)
        }
        await #expect(throws: Abort.self) {
            try await storage.withTransaction { transaction in
                _ = try await transaction.takeNumbers(stream, count: 100)
                throw Abort()
            }
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.takeNumbers(stream, count: 1) == 8)
            #expect(try await transaction.takeNumbers(StreamID(origin: 7, epoch: 2, type: 1), count: 1) == 1)
            #expect(try await transaction.lastNumbers(origin: 7, epoch: 1) == [1: 8])
            #expect(try await transaction.typesNumbered(by: 7) == [1])
            #expect(try await transaction.typesNumbered(by: 8) == [])
        }
    }

    private static func manifest(type: BusinessTypeID = 1, first: Int64, ids: ClosedRange<Int64>) -> Manifest {
        Manifest(
            key: ManifestKey(epoch: 1, type: type, firstSynID: first), run: Fingerprint(rawValue: .max - UInt64(first)),
            entries: ids.map { Manifest.Entry(id: $0, createTime: 5_000 - $0, bytes: Int($0) * 100, digest: .max - UInt32($0)) })
    }

    private func manifests(_ storage: Storage) async throws {
        let (first, second) = (Self.manifest(first: 1, ids: 1...10), Self.manifest(first: 11, ids: 11...20))
        try await storage.withTransaction { try await $0.insertManifests([first, second]) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 5) == [first, second])
            #expect(try await transaction.manifests(ofType: 1, after: first.key, limit: 5) == [second])
            #expect(try await transaction.manifests(ofType: 2, after: nil, limit: 5) == [])
            try await transaction.settleManifest(first.key, settled: 4, time: 5)
            try await transaction.settleManifest(first.key, settled: 3, time: 5)
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 1).map(\.settled) == [4])
            #expect(try await transaction.manifestSummary()[1]?.records == 16)
            try await transaction.settleManifest(first.key, settled: 10, time: 5)
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 5) == [second])
        }
        await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { try await $0.insertManifests([second]) }
        }
    }

    private func manifestedRows(_ storage: Storage) async throws {
        let manifests = [Self.manifest(first: 1, ids: 1...10), Self.manifest(type: 2, first: 1, ids: 15...20)]
        try await storage.withTransaction { try await $0.insertManifests(manifests) }
        let (ids, summary) = try await storage.withTransaction {
            (try await $0.manifestedIDs(in: 8...16), try await $0.manifestSummary())
        }
        #expect(ids == [8, 9, 10, 15, 16])
        #expect(summary == [1: Backlog(records: 10, oldestCreateTime: 4_990), 2: Backlog(records: 6, oldestCreateTime: 4_980)])
    }
}

// MARK: - Positions

extension StorageContract {
    private func positions(_ storage: Storage) async throws {
        let end = Position(number: 10, fingerprint: Fingerprint(rawValue: .max))
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await !transaction.movePosition(from: 7, epoch: 1, type: 1, expected: 5, to: end))
            #expect(try await transaction.movePosition(from: 7, epoch: 1, type: 1, expected: 0, to: end))
            #expect(try await !transaction.movePosition(from: 7, epoch: 1, type: 1, expected: 9, to: end))
            #expect(
                try await transaction.movePosition(
                    from: 7, epoch: 1, type: 1, expected: 10, to: Position(number: 12, fingerprint: end.fingerprint)))
            try await transaction.reportPosition(from: 7, epoch: 1, type: 1, number: 11)
            try await transaction.reportPosition(from: 7, epoch: 1, type: 1, number: 4)
            #expect(
                try await transaction.positions(from: 7, epoch: 1)
                    == [1: ReceivedPosition(position: Position(number: 12, fingerprint: end.fingerprint), reported: 11)])
            #expect(try await transaction.positions(from: 7, epoch: 2) == [:])
        }
        // A first position is made once, whoever else tries. A retrying engine then finds it moved.
        var outcome: Bool?
        do {
            outcome = try await storage.withTransaction {
                try await $0.movePosition(from: 7, epoch: 1, type: 1, expected: 0, to: end)
            }
        } catch let error as DataSyncError where error.code == .storageBusy { outcome = false }
        #expect(outcome == false)
    }

    private func confirmations(_ storage: Storage) async throws {
        var confirmation = Confirmation(
            peer: .cloud, type: 1, epoch: 1, position: Position(number: 5, fingerprint: Fingerprint(rawValue: 1)), time: 10, lag: 3)
        let first = confirmation
        try await storage.withTransaction { try await $0.putConfirmation(first) }
        confirmation.position.number = 9
        let second = confirmation
        let all = try await storage.withTransaction { transaction in
            try await transaction.putConfirmation(second)
            return try await transaction.confirmations()
        }
        #expect(all == [second])
    }
}

// MARK: - Log

extension StorageContract {
    private static func log(
        _ place: Int64, audience: Audience = .all, origin: ServerID = 7, epoch: Int32 = 1, isEcho: Bool = false, payload: String = "{}"
    ) -> LogRecord {
        LogRecord(
            logSeq: place, mark: Fingerprint(rawValue: UInt64(place) << 60 | 1), audience: audience, scope: 3, isEcho: isEcho,
            isDeletion: place.isMultiple(of: 2),
            record: SyncRecord(
                stream: StreamID(origin: origin, epoch: epoch, type: 1), synID: place + 100,
                uid: RecordUID(high: .max, low: UInt64(place)), key: EntityKey("member:\(place) 名"), target: 4,
                createTime: 1_000 + place, client: -3, payload: payload))
    }

    private func logPlaces(_ storage: Storage) async throws {
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.takeLogNumbers(ofType: 1, count: 3) == 1)
            #expect(try await transaction.takeLogNumbers(ofType: 2, count: 1) == 1)
            #expect(try await transaction.takeLogNumbers(ofType: 1, count: 1) == 4)
            try await transaction.appendLog([Self.log(1), Self.log(2, audience: .server(7)), Self.log(3)])
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.logRecord(ofType: 1, audience: .server(7), at: 2) == Self.log(2, audience: .server(7)))
            #expect(try await transaction.logRecord(ofType: 1, audience: .all, at: 2) == nil)
        }
    }

    private func page(
        _ storage: Storage, _ audience: Audience, after place: Int64, limit: Int = 100, bytesMax: Int = 1_000_000, own: ServerID = 99
    ) async throws -> LogPage {
        try await storage.withTransaction(.snapshot) {
            try await $0.logPage(
                ofType: 1, audience: audience, after: place, limit: limit, bytesMax: bytesMax, own: LogOwner(origin: own, epoch: 1))
        }
    }

    private func pages(_ storage: Storage) async throws {
        let payload = String(repeating: "x", count: 100)
        try await storage.withTransaction {
            try await $0.appendLog([1, 3, 5, 9].map { Self.log($0, payload: payload) } + [Self.log(4, audience: .server(7))])
        }
        #expect(try await self.page(storage, .all, after: 0).records.map(\.logSeq) == [1, 3, 5, 9])
        #expect(try await self.page(storage, .all, after: 0).isLast)
        #expect(try await self.page(storage, .all, after: 3, limit: 1).records.map(\.logSeq) == [5])
        #expect(try await !self.page(storage, .all, after: 3, limit: 1).isLast)
        #expect(try await self.page(storage, .all, after: 0, bytesMax: 250).records.map(\.logSeq) == [1, 3])
        #expect(try await !self.page(storage, .all, after: 0, bytesMax: 250).isLast)
        // A record that is larger than the page comes alone.
        #expect(try await self.page(storage, .all, after: 0, bytesMax: 1).records == [Self.log(1, payload: payload)])
        #expect(try await self.page(storage, .server(7), after: 0).records == [Self.log(4, audience: .server(7))])
        #expect(try await self.page(storage, .all, after: 9) == LogPage(records: [], isLast: true))
    }

    private func ownRecords(_ storage: Storage) async throws {
        try await storage.withTransaction {
            try await $0.appendLog([
                Self.log(1, payload: "{\"a\":1}"), Self.log(2, epoch: 2, payload: "{\"a\":1}"), Self.log(3, isEcho: true, payload: "{\"a\":1}"),
                Self.log(4, origin: 8, payload: "{\"a\":1}"),
            ])
        }
        // Of an older epoch, sent back on purpose, or another's: these the reader needs.
        let page = try await self.page(storage, .all, after: 0, bytesMax: 21, own: 7)
        #expect(page.records.map(\.record.payload) == ["", "{\"a\":1}", "{\"a\":1}", "{\"a\":1}"])
    }

    private func tails(_ storage: Storage) async throws {
        try await storage.withTransaction {
            try await $0.appendLog([Self.log(1), Self.log(5, audience: .server(7)), Self.log(9, audience: .server(8))])
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.logTails(of: [.all, .server(7)]) == [1: 5])
            #expect(try await transaction.logTails(of: [.all, .server(9)]) == [1: 1])
            #expect(try await transaction.logTails(of: [.server(9)]) == [:])
            try await transaction.appendLog([Self.log(10)])
            #expect(try await transaction.logTails(of: [.all]) == [1: 10])
        }
    }
}

// MARK: - Entities

extension StorageContract {
    static func entity(_ key: String, scope: ServerID = 0, type: BusinessTypeID = 1) -> EntityID {
        EntityID(type: type, scope: scope, key: EntityKey(key))
    }

    static func state(_ id: EntityID, version: Int64) -> EntityState {
        EntityState(id: id, version: version, origin: 7, home: 8, audience: .server(7), isDeleted: version.isMultiple(of: 2))
    }

    private func entityInsert(_ storage: Storage) async throws {
        let ids = [Self.entity("a"), Self.entity("b"), Self.entity("a", scope: 7), Self.entity("a", type: 2)].sorted()
        let states = ids.map { Self.state($0, version: 1) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.lockEntities(ids) == [:])
            try await transaction.insertEntities(states)
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            let found = try await transaction.lockEntities(ids)
            #expect(ids.compactMap { found[$0] } == states)
            try await transaction.updateEntities([Self.state(ids[0], version: 5)])
            #expect(try await transaction.entities([ids[0]])[ids[0]]?.version == 5)
        }
        let error = await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { try await $0.insertEntities([states[1]]) }
        }
        #expect(error?.code == .storageBusy)
    }

    private func entityRanges(_ storage: Storage) async throws {
        // By scope, and then as bytes: not as texts are sorted, and not as they look.
        let keys = ["B", "a", "ab", "b", "e\u{301}", "é", "名"]
        let audiences: [Audience] = [.all, .server(7), .server(8), .nobody]
        var states: [EntityState] = []
        for scope in [0, 7, 9] as [ServerID] {
            for (index, key) in keys.enumerated() {
                states.append(
                    EntityState(
                        id: Self.entity(key, scope: scope), version: Int64(index), origin: 7, home: 8, audience: audiences[index % 4],
                        isDeleted: index.isMultiple(of: 3)))
            }
        }
        let all = states.sorted { $0.id < $1.id }
        try await storage.withTransaction { transaction in
            try await transaction.insertEntities(all)
            try await transaction.insertEntities([Self.state(Self.entity("a", type: 2), version: 1)])
        }
        func check(_ range: EntityRange, reader: ServerID? = nil, limit: Int = 100) async throws {
            let found = try await storage.withTransaction(.snapshot) { try await $0.entities(ofType: 1, in: range, for: reader, limit: limit) }
            let readable = all.filter { state in range.contains(EntityPlace(state.id)) && (reader.map { state.isVisible(to: $0) } ?? true) }
            #expect(found == Array(readable.prefix(limit)), "\(range)")
        }
        try await check(EntityRange())
        let places = [
            EntityPlace(key: "a"), EntityPlace(key: "b"), EntityPlace(key: "é"), EntityPlace(scope: 7, key: "a"), EntityPlace(scope: 7, key: "zz"),
            EntityPlace(scope: 9, key: "aa"), EntityPlace(scope: 12, key: "a"),
        ]
        for (index, place) in places.enumerated() {
            try await check(EntityRange(after: place))
            try await check(EntityRange(upTo: place))
            for upTo in places[index...] { try await check(EntityRange(after: place, upTo: upTo)) }
        }
        for limit in [0, 1, 5, 8, 20] { try await check(EntityRange(after: places[0]), limit: limit) }
        for reader in [7, 8, 9] as [ServerID] {
            try await check(EntityRange(), reader: reader)
            try await check(EntityRange(after: places[0], upTo: places[5]), reader: reader, limit: 6)
        }
        let other = try await storage.withTransaction(.snapshot) { try await $0.entities(ofType: 3, in: EntityRange(), for: nil, limit: 9) }
        #expect(other == [])
    }

    private func versions(_ storage: Storage) async throws {
        let (a, b) = (Self.entity("a"), Self.entity("b"))
        try await storage.withTransaction { try await $0.raiseEntities([Self.state(a, version: 5), Self.state(b, version: 1)]) }
        try await storage.withTransaction { try await $0.raiseEntities([Self.state(a, version: 4), Self.state(b, version: 2)]) }
        let found = try await storage.withTransaction { try await $0.entities([a, b]) }
        #expect(found[a] == Self.state(a, version: 5))
        #expect(found[b] == Self.state(b, version: 2))
    }
}

// MARK: - Memos

extension StorageContract {
    private static var line: MemoLine { MemoLine(receiver: .cloud, sender: 7, epoch: 1, type: 1) }

    private static func memo(
        _ number: Int64, key: String = "member:1", scope: ServerID = 0, line: MemoLine = Self.line, disposition: Disposition = .parked,
        nextTry: Int64 = 0, payload: String? = "{\"upsert\":{}}", needs: Dependency? = nil
    ) -> Memo {
        Memo(
            line: line, number: number, scope: scope,
            record: SyncRecord(
                stream: StreamID(origin: 7, epoch: 1, type: 1), synID: number, uid: RecordUID(high: 1, low: UInt64(number)),
                key: EntityKey(key), target: 2, createTime: 77, client: nil, payload: payload ?? ""),
            holdsPayload: payload != nil, disposition: disposition, reason: .constraint, detail: "email (error 1062)", attempts: 1,
            tries: 1, nextTry: nextTry, created: 5, needs: needs)
    }

    private func insert(_ memos: [Memo], into storage: Storage) async throws -> [Int64] {
        try await storage.withTransaction { transaction in
            try await transaction.insertMemos(memos)
            return try await transaction.memos(Set(Disposition.allCases), after: 0, limit: 1_000).map(\.id)
        }
    }

    private func tries(_ storage: Storage) async throws {
        let id = try await self.insert([Self.memo(1)], into: storage)[0]
        #expect(try await storage.withTransaction { try await $0.memo(id) }?.record == Self.memo(1).record)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.beginTry(ofMemo: id, disposition: .parked, tries: 1))
            #expect(try await !transaction.beginTry(ofMemo: id, disposition: .parked, tries: 1))
            #expect(try await !transaction.beginTry(ofMemo: id, disposition: .dead, tries: 2))
        }
        #expect(try await storage.withTransaction { try await $0.memo(id) }?.tries == 2)
        let error = await #expect(throws: DataSyncError.self) {
            try await storage.withTransaction { try await $0.insertMemos([Self.memo(1)]) }
        }
        #expect(error?.code == .storageBusy)
    }

    private func overtakenRows(_ storage: Storage) async throws {
        func row(_ key: EntityKey, to target: ServerID = .cloud) -> NewOutboxRow { NewOutboxRow(type: 1, key: key, payload: "{}", target: target) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.appendOutbox([row("a"), row("a"), row("b"), row("c", to: 2), row("c", to: 3)])
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            let ids = try await transaction.outboxHeads(in: 1...Int64.max, newOnly: true, limit: 10).map(\.id)
            #expect(try await transaction.overtakenRows(among: ids, upTo: ids[4]) == [])
            #expect(try await transaction.overtakenRows(among: [ids[0], ids[2], ids[3]], upTo: ids[4]) == [ids[0]])
            #expect(try await transaction.overtakenRows(among: [ids[1]], upTo: ids[4]) == [])
            // What stands above the frontier has not been numbered.
            #expect(try await transaction.overtakenRows(among: [ids[0]], upTo: ids[0]) == [])
            #expect(try await transaction.overtakenRows(among: [], upTo: ids[4]) == [])
        }
    }

    private func dueMemos(_ storage: Storage) async throws {
        let other = MemoLine(receiver: 7, sender: .cloud, epoch: 1, type: 1)
        let ids = try await self.insert(
            [
                Self.memo(1, nextTry: 30), Self.memo(2, nextTry: 10), Self.memo(3, disposition: .dead), Self.memo(4, nextTry: 50),
                Self.memo(5, line: other, nextTry: 0, payload: nil),
            ], into: storage)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.dueMemos(at: .cloud, time: 40, limit: 10) == [ids[1], ids[0]])
            #expect(try await transaction.dueMemos(at: .cloud, time: 40, limit: 1) == [ids[1]])
            #expect(try await transaction.memosToAsk(at: 7, time: 40, limit: 10).map(\.number) == [5])
            // A dead one as well, when it is time.
            #expect(try await transaction.memosToAsk(at: .cloud, time: 40, limit: 10).map(\.number).contains(3))
            #expect(try await !transaction.memosToAsk(at: .cloud, time: -1, limit: 10).map(\.number).contains(3))
            try await transaction.wakeMemos(at: .cloud, from: 7, of: Self.entity("member:1"), time: 20)
            #expect(try await transaction.dueMemos(at: .cloud, time: 20, limit: 10) == [ids[1], ids[0], ids[3]])
        }
    }

    private func openMemos(_ storage: Storage) async throws {
        let ids = try await self.insert(
            [
                Self.memo(1, key: "a"), Self.memo(2, key: "a"), Self.memo(3, key: "b", disposition: .dead),
                Self.memo(4, key: "c", scope: 7, disposition: .waiting), Self.memo(5, key: "b", disposition: .dead),
                Self.memo(6, key: "b", disposition: .discarded),
            ], into: storage)
        let asked = Set([Self.entity("a"), Self.entity("b"), Self.entity("c"), Self.entity("c", scope: 7), Self.entity("d")])
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.openEntities(at: .cloud, from: 7, among: asked) == [Self.entity("a"), Self.entity("c", scope: 7)])
            #expect(try await transaction.openEntities(at: .cloud, from: 8, among: asked) == [])
            #expect(try await transaction.firstOpenMemo(at: .cloud, from: 7, of: Self.entity("a")) == ids[0])
            #expect(try await transaction.firstOpenMemo(at: .cloud, from: 7, of: Self.entity("b")) == nil)
            #expect(try await transaction.openUsage(at: .cloud, from: 7, type: 1) == OpenUsage(records: 3, bytes: 39))
            #expect(try await transaction.openUsage(at: .cloud, from: 7, type: 2) == OpenUsage(records: 0, bytes: 0))
            #expect(try await transaction.deadUsage(at: .cloud, from: 7, type: 1) == OpenUsage(records: 2, bytes: 26))
            #expect(try await transaction.deadUsage(at: .cloud, from: 7, type: 2) == OpenUsage(records: 0, bytes: 0))
            #expect(try await transaction.deadUsage(at: .cloud, from: 8, type: 1) == OpenUsage(records: 0, bytes: 0))
            #expect(try await transaction.deadUsage(at: 7, from: .cloud, type: 1) == OpenUsage(records: 0, bytes: 0))
        }
    }

    private func anyOpenMemo(_ storage: Storage) async throws {
        _ = try await self.insert([Self.memo(1, disposition: .dead), Self.memo(2, disposition: .discarded)], into: storage)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.openMemos(at: .cloud, from: 7) == OpenMemos(fromSender: false, waiting: false, suspects: false))
            try await transaction.insertMemos([Self.memo(3)])
            #expect(try await transaction.openMemos(at: .cloud, from: 7) == OpenMemos(fromSender: true, waiting: false, suspects: false))
            try await transaction.insertMemos([Self.memo(4, disposition: .waiting)])
            #expect(try await transaction.openMemos(at: .cloud, from: 7) == OpenMemos(fromSender: true, waiting: true, suspects: false))
            try await transaction.insertMemos([Self.memo(5, disposition: .suspect)])
            #expect(try await transaction.openMemos(at: .cloud, from: 7) == OpenMemos(fromSender: true, waiting: true, suspects: true))
            // What waits, waits for any sender's records.
            #expect(try await transaction.openMemos(at: .cloud, from: 8) == OpenMemos(fromSender: false, waiting: true, suspects: false))
            #expect(try await transaction.openMemos(at: 7, from: .cloud) == OpenMemos(fromSender: false, waiting: false, suspects: false))
        }
    }

    private func suspects(_ storage: Storage) async throws {
        let otherType = MemoLine(receiver: .cloud, sender: 7, epoch: 1, type: 2)
        let otherSender = MemoLine(receiver: .cloud, sender: 8, epoch: 1, type: 1)
        var memos = [
            Self.memo(1, key: "a", disposition: .suspect), Self.memo(2, key: "b", disposition: .suspect), Self.memo(3, key: "c"),
            Self.memo(4, key: "d", line: otherType, disposition: .suspect), Self.memo(5, key: "e", line: otherSender, disposition: .suspect),
        ]
        for index in memos.indices where memos[index].disposition == .suspect { memos[index].attempts = 0 }
        memos[0].tries = 3
        let ids = try await self.insert(memos, into: storage)
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            let suspects = try await transaction.suspects(at: .cloud, from: 7, type: 1, limit: 9)
            #expect(suspects.map(\.id) == [ids[0], ids[1]])
            #expect(suspects.map(\.record.payload) == ["", ""])
            #expect(try await transaction.suspects(at: .cloud, from: 7, type: 1, limit: 1).map(\.id) == [ids[0]])
            try await transaction.postponeSuspects(at: .cloud, from: 7, type: 1, time: 100)
            #expect(try await transaction.dueMemos(at: .cloud, time: 1_000, limit: 9) == [ids[2], ids[3], ids[4], ids[1], ids[0]])
            #expect(try await transaction.dueMemos(at: .cloud, time: 102, limit: 9).contains(ids[1]))
            #expect(try await !transaction.dueMemos(at: .cloud, time: 102, limit: 9).contains(ids[0]))
            #expect(try await transaction.endSuspicion(at: .cloud, from: 7, types: [], attempts: 1, time: 50) == 0)
            #expect(try await transaction.endSuspicion(at: .cloud, from: 7, types: [1, 9], attempts: 1, time: 50) == 2)
            #expect(try await transaction.suspects(at: .cloud, from: 7, type: 1, limit: 9) == [])
        }
        let now = try await storage.withTransaction { try await $0.memos(Set(Disposition.allCases), after: 0, limit: 9) }
        #expect(now.map(\.disposition) == [.parked, .parked, .parked, .suspect, .suspect])
        #expect(now.map(\.attempts) == [1, 1, 1, 0, 0])
        #expect(now.map(\.nextTry) == [50, 50, 0, 0, 0])
        #expect(now.map(\.reason) == Array(repeating: .constraint, count: 5))
    }

    private func releases(_ storage: Storage) async throws {
        let other = MemoLine(receiver: .cloud, sender: 8, epoch: 3, type: 2)
        let elsewhere = MemoLine(receiver: 7, sender: .cloud, epoch: 1, type: 1)
        let (wanted, unwanted) = (Dependency.entity("order:1"), Dependency.entity("ORDER:1"))
        let ids = try await self.insert(
            [
                Self.memo(1, disposition: .waiting, nextTry: 90, needs: wanted), Self.memo(2, disposition: .waiting, nextTry: 90, needs: unwanted),
                Self.memo(3, line: other, disposition: .waiting, nextTry: 80, needs: wanted), Self.memo(4, nextTry: 90),
                Self.memo(5, disposition: .waiting, nextTry: 80, needs: .unnamed), Self.memo(6, disposition: .waiting, nextTry: 70, needs: .unnamed),
                Self.memo(7, line: elsewhere, disposition: .waiting, nextTry: 90, needs: wanted),
                Self.memo(8, disposition: .waiting, nextTry: 5, needs: wanted),
            ], into: storage)
        func release(limit: Int, unnamedMax: Int, time: Int64) async throws -> Int {
            try await storage.withTransaction {
                try await $0.releaseMemos(at: .cloud, needing: ["order:1", "order:2"], limit: limit, unnamedMax: unnamedMax, time: time)
            }
        }
        func due(at time: Int64) async throws -> [Int64] {
            try await storage.withTransaction { try await $0.dueMemos(at: .cloud, time: time, limit: 10) }
        }
        // Bounded, those first that are due next. What is due already is left where it is.
        #expect(try await release(limit: 1, unnamedMax: 1, time: 10) == 2)
        #expect(try await due(at: 10) == [ids[7], ids[2], ids[5]])
        #expect(try await release(limit: 9, unnamedMax: 0, time: 20) == 1)
        #expect(try await due(at: 20) == [ids[7], ids[2], ids[5], ids[0]])
        #expect(try await storage.withTransaction { try await $0.dueMemos(at: 7, time: 89, limit: 10) } == [])
        let none = try await storage.withTransaction { try await $0.releaseMemos(at: .cloud, needing: [], limit: 9, unnamedMax: 9, time: 20) }
        #expect(none == 1)
    }

    private func dependencies(_ storage: Storage) async throws {
        let needs = Dependency.entity("Straße:1")
        let id = try await self.insert(
            [
                Self.memo(1, key: "a", disposition: .waiting, needs: needs), Self.memo(2, key: "b", disposition: .waiting, needs: .unnamed),
                Self.memo(3, key: "c"),
            ], into: storage)[0]
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.dependency(at: .cloud, from: 7, of: "a") == needs)
            #expect(try await transaction.dependency(at: .cloud, from: 7, of: "b") == .unnamed)
            #expect(try await transaction.dependency(at: .cloud, from: 7, of: "c") == nil)
            #expect(try await transaction.dependency(at: 7, from: 7, of: "a") == nil)
            #expect(try await transaction.dependency(at: .cloud, from: 8, of: "a") == nil)
        }
        guard var memo = try await storage.withTransaction({ try await $0.memo(id) }) else { throw Abort() }
        #expect(memo.needs == needs)
        memo.note(Outcome(.waiting, reason: .missingDependency), needs: .unnamed)
        let waiting = memo
        try await storage.withTransaction { try await $0.updateMemos([waiting]) }
        #expect(try await storage.withTransaction { try await $0.memo(id) } == waiting)
        memo.note(.applied(version: 9))
        let applied = memo
        try await storage.withTransaction { try await $0.updateMemos([applied]) }
        #expect(try await storage.withTransaction { try await $0.memo(id) } == applied)
        #expect(try await storage.withTransaction { try await $0.dependency(at: .cloud, from: 7, of: "a") } == nil)
    }

    private func audit(_ storage: Storage) async throws {
        let long = String(repeating: "名😀", count: 300)
        try await storage.withTransaction {
            try await $0.appendAudit(AuditEntry(time: 5, actor: long, action: "memo.discard", subject: long))
            try await $0.appendAudit(AuditEntry(time: -1, actor: "", action: " two  spaces ", subject: "e\u{301} \n '\"\\ 😀"))
        }
        let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 10) }
        #expect(rows.map(\.sequence) == [1, 2])
        #expect(rows.first?.entry.actor.unicodeScalars.count == 255)
        #expect(rows.first?.entry.actor.hasPrefix("名😀名😀") == true)
        #expect(rows.last?.entry == AuditEntry(time: -1, actor: "", action: " two  spaces ", subject: "e\u{301} \n '\"\\ 😀"))
        #expect(try await storage.verifyAudit() == AuditVerdict(intact: 2, head: rows.last.map { AuditHead(sequence: 2, digest: $0.digest) }))
        #expect(try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 1, limit: 10) } == Array(rows.suffix(1)))
        #expect(try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 1) } == Array(rows.prefix(1)))
    }

    /// Writers at the same time add to one chain, each line once and none beside another.
    private func auditChain(_ storage: Storage) async throws {
        #expect(try await storage.verifyAudit() == AuditVerdict(intact: 0, head: .start))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    try await self.retrying(storage) { transaction in
                        // Something that two of them do not wait for each other with.
                        try await transaction.putSetting("writer.\(writer)", "1")
                        for line in 0..<5 {
                            try await transaction.appendAudit(
                                AuditEntry(time: Int64(line), actor: "writer \(writer)", action: "test", subject: "line \(line)"))
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 100) }
        #expect(rows.map(\.sequence) == Array(1...40))
        #expect(Set(rows.map { "\($0.entry.actor) \($0.entry.subject)" }).count == 40)
        #expect(Set(rows.map(\.digest)).count == 40)
        let head = try await storage.withTransaction(.snapshot) { try await $0.auditHead() }
        #expect(try await storage.verifyAudit() == AuditVerdict(intact: 40, head: head))
        #expect(head?.sequence == 40)
        #expect(try await storage.verifyAudit(noted: AuditHead(sequence: 7, digest: rows[6].digest)).fault == nil)
        #expect(try await storage.verifyAudit(noted: AuditHead(sequence: 7, digest: rows[7].digest)).fault == .otherThanNoted(7))
    }

    private func auditRollback(_ storage: Storage) async throws {
        func entry(_ subject: String) -> AuditEntry { AuditEntry(time: 1, actor: "ada", action: "test", subject: subject) }
        try await storage.withTransaction { try await $0.appendAudit(entry("a")) }
        await #expect(throws: Abort.self) {
            try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
                try await transaction.appendAudit(entry("b"))
                throw Abort()
            }
        }
        try await storage.withTransaction { try await $0.appendAudit(entry("c")) }
        let rows = try await storage.withTransaction(.snapshot) { try await $0.auditRows(after: 0, limit: 10) }
        #expect(rows.map(\.sequence) == [1, 2])
        #expect(rows.map(\.entry.subject) == ["a", "c"])
        #expect(try await storage.verifyAudit().intact == 2)
        #expect(try await storage.verifyAudit().fault == nil)
    }

    private func emptyLists(_ storage: Storage) async throws {
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.appendOutbox([])
            try await transaction.insertManifests([])
            try await transaction.appendLog([])
            try await transaction.insertEntities([])
            try await transaction.updateEntities([])
            try await transaction.raiseEntities([])
            try await transaction.insertMemos([])
            try await transaction.updateMemos([])
            try await transaction.updateOutbox([])
            #expect(try await transaction.settleOutbox([], origin: 7) == 0)
            #expect(try await transaction.outboxRows([]) == [])
            #expect(try await transaction.unsettledNames(among: []) == [])
            #expect(try await transaction.newOutboxRows(of: [], upTo: .max, limit: 5) == [])
            #expect(try await transaction.typesInOutbox(among: []) == [])
            #expect(try await transaction.lockEntities([]) == [:])
            #expect(try await transaction.entities([]) == [:])
            #expect(try await transaction.logTails(of: []) == [:])
            #expect(try await transaction.memos(in: Self.line, numbers: []) == [])
            #expect(try await transaction.memos([], after: 0, limit: 5) == [])
            #expect(try await transaction.openEntities(at: .cloud, from: 7, among: []) == [])
            #expect(try await !transaction.hasOutboxRows(after: 0))
        }
    }

    private func endedMemos(_ storage: Storage) async throws {
        let id = try await self.insert([Self.memo(1), Self.memo(5)], into: storage)[0]
        guard var memo = try await storage.withTransaction({ try await $0.memo(id) }) else { throw Abort() }
        memo.note(Outcome(.dead, reason: .outOfRange, detail: "name", attempts: 3))
        (memo.tries, memo.nextTry, memo.version) = (4, 99, 12)
        let dead = memo
        try await storage.withTransaction { try await $0.updateMemos([dead]) }
        #expect(try await storage.withTransaction { try await $0.memo(id) } == dead)
        memo.holdsPayload = false
        memo.record.payload = ""
        memo.note(Outcome(.discarded, reason: .discarded, attempts: 3))
        let discarded = memo
        try await storage.withTransaction { try await $0.updateMemos([discarded]) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.memo(id) == discarded)
            #expect(try await transaction.memos(in: Self.line, numbers: [5, 1, 9]).map(\.number) == [1, 5])
            #expect(try await transaction.memos(in: Self.line, numbers: 2...9, limit: 5).map(\.number) == [5])
            #expect(try await transaction.memos([.discarded], after: 0, limit: 5).map(\.id) == [id])
            #expect(try await transaction.memos([.discarded], after: 0, limit: 5, among: [7]).map(\.id) == [id])
            #expect(try await transaction.memos([.discarded], after: 0, limit: 5, among: [6, 8]) == [])
            #expect(try await transaction.memos([.discarded], after: 0, limit: 5, among: []) == [])
            #expect(try await transaction.memoCounts(among: [8]) == [])
            #expect(try await transaction.memoCounts(among: [7, 8]) == transaction.memoCounts())
            let counts = try await transaction.memoCounts()
            #expect(
                counts == [
                    MemoCount(receiver: .cloud, type: 1, disposition: .parked, count: 1),
                    MemoCount(receiver: .cloud, type: 1, disposition: .discarded, count: 1),
                ])
        }
    }
}
