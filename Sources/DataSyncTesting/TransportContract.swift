public import DataSync
import Synchronization
public import Testing

/// What every ``SyncTransport`` must do. A transport's tests run each case against a cloud of its own.
public struct TransportContract<Transport: SyncTransport>: Sendable {
    public enum Case: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case anOpeningTellsWhatTheCloudHas, theSameNonceGetsTheSameAnswer, aNewerSessionFencesTheOlder
        case whatTheProtocolForbidsIsTold, aSuspendedBranchIsTold, anUnknownBranchIsRefused, theCloudsStorageIsTheCloudsAffair
        case everyOutcomeArrives, aRepeatedPushIsADuplicate, aMissingNumberIsAGap, stoppedTypesAreTold, outcomesAreToldWhenAsked
        case recordsArriveByteForByte, largeRecordsArriveByteForByte, aFullBatchArrives, recordsWithoutPayloadArrive
        case aPullChangesNothing, aPullIsBounded, ownRecordsMoveThePosition, acknowledgementsAreNoted
        case receiptsAreTold, aNewEpochEndsTheSession, rangesAreCompared, namesAreCompared, statesAreSentAgain
        case callsMayOverlap, aCancelledCallEndsAtOnce, aCallCancelledBeforehandEnds, aCancelledPushCountsOnce

        public var testDescription: String { self.rawValue }
    }

    /// Gives `body` a transport by which `branch` speaks to the hub, and takes it down when `body` has ended.
    ///
    /// The hub's storage knows the branch as an active one, unless the case is about one that it does not know. What else
    /// the transport needs, such as a key, is to be put there by this.
    public typealias Connection =
        @Sendable (
            _ hub: Hub<ControlledStorage>, _ branch: ServerID, _ body: @escaping @Sendable (Transport) async throws -> Void
        ) async throws -> Void

    private let connect: Connection

    public init(connect: @escaping Connection) { self.connect = connect }

    public func run(_ testCase: Case) async throws {
        let cloud = try await ContractCloud()
        try await self.connect(cloud.hub, testCase == .anUnknownBranchIsRefused ? 99 : ContractCloud.branch) { transport in
            switch testCase {
            case .anOpeningTellsWhatTheCloudHas: try await self.opening(transport, cloud)
            case .theSameNonceGetsTheSameAnswer: try await self.nonces(transport, cloud)
            case .aNewerSessionFencesTheOlder: try await self.fencing(transport, cloud)
            case .whatTheProtocolForbidsIsTold: try await self.forbidden(transport, cloud)
            case .aSuspendedBranchIsTold: try await self.suspension(transport, cloud)
            case .anUnknownBranchIsRefused: try await self.unknownBranch(transport)
            case .theCloudsStorageIsTheCloudsAffair: try await self.storageFaults(transport, cloud)
            case .everyOutcomeArrives: try await self.outcomes(transport, cloud)
            case .aRepeatedPushIsADuplicate: try await self.duplicates(transport, cloud)
            case .aMissingNumberIsAGap: try await self.gaps(transport)
            case .stoppedTypesAreTold: try await self.stops(transport)
            case .outcomesAreToldWhenAsked: try await self.asked(transport)
            case .recordsArriveByteForByte: try await self.payloads(transport, cloud)
            case .largeRecordsArriveByteForByte: try await self.largePayloads(transport, cloud)
            case .aFullBatchArrives: try await self.fullBatch(transport, cloud)
            case .recordsWithoutPayloadArrive: try await self.omissions(transport, cloud)
            case .aPullChangesNothing: try await self.repeatedPull(transport, cloud)
            case .aPullIsBounded: try await self.boundedPull(transport, cloud)
            case .ownRecordsMoveThePosition: try await self.ownRecords(transport, cloud)
            case .acknowledgementsAreNoted: try await self.acknowledgements(transport, cloud)
            case .receiptsAreTold: try await self.receipts(transport)
            case .aNewEpochEndsTheSession: try await self.newEpoch(transport, cloud)
            case .rangesAreCompared: try await self.comparedRanges(transport, cloud)
            case .namesAreCompared: try await self.comparedNames(transport, cloud)
            case .statesAreSentAgain: try await self.sentAgain(transport, cloud)
            case .callsMayOverlap: try await self.overlap(transport, cloud)
            case .aCancelledCallEndsAtOnce: try await self.cancellation(transport, cloud)
            case .aCallCancelledBeforehandEnds: try await self.earlyCancellation(transport)
            case .aCancelledPushCountsOnce: try await self.cancelledPush(transport, cloud)
            }
        }
    }
}

// MARK: - Sessions

extension TransportContract {
    private func open(_ transport: Transport, nonce: String = "0123456789abcdef") async throws -> OpenAnswer {
        try await transport.open(OpenRequest(nonce: nonce, software: "contract 1", types: []))
    }

    private func opening(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let first = try await self.open(transport)
        #expect(first.session == SessionID(number: 1, epoch: 1))
        #expect(first.logEpoch == 1)
        #expect(first.positions == [:])
        #expect(first.types == cloud.hub.types.definitions.map { TypeSummary($0) })
        #expect(first.recordBytesMax == cloud.hub.limits.recordBytesMax)
        #expect(first.time == ContractCloud.time)
        _ = try await transport.push(PushRequest(session: first.session, runs: [ContractCloud.run(["a", "b"])]))
        let second = try await self.open(transport, nonce: "second nonce · 第二")
        #expect(second.session == SessionID(number: 2, epoch: 1))
        #expect(second.positions == [1: Position(number: 2, fingerprint: ContractCloud.fingerprint)])
        #expect(try await cloud.row(ContractCloud.branch)?.version == "contract 1")
    }

    private func nonces(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let first = try await self.open(transport)
        #expect(try await self.open(transport) == first)
        // A late copy fences nobody.
        let answer = try await transport.push(PushRequest(session: first.session, runs: [ContractCloud.run(["a"])]))
        #expect(answer.runs.map(\.outcomes.count) == [1])
        let row = try await cloud.row(ContractCloud.branch)
        #expect(row?.session == 1)
    }

    private func fencing(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let old = try await self.open(transport).session
        let new = try await self.open(transport, nonce: "fedcba9876543210").session
        for session in [old, SessionID(number: new.number, epoch: 2), SessionID(number: 99, epoch: 1)] {
            await self.expect(.fenced) { _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a"])])) }
            await self.expect(.fenced) { _ = try await transport.pull(ContractCloud.pull(session)) }
            await self.expect(.fenced) { _ = try await transport.acknowledge(ContractCloud.acknowledgement(session)) }
            await self.expect(.fenced) { _ = try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [:], isEnd: true)) }
            await self.expect(.fenced) { _ = try await transport.compare(ContractCloud.comparison(session, names: ["a"], sendsAgain: true)) }
        }
        // A log of another epoch: its places mean nothing.
        var pull = ContractCloud.pull(new)
        pull.logEpoch = 2
        let request = pull
        await self.expect(.fenced) { _ = try await transport.pull(request) }
        var comparison = ContractCloud.comparison(new)
        comparison.logEpoch = 2
        let question = comparison
        await self.expect(.fenced) { _ = try await transport.compare(question) }
        #expect(try await cloud.effects() == [:])
    }
}

// MARK: - Errors

extension TransportContract {
    /// An error arrives as the same code on every transport, since the agent decides by it.
    private func expect(
        _ code: DataSyncError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ call: () async throws -> Void
    ) async {
        let error = await #expect(throws: DataSyncError.self, sourceLocation: sourceLocation) { try await call() }
        #expect(error?.code == code, sourceLocation: sourceLocation)
    }

    private func forbidden(_ transport: Transport, _ cloud: ContractCloud) async throws {
        await self.expect(.unsupportedProtocol) {
            _ = try await transport.open(
                OpenRequest(protocolVersion: SyncProtocol.version + 1, nonce: "0123456789abcdef", software: "x", types: []))
        }
        await self.expect(.peerInvalid) { _ = try await self.open(transport, nonce: "short") }
        let session = try await self.open(transport).session
        let tooMany = Array(repeating: SentRecord.void, count: cloud.hub.limits.batchRecordsMax + 1)
        await self.expect(.tooLarge) {
            _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(sent: tooMany)]))
        }
        await self.expect(.peerInvalid) {
            _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(sent: [])]))
        }
        await self.expect(.peerInvalid) { _ = try await transport.pull(ContractCloud.pull(session, recordsMax: 0)) }
        await self.expect(.peerInvalid) { _ = try await transport.compare(ContractCloud.comparison(session, names: ["b", "a"])) }
        #expect(try await cloud.effects() == [:])
    }

    private func suspension(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        try await cloud.setStatus(.suspended)
        await self.expect(.suspended) { _ = try await self.open(transport, nonce: "another nonce that is long") }
        await self.expect(.suspended) { _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a"])])) }
        await self.expect(.suspended) { _ = try await transport.pull(ContractCloud.pull(session)) }
        await self.expect(.suspended) { _ = try await transport.acknowledge(ContractCloud.acknowledgement(session)) }
        await self.expect(.suspended) { _ = try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [1: 0])) }
        await self.expect(.suspended) { _ = try await transport.compare(ContractCloud.comparison(session)) }
        #expect(try await cloud.effects() == [:])
        try await cloud.setStatus(.active)
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a"])]))
    }

    private func unknownBranch(_ transport: Transport) async throws {
        let error = await #expect(throws: DataSyncError.self) { _ = try await self.open(transport) }
        // Over a network nobody can tell the cloud's refusal of a stranger from anybody else's.
        #expect(error?.code == .unauthorized || error?.code == .peerUnreachable)
    }

    /// For the branch it is the cloud that is away: its own storage is well.
    private func storageFaults(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let push = PushRequest(session: session, runs: [ContractCloud.run(["a"])])
        for code in [DataSyncError.Code.storageBusy, .commitUnknown, .storageUnavailable, .storageFailed] {
            cloud.storage.fail(with: DataSyncError(code, operation: "test", detail: "Table 'x' is full", retryAfter: .seconds(9)))
            await self.expect(.peerUnreachable) { _ = try await transport.push(push) }
            await self.expect(.peerUnreachable) { _ = try await transport.pull(ContractCloud.pull(session)) }
            await self.expect(.peerUnreachable) { _ = try await transport.acknowledge(ContractCloud.acknowledgement(session)) }
            await self.expect(.peerUnreachable) { _ = try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [1: 0])) }
            await self.expect(.peerUnreachable) { _ = try await transport.compare(ContractCloud.comparison(session)) }
            await self.expect(.peerUnreachable) { _ = try await self.open(transport) }
            let error = await #expect(throws: DataSyncError.self) { _ = try await transport.pull(ContractCloud.pull(session)) }
            #expect(error?.retryAfter == .seconds(9))
        }
        cloud.storage.fail(with: nil)
        #expect(try await transport.push(push).runs == [PushRunAnswer(outcomes: [.applied(version: 1)])])
    }
}

// MARK: - Push

extension TransportContract {
    /// Records that end in every way that a push can end in, and how.
    private static var fates: [(sent: SentRecord, outcome: Outcome)] {
        let tooBig = String(repeating: "x", count: ContractCloud.recordBytesMax + 1)
        return [
            (ContractCloud.record(1, key: "fine", "ok"), .applied(version: 1)),
            (
                ContractCloud.record(2, key: "bad", "refuse:zu groß · 太大 \"😀\""),
                Outcome(.parked, reason: .refused, detail: "zu groß · 太大 \"😀\"", attempts: 1)
            ),
            (ContractCloud.record(3, key: "bad", "ok"), Outcome(.parked, reason: .behind)),
            (
                ContractCloud.record(4, key: "early", "missing:member:1001"),
                Outcome(.waiting, reason: .missingDependency, detail: "member:1001")
            ),
            (ContractCloud.record(5, key: "big", tooBig), Outcome(.dead, reason: .tooBig)),
            (.unsendable(uid: RecordUID(high: 1, low: 6), key: "odd", reason: .damaged), Outcome(.dead, reason: .damaged)),
            (.void, Outcome(.void, reason: .void)),
            (ContractCloud.record(8, key: "last", "ok"), .applied(version: 2)),
        ]
    }

    private func outcomes(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let push = PushRequest(session: session, runs: [ContractCloud.run(sent: Self.fates.map(\.sent))])
        let answer = try await transport.push(push)
        #expect(answer == PushAnswer(runs: [PushRunAnswer(outcomes: Self.fates.map(\.outcome))]))
        #expect(try await cloud.effects() == ["fine": "1", "last": "1"])
    }

    private func duplicates(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let push = PushRequest(session: session, runs: [ContractCloud.run(sent: Self.fates.map(\.sent))])
        _ = try await transport.push(push)
        let expected = Self.fates.map { fate in
            var outcome = fate.outcome
            outcome.isDuplicate = true
            return outcome
        }
        for _ in 0..<2 { #expect(try await transport.push(push).runs == [PushRunAnswer(outcomes: expected)]) }
        #expect(try await cloud.effects() == ["fine": "1", "last": "1"])
    }

    private func gaps(_ transport: Transport) async throws {
        let session = try await self.open(transport).session
        let late = ContractCloud.run(["c"], first: 3)
        let early = try await transport.push(PushRequest(session: session, runs: [late]))
        #expect(early.runs == [PushRunAnswer(stop: .gap(position: 0))])
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a", "b"])]))
        let far = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["d"], first: 4)]))
        #expect(far.runs == [PushRunAnswer(stop: .gap(position: 2))])
        #expect(try await transport.push(PushRequest(session: session, runs: [late])).runs == [PushRunAnswer(outcomes: [.applied(version: 3)])])
    }

    private func stops(_ transport: Transport) async throws {
        let session = try await self.open(transport).session
        let answer = try await transport.push(
            PushRequest(
                session: session,
                runs: [
                    ContractCloud.run(["a"], type: 77), ContractCloud.run(["break"], type: 2), ContractCloud.run(["b"]),
                    ContractCloud.run(["refuse:1", "refuse:2", "refuse:3", "refuse:4", "refuse:5"], type: 3),
                ]))
        guard answer.runs.count == 4 else { Issue.record("four runs were expected: \(answer)"); return }
        #expect(answer.runs[0] == PushRunAnswer(stop: .unsupported))
        guard case .stopped(let delay) = answer.runs[1].stop else { Issue.record("stopped was expected: \(answer.runs[1])"); return }
        #expect(delay > .zero)
        #expect(answer.runs[1].outcomes == [])
        // Other types are none the worse for it.
        #expect(answer.runs[2] == PushRunAnswer(outcomes: [.applied(version: 1)]))
        // What found room is set aside; the rest stays with its sender.
        #expect(answer.runs[3].outcomes.allSatisfy { $0.disposition.isOpen } && answer.runs[3].outcomes.count <= 4)
        #expect(answer.runs[3].stop == .quota(retryAfter: .seconds(60)))
    }

    private func asked(_ transport: Transport) async throws {
        let session = try await self.open(transport).session
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(sent: Self.fates.map(\.sent))]))
        // What was never received is left out.
        let asked = [1, 2, 3, 4, 5, 6, 7, 8, 99].map { RecordNumber(type: 1, epoch: 1, number: $0) }
        var expected = zip(asked, Self.fates).map { NumberedOutcome(record: $0, outcome: $1.outcome) }
        // The version and the row that was not there are not kept for the asking.
        for index in [0, 6, 7] { expected[index].outcome = .applied(version: 0) }
        let pushed = try await transport.push(PushRequest(session: session, runs: [], asked: asked))
        #expect(pushed == PushAnswer(runs: [], outcomes: expected))
        var pull = ContractCloud.pull(session)
        pull.asked = asked
        #expect(try await transport.pull(pull).outcomes == expected)
    }
}

// MARK: - Pull

extension TransportContract {
    /// Texts that a careless encoder or a careless comparison changes.
    private static var texts: [String] {
        let controls = String(decoding: (0..<32).map { UInt8($0) } + [127], as: UTF8.self)
        return [
            "{}", "", " spaces and\ttabs\r\n ", #"{"quote":"\" \\ \/ \u0041"}"#, "{\"名\":\"价格表 😀👩‍👩‍👧\"}", "é e\u{301} \u{FEFF}\u{2028}\u{2029}",
            "\u{FFFF}\u{10FFFF}\u{0}", controls, "</script><!-- %_'`;--", #"{"n":123456789012345678901234567890.10}"#,
        ]
    }

    private func payloads(_ transport: Transport, _ cloud: ContractCloud) async throws {
        var sent: [SyncRecord] = []
        for (index, text) in Self.texts.enumerated() {
            var record = ContractCloud.content(Int64(index + 1), key: EntityKey("名:\(index) é e\u{301} \"\\"), text)
            record.uid = RecordUID(high: .max - UInt64(index), low: UInt64(index))
            record.createTime = [0, Int64.max, -1, 1_700_000_000_000][index % 4]
            record.client = [nil, Int8.min, 0, Int8.max][index % 4]
            record.target = [0, 8, Int32.max].map { ServerID(rawValue: $0) }[index % 3]
            sent.append(record)
        }
        let session = try await self.open(transport).session
        // Up, through the transport.
        let answer = try await transport.push(
            PushRequest(session: session, runs: [ContractCloud.run(sent: sent.map { .record($0) })]))
        #expect(answer.runs.first?.outcomes.map(\.disposition) == sent.map { _ in .applied })
        self.expectEqual(try await cloud.log(), sent)
        // Down, what another branch wrote.
        let others = try await cloud.write(sent, from: 8)
        let pulled = try await transport.pull(ContractCloud.pull(session))
        #expect(pulled.runs.count == 1)
        let records = pulled.runs.first?.records ?? []
        self.expectEqual(records.map(\.record), others)
        #expect(records.map(\.logSeq) == (1...Int64(others.count)).map { $0 + Int64(sent.count) })
        #expect(records.allSatisfy { $0.mark != .none && $0.scope == .cloud && !$0.isEcho && !$0.isDeletion && $0.omission == .none })
    }

    private func expectEqual(_ records: [SyncRecord], _ expected: [SyncRecord], sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(records == expected, sourceLocation: sourceLocation)
        // Strings are equal when they look alike.
        #expect(records.map { Array($0.payload.utf8) } == expected.map { Array($0.payload.utf8) }, sourceLocation: sourceLocation)
    }

    private func largePayloads(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        var generator = SeededGenerator(seed: 7)
        let noise = String(decoding: (0..<ContractCloud.recordBytesMax).map { _ in UInt8.random(in: 35...91, using: &generator) }, as: UTF8.self)
        let texts = [
            noise,
            // Many equal characters are no bomb.
            String(repeating: "a", count: ContractCloud.recordBytesMax),
            String(repeating: "\"", count: ContractCloud.recordBytesMax),
            String(repeating: "价", count: ContractCloud.recordBytesMax / 3),
        ]
        let sent = texts.enumerated().map { ContractCloud.content(Int64($0 + 1), key: EntityKey("large:\($0)"), $1) }
        for record in sent {
            let run = ContractCloud.run(sent: [.record(record)], first: record.synID)
            let answer = try await transport.push(PushRequest(session: session, runs: [run]))
            #expect(answer.runs.first?.outcomes.map(\.disposition) == [.applied])
        }
        self.expectEqual(try await cloud.log(), sent)
        let others = try await cloud.write(sent, from: 8)
        let pulled = try await transport.pull(ContractCloud.pull(session))
        self.expectEqual(pulled.runs.flatMap(\.records).map(\.record), others)
    }

    private func fullBatch(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let sent = (1...Int64(cloud.hub.limits.batchRecordsMax)).map {
            ContractCloud.content($0, key: EntityKey("entity:\($0)"), "{\"number\":\($0)}")
        }
        let answer = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(sent: sent.map { .record($0) })]))
        #expect(answer.runs.first?.outcomes == sent.map { .applied(version: $0.synID) })
        let others = try await cloud.write(sent, from: 8)
        let pulled = try await transport.pull(ContractCloud.pull(session))
        self.expectEqual(pulled.runs.flatMap(\.records).map(\.record), others)
    }

    private func omissions(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await cloud.write(
            [
                ContractCloud.content(1, key: "a", "short"), ContractCloud.content(2, key: "b", String(repeating: "x", count: 101)),
                ContractCloud.content(3, key: "a", "delete"),
            ], from: 8)
        var request = ContractCloud.pull(session)
        request.recordBytesMax = 100
        let records = try await transport.pull(request).runs.flatMap(\.records)
        #expect(records.map(\.record.payload) == ["short", "", "delete"])
        #expect(records.map(\.omission) == [.none, .tooBig, .none])
        #expect(records.map(\.isDeletion) == [false, false, true])
    }

    private func repeatedPull(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await cloud.write((1...5).map { ContractCloud.content($0, key: EntityKey("e:\($0)"), "p\($0)") }, from: 8)
        let first = try await transport.pull(ContractCloud.pull(session))
        #expect(first.runs.flatMap(\.records).count == 5)
        for _ in 0..<2 { #expect(try await transport.pull(ContractCloud.pull(session)) == first) }
    }

    private func boundedPull(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await cloud.write((1...7).map { ContractCloud.content($0, key: EntityKey("e:\($0)"), "p\($0)") }, from: 8)
        var cursor = Position.start
        var payloads: [String] = []
        var hasMore = true
        for _ in 0..<4 where hasMore {
            let answer = try await transport.pull(ContractCloud.pull(session, cursor: cursor, recordsMax: 2))
            #expect(answer.runs.flatMap(\.records).count <= 2)
            payloads += answer.runs.flatMap(\.records).map(\.record.payload)
            cursor = answer.runs.last?.position ?? cursor
            hasMore = answer.hasMore
        }
        #expect(payloads == (1...7).map { "p\($0)" })
        #expect(!hasMore)
        #expect(cursor.number == 7)
        #expect(try await transport.pull(ContractCloud.pull(session, cursor: cursor)) == PullAnswer())
        // The first record comes however large it is.
        var request = ContractCloud.pull(session)
        request.bytesMax = 1
        #expect(try await transport.pull(request).runs.flatMap(\.records).map(\.record.payload) == ["p1"])
    }

    private func ownRecords(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a", "b"])]))
        let own = try await transport.pull(ContractCloud.pull(session))
        #expect(own.runs.flatMap(\.records) == [])
        #expect(own.runs.map(\.position.number) == [2])
        let others = try await cloud.write([ContractCloud.content(1, key: "other", "c")], from: 8)
        let next = try await transport.pull(ContractCloud.pull(session, cursor: own.runs.first?.position ?? .start))
        #expect(next.runs.flatMap(\.records).map(\.record) == others)
    }

    private func acknowledgements(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await cloud.write([ContractCloud.content(1, key: "a", "1"), ContractCloud.content(2, key: "b", "2")], from: 8)
        let position = try await transport.pull(ContractCloud.pull(session)).runs.first?.position ?? .start
        let number = RecordNumber(type: 1, epoch: 1, number: 1)
        var request = ContractCloud.acknowledgement(session)
        request.positions = [1: position]
        request.outcomes = [
            NumberedOutcome(record: number, outcome: Outcome(.parked, reason: .constraint, detail: "unique · 唯一", attempts: 1))
        ]
        for _ in 0..<2 { _ = try await transport.acknowledge(request) }
        let storage = cloud.storage
        let confirmations = try await storage.withTransaction(.snapshot) { try await $0.confirmations() }
        #expect(confirmations.map(\.peer) == [ContractCloud.branch])
        #expect(confirmations.map(\.position) == [position])
        let memos = try await storage.withTransaction(.snapshot) { try await $0.memos([.parked], after: 0, limit: 9) }
        #expect(memos.map(\.detail) == ["unique · 唯一"])
        // The cloud does not know yet how it ended, so it asks.
        let asking = try await transport.pull(ContractCloud.pull(session, cursor: position))
        #expect(asking.asked == [number])
        request.outcomes = [NumberedOutcome(record: number, outcome: .applied(version: 1))]
        _ = try await transport.acknowledge(request)
        #expect(try await transport.pull(ContractCloud.pull(session, cursor: position)).asked == [])
    }
}

// MARK: - Tasks

extension TransportContract {
    private func overlap(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await cloud.write((1...20).map { ContractCloud.content($0, key: EntityKey("e:\($0)"), "p\($0)") }, from: 8)
        let expected = try await transport.pull(ContractCloud.pull(session))
        try await withThrowingTaskGroup(of: PullAnswer.self) { group in
            for _ in 0..<12 { group.addTask { try await transport.pull(ContractCloud.pull(session)) } }
            for try await answer in group { #expect(answer == expected) }
        }
    }

    private func cancellation(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let calls: [@Sendable () async throws -> Void] = [
            { _ = try await self.open(transport, nonce: "another nonce that is long") },
            { _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a"])])) },
            { _ = try await transport.pull(ContractCloud.pull(session)) },
            { _ = try await transport.acknowledge(ContractCloud.acknowledgement(session)) },
        ]
        for call in calls {
            cloud.storage.hold()
            let task = Task { try await call() }
            try await cloud.storage.waitForArrival()
            task.cancel()
            // The cloud is still held: only the cancellation can end the call.
            let result = try await self.result(of: task)
            #expect(throws: CancellationError.self) { try result?.get() }
            cloud.storage.release()
        }
    }

    private func earlyCancellation(_ transport: Transport) async throws {
        for _ in 0..<50 {
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                _ = try await self.open(transport)
            }
            // Whether it was carried out is not said, only that it ends.
            guard try await self.result(of: task) != nil else { return }
        }
        _ = try await self.open(transport)
    }

    /// An error tells nothing about the effect; the same push again does, and has none of its own.
    private func cancelledPush(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let push = PushRequest(session: session, runs: [ContractCloud.run(["a", "b"])])
        cloud.storage.hold()
        let task = Task { _ = try await transport.push(push) }
        try await cloud.storage.waitForArrival()
        task.cancel()
        cloud.storage.release()
        _ = try await self.result(of: task)
        let again = try await transport.push(push)
        #expect(again.runs.first?.outcomes.map(\.disposition) == [.applied, .applied])
        #expect(try await cloud.effects() == ["key:1": "1", "key:2": "1"])
    }

    /// How `task` ended; nil, and an issue, if it has not within a time that is long for everything but a call that hangs.
    private func result(of task: Task<Void, any Error>) async throws -> Result<Void, any Error>? {
        let ended = AsyncSemaphore(0)
        Task {
            _ = await task.result
            ended.signal()
        }
        guard try await withTimeout(.seconds(600), { try await ended.wait() }) != nil else {
            Issue.record("a cancelled call did not end")
            return nil
        }
        return await task.result
    }
}

// MARK: - Recover

extension TransportContract {
    private func receipts(_ transport: Transport) async throws {
        let session = try await self.open(transport).session
        let push = PushRequest(session: session, runs: [ContractCloud.run(sent: Self.fates.map(\.sent))])
        _ = try await transport.push(push)
        let told = try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [1: 0, 2: 0]))
        let uids = (1...8).map { $0 == 7 ? RecordUID.void : RecordUID(high: 1, low: UInt64($0)) }
        #expect(told.receipts.flatMap(\.uids) == uids)
        #expect(told.receipts.allSatisfy { $0.type == 1 && $0.epoch == 1 && $0.run == ContractCloud.fingerprint })
        #expect(told.receipts.first?.firstSynID == 1)
        #expect(told.epoch == 1)
        #expect(!told.hasMore)
        let outcomes = Dictionary(told.outcomes.map { ($0.record.number, $0.outcome) }) { first, _ in first }
        for index in [1, 2, 3, 4, 5] { #expect(outcomes[Int64(index + 1)] == Self.fates[index].outcome) }
        // What is asked for from a number on begins at the chunk that holds it; of what never came there is nothing.
        let rest = try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [1: 6]))
        #expect(rest.receipts.last?.lastSynID == 8)
        #expect(rest.receipts.allSatisfy { $0.lastSynID > 6 })
        #expect(try await transport.recover(RecoverRequest(session: session, epoch: 2, after: [1: 0])).receipts == [])
        #expect(try await transport.recover(RecoverRequest(session: session, epoch: 1, after: [1: 8])).receipts == [])
    }

    private func newEpoch(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["a"])]))
        let end = try await transport.recover(RecoverRequest(session: session, epoch: 4, after: [:], isEnd: true))
        #expect(end == RecoverAnswer(epoch: 5))
        // Nothing of the old epoch is received, and a second copy of the question has no effect.
        await self.expect(.fenced) { _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(["b"], first: 2)])) }
        await self.expect(.fenced) { _ = try await transport.recover(RecoverRequest(session: session, epoch: 4, after: [:], isEnd: true)) }
        let opened = try await self.open(transport, nonce: "after the new epoch")
        #expect(opened.session.epoch == 5)
        #expect(opened.positions == [:])
        #expect(opened.olderPositions == [1: [1: Position(number: 1, fingerprint: ContractCloud.fingerprint)]])
        #expect(try await cloud.effects() == ["key:1": "1"])
    }
}

// MARK: - Compare

extension TransportContract {
    private static var comparedKeys: [String] { ["é", "a b", "\"quoted\\", "名:1", "z"] }

    /// Keys in the order of their bytes, and what the cloud holds of each.
    private func write(_ transport: Transport, _ session: SessionID) async throws -> [(place: EntityPlace, digest: StateDigest)] {
        let sent = Self.comparedKeys.enumerated().map { ContractCloud.record(Int64($0 + 1), key: EntityKey($1), "x") }
        _ = try await transport.push(PushRequest(session: session, runs: [ContractCloud.run(sent: sent)]))
        return Self.comparedKeys.map { EntityPlace(key: EntityKey($0)) }.sorted().map { ($0, StateDigest(ofPayload: "1")) }
    }

    private func comparedRanges(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let held = try await self.write(transport, session)
        func range(_ part: ArraySlice<(place: EntityPlace, digest: StateDigest)>, after: EntityPlace?, upTo: EntityPlace?) -> ComparedRange {
            ComparedRange(range: EntityRange(after: after, upTo: upTo), count: part.count, digest: StateDigest(of: part))
        }
        let middle = held[1].place
        let equal = [range(held[..<2], after: nil, upTo: middle), range(held[2...], after: middle, upTo: nil)]
        let question = CompareRequest(session: session, logEpoch: 1, type: 1, ranges: equal)
        #expect(try await transport.compare(question) == CompareAnswer(ranges: [ComparedRangeAnswer(), ComparedRangeAnswer()]))
        let different = [equal[0], range(held[3...], after: middle, upTo: nil)]
        let answer = try await transport.compare(CompareRequest(session: session, logEpoch: 1, type: 1, ranges: different))
        guard answer.ranges.count == 2 else { Issue.record("two ranges were expected: \(answer)"); return }
        #expect(answer.ranges[0].entries == nil)
        #expect(answer.ranges[1].entries?.map(\.place) == held[2...].map(\.place))
        #expect(answer.ranges[1].entries?.map(\.digest) == held[2...].map(\.digest))
        #expect(answer.ranges[1].entries?.allSatisfy { $0.version > 0 && !$0.isMoving && $0.held == nil } == true)
        #expect(answer.ranges[1].end == nil)
        // Of what only goes up nobody keeps a list.
        #expect(try await transport.compare(CompareRequest(session: session, logEpoch: 1, type: 2, ranges: equal)) == CompareAnswer(isComparable: false))
    }

    private func comparedNames(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let session = try await self.open(transport).session
        let held = try await self.write(transport, session)
        // One that is gone past DataSync, one with a record that was refused, and one that never was.
        try await cloud.storage.base.withTransaction { try $0.setRow("effects", "z", nil) }
        _ = try await transport.push(
            PushRequest(session: session, runs: [ContractCloud.run(sent: [ContractCloud.record(6, key: EntityKey("é"), "refuse:no")], first: 6)]))
        let names = (held.map(\.place) + [EntityPlace(key: "never"), EntityPlace(scope: 8, key: "z")]).sorted()
        let answer = try await transport.compare(CompareRequest(session: session, logEpoch: 1, type: 1, names: names))
        #expect(answer.ranges == [])
        #expect(answer.entries.map(\.place) == held.map(\.place))
        #expect(answer.entries.filter { $0.digest == nil }.map(\.place.key) == ["z"])
        #expect(answer.entries.filter { $0.held == .parked }.map(\.place.key) == [EntityKey("é")])
        #expect(answer.sentAgain == 0)
    }

    private func sentAgain(_ transport: Transport, _ cloud: ContractCloud) async throws {
        let opened = try await self.open(transport)
        let held = try await self.write(transport, opened.session)
        try await cloud.storage.base.withTransaction { try $0.setRow("effects", "z", nil) }
        let end = Int64(held.count)
        let request = CompareRequest(session: opened.session, logEpoch: 1, type: 1, names: held.map(\.place), sendsAgain: true)
        // As many as one of the cloud's transactions takes.
        #expect(try await transport.compare(request).sentAgain == 4)
        var rest = request
        rest.names.removeFirst(4)
        #expect(try await transport.compare(rest).sentAgain == 1)
        let pulled = try await transport.pull(ContractCloud.pull(opened.session))
        let records = pulled.runs.first?.records.filter { $0.logSeq > end } ?? []
        #expect(records.map { EntityPlace($0.entity) } == held.map(\.place))
        #expect(records.map(\.record.payload) == held.map { $0.place.key == "z" ? "delete" : "1" })
        #expect(records.map(\.isDeletion) == held.map { $0.place.key == "z" })
        #expect(Set(records.map(\.record.uid)).count == records.count)
        #expect(records.allSatisfy { $0.record.origin == .cloud && $0.mark != .none })
    }
}

// MARK: - The cloud

/// A cloud with two branches, whose business types do what the payloads say.
private struct ContractCloud: Sendable {
    static let branch: ServerID = 7
    static let fingerprint = Fingerprint(rawValue: 0xF0E1_D2C3_B4A5_9687)
    static let recordBytesMax = 256 << 10
    static let time: Int64 = 1_700_000_000_123

    let storage = ControlledStorage()
    let hub: Hub<ControlledStorage>

    init() async throws {
        var limits = SyncLimits()
        limits.recordBytesMax = Self.recordBytesMax
        limits.openRecordsMax = 4
        limits.chunkRecordsMax = 4
        var environment = SyncEnvironment.system
        environment.wallTime = { Self.time }
        self.hub = try Hub(
            storage: self.storage,
            types: [
                ScriptedType(id: 1, name: "note", route: .all), ScriptedType(id: 2, name: "machine", route: .up),
                ScriptedType(id: 3, name: "complaint", route: .up),
            ], limits: limits, environment: environment)
        try await self.storage.withTransaction { transaction in
            for id in [Self.branch, 8] {
                try await transaction.insertServer(ServerRow(id: id, name: "branch \(id)", status: .active))
            }
        }
    }

    // MARK: - Requests

    static func content(_ number: Int64, type: BusinessTypeID = 1, key: EntityKey, _ payload: String) -> SyncRecord {
        SyncRecord(
            stream: StreamID(origin: Self.branch, epoch: 1, type: type), synID: number, uid: RecordUID(high: 1, low: UInt64(number)),
            key: key, target: .cloud, createTime: 1_000 + number, client: nil, payload: payload)
    }

    static func record(_ number: Int64, key: EntityKey, _ payload: String) -> SentRecord {
        .record(self.content(number, key: key, payload))
    }

    static func run(sent: [SentRecord], type: BusinessTypeID = 1, first: Int64 = 1) -> PushRun {
        PushRun(type: type, firstSynID: first, run: Self.fingerprint, before: first > 1 ? Self.fingerprint : .none, records: sent)
    }

    /// Records with these payloads, each of an entity of its own.
    static func run(_ payloads: [String], type: BusinessTypeID = 1, first: Int64 = 1) -> PushRun {
        let records = payloads.enumerated().map { offset, payload in
            let number = first + Int64(offset)
            return SentRecord.record(self.content(number, type: type, key: EntityKey("key:\(number)"), payload))
        }
        return self.run(sent: records, type: type, first: first)
    }

    static func pull(_ session: SessionID, cursor: Position = .start, recordsMax: Int = 1_000) -> PullRequest {
        PullRequest(
            session: session, logEpoch: 1, cursors: [1: cursor], recordsMax: recordsMax, bytesMax: 8 << 20,
            recordBytesMax: Self.recordBytesMax)
    }

    static func acknowledgement(_ session: SessionID) -> AcknowledgeRequest {
        AcknowledgeRequest(session: session, logEpoch: 1, positions: [:], outcomes: [])
    }

    static func comparison(_ session: SessionID, names: [EntityKey] = [], sendsAgain: Bool = false) -> CompareRequest {
        CompareRequest(session: session, logEpoch: 1, type: 1, names: names.map { EntityPlace(key: $0) }, sendsAgain: sendsAgain)
    }

    // MARK: - What is in it

    func row(_ id: ServerID) async throws -> ServerRow? {
        try await self.storage.withTransaction(.snapshot) { try await $0.server(id) }
    }

    func setStatus(_ status: ServerRow.Status) async throws {
        try await self.storage.withTransaction { transaction in
            guard var row = try await transaction.server(Self.branch) else { return }
            row.status = status
            #expect(try await transaction.replaceServer(row))
        }
    }

    /// How often each entity was applied.
    func effects() async throws -> [String: String] {
        try await self.storage.withTransaction(.snapshot) { $0.rows(ScriptedType.table) }
    }

    /// All records in the log of type 1.
    func log() async throws -> [SyncRecord] {
        try await self.storage.withTransaction(.snapshot) { transaction in
            try await transaction.logPage(
                ofType: 1, audience: .all, after: 0, limit: 10_000, bytesMax: 1 << 30, own: LogOwner(origin: .cloud, epoch: 0)
            ).records.map(\.record)
        }
    }

    /// Makes another branch push `records`, past the transport.
    /// - Returns: As they are in the log.
    func write(_ records: [SyncRecord], from branch: ServerID) async throws -> [SyncRecord] {
        let answer = try await self.hub.open(
            OpenRequest(nonce: "the other branch", software: "contract", types: []), from: branch)
        var others = records
        for index in others.indices {
            others[index].stream.origin = branch
            let number = answer.positions[1]?.number ?? 0
            others[index].synID += number
        }
        let run = Self.run(sent: others.map { .record($0) }, first: others.first?.synID ?? 1)
        let pushed = try await self.hub.push(PushRequest(session: answer.session, runs: [run]), from: branch)
        #expect(pushed.runs.first?.outcomes.map(\.disposition) == records.map { _ in .applied })
        return others
    }
}

/// A business type whose payloads say what is to become of them. All others are applied, and counted by entity.
private struct ScriptedType: RecordHandler, StateReader {
    typealias Transaction = InMemoryTransaction

    static let table = "effects"

    let definition: BusinessTypeDefinition

    init(id: BusinessTypeID, name: String, route: RouteKind) {
        self.definition = BusinessTypeDefinition(id: id, name: name, priority: Int(id.rawValue), route: route)
    }

    var reader: (any StateReader<InMemoryTransaction>)? { self }

    func payloads(of entities: [EntityID], locking: Bool, in transaction: InMemoryTransaction) async throws -> [EntityID: String] {
        entities.reduce(into: [:]) { $0[$1] = transaction.row(Self.table, $1.key.text) }
    }

    func deletion(of entity: EntityID) -> String? { "delete" }

    /// What no handler should throw.
    private struct BrokenMachine: Error {}

    func prepare(_ record: SyncRecord, scope: ServerID?) throws(RecordFault) -> PreparedRecord {
        for (prefix, fault) in [("refuse:", RecordFault.refused), ("missing:", RecordFault.missingDependency(detail:))]
            as [(String, (String) -> RecordFault)] where record.payload.hasPrefix(prefix)
        {
            throw fault(String(record.payload.dropFirst(prefix.count)))
        }
        return PreparedRecord(
            record: record, scope: self.definition.route.isScopedByHome ? scope ?? .cloud : .cloud,
            isDeletion: record.payload == "delete", isShared: false, content: 0)
    }

    func apply(_ records: [PreparedRecord], in transaction: InMemoryTransaction) async throws {
        for prepared in records {
            if prepared.record.payload == "break" { throw BrokenMachine() }
            let key = prepared.record.key.text
            let count = transaction.row(Self.table, key).flatMap { Int($0) } ?? 0
            try transaction.setRow(Self.table, key, "\(count + 1)")
        }
    }
}

/// An ``InMemoryStorage`` that a test can hold, or make fail, before any transaction begins.
public final class ControlledStorage: SyncStorage {
    public typealias Transaction = InMemoryTransaction

    private struct State {
        var gate: AsyncSemaphore?
        var failure: DataSyncError?
        var writes = 0
    }

    public let base: InMemoryStorage
    private let state = Mutex(State())
    private let arrivals = AsyncSemaphore(0)

    public init(_ base: InMemoryStorage = InMemoryStorage()) { self.base = base }

    public func withTransaction<Result: Sendable>(
        _ access: Access, _ body: (InMemoryTransaction) async throws -> Result
    ) async throws -> Result {
        let (gate, failure) = self.state.withLock { state in
            if access == .write { state.writes += 1 }
            return (state.gate, state.failure)
        }
        if let failure { throw failure }
        if let gate {
            self.arrivals.signal()
            try await gate.wait()
            gate.signal()
        }
        return try await self.base.withTransaction(access, body)
    }

    /// How many transactions that may write were begun.
    public var writes: Int { self.state.withLock { $0.writes } }

    /// From now on every transaction throws `error` and does nothing; with nil, none any more.
    public func fail(with error: DataSyncError?) { self.state.withLock { $0.failure = error } }

    /// From now on transactions wait, until ``release()`` or until they are cancelled.
    public func hold() {
        while self.arrivals.tryWait() {}
        self.state.withLock { $0.gate = AsyncSemaphore(0) }
    }

    public func release() {
        let gate = self.state.withLock { state in
            defer { state.gate = nil }
            return state.gate
        }
        gate?.signal()
    }

    /// Waits until a transaction waits, once for each that does.
    public func waitForArrival() async throws { try await self.arrivals.wait() }
}
