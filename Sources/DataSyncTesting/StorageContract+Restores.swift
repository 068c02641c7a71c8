import DataSync
import Testing

// What is kept for databases that are restored from a backup.
extension StorageContract {
    private static func manifest(epoch: Int32 = 1, type: BusinessTypeID = 1, first: Int64, ids: ClosedRange<Int64>) -> Manifest {
        Manifest(
            key: ManifestKey(epoch: epoch, type: type, firstSynID: first), run: Fingerprint(rawValue: .max - UInt64(first)),
            entries: ids.map { Manifest.Entry(id: $0, createTime: $0, bytes: 1, digest: 1) })
    }

    private static func stream(_ epoch: Int32 = 1, _ type: BusinessTypeID = 1) -> StreamID { StreamID(origin: 7, epoch: epoch, type: type) }

    func sentManifests(_ storage: Storage) async throws {
        let manifests = [Self.manifest(first: 1, ids: 1...10), Self.manifest(first: 11, ids: 11...20), Self.manifest(first: 21, ids: 21...25)]
        let others = [Self.manifest(epoch: 2, first: 1, ids: 40...41), Self.manifest(type: 2, first: 1, ids: 30...31)]
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.insertManifests(manifests + others)
            for manifest in manifests[0...1] + others { try await transaction.settleManifest(manifest.key, settled: manifest.entries.count, time: 5) }
            try await transaction.settleManifest(manifests[2].key, settled: 2, time: 6)
        }
        try await storage.withTransaction(.snapshot) { (transaction: Storage.Transaction) async throws -> Void in
            let sent = try await transaction.sentManifests(of: Self.stream(), after: 0, limit: 9)
            #expect(sent.map(\.entries) == manifests[0...1].map(\.entries))
            #expect(sent.map(\.settled) == [10, 10])
            #expect(sent.map(\.run) == manifests[0...1].map(\.run))
            #expect(try await transaction.sentManifests(of: Self.stream(), after: 9, limit: 1).map(\.key) == [manifests[0].key])
            #expect(try await transaction.sentManifests(of: Self.stream(), after: 10, limit: 9).map(\.key) == [manifests[1].key])
            #expect(try await transaction.sentManifests(of: Self.stream(), after: 20, limit: 9) == [])
            #expect(try await transaction.sentManifests(of: Self.stream(), after: .max, limit: 9) == [])
            let ends = try await transaction.settledEnds()
            #expect(ends == [StreamName(epoch: 1, type: 1): 22, StreamName(epoch: 2, type: 1): 2, StreamName(epoch: 1, type: 2): 2])
            for (number, index) in [(1, 0), (10, 0), (11, 1), (20, 1), (21, 2), (25, 2)] as [(Int64, Int)] {
                #expect(try await transaction.run(of: Self.stream(), number: number) == manifests[index].run)
            }
            #expect(try await transaction.run(of: Self.stream(), number: 26) == nil)
            #expect(try await transaction.run(of: Self.stream(3), number: 1) == nil)
        }
    }

    func putBack(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.appendOutbox((1...3).map { Self.row($0) }) }
        var manifest = Self.manifest(first: 1, ids: 1...3)
        try await storage.withTransaction { [manifest] (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.insertManifests([manifest])
            let settlements = ([1, 2, 3] as [Int64]).map { OutboxSettlement(id: $0, type: 1, synID: $0, state: .settled, reason: .applied) }
            _ = try await transaction.settleOutbox(settlements, origin: 7)
            try await transaction.settleManifest(manifest.key, settled: 3, time: 5)
            #expect(try await transaction.newOutboxUIDs([1, 2, 3]) == [:])
        }
        (manifest.settled, manifest.isAgain) = (1, true)
        // Twice: after a crash it is done again.
        for _ in 0..<2 {
            try await storage.withTransaction { [manifest] (transaction: Storage.Transaction) async throws -> Void in
                try await transaction.putBackManifest(manifest)
                try await transaction.reopenOutbox([2, 3])
            }
        }
        try await storage.withTransaction { [manifest] (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 9) == [manifest])
            #expect(try await transaction.sentManifests(of: Self.stream(), after: 0, limit: 9) == [])
            let rows = try await transaction.outboxRows([1, 2, 3])
            #expect(rows.map(\.state) == [.settled, .new, .new])
            #expect(try await transaction.newOutboxUIDs([1, 2, 3, 9]) == [2: rows[1].uid, 3: rows[2].uid])
            let names = Set(["member:1", "member:3"].map { EntityName(type: 1, key: EntityKey($0)) })
            #expect(try await transaction.outboxUIDs(of: names) == [rows[0].uid, rows[2].uid])
            try await transaction.removeManifest(manifest.key)
            #expect(try await transaction.manifests(ofType: 1, after: nil, limit: 9) == [])
        }
    }

    func receipts(_ storage: Storage) async throws {
        func receipt(_ first: Int64, _ count: Int, epoch: Int32 = 1, type: BusinessTypeID = 1) -> Receipt {
            Receipt(
                epoch: epoch, type: type, firstSynID: first, run: Fingerprint(rawValue: .max - UInt64(first)),
                uids: (0..<count).map { $0 == 1 ? .void : RecordUID(high: .max, low: UInt64(first) + UInt64($0)) }, time: 9)
        }
        let own = [receipt(1, 3), receipt(4, 1), receipt(5, 100)]
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            try await transaction.insertReceipts(own.reversed(), from: 7)
            try await transaction.insertReceipts([receipt(1, 2, epoch: 2), receipt(1, 2, type: 2)], from: 7)
            try await transaction.insertReceipts([receipt(1, 2)], from: 8)
        }
        try await storage.withTransaction(.snapshot) { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: 0, limit: 9) == own)
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: 0, limit: 2) == Array(own[0...1]))
            // One that reaches beyond the number is wanted whole.
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: 2, limit: 9) == own)
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: 3, limit: 9) == Array(own[1...]))
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: 104, limit: 9) == [])
            #expect(try await transaction.receipts(from: 7, epoch: 1, type: 1, after: .max, limit: 9) == [])
            #expect(try await transaction.receipts(from: 9, epoch: 1, type: 1, after: 0, limit: 9) == [])
        }
    }

    func uids(_ storage: Storage) async throws {
        let uids = (1...300).map { RecordUID(high: UInt64($0) << 48, low: .max - UInt64($0)) }
        for _ in 0..<2 { try await storage.withTransaction { try await $0.keepUIDs(Array(uids[0..<200]), ofType: 6, time: 3) } }
        let known = try await storage.withTransaction { try await $0.knownUIDs(among: uids) }
        #expect(known == Set(uids[0..<200]))
    }

    func marks(_ storage: Storage) async throws {
        func log(_ place: Int64, _ audience: Audience) -> LogRecord {
            LogRecord(
                logSeq: place, mark: Fingerprint(rawValue: .max - UInt64(place)), audience: audience, scope: .cloud, isEcho: false,
                isDeletion: false,
                record: SyncRecord(
                    stream: Self.stream(), synID: place, uid: RecordUID(high: 1, low: UInt64(place)), key: EntityKey("k:\(place)"), target: .cloud,
                    createTime: 1, client: nil, payload: "{}"))
        }
        var row = ServerRow(id: 7, name: "b7", status: .active, host: "boot 1", takeovers: 2, takeoverTime: .max)
        try await storage.withTransaction { [row] (transaction: Storage.Transaction) async throws -> Void in
            _ = try await transaction.takeLogNumbers(ofType: 1, count: 3)
            try await transaction.appendLog([log(1, .all), log(2, .server(7)), log(3, .server(8))])
            for (epoch, type) in [(1, 1), (1, 2), (2, 1)] as [(Int32, BusinessTypeID)] {
                let position = Position(number: Int64(epoch) * 10, fingerprint: Fingerprint(rawValue: .max))
                #expect(try await transaction.movePosition(from: 7, epoch: epoch, type: type, expected: 0, to: position))
            }
            try await transaction.insertServer(row)
            #expect(try await transaction.server(7) == row)
        }
        (row.host, row.hostBefore, row.takeovers) = ("boot 2", "boot 1", 0)
        try await storage.withTransaction { [row] in _ = try await $0.replaceServer(row) }
        try await storage.withTransaction(.snapshot) { (transaction: Storage.Transaction) async throws -> Void in
            let audiences: [Audience] = [.all, .server(7)]
            #expect(try await transaction.logMarks(of: audiences, at: [1: 1]) == [1: Fingerprint(rawValue: .max - 1)])
            #expect(try await transaction.logMarks(of: audiences, at: [1: 2, 2: 1]) == [1: Fingerprint(rawValue: .max - 2)])
            #expect(try await transaction.logMarks(of: audiences, at: [1: 3]) == [:])
            #expect(try await transaction.logMarks(of: audiences, at: [:]) == [:])
            let positions = try await transaction.positions(from: 7)
            #expect(positions.mapValues { $0.mapValues(\.position.number) } == [1: [1: 10, 2: 10], 2: [1: 20]])
            let row = try await transaction.server(7)
            #expect(row?.host == "boot 2" && row?.hostBefore == "boot 1" && row?.takeovers == 0)
        }
    }

    func retention(_ storage: Storage) async throws {
        try await storage.withTransaction { try await $0.appendOutbox((1...6).map { Self.row($0) }) }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            let settled = ([1, 2, 5, 6] as [Int64]).map { OutboxSettlement(id: $0, type: 1, synID: $0, state: .settled, reason: .applied) }
            // The peer has one of them, and has not settled it: it stays until that is known.
            let open = OutboxSettlement(id: 3, type: 1, synID: 3, state: .open, reason: .refused)
            _ = try await transaction.settleOutbox(settled + [open], origin: 7)
            try await transaction.insertSentManifests([Self.manifest(first: 1, ids: 1...3)], time: 100)
            // Somebody has deleted all rows of this one: it goes like the others, and counts.
            try await transaction.insertSentManifests([Self.manifest(first: 7, ids: 7...8)], time: 100)
            try await transaction.insertSentManifests([Self.manifest(first: 5, ids: 5...5)], time: 200)
            for time in [100, 200] as [Int64] {
                let uid = RecordUID(high: 2, low: UInt64(time))
                let receipt = Receipt(epoch: 1, type: 1, firstSynID: time, run: Fingerprint(rawValue: 1), uids: [uid], time: time)
                try await transaction.insertReceipts([receipt], from: 8)
                try await transaction.keepUIDs([uid], ofType: 6, time: time)
            }
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.removeSentManifests(before: 100, limit: 9) == 0)
            #expect(try await transaction.removeSentManifests(before: 101, limit: 9) == 2)
            #expect(try await transaction.removeReceipts(before: 101, limit: 9) == 2)
            #expect(try await transaction.removeReceipts(before: 101, limit: 9) == 0)
        }
        try await storage.withTransaction { (transaction: Storage.Transaction) async throws -> Void in
            #expect(try await transaction.outboxRows(Array(1...6)).map(\.id) == [3, 4, 5, 6])
            #expect(try await transaction.sentManifests(of: Self.stream(), after: 0, limit: 9).map(\.key.firstSynID) == [5])
            #expect(try await transaction.receipts(from: 8, epoch: 1, type: 1, after: 0, limit: 9).map(\.firstSynID) == [200])
            let uids = ([100, 200] as [UInt64]).map { RecordUID(high: 2, low: $0) }
            #expect(try await transaction.knownUIDs(among: uids) == [uids[1]])
        }
    }
}
