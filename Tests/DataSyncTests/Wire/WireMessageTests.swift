import DataSync
import Testing

@Suite struct WireMessageTests {
    private func decode<Message: WireMessage>(_: Message.Type, _ json: String) throws -> Message { try Message(body: Array(json.utf8)) }

    private func again<Message: WireMessage>(_ message: Message) throws -> Message { try Message(body: message.body) }

    @Test(arguments: WireSample.all.indices)
    func aMessageIsReadAsItWasWritten(index: Int) throws {
        func check<Message: WireMessage & Hashable>(_ message: Message) throws {
            let copy = try self.again(message)
            #expect(copy == message)
            // `String` takes different spellings for equal: the bytes do not.
            #expect(copy.body == message.body)
        }
        try check(WireSample.all[index])
    }

    @Test func membersMayComeInAnyOrderAndUnknownOnesArePassedOver() throws {
        let message = try self.decode(
            OpenRequest.self, #" { "later":[{"a":null}], "types":[], "software":"s", "x":-1.5e9, "nonce":"n", "protocol":1 } "#)
        #expect(message == OpenRequest(protocolVersion: 1, nonce: "n", software: "s", types: []))
    }

    @Test func ofARepeatedMemberTheLastCounts() throws {
        // One reader reads what was signed: there is no second opinion that it could differ from.
        #expect(try self.decode(SessionID.self, #"{"number":1,"epoch":1,"number":2}"#).number == 2)
        #expect(throws: DataSyncError.self) {
            try self.decode(
                AcknowledgeRequest.self,
                #"{"session":{"number":1,"epoch":1},"log_epoch":1,"positions":[{"type":1,"number":1},{"type":1,"number":2}]}"#)
        }
    }

    @Test(arguments: ["", "{", "null", "[]", "\"\"", "{}", "{\"session\":null}", "{\"session\":{\"number\":1}}", "\u{FEFF}", "{} {}", "<html>502</html>"])
    func garbageIsATypedError(json: String) {
        func check<Message: WireMessage>(_: Message.Type) {
            let error = #expect(throws: DataSyncError.self, "\(Message.self)") { try self.decode(Message.self, json) }
            #expect(error?.code == .peerInvalid)
        }
        check(OpenRequest.self)
        check(OpenAnswer.self)
        check(PushRequest.self)
        check(PushAnswer.self)
        check(PullRequest.self)
        check(PullAnswer.self)
        check(AcknowledgeRequest.self)
        check(RecoverRequest.self)
        check(RecoverAnswer.self)
        check(CompareRequest.self)
        check(CompareAnswer.self)
        check(ErrorAnswer.self)
    }

    /// A sentence of the sample's JSON is exchanged for another.
    private func refuses<Message: WireMessage>(_ message: Message, _ old: String, _ new: String, _ location: SourceLocation = #_sourceLocation) {
        let json = String(decoding: message.body, as: UTF8.self)
        guard let range = json.firstRange(of: old) else { Issue.record("no \(old)", sourceLocation: location); return }
        let error = #expect(throws: DataSyncError.self, "\(old) → \(new)", sourceLocation: location) {
            try self.decode(Message.self, json.replacingCharacters(in: range, with: new))
        }
        #expect(error?.code == .peerInvalid, sourceLocation: location)
    }

    @Test func valuesOutOfTheirRangeAreRefused() {
        let push = WireSample.pushRequest
        self.refuses(push, #""number":9223372036854775807"#, #""number":0"#)
        self.refuses(push, #""number":9223372036854775807"#, #""number":9223372036854775808"#)
        self.refuses(push, #""type":3"#, #""type":0"#)
        self.refuses(push, #""type":3"#, #""type":-1"#)
        self.refuses(push, #""type":3"#, #""type":2147483648"#)
        self.refuses(push, #""first":9223372036854755807"#, #""first":9223372036854775807"#)
        self.refuses(push, #""first":9223372036854755807"#, #""first":0"#)
        self.refuses(push, #""run":"ffffffffffffffff""#, #""run":"fffffffffffffff""#)
        self.refuses(push, #""run":"ffffffffffffffff""#, #""run":"fffffffffffffffg""#)
        self.refuses(push, #""uid":"f"#, #""uid":""#)
        self.refuses(push, #""client":-128"#, #""client":-129"#)
        self.refuses(push, #""to":2147483647"#, #""to":-1"#)
        self.refuses(push, #""key":"kkk"#, #""key":"kkkk"#)
        self.refuses(push, #""unsendable":"damaged""#, #""unsendable":"sleepy""#)
        self.refuses(push, #""void":true"#, #""void":1"#)
        let pull = WireSample.pullRequest
        self.refuses(pull, #""records_max":9223372036854775807"#, #""records_max":0"#)
        self.refuses(pull, #""bytes_max":1"#, #""bytes_max":-1"#)
        self.refuses(pull, #""number":9223372036854775807"#, #""number":-1"#)
        let answer = WireSample.pushAnswer
        self.refuses(answer, #""is":"superseded""#, #""is":"lost""#)
        self.refuses(answer, #""attempts":3"#, #""attempts":256"#)
        self.refuses(answer, #""code":"gap""#, #""code":"hole""#)
        self.refuses(answer, #""code":"stopped","retry_after_ms":0"#, #""code":"stopped""#)
        self.refuses(answer, #""is":"parked","reason":"refused""#, #""is":"parked""#)
        self.refuses(WireSample.openRequest, #""kind":"state""#, #""kind":"mood""#)
        self.refuses(WireSample.pullAnswer, #""place":9223372036854775807"#, #""place":0"#)
    }

    @Test func aMemberThatIsNeededMustBeThere() {
        for member in [#""uid":"#, #""key":"#, #""time":"#, #""detail":"#, #""run":"#, #""records":"#, #""session":"#, #""runs":"#] {
            let plain = PushRequest(
                session: SessionID(number: 1, epoch: 1),
                runs: [
                    PushRun(
                        type: 3, firstSynID: 1, run: .none,
                        records: [.record(WireSample.record(StreamID(origin: .cloud, epoch: 1, type: 3), 1, "x"))])
                ])
            self.refuses(plain, member, member.replacing("\"", with: "\"x", maxReplacements: 1))
        }
    }

    @Test func whatNobodyNeedsForEverIsCutOff() throws {
        let stop = try self.decode(PushStop.self, #"{"code":"stopped","retry_after_ms":9223372036854775807}"#)
        #expect(stop == .stopped(retryAfter: .seconds(86_400)))
        #expect(try self.decode(PushStop.self, #"{"code":"quota","retry_after_ms":-5}"#) == .quota(retryAfter: .zero))
        let detail = String(repeating: "é", count: 300)
        #expect(try self.again(Outcome(.dead, reason: .refused, detail: detail)).detail?.unicodeScalars.count == 255)
        #expect(try self.decode(ErrorAnswer.self, #"{"error":"\#(detail)"}"#).code.count == 64)
    }

    @Test func anErrorOfTheCloudIsOneThatTheBranchKnows() {
        func roundTrip(_ code: DataSyncError.Code) -> DataSyncError.Code { ErrorAnswer(DataSyncError(code, operation: "x")).error(operation: "y").code }
        for code in [.fenced, .suspended, .unauthorized, .clockSkew, .tooLarge, .unsupportedProtocol, .peerInvalid, .overQuota] as [DataSyncError.Code] {
            #expect(roundTrip(code) == code)
        }
        // What happens inside the cloud is none of the branch's business: the cloud is away.
        for code in [.storageBusy, .storageUnavailable, .storageFailed, .invalidConfiguration] as [DataSyncError.Code] {
            #expect(roundTrip(code) == .peerUnreachable)
        }
    }

    // MARK: - Bounded memory

    @Test func anArrayOfMillionsIsRefusedBeforeItIsBuilt() {
        let flood = "[" + Array(repeating: "{}", count: 1_000_000).joined(separator: ",") + "]"
        #expect(throws: DataSyncError.self) { try self.decode(PushRequest.self, #"{"runs":\#(flood)}"#) }
        let voids = "[" + Array(repeating: #"{"void":true}"#, count: 20_001).joined(separator: ",") + "]"
        let error = #expect(throws: DataSyncError.self) {
            try self.decode(PushRun.self, #"{"type":1,"first":1,"run":"0000000000000001","records":\#(voids)}"#)
        }
        #expect(error?.detail?.contains("more than 20000 elements") == true)
    }

    @Test func manyRunsCannotHoldMoreRecordsThanOne() {
        let voids = "[" + Array(repeating: #"{"void":true}"#, count: 8_000).joined(separator: ",") + "]"
        let run = #"{"type":1,"first":1,"run":"0000000000000001","records":\#(voids)}"#
        #expect(throws: Never.self) { try self.decode(PushRequest.self, #"{"session":{"number":1,"epoch":1},"runs":[\#(run),\#(run)]}"#) }
        #expect(throws: DataSyncError.self) {
            try self.decode(PushRequest.self, #"{"session":{"number":1,"epoch":1},"runs":[\#(run),\#(run),\#(run)]}"#)
        }
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
        self[..<range.lowerBound] + text + self[range.upperBound...]
    }
}
