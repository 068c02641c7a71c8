import DataSync
import Testing

@Suite struct JSONReaderTests {
    private func string(_ json: String) throws -> String {
        var text = ""
        try JSONReader.read(json) { text = try $0.readString() }
        return text
    }

    private func integer<Integer: FixedWidthInteger>(_ json: String, _: Integer.Type = Integer.self) throws -> Integer {
        var number: Integer = 0
        try JSONReader.read(json) { number = try $0.readInteger() }
        return number
    }

    private func skip(_ json: String) throws { try JSONReader.read(json) { try $0.skipValue() } }

    // MARK: - Strings

    @Test(arguments: [
        (#""""#, ""), (#""a""#, "a"), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"), (#""\u0041\u00e9\u4E2d""#, "Aé中"),
        (#""\ud83d\ude00""#, "😀"), (#""\uD834\uDD1E!""#, "𝄞!"), (#""中é😀""#, "中é😀"), (#""\u0000""#, "\u{0}"), (#""é\n""#, "é\n"),
    ])
    func stringsAreReadWithTheirEscapes(json: String, expected: String) throws {
        #expect(Array(try self.string(json).utf8) == Array(expected.utf8))
    }

    @Test func spellingsOfOneCharacterStayApart() throws {
        #expect(Array(try self.string("\"e\u{301}\"").utf8) == [0x65, 0xCC, 0x81])
    }

    @Test(arguments: [
        #"""#, #""a"#, #""\"#, #""\x""#, #""\u12""#, #""\u12G4""#, #""\ud83d""#, #""\ud83dx""#, #""\ud83d\n""#, #""\ud83d\u0041""#,
        #""\ude00""#, "\"a\nb\"", "\"\u{1}\"", "a", "",
    ])
    func aStringThatIsNoneIsRefused(json: String) { #expect(throws: JSONReader.Failure.self) { try self.string(json) } }

    @Test(arguments: [[0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0x61, 0x80]] as [[UInt8]])
    func bytesThatAreNotUTF8AreRefused(bytes: [UInt8]) {
        for json in [[0x22] + bytes + [0x22], [0x22, 0x5C, 0x6E] + bytes + [0x22]] {
            #expect(throws: JSONReader.Failure.self) { try JSONReader.read(json) { _ = try $0.readString() } }
        }
    }

    // MARK: - Numbers

    @Test func integersAreExactToTheirExtremes() throws {
        #expect(try self.integer("\(Int64.max)") == Int64.max)
        #expect(try self.integer("\(Int64.min)") == Int64.min)
        #expect(try self.integer("\(UInt64.max)") == UInt64.max)
        #expect(try self.integer("9007199254740993") as Int64 == 9_007_199_254_740_993)
        #expect(try self.integer("-128") as Int8 == -128)
        #expect(try self.integer("-0") as Int64 == 0)
        #expect(try self.integer(" 7 ") as Int64 == 7)
    }

    @Test(arguments: [
        "9223372036854775808", "-9223372036854775809", "1.0", "1e3", "01", "-01", "+1", "-", "", "1x", "0x10", "99999999999999999999999", "\"1\"",
    ])
    func anIntegerThatIsNoneIsRefused(json: String) { #expect(throws: JSONReader.Failure.self) { try self.integer(json, Int64.self) } }

    @Test func anIntegerThatDoesNotFitIsRefused() {
        #expect(throws: JSONReader.Failure.self) { try self.integer("128", Int8.self) }
        #expect(throws: JSONReader.Failure.self) { try self.integer("-1", UInt8.self) }
        #expect(throws: JSONReader.Failure.self) { try self.integer("2147483648", Int32.self) }
    }

    @Test(arguments: ["0", "-0", "12.50", "1e-7", "-3.0E+10", "123456789012345678901234567890.123456789"])
    func numbersAreHandedOutAsTheyAreWritten(json: String) throws {
        var text: Substring = ""
        try JSONReader.read(json) { text = try $0.readNumber() }
        #expect(text == json)
    }

    @Test(arguments: ["1.", ".5", "1e", "1e+", "-", "--1", "1.e5", "NaN", "Infinity"])
    func aNumberThatIsNoneIsRefused(json: String) {
        #expect(throws: JSONReader.Failure.self) { try JSONReader.read(json) { _ = try $0.readNumber() } }
    }

    // MARK: - Structure

    @Test func repeatedKeysAreHandedOutForTheCallerToRefuse() throws {
        var keys: [String] = []
        try JSONReader.read(#"{"a": 1, "a": [true], "b": null}"#) { reader in
            try reader.readObject { reader, key in
                keys.append(key)
                try reader.skipValue()
            }
        }
        #expect(keys == ["a", "a", "b"])
    }

    @Test func aRawValueIsTheTextAsItIsWritten() throws {
        var raw = ""
        try JSONReader.read(#"{"a" : [ 1.50, {"é":"\n"} ] }"#) { reader in
            try reader.readObject { reader, _ in raw = try reader.readRawValue() }
        }
        #expect(raw == #"[ 1.50, {"é":"\n"} ]"#)
    }

    @Test func nestingIsBounded() throws {
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        try self.skip(nested(JSONReader.depthMax))
        #expect(throws: JSONReader.Failure.self) { try self.skip(nested(JSONReader.depthMax + 1)) }
        #expect(throws: JSONReader.Failure.self) { try self.skip(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: JSONReader.Failure.self) { try self.skip(String(repeating: #"{"a":"#, count: 1_000_000)) }
        // What was closed does not count.
        try self.skip("[" + Array(repeating: nested(JSONReader.depthMax - 1), count: 100).joined(separator: ",") + "]")
    }

    @Test(arguments: [
        "", " ", "{", "[", "{]", "[}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1,]", "[1 2]", "{\"a\":1 \"b\":2}", "{a:1}", "tru", "nul", "truee",
        "[1]]", "1 2", "{}{}", "'a'", "[,1]", "//", "\u{FEFF}{}",
    ])
    func whatIsNoJSONIsRefused(json: String) { #expect(throws: JSONReader.Failure.self) { try self.skip(json) } }

    @Test func aFailureSaysWhereAndNeverWhatStoodThere() {
        let failure = #expect(throws: JSONReader.Failure.self) { try self.skip(#"{"name": "ada@example.org" oops}"#) }
        #expect(failure?.offset == 27)
        #expect(failure.map { "\($0)" } == "',' or '}' was expected at byte 27")
    }
}

@Suite struct JSONWriterTests {
    @Test(arguments: ["", "a", "\"\\", "\u{0}\u{1}\u{1F}\n\r\t\u{8}", "中é😀e\u{301}\u{2028}", "/", String(repeating: "x\"", count: 1_000)])
    func whatIsWrittenIsReadAgain(text: String) throws {
        var writer = JSONWriter()
        writer.array { $0.string(text) }
        var read = ""
        try JSONReader.read(writer.bytes) { reader in try reader.readArray { read = try $0.readString() } }
        #expect(Array(read.utf8) == Array(text.utf8))
    }

    @Test func integersAreWrittenToTheirExtremes() {
        var writer = JSONWriter()
        writer.array { writer in
            writer.integer(0)
            writer.integer(Int64.max)
            writer.integer(Int64.min)
            writer.integer(UInt64.max)
            writer.integer(Int8.min)
            writer.integer(1_234_567_890)
        }
        #expect(writer.text == "[0,9223372036854775807,-9223372036854775808,18446744073709551615,-128,1234567890]")
    }

    @Test func structureIsSeparatedByCommas() {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("a", 1)
            writer.key("b")
            writer.array {
                $0.array { _ in }; $0.object { _ in }; $0.null(); $0.bool(false); $0.raw("1.50")
            }
            writer.key("c\"" as String)
            writer.string("x")
        }
        #expect(writer.text == #"{"a":1,"b":[[],{},null,false,1.50],"c\"":"x"}"#)
    }
}

@Suite struct PayloadEnvelopeTests {
    @Test func theBodyIsHandedOutAsItIsWritten() throws {
        let envelope = try PayloadEnvelope(#" { "upsert" : {"price": 12.50} } "#, kind: .state)
        #expect(envelope.verb == .upsert)
        #expect(envelope.body == #"{"price": 12.50}"#)
    }

    @Test(arguments: [
        "", "{}", "[]", "null", "1", #"{"upsert":{},"upsert":{}}"#, #"{"upsert":{},"delete":{}}"#, #"{"insert":{}}"#, #"{"upsert":}"#,
        #"{"upsert":{}"#, #"{"upsert":{}} x"#, #"{"act":{}}"#,
    ])
    func anyOtherShapeIsTheRecordsFault(payload: String) {
        let fault = #expect(throws: RecordFault.self) { try PayloadEnvelope(payload, kind: .state) }
        #expect(fault?.reason == .malformed)
    }

    @Test func theVerbFitsTheKind() throws {
        #expect(try PayloadEnvelope(#"{"act":{}}"#, kind: .action).verb == .act)
        #expect(throws: RecordFault.self) { try PayloadEnvelope(#"{"upsert":{}}"#, kind: .action) }
        #expect(try PayloadVerb(beginningOf: " {\t\"delete\": …") == .delete)
        #expect(throws: RecordFault.self) { try PayloadVerb(beginningOf: "{\"deleted\":1}") }
    }
}
