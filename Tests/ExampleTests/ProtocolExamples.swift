import DataSync
import DataSyncIdentity
import Foundation
import Testing
import Yams

/// The messages that `Docs/protocol.md` and `Docs/openapi.yaml` show, read by what reads them on the wire.
@Suite struct ProtocolExamples {
    /// What stands in the JSON blocks of the protocol's sections about messages, in their order.
    private static let kinds: [any WireMessage.Type] = [
        JoinRequest.self, JoinAnswer.self, OpenRequest.self, OpenAnswer.self, PushRequest.self, PushAnswer.self, PullRequest.self, PullAnswer.self,
        AcknowledgeRequest.self, ErrorAnswer.self, RecoverRequest.self, RecoverAnswer.self, RecoverRequest.self, RecoverAnswer.self,
        CompareRequest.self, CompareAnswer.self,
        KeyRequest.self,
    ]

    private static let messages: [String: (request: any WireMessage.Type, answer: any WireMessage.Type)] = [
        "join": (JoinRequest.self, JoinAnswer.self), "open": (OpenRequest.self, OpenAnswer.self), "push": (PushRequest.self, PushAnswer.self),
        "pull": (PullRequest.self, PullAnswer.self), "acknowledge": (AcknowledgeRequest.self, AcknowledgeAnswer.self),
        "recover": (RecoverRequest.self, RecoverAnswer.self), "compare": (CompareRequest.self, CompareAnswer.self),
        "key": (KeyRequest.self, KeyAnswer.self),
    ]

    /// The JSON blocks of the protocol that are messages: all but those of the section about payloads.
    private func blocks() throws -> [String] {
        let text = try Repository.text("Docs/protocol.md")
        let payloads = try #require(text.range(of: "## 15. Payloads"))
        let versions = try #require(text.range(of: "## 16. Versions"))
        var blocks: [String] = []
        for part in [text[..<payloads.lowerBound], text[versions.lowerBound...]] {
            for rest in part.components(separatedBy: "```json\n").dropFirst() {
                blocks.append(try #require(rest.components(separatedBy: "```").first))
            }
        }
        return blocks
    }

    /// The examples of a path, by whether they are requests; nil where the answer is empty.
    private func examples() throws -> [(path: String, isRequest: Bool, value: Any)] {
        let document = try #require(try Yams.load(yaml: try Repository.text("Docs/openapi.yaml")) as? [String: Any])
        let paths = try #require(document["paths"] as? [String: Any])
        var examples: [(path: String, isRequest: Bool, value: Any)] = []
        for (path, item) in paths.sorted(by: { $0.key < $1.key }) where path.contains("/v1/") {
            let post = try #require((item as? [String: Any])?["post"] as? [String: Any])
            let answers = try #require(post["responses"] as? [String: Any])
            for (isRequest, holder) in [(true, post["requestBody"]), (false, answers["200"])] {
                let content = try #require((holder as? [String: Any])?["content"] as? [String: Any])
                let json = try #require(content["application/json"] as? [String: Any])
                var values = json["example"].map { [$0] } ?? []
                for example in (json["examples"] as? [String: Any] ?? [:]).sorted(by: { $0.key > $1.key }) {
                    values.append(try #require((example.value as? [String: Any])?["value"]))
                }
                #expect(!values.isEmpty, "\(path) has no example")
                examples += values.map { (String(path.split(separator: "/").last!), isRequest, $0) }
            }
        }
        return examples
    }

    /// Reads a message, writes it again, and sees that all of it is there: a member that nobody reads would be missing.
    private func check(_ kind: any WireMessage.Type, _ body: Data, _ comment: String) throws {
        let written = try JSONSerialization.jsonObject(with: Data(try kind.init(body: Array(body)).body))
        let shown = try JSONSerialization.jsonObject(with: body)
        #expect(self.holds(written, shown), "\(comment), \(kind): \(String(decoding: body, as: UTF8.self)) is read as \(written)")
    }

    /// Whether `whole` has every member of `part`, with the same value. What has a default may be written though it was not shown.
    private func holds(_ whole: Any, _ part: Any) -> Bool {
        if let part = part as? [String: Any] {
            guard let whole = whole as? [String: Any] else { return false }
            return part.allSatisfy { name, value in whole[name].map { self.holds($0, value) } ?? false }
        }
        if let part = part as? [Any] {
            guard let whole = whole as? [Any], whole.count == part.count else { return false }
            return zip(whole, part).allSatisfy { self.holds($0, $1) }
        }
        return (whole as? NSObject) == (part as? NSObject)
    }

    @Test func whatTheProtocolShowsAreMessages() throws {
        let blocks = try self.blocks()
        try #require(blocks.count == Self.kinds.count)
        for (index, (kind, block)) in zip(Self.kinds, blocks).enumerated() { try self.check(kind, Data(block.utf8), "block \(index + 1)") }
    }

    @Test func whatOpenAPIShowsAreTheMessagesOfTheProtocol() throws {
        let shown = try self.blocks().map { try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? NSObject) }
        for (path, isRequest, value) in try self.examples() {
            let kinds = try #require(Self.messages[path])
            let body = try JSONSerialization.data(withJSONObject: value)
            let what = "\(path), \(isRequest ? "request" : "answer")"
            try self.check(isRequest ? kinds.request : kinds.answer, body, what)
            let object = try #require(try JSONSerialization.jsonObject(with: body) as? NSObject)
            #expect(object == [:] as NSDictionary || shown.contains(object), "\(what) is not the example of the protocol: \(object)")
        }
    }

    @Test func openAPIHasEveryRequestOfTheProtocol() throws {
        #expect(Set(try self.examples().map(\.path)) == Set(Self.messages.keys))
    }
}
