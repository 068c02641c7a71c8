import DataSync
import DataSyncHTTP
@testable import DataSyncIdentity
import DataSyncServer
import DataSyncTesting
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Testing

// How a branch is introduced, over the wire.

private func makeCloud() async throws -> NoteCloud {
    try TestCloud(Hub(storage: ControlledStorage(), types: [NoteType()]))
}

private func joining(
    _ cloud: NoteCloud, _ body: @escaping @Sendable (CloudEndpoint, NoteCloud) async throws -> Void
) async throws {
    try await cloud.serve { port in try await body(try CloudEndpoint("http://127.0.0.1:\(port)"), cloud) }
}

@Test func aBranchJoinsAndIsKnownFromThenOn() async throws {
    try await joining(try await makeCloud()) { endpoint, cloud async throws in
        let printed = try await cloud.enrolment.add(7, name: "Markt 1 · 市场", actor: "test").text
        let key = try MachineKey.generate()
        let joined = try await endpoint.join(try JoinToken(text: printed), key: key, software: "test 1")
        #expect(joined.answer.name == "Markt 1 · 市场")
        #expect(joined.answer.epoch == 1)
        #expect(joined.cloudKey == cloud.key.publicKey)
        #expect(joined.answer.cloudPublicKey == cloud.key.publicKey.text)
        let identity = BranchIdentity(branch: 7, key: key, cloudKey: joined.cloudKey)
        #expect(try await HTTPTransport(cloud: endpoint, identity: identity, limits: .patient).open(Ask.open).session.number == 1)
        // The secret is nowhere but on the paper.
        let secret = try JoinToken(text: printed).secret.revealed
        let row = try await cloud.hub.storage.withTransaction(.snapshot) { try await $0.server(7) }
        #expect(!String(describing: row).contains(secret))
        #expect(cloud.log.count(of: secret) == 0)
    }
}

@Test func aLostAnswerToAJoinIsAskedForAgain() async throws {
    try await joining(try await makeCloud()) { endpoint, cloud async throws in
        let token = try await cloud.enrolment.add(7, name: "b", actor: "test")
        let key = try MachineKey.generate()
        let first = try await endpoint.join(token, key: key, software: "test")
        let second = try await endpoint.join(token, key: key, software: "test")
        #expect(first.answer.name == second.answer.name)
        let error = await #expect(throws: DataSyncError.self) {
            try await endpoint.join(token, key: try MachineKey.generate(), software: "test")
        }
        #expect(error?.code == .unauthorized)
        // The one that was first is not disturbed.
        let identity = BranchIdentity(branch: 7, key: key, cloudKey: cloud.key.publicKey)
        _ = try await HTTPTransport(cloud: endpoint, identity: identity, limits: .patient).open(Ask.open)
    }
}

/// What is wrong with a join token is not said to whoever presents it.
@Test(arguments: ["secret", "branch", "unknown branch"])
func aWrongJoinTokenIsRefused(what: String) async throws {
    try await joining(try await makeCloud()) { endpoint, cloud async throws in
        let token = try await cloud.enrolment.add(7, name: "a", actor: "test")
        _ = try await cloud.enrolment.add(8, name: "b", actor: "test")
        let wrong: JoinToken =
            switch what {
            case "secret": JoinToken(server: 7, secret: Secret(String(repeating: "0", count: 32)), cloudThumbprint: token.cloudThumbprint)
            case "branch": JoinToken(server: 8, secret: token.secret, cloudThumbprint: token.cloudThumbprint)
            default: JoinToken(server: 9, secret: token.secret, cloudThumbprint: token.cloudThumbprint)
            }
        let error = await #expect(throws: DataSyncError.self) {
            try await endpoint.join(wrong, key: try MachineKey.generate(), software: "test")
        }
        #expect(error?.code == .unauthorized)
        #expect(error?.detail?.contains("ask for a new one") == true)
        #expect(!String(reflecting: error).contains(wrong.secret.revealed))
        // The right one is still good.
        _ = try await endpoint.join(token, key: try MachineKey.generate(), software: "test")
    }
}

@Test func aBranchDoesNotJoinACloudWhoseFingerprintIsAnother() async throws {
    try await joining(try await makeCloud()) { endpoint, cloud async throws in
        let token = try await cloud.enrolment.add(7, name: "a", actor: "test")
        let elsewhere = JoinToken(server: 7, secret: token.secret, cloudThumbprint: try MachineKey.generate().publicKey.thumbprint)
        let error = await #expect(throws: DataSyncError.self) {
            try await endpoint.join(elsewhere, key: try MachineKey.generate(), software: "test")
        }
        #expect(error?.code == .unauthorized)
        #expect(error?.detail?.contains("not the cloud that printed the join token") == true)
    }
}

/// A key in a header proves nothing; the signature must be made by it.
@Test func aJoinIsNotTakenFromWhoeverNamesTheCloudsKey() async throws {
    let fake = try FakeCloud()
    let trueKey = try MachineKey.generate()
    let answer = JoinAnswer(name: "b", epoch: 1, cloudPublicKey: trueKey.publicKey.text).body
    try await fake.serve { question in
        let request = try JoinRequest(body: question.request.body)
        let caller = try await CloudIdentity(key: fake.key).verify(question.token, of: question.request) { _, _ in MachinePublicKey(text: request.publicKey) }
        let signature = try await CloudIdentity(key: fake.key).sign(status: 200, body: answer, to: caller).token
        return FakeCloud.response(
            200, answer, headers: [.init("datasync-answer")!: signature, .init("datasync-key")!: trueKey.publicKey.text])
    } _: { port async throws in
        let token = JoinToken(server: 7, secret: Secret(String(repeating: "a", count: 32)), cloudThumbprint: trueKey.publicKey.thumbprint)
        let error = await #expect(throws: DataSyncError.self) {
            try await CloudEndpoint("http://127.0.0.1:\(port)").join(token, key: try MachineKey.generate(), software: "test")
        }
        #expect(error?.code == .peerUnreachable)
    }
}

@Test func aProxysAnswerToAJoinIsSaidToBeOne() async throws {
    let fake = try FakeCloud()
    try await fake.serve { _ in
        FakeCloud.response(502, Array("<html>".utf8))
    } _: { port async throws in
        let token = JoinToken(server: 7, secret: Secret(String(repeating: "a", count: 32)), cloudThumbprint: String(repeating: "b", count: 32))
        let error = await #expect(throws: DataSyncError.self) {
            try await CloudEndpoint("http://127.0.0.1:\(port)").join(token, key: try MachineKey.generate(), software: "test")
        }
        #expect(error?.code == .peerUnreachable)
        #expect(error?.detail?.contains("proxy") == true)
    }
}

@Test(arguments: [-5 * 3_600, 5 * 3_600])
func aBranchWhoseClockIsWrongCanJoin(seconds: Int) async throws {
    var cloud = try await makeCloud()
    cloud.environment = .wrong(by: .seconds(seconds))
    try await joining(cloud) { endpoint, cloud async throws in
        let token = try await cloud.enrolment.add(7, name: "a", actor: "test")
        #expect(try await endpoint.join(token, key: try MachineKey.generate(), software: "test").answer.name == "a")
    }
    #expect(cloud.log.count(of: "clockSkew") == 1)
}

/// A join is a few hundred bytes, and is read before anybody is known.
@Test(arguments: ["", "{}", "null", "{\"secret\":\"\(String(repeating: "x", count: 65))\",\"public_key\":\"\",\"software\":\"\"}"])
func aJoinThatIsNoneIsInvalid(text: String) async throws {
    let cloud = try await makeCloud()
    let stranger = try TestBranch(7, cloud: cloud.key)
    let token = try await stranger.token("/v1/join", Array(text.utf8))
    try await cloud.application().test(.router) { client async throws in
        #expect(try await client.ask("/v1/join", Array(text.utf8), token: token).summary == "400 invalid")
    }
}

@Test(arguments: ["", "AAAA", String(repeating: "A", count: 43), String(repeating: "_", count: 43)])
func aJoinWithAKeyThatIsNoneIsRefused(key: String) async throws {
    let cloud = try await makeCloud()
    let stranger = try TestBranch(7, cloud: cloud.key)
    let secret = try await cloud.enrolment.add(7, name: "a", actor: "test").secret
    let body = JoinRequest(secret: secret, publicKey: key, software: "test").body
    let token = try await stranger.token("/v1/join", body)
    try await cloud.application().test(.router) { client async throws in
        #expect(try await client.ask("/v1/join", body, token: token).summary == "401 unauthorized")
    }
    #expect(try await cloud.hub.storage.withTransaction(.snapshot) { try await $0.server(7)?.status } == .invited)
}
