/// What a payload does, the one key of its JSON object.
public enum PayloadVerb: String, Sendable, CaseIterable {
    case upsert, delete, act

    /// The verb that `payload` begins with. The rest of it is not looked at.
    public init(beginningOf payload: String) throws(RecordFault) {
        let space: Set<UInt8> = [0x20, 0x09, 0x0A, 0x0D]
        var bytes = payload.utf8.drop { space.contains($0) }
        if bytes.first == UInt8(ascii: "{") {
            bytes = bytes.dropFirst().drop { space.contains($0) }
            for verb in Self.allCases where bytes.starts(with: "\"\(verb.rawValue)\"".utf8) {
                self = verb
                return
            }
        }
        throw .refused(.malformed, detail: "data_detail must be an object with one member, 'upsert', 'delete' or 'act'")
    }
}

/// The outer form of every payload that DataSync's own handlers read: `{"upsert": …}`, `{"delete": …}`, `{"act": …}`.
public struct PayloadEnvelope: Sendable {
    public var verb: PayloadVerb
    /// The JSON text of the value.
    public var body: String

    /// Reads `payload`; the body is checked to be JSON, but not read.
    public init(_ payload: String, kind: RecordKind) throws(RecordFault) {
        var found: (PayloadVerb, String)?
        do {
            try JSONReader.read(payload) { reader in
                try reader.readObject { reader, key in
                    guard found == nil, let verb = PayloadVerb(rawValue: key) else { throw Self.shapeFailure(reader) }
                    found = (verb, try reader.readRawValue())
                }
                guard found != nil else { throw Self.shapeFailure(reader) }
            }
        } catch { throw .refused(.malformed, detail: "data_detail: \(error)") }
        guard let (verb, body) = found, (verb == .act) == (kind == .action) else {
            throw .refused(.malformed, detail: "data_detail: '\(found?.0.rawValue ?? "")' does not fit a type of kind \(kind.rawValue)")
        }
        self.verb = verb
        self.body = body
    }

    /// One message for every wrong outer shape.
    public static func shapeFailure(_ reader: borrowing JSONReader) -> JSONReader.Failure {
        reader.failure("an object with one member, 'upsert', 'delete' or 'act', was expected")
    }
}
