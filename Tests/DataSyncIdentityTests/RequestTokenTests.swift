import DataSync
@testable import DataSyncIdentity
import Foundation
import Testing

// Both sides of a signed exchange.

private struct Pair: Sendable {
    let cloudKey: MachineKey
    let branchKey: MachineKey
    let cloud: CloudIdentity
    let branch: BranchIdentity

    init(branchClock: Int64 = 0) throws {
        self.cloudKey = try MachineKey.generate()
        self.branchKey = try MachineKey.generate()
        self.cloud = CloudIdentity(key: self.cloudKey)
        var environment = SyncEnvironment.system
        environment.wallTime = { SyncEnvironment.system.wallTime() + branchClock * 1_000 }
        self.branch = BranchIdentity(branch: 7, key: self.branchKey, cloudKey: self.cloudKey.publicKey, environment: environment)
    }

    func verify(_ token: String?, _ request: SignedRequest) async throws -> CloudIdentity.Caller {
        try await self.cloud.verify(token, of: request) { branch, _ in branch == 7 ? self.branchKey.publicKey : nil }
    }
}

private let request = SignedRequest(path: "/v1/push", body: Array("body".utf8), session: SessionID(number: 4, epoch: 2))

@Test func theCloudKnowsWhoAskedWhatInWhichSession() async throws {
    let pair = try Pair()
    let (token, id) = try await pair.branch.sign(request)
    let caller = try await pair.verify(token, request)
    #expect(caller.branch == 7)
    #expect(caller.id == id)
    #expect(caller.session == SessionID(number: 4, epoch: 2))
    let (open, _) = try await pair.branch.sign(SignedRequest(path: "/v1/open", body: [], session: nil))
    #expect(try await pair.verify(open, SignedRequest(path: "/v1/open", body: [], session: nil)).session == nil)
}

@Test func aTokenIsGoodForOneRequestAlone() async throws {
    let pair = try Pair()
    let (token, _) = try await pair.branch.sign(request)
    for change in [
        { $0.method = "PUT" }, { $0.method = "post" }, { $0.path = "/v1/pull" }, { $0.path = "/v1/push/" }, { $0.path = "/datasync/v1/push" },
        { $0.body = Array("Body".utf8) }, { $0.body = [] }, { $0.body += [0] },
    ] as [(inout SignedRequest) -> Void] {
        var other = request
        change(&other)
        let changed = other
        let error = await #expect(throws: DataSyncError.self) { _ = try await pair.verify(token, changed) }
        #expect(error?.code == .unauthorized)
    }
    let error = await #expect(throws: DataSyncError.self) { _ = try await pair.verify(nil, request) }
    #expect(error?.code == .unauthorized)
}

@Test func anAnswerIsGoodForOneRequestOfOneBranch() async throws {
    let pair = try Pair()
    let (token, id) = try await pair.branch.sign(request)
    let caller = try await pair.verify(token, request)
    let body = Array("answer".utf8)
    let signature = try await pair.cloud.sign(status: 200, body: body, to: caller).token
    try await pair.branch.verify(signature, status: 200, body: body, request: id)
    let refusals: [@Sendable () async throws -> Void] = [
        { try await pair.branch.verify(signature, status: 201, body: body, request: id) },
        { try await pair.branch.verify(signature, status: 200, body: Array("Answer".utf8), request: id) },
        { try await pair.branch.verify(signature, status: 200, body: body, request: id.uppercased() + "0") },
        { try await pair.branch.verify(nil, status: 200, body: body, request: id) },
        { try await pair.branch.verify("", status: 200, body: body, request: id) },
        { try await pair.branch.verify(token, status: 200, body: body, request: id) },
        {
            let other = BranchIdentity(branch: 8, key: pair.branchKey, cloudKey: pair.cloudKey.publicKey)
            try await other.verify(signature, status: 200, body: body, request: id)
        },
        {
            let other = BranchIdentity(branch: 7, key: pair.branchKey, cloudKey: try MachineKey.generate().publicKey)
            try await other.verify(signature, status: 200, body: body, request: id)
        },
    ]
    for refusal in refusals {
        let error = await #expect(throws: DataSyncError.self) { try await refusal() }
        // An answer of somebody else is no answer, and tells nothing about the effect.
        #expect(error?.code == .peerUnreachable)
    }
}

/// A branch whose clock is wrong by years cannot judge the time of an answer; that it names the request is enough.
@Test(arguments: [-30 * 365 * 86_400, -7_200, 7_200, 30 * 365 * 86_400] as [Int64])
func aWrongClockIsPutRightByTheCloudsAnswer(seconds: Int64) async throws {
    let pair = try Pair(branchClock: seconds)
    let (token, id) = try await pair.branch.sign(request)
    let proof = try await pair.cloud.authenticate(token, method: request.method, path: request.path) { _, _ in pair.branchKey.publicKey }
    let skewed = #expect(throws: DataSyncError.self) { try proof.check(request.body) }
    #expect(skewed?.code == .clockSkew)
    // Whose body is another is not told the time.
    let wrong = #expect(throws: DataSyncError.self) { try proof.check([]) }
    #expect(wrong?.code == .unauthorized)
    #expect(proof.caller.branch == 7)
    let signature = try await pair.cloud.sign(status: 401, body: [], to: proof.caller).token
    try await pair.branch.verify(signature, status: 401, body: [], request: id)
    #expect(pair.branch.clockOffsetMilliseconds == 0)
    #expect(abs(pair.branch.adoptCloudTime() + seconds * 1_000) < 60_000)
    let (again, _) = try await pair.branch.sign(request)
    #expect(try await pair.verify(again, request).branch == 7)
}

/// Who has the cloud's key can sign any time; a branch that took it over would end by counting from it.
@Test(arguments: [Int64.max, .min, -1, 1 << 52])
func aTimeThatIsNobodysIsNotTakenOver(time: Int64) async throws {
    let pair = try Pair()
    let (_, id) = try await pair.branch.sign(request)
    let claims = AnswerClaims(id: id, issued: 1_700_000_000, expires: 1_700_000_060, subject: "7", status: 401, digest: Digest.body([]), time: time)
    let signature = try await claims.sign(with: pair.cloudKey, keyID: KeyID(.cloud, pair.cloudKey.publicKey).text)
    let error = await #expect(throws: DataSyncError.self) { try await pair.branch.verify(signature, status: 401, body: [], request: id) }
    #expect(error?.code == .peerUnreachable)
    #expect(pair.branch.adoptCloudTime() == 0)
    _ = try await pair.branch.sign(request)
}

@Test func aWrongTokenOfAnotherTimeIsNotToldTheTime() async throws {
    let pair = try Pair(branchClock: -7_200)
    let (token, _) = try await pair.branch.sign(request)
    var other = request
    other.path = "/v1/pull"
    let changed = other
    let error = await #expect(throws: DataSyncError.self) { _ = try await pair.verify(token, changed) }
    #expect(error?.code == .unauthorized)
}

@Test func noTwoTokensAreEqual() async throws {
    let pair = try Pair()
    var ids: Set<String> = []
    for _ in 0..<200 { ids.insert(try await pair.branch.sign(request).id) }
    #expect(ids.count == 200)
}

/// `kid` names one server and one key in one spelling.
@Test(arguments: ["07", "+7", " 7", "7", "-7", "8", "", "cloud"])
func aKeyIDHasOneSpelling(server: String) async throws {
    let pair = try Pair()
    var claims = RequestClaims(
        id: "0123456789", issued: SyncEnvironment.system.wallTime() / 1_000, expires: SyncEnvironment.system.wallTime() / 1_000 + 60, subject: "7",
        method: "POST", path: request.path, digest: Digest.body(request.body), session: nil, epoch: nil)
    claims.issuer = RequestClaims.expectedIssuer
    let token = try await claims.sign(with: pair.branchKey, keyID: "\(server)-\(pair.branchKey.publicKey.thumbprint)")
    let caller = try? await pair.verify(token, request)
    #expect((caller != nil) == (server == "7"))
}
