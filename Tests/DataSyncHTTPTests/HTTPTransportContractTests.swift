import DataSync
import DataSyncHTTP
import DataSyncTesting
import Testing

/// URLSession on one side, Hummingbird on the other, a socket in between.
@Test("HTTP transport", arguments: TransportContract<HTTPTransport>.Case.allCases)
func http(_ testCase: TransportContract<HTTPTransport>.Case) async throws {
    try await TransportContract<HTTPTransport> { hub, branch, body in
        let cloud = try TestCloud(hub)
        let identity = try await cloud.enrol(branch).identity
        try await cloud.serve { port async throws in
            try await body(HTTPTransport(cloud: try CloudEndpoint("http://127.0.0.1:\(port)"), identity: identity, limits: .patient))
        }
    }.run(testCase)
}

/// As to a cloud on another machine that spares itself the compressing.
@Test(arguments: [TransportContract<HTTPTransport>.Case.recordsArriveByteForByte, .largeRecordsArriveByteForByte, .aFullBatchArrives])
func httpWithoutCompression(_ testCase: TransportContract<HTTPTransport>.Case) async throws {
    var limits = HTTPLimits.patient
    limits.isCompressing = false
    let plain = limits
    try await TransportContract<HTTPTransport> { hub, branch, body in
        let cloud = try TestCloud(hub)
        let identity = try await cloud.enrol(branch).identity
        try await cloud.serve { port async throws in
            try await body(HTTPTransport(cloud: try CloudEndpoint("http://127.0.0.1:\(port)"), identity: identity, limits: plain))
        }
    }.run(testCase)
}
