import DataSync

/// Every message of the protocol with every member, and with odd values.
enum WireSample {
    static let texts = ["", "plain", "\"\\/\n\r\t\u{0}\u{1F}", "中é😀e\u{301}\u{2028}\u{FFFF}", "{\"upsert\":{\"id\":9007199254740993}}"]
    static let key = EntityKey("member:é\"\\中")
    static let longKey = EntityKey(String(repeating: "k", count: EntityKey.bytesMax))
    static let uid = RecordUID(high: .max, low: 1)
    static let session = SessionID(number: .max, epoch: .min)

    static func record(_ stream: StreamID, _ synID: Int64, _ payload: String, key: EntityKey = key) -> SyncRecord {
        SyncRecord(
            stream: stream, synID: synID, uid: Self.uid, key: key, target: ServerID(rawValue: .max), createTime: .min, client: .min,
            payload: payload)
    }

    static let outcomes: [Outcome] =
        [
            .applied(version: .max), .applied(version: 0), Outcome(.applied, reason: .none, version: 1, isDuplicate: true),
            Outcome(.superseded, reason: .superseded, attempts: 3), Outcome(.parked, reason: .refused, detail: Self.texts[2], attempts: 1),
            Outcome(.parked, reason: .behind), Outcome(.waiting, reason: .missingDependency, detail: "member:1", isDuplicate: true),
            Outcome(.suspect, reason: .system), Outcome(.dead, reason: .tooBig), Outcome(.dead, reason: ReasonCode(rawValue: 255), attempts: 3),
            Outcome(.discarded, reason: .discarded), Outcome(.void, reason: .void),
        ] + ReasonCode.all.map { Outcome(.dead, reason: $0) }

    static let numbers = [
        RecordNumber(type: BusinessTypeID(rawValue: .max), epoch: .min, number: .max), RecordNumber(type: 1, epoch: 0, number: 1),
    ]
    static let numbered = Self.outcomes.map { NumberedOutcome(record: Self.numbers[0], outcome: $0) }
    static let positions: [BusinessTypeID: Position] = [
        1: .start, 7: Position(number: .max, fingerprint: Fingerprint(rawValue: .max)), BusinessTypeID(rawValue: .max): Position(number: 1, fingerprint: .none),
    ]
    static let types = RecordKind.allCases.flatMap { kind in
        RouteKind.allCases.map { TypeSummary(id: 9, name: "é \"\\", kind: kind, route: $0) }
    }

    static let openRequest = OpenRequest(
        protocolVersion: .max, nonce: "n\"\u{0}", software: "DataSync 中", types: Self.types, host: "h\n", logEpoch: .min,
        cursors: Self.positions)
    static let openAnswer = OpenAnswer(
        session: Self.session, logEpoch: .max, positions: Self.positions, types: Self.types, recordBytesMax: .max, time: .min,
        olderPositions: [1: Self.positions, .max: [:]], cursors: Self.positions)
    static let pushRequest: PushRequest = {
        let stream = StreamID(origin: .cloud, epoch: Self.session.epoch, type: 3)
        let first = Int64.max - 20_000
        let records: [SentRecord] =
            [.void, .unsendable(uid: Self.uid, key: Self.longKey, reason: .damaged)]
            + Self.texts.enumerated().map { .record(Self.record(stream, first + 2 + Int64($0), $1)) }
        var bare = Self.record(StreamID(origin: .cloud, epoch: Self.session.epoch, type: 4), 1, "", key: Self.longKey)
        bare.client = nil
        bare.target = .cloud
        return PushRequest(
            session: Self.session,
            runs: [
                PushRun(
                    type: 3, firstSynID: first, run: Fingerprint(rawValue: .max), before: Fingerprint(rawValue: 1), isAgain: true, records: records),
                PushRun(type: 4, firstSynID: 1, run: .none, records: [.record(bare)]),
            ], asked: Self.numbers, isCareful: true)
    }()
    static let pushAnswer = PushAnswer(
        runs: [
            PushRunAnswer(outcomes: Self.outcomes), PushRunAnswer(stop: .gap(position: .min)), PushRunAnswer(stop: .unsupported),
            PushRunAnswer(outcomes: [.applied(version: 1)], stop: .stopped(retryAfter: .zero)), PushRunAnswer(stop: .quota(retryAfter: .seconds(86_400))),
        ], outcomes: Self.numbered)
    static let pullRequest = PullRequest(
        session: Self.session, logEpoch: .min, cursors: Self.positions, asked: Self.numbers, recordsMax: .max, bytesMax: 1, recordBytesMax: 7)
    static let pullAnswer: PullAnswer = {
        let stream = StreamID(origin: ServerID(rawValue: .max), epoch: .min, type: 5)
        let records = Self.texts.enumerated().map { index, text in
            LogRecord(
                logSeq: .max, mark: Fingerprint(rawValue: .max), audience: .all, scope: ServerID(rawValue: .max), isEcho: index == 1,
                isDeletion: index == 2, record: Self.record(stream, .max, text))
        }
        var omitted = records[0]
        omitted.omission = .tooBig
        omitted.scope = .cloud
        return PullAnswer(
            runs: [
                PullRun(type: 5, records: records + [omitted], position: Position(number: .max, fingerprint: Fingerprint(rawValue: 1))),
                PullRun(type: 6, records: [], position: .start),
            ], outcomes: Self.numbered, asked: Self.numbers, hasMore: true)
    }()
    static let acknowledgeRequest = AcknowledgeRequest(
        session: Self.session, logEpoch: .max, positions: Self.positions, outcomes: Self.numbered)
    static let recoverRequest = RecoverRequest(session: Self.session, epoch: .max, after: [1: 0, 7: .max], isEnd: true)
    static let recoverAnswer = RecoverAnswer(
        receipts: [
            Receipt(epoch: 1, type: 7, firstSynID: 1, run: Fingerprint(rawValue: .max), uids: [Self.uid, .void], time: 0),
            Receipt(epoch: .max, type: 8, firstSynID: 5, run: .none, uids: [], time: 0),
        ], outcomes: Self.numbered, hasMore: true, epoch: .max)
    static let place = EntityPlace(scope: ServerID(rawValue: .max), key: Self.longKey)
    static let digest = StateDigest(high: .max, low: 1)
    static let compareRequest = CompareRequest(
        session: Self.session, logEpoch: .min, type: BusinessTypeID(rawValue: .max),
        ranges: [
            ComparedRange(range: EntityRange(upTo: Self.place), count: 0, digest: Self.digest),
            ComparedRange(range: EntityRange(after: Self.place, upTo: Self.place), count: .max, digest: StateDigest(high: 0, low: 0)),
            ComparedRange(range: EntityRange(after: EntityPlace(key: Self.key)), count: 1, digest: Self.digest),
        ], names: [EntityPlace(key: Self.key), Self.place], sendsAgain: true)
    static let comparedEntities =
        [
            ComparedEntity(place: Self.place, digest: Self.digest, version: .max, isMoving: true, held: .dead),
            ComparedEntity(place: EntityPlace(key: Self.key), digest: nil),
        ] + Disposition.allCases.map { ComparedEntity(place: Self.place, digest: nil, held: $0) }
    static let compareAnswer = CompareAnswer(
        ranges: [
            ComparedRangeAnswer(), ComparedRangeAnswer(entries: []), ComparedRangeAnswer(entries: Self.comparedEntities, end: Self.place),
        ], entries: Self.comparedEntities, sentAgain: .max)
    static let errorAnswer = ErrorAnswer(DataSyncError(.storageBusy, operation: "x", retryAfter: .milliseconds(1_500)))

    static let all: [any WireMessage & Hashable] = [
        openRequest, openAnswer, pushRequest, pushAnswer, pullRequest, pullAnswer, acknowledgeRequest, AcknowledgeAnswer(), errorAnswer,
        recoverRequest, recoverAnswer, RecoverAnswer(epoch: 1), compareRequest, compareAnswer, CompareAnswer(isComparable: false),
        CompareRequest(session: session, logEpoch: 1, type: 1),
        PullAnswer(), PushAnswer(runs: []), PushRequest(session: session, runs: []),
        AcknowledgeRequest(session: session, logEpoch: 1, positions: [:], outcomes: []),
    ]
}
