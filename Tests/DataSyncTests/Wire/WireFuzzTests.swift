import DataSync
import DataSyncTesting
import Testing

/// Valid bodies with something changed. Whatever comes in, it is a message or a typed error.
@Suite struct WireFuzzTests {
    private func mutate(_ body: inout [UInt8], using generator: inout SeededGenerator) {
        for _ in 0..<[1, 1, 1, 2, 3].randomElement(using: &generator)! {
            guard !body.isEmpty else { return }
            let index = Int.random(in: body.indices, using: &generator)
            let end = min(body.count, index + Int.random(in: 1...24, using: &generator))
            switch Int.random(in: 0..<12, using: &generator) {
            case 0: body[index] = UInt8.random(in: 0...255, using: &generator)
            case 1: body[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 2: body.remove(at: index)
            case 3: body.removeSubrange(index..<end)
            case 4: body.insert(contentsOf: body[index..<end], at: Int.random(in: body.indices, using: &generator))
            case 5: body.removeSubrange(index...)
            case 6: body.insert(contentsOf: Self.tokens.randomElement(using: &generator)!.utf8, at: index)
            default:
                // Another number where one stands.
                guard let digit = body[index...].firstIndex(where: { (0x30...0x39).contains($0) }) else { continue }
                body.replaceSubrange(digit...digit, with: Self.numbers.randomElement(using: &generator)!.utf8)
            }
        }
    }

    private static let tokens = [
        "{", "}", "[", "]", "\"", "\\", "\\u", "\\ud83d", ",", ":", "null", "true", "-", "0", "1e9", "\u{0}", "😀", #""void":true,"#, #""type":1,"#,
        #""omitted":"too_big","#, #"{"session":"#, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ]
    private static let numbers = ["0", "-1", "1", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "2147483648", "1.5", "00"]

    @Test("mutated bodies", arguments: [11, 12, 13, 14] as [UInt64])
    func aMutatedBodyIsAMessageOrATypedError(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let samples = WireSample.all.map { (message: $0, body: $0.body) }
        var readable = 0
        for _ in 0..<6_000 {
            let sample = samples.randomElement(using: &generator)!
            var body = sample.body
            self.mutate(&body, using: &generator)
            func check<Message: WireMessage & Hashable>(_: Message) throws {
                let message: Message
                do throws(DataSyncError) { message = try Message(body: body) } catch {
                    #expect(error.code == .peerInvalid)
                    return
                }
                readable += 1
                // What is taken in can be passed on, and means the same there.
                #expect(try Message(body: message.body) == message, "seed \(seed): \(String(decoding: body, as: UTF8.self))")
            }
            try check(sample.message)
        }
        // Mutations that are never readable, or always, would test little.
        #expect((600..<5_400).contains(readable), "\(readable) of 6,000 were readable")
    }

    @Test("mutated requests at a hub", arguments: [21, 22] as [UInt64])
    func aHubAnswersWhateverItIsAskedOrThrowsATypedError(seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        let company = try await Company(branches: [1, 2])
        let transport = company.agents[1]!.transport.base
        let session = try await transport.open(
            OpenRequest(nonce: "0123456789abcdef", software: "fuzz", types: [])
        ).session
        try await company.write(Item(id: 1, text: "x"), .product, at: .cloud)
        let records: [SentRecord] = try [
            .record(Sample.record(.product, 1, "a")), .record(Sample.record(.product, 2, "poison")), .void,
            .unsendable(uid: RecordUID(high: 1, low: 1), key: "product:3", reason: .damaged), .record(Sample.record(.product, 2, "b")),
        ]
        let push = PushRequest(
            session: session,
            runs: [
                PushRun(type: 2, firstSynID: 1, run: Fingerprint(rawValue: 1), records: records),
                PushRun(type: 6, firstSynID: 1, run: Fingerprint(rawValue: 1), records: [.record(try Sample.record(.points, 1, "c"))]),
                PushRun(type: 5, firstSynID: 1, run: Fingerprint(rawValue: 1), records: [.record(try Sample.record(.parcel, 1, "d", to: 2))]),
            ], asked: [RecordNumber(type: 2, epoch: 1, number: 2)]
        ).body
        let pull = PullRequest(
            session: session, logEpoch: 1, cursors: [2: .start, 6: .start], asked: [RecordNumber(type: 2, epoch: 1, number: 2)], recordsMax: 10,
            bytesMax: 1_000, recordBytesMax: 100
        ).body
        let acknowledge = AcknowledgeRequest(
            session: session, logEpoch: 1, positions: [2: Position(number: 1, fingerprint: .none)],
            outcomes: [NumberedOutcome(record: RecordNumber(type: 2, epoch: 1, number: 1), outcome: Outcome(.parked, reason: .refused, attempts: 1))]
        ).body
        let recover = RecoverRequest(session: session, epoch: 1, after: [2: 0, 6: 1]).body
        let empty = StateDigest(of: [])
        let compare = CompareRequest(
            session: session, logEpoch: 1, type: 2,
            ranges: [
                ComparedRange(range: EntityRange(upTo: EntityPlace(key: "product:1")), count: 0, digest: empty),
                ComparedRange(range: EntityRange(after: EntityPlace(key: "product:2")), count: 1, digest: empty),
            ], names: [EntityPlace(key: "product:1"), EntityPlace(scope: 2, key: "product:2")], sendsAgain: true
        ).body
        var answered = 0
        for _ in 0..<1_800 {
            var body = [push, push, pull, acknowledge, recover, compare].randomElement(using: &generator)!
            let (isPush, isPull, isRecover, isCompare) = (body == push, body == pull, body == recover, body == compare)
            self.mutate(&body, using: &generator)
            do {
                if isPush {
                    _ = try await transport.push(PushRequest(body: body))
                } else if isPull {
                    _ = try await transport.pull(PullRequest(body: body))
                } else if isCompare {
                    _ = try await transport.compare(CompareRequest(body: body))
                } else if isRecover {
                    let request = try RecoverRequest(body: body)
                    // A new epoch would end the session of all the others.
                    if !request.isEnd { _ = try await transport.recover(request) }
                } else {
                    _ = try await transport.acknowledge(AcknowledgeRequest(body: body))
                }
                answered += 1
            } catch let error as DataSyncError {
                #expect([.peerInvalid, .tooLarge, .fenced, .diverged].contains(error.code), "\(String(reflecting: error))")
            }
        }
        #expect(answered > 100, "\(answered) of 1,800 were answered")
        _ = try await company.hub.retryDue()
    }
}
