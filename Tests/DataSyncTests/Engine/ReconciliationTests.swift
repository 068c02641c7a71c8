@testable import DataSync
import Testing

@Suite struct ReconciliationTests {
    // MARK: - Digests

    @Test(
        arguments: [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
            (String(repeating: "a", count: 1_000), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"),
        ])
    func theHashIsSHA256(text: String, expected: String) {
        let digits = Array("0123456789abcdef")
        let hex = String(SHA256Hash.hash(Array(text.utf8)).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
        #expect(hex == expected)
    }

    @Test(
        arguments: [
            ("100", "100"), ("100.00", "100"), ("1e2", "100"), ("+7", "7"), ("-0.0", "0"), ("-012.340", "-12.34"), ("5E-1", "0.5"), (".5", "0.5"), ("5.", "5"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"), ("1e-7", "0.0000001"), ("1e2000", "1e2000"), ("", nil), ("-", nil),
            ("1e", nil), ("1e1x", nil), ("1.2.3", nil), ("0x1", nil), ("1 ", nil), ("nan", nil), ("1e9999999", nil),
        ] as [(String, String?)])
    func aDecimalIsWrittenInOneWay(source: String, expected: String?) { #expect(DecimalText(source)?.text == expected) }

    @Test(
        arguments: [
            [
                #"{"upsert":{"a":1,"b":"x"}}"#, #"{ "upsert" : {"b":"x", "a":1.00} }"#, #"{"upsert":{"a":"1","b":"x","c":null}}"#,
                #"{"upsert":{"a":true,"b":"x"}}"#,
            ],
            [#"{"upsert":{"a":[1,null]}}"#, #"{"upsert":{"a":["1",null]}}"#], [#"{"upsert":{}}"#, #"{"upsert":{"a":null}}"#],
            [#"{"upsert":{"a":[{"b":0,"c":"1.5"}]}}"#, #"{"upsert":{"a":[{"c":15e-1,"b":false}]}}"#], ["set:17"],
        ])
    func theSameStateHasTheSameDigestHoweverItIsWritten(spellings: [String]) {
        #expect(Set(spellings.map { StateDigest(ofPayload: $0) }).count == 1)
    }

    @Test func differentStatesHaveDifferentDigests() {
        let states = [
            #"{"upsert":{"a":1}}"#, #"{"upsert":{"a":"1.0"}}"#, #"{"upsert":{"a":"01"}}"#, #"{"upsert":{"a":[1,null]}}"#, #"{"upsert":{"a":[null,1]}}"#,
            #"{"upsert":{"a":[1]}}"#, #"{"upsert":{"b":1}}"#, #"{"upsert":{"a":1,"b":1}}"#, #"{"upsert":{}}"#, #"{"delete":{}}"#, "set:17", "set:18",
            #"{"upsert":{"a":"é"}}"#, "{\"upsert\":{\"a\":\"e\u{301}\"}}", "",
        ]
        #expect(Set(states.map { StateDigest(ofPayload: $0) }).count == states.count)
    }

    @Test func theDigestOfARangeCountsNamesAndStates() {
        let (x, y) = (StateDigest(ofPayload: "x"), StateDigest(ofPayload: "y"))
        func range(_ entries: (Int32, String, StateDigest)...) -> StateDigest {
            StateDigest(of: entries.map { (place: EntityPlace(scope: ServerID(rawValue: $0.0), key: EntityKey($0.1)), digest: $0.2) })
        }
        let ranges = [
            range(), range((0, "a", x)), range((1, "a", x)), range((0, "b", x)), range((0, "a", y)), range((0, "a", x), (0, "b", y)),
            range((0, "a", y), (0, "b", x)),
        ]
        #expect(Set(ranges).count == ranges.count)
        #expect(StateDigest(hex: x.hex) == x)
    }

    // MARK: - Pages

    private static func states(_ keys: [String]) -> [EntityState] {
        keys.map { EntityState(id: EntityID(type: 2, scope: .cloud, key: EntityKey($0)), version: 1, origin: 1, home: 1, audience: .all) }
    }

    private static func page(_ keys: [String], after: String? = nil, isLast: Bool = true) -> ComparedPage {
        let states = self.states(keys)
        return ComparedPage(
            states, digests: Dictionary(uniqueKeysWithValues: states.map { ($0.id, StateDigest(ofPayload: $0.id.key.text)) }),
            after: after.map { EntityPlace(key: EntityKey($0)) }, isLast: isLast)
    }

    private static func entry(_ key: String, _ payload: String?) -> ComparedEntity {
        ComparedEntity(place: EntityPlace(key: EntityKey(key)), digest: payload.map { StateDigest(ofPayload: $0) })
    }

    @Test func aPageOfNothingAsksAboutEverything() throws {
        let page = Self.page([])
        #expect(page.ranges == [ComparedRange(range: EntityRange(), count: 0, digest: StateDigest(of: []))])
        let difference = try page.difference(from: CompareAnswer(ranges: [ComparedRangeAnswer(entries: [Self.entry("x", "1"), Self.entry("y", nil)])]))
        #expect(difference.suspects == [EntityPlace(key: "x")])
        #expect(difference.compared == 1)
        #expect(difference.next == .done)
    }

    @Test func aPageIsCutIntoRangesThatJoin() throws {
        let keys = (0..<450).map { "k\(1_000 + $0)" }
        let page = Self.page(keys, after: "a", isLast: false)
        #expect(page.ranges.map(\.count) == [200, 200, 50])
        #expect(page.ranges.map(\.range.after?.key.text) == ["a", "k1199", "k1399"])
        #expect(page.ranges.map(\.range.upTo?.key.text) == ["k1199", "k1399", "k1449"])
        #expect(Self.page(keys).ranges.last?.range.upTo == nil)
        // Fewer answers than ranges: it goes on behind them.
        let part = try page.difference(from: CompareAnswer(ranges: [ComparedRangeAnswer(), ComparedRangeAnswer()]))
        #expect(part.next == .from(EntityPlace(key: "k1399")))
        #expect(part.compared == 400)
        // An answer that is cut: what is behind it is asked about again.
        let cut = CompareAnswer(ranges: [
            ComparedRangeAnswer(entries: [Self.entry("k1000", "k1000"), Self.entry("k10001", "x")], end: EntityPlace(key: "k10001")), ComparedRangeAnswer(),
        ])
        let difference = try page.difference(from: cut)
        #expect(difference.suspects == [EntityPlace(key: "k10001")])
        #expect(difference.next == .from(EntityPlace(key: "k10001")))
        #expect(difference.compared == 2)
    }

    @Test func anAnswerThatDoesNotFitIsRefused() {
        let page = Self.page(["b", "d"], after: "a", isLast: false)
        for ranges in [
            [], [ComparedRangeAnswer(), ComparedRangeAnswer()], [ComparedRangeAnswer(entries: [Self.entry("c", "1"), Self.entry("b", "1")])],
            [ComparedRangeAnswer(entries: [Self.entry("b", "1"), Self.entry("b", "1")])], [ComparedRangeAnswer(entries: [Self.entry("a", "1")])],
            [ComparedRangeAnswer(entries: [Self.entry("e", "1")])], [ComparedRangeAnswer(entries: [], end: EntityPlace(key: "a"))],
            [ComparedRangeAnswer(entries: [Self.entry("c", "1")], end: EntityPlace(key: "b"))], [ComparedRangeAnswer(entries: [], end: EntityPlace(key: "x"))],
        ] {
            #expect(throws: DataSyncError.self) { try page.difference(from: CompareAnswer(ranges: ranges)) }
        }
    }

    // MARK: - Steps

    /// A type of which there is always more to be carried does not keep the others from being compared.
    @Test func aTypeThatNeverComesToRestIsLeft() {
        let definition = ItemType.product.definition
        var reconciliation = Reconciliation([(definition, nil)], repair: nil)
        #expect(reconciliation.report.isDone)
        for _ in 0..<Reconciliation.cyclesMax { #expect(reconciliation.next(isQuiet: false, standstill: nil) == .look(definition.id, after: nil)) }
        #expect(reconciliation.next(isQuiet: false, standstill: nil) == .wait)
        #expect(reconciliation.next(isQuiet: false, standstill: nil) == .finish)
        #expect(reconciliation.report.types.map(\.wasStopped) == [true])
        #expect(!reconciliation.report.isDone)
        #expect(!reconciliation.report.isEqual)
    }

    private static let product = ItemType.product.definition
    private static let order = ItemType.order.definition
    private static let suspect = EntityPlace(key: "x")

    private static func found(_ suspects: [EntityPlace], next: ComparedPage.Next = .done) -> ComparedPage.Difference {
        var difference = ComparedPage.Difference()
        difference.suspects = suspects
        difference.compared = 10
        difference.next = next
        return difference
    }

    @Test func everyTypeIsComparedToItsEnd() {
        var work = Reconciliation([(Self.product, nil), (ItemType.points.definition, "actions"), (Self.order, nil)], repair: nil)
        #expect(work.next(isQuiet: false, standstill: nil) == .look(2, after: nil))
        work.looked(Self.found([], next: .from(Self.suspect)))
        #expect(work.next(isQuiet: false, standstill: nil) == .look(2, after: Self.suspect))
        work.looked(Self.found([]))
        #expect(work.next(isQuiet: false, standstill: nil) == .look(3, after: nil))
        work.looked(Self.found([]))
        #expect(work.next(isQuiet: true, standstill: nil) == .finish)
        #expect(work.report.types.map(\.compared) == [20, 0, 10])
        #expect(work.report.isEqual)
    }

    @Test func aDifferenceIsLookedAtAgainAfterAQuietCycle() {
        var work = Reconciliation([(Self.product, nil)], repair: .cloud)
        _ = work.next(isQuiet: true, standstill: nil)
        work.looked(Self.found([Self.suspect]))
        #expect(work.next(isQuiet: false, standstill: nil) == .wait)
        #expect(work.next(isQuiet: true, standstill: nil) == .lookAgain(2, [Self.suspect]))
        #expect(work.lookedAgain([Self.suspect], [Self.suspect: .moving]) == [])
        #expect(work.next(isQuiet: true, standstill: nil) == .lookAgain(2, [Self.suspect]))
        #expect(work.lookedAgain([Self.suspect], [Self.suspect: .different(.onlyHere)]) == [Self.suspect])
        work.repaired([Self.suspect])
        #expect(work.next(isQuiet: true, standstill: nil) == .finish)
        #expect(work.report.differences.map(\.isRepaired) == [true])
        #expect(work.report.types.map(\.different) == [1])
        #expect(work.report.unrepaired == 0)
    }

    @Test func whatMovesOnAndOnIsLeft() {
        var work = Reconciliation([(Self.product, nil)], repair: nil)
        _ = work.next(isQuiet: true, standstill: nil)
        work.looked(Self.found([Self.suspect]))
        var looks = 0
        while case .lookAgain(_, let names) = work.next(isQuiet: true, standstill: nil) {
            looks += 1
            _ = work.lookedAgain(names, [Self.suspect: .moving])
        }
        #expect(looks == Reconciliation.looksMax)
        #expect(work.report.types.map(\.moving) == [1])
        #expect(!work.report.isEqual)
        #expect(work.report.unrepaired == 0)
    }

    @Test func aTypeThatStandsStillIsLeft() {
        var work = Reconciliation([(Self.product, nil), (Self.order, nil)], repair: nil)
        _ = work.next(isQuiet: true, standstill: nil)
        work.looked(Self.found([Self.suspect], next: .from(Self.suspect)))
        for _ in 0..<Reconciliation.looksMax { #expect(work.next(isQuiet: false, standstill: "a table is missing") == .wait) }
        #expect(work.next(isQuiet: false, standstill: nil) == .look(3, after: nil))
        #expect(work.report.types[0].notCompared == "it does not flow: a table is missing")
        #expect(work.report.summary.contains("product: 10 compared, all equal stopped: it does not flow"))
    }

    @Test func moreThanARequestTakesIsLookedAtInTurn() {
        var work = Reconciliation([(Self.product, nil)], repair: nil)
        _ = work.next(isQuiet: true, standstill: nil)
        let places = (0..<1_500).map { EntityPlace(key: EntityKey("k\(10_000 + $0)")) }
        work.looked(Self.found(places))
        var counts: [Int] = []
        while case .lookAgain(_, let names) = work.next(isQuiet: true, standstill: nil) {
            counts.append(names.count)
            _ = work.lookedAgain(names, Dictionary(uniqueKeysWithValues: names.map { ($0, .heldUp(by: .dead, isHere: true, memo: 1)) }))
        }
        #expect(counts == [1_000, 500])
        #expect(work.report.types.map(\.heldUp) == [1_500])
        #expect(work.report.differences.count == 1_000)
    }
}
