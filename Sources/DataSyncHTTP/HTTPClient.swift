import DataSync
import Foundation
import FoundationNetworking
import Synchronization

/// One request at a time over URLSession, with a bound on everything: time, size, and where it goes.
///
/// URLSession keeps the connection alive between requests and inflates answers by itself. Redirects are not followed: a
/// request is signed for one path of one cloud.
final class HTTPClient: Sendable {
    struct Answer: Sendable {
        var status: Int
        /// As URLSession hands it out: inflated.
        var body: [UInt8]
        var headers: [String: String]
    }

    private let session: URLSession
    private let collector: Collector

    /// - Parameter answerBytesMax: A longer answer is broken off.
    init(answerBytesMax: Int, connectionTimeout: Duration) {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.httpCookieStorage = nil
        configuration.httpShouldSetCookies = false
        configuration.urlCache = nil
        configuration.urlCredentialStorage = nil
        configuration.httpMaximumConnectionsPerHost = 2
        configuration.timeoutIntervalForRequest = TimeInterval(connectionTimeout.components.seconds)
        self.collector = Collector(bytesMax: answerBytesMax)
        self.session = URLSession(configuration: configuration, delegate: self.collector, delegateQueue: nil)
    }

    deinit { self.session.invalidateAndCancel() }

    /// Sends a request and waits for the whole answer, at most for `deadline`.
    /// - Throws: `peerUnreachable`: nothing is known about the effect.
    func send(_ request: URLRequest, deadline: Duration) async throws -> Answer {
        let answer = try await withTimeout(deadline) { try await self.perform(request) }
        guard let answer else {
            throw DataSyncError(.peerUnreachable, operation: "request", detail: "no answer within \(deadline)")
        }
        return answer
    }

    private func perform(_ request: URLRequest) async throws -> Answer {
        let task = self.session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                self.collector.expect(task.taskIdentifier, continuation)
                task.resume()
            }
        } onCancel: {
            task.cancel()
        }
    }

    /// Puts the pieces of answers together. URLSession calls it on a queue of its own.
    private final class Collector: NSObject, URLSessionDataDelegate, Sendable {
        private struct Pending {
            var continuation: CheckedContinuation<Answer, any Error>
            var body: [UInt8] = []
            var isTooLong = false
        }

        private let bytesMax: Int
        private let pending = Mutex<[Int: Pending]>([:])

        init(bytesMax: Int) { self.bytesMax = bytesMax }

        func expect(_ task: Int, _ continuation: CheckedContinuation<Answer, any Error>) {
            self.pending.withLock { $0[task] = Pending(continuation: continuation) }
        }

        func urlSession(_: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
            let isTooLong = self.pending.withLock { pending in
                guard let count = pending[dataTask.taskIdentifier]?.body.count else { return false }
                guard count + data.count <= self.bytesMax else {
                    pending[dataTask.taskIdentifier]?.isTooLong = true
                    return true
                }
                pending[dataTask.taskIdentifier]?.body.append(contentsOf: data)
                return false
            }
            if isTooLong { dataTask.cancel() }
        }

        func urlSession(
            _: URLSession, task _: URLSessionTask, willPerformHTTPRedirection _: HTTPURLResponse, newRequest _: URLRequest,
            completionHandler: @escaping (URLRequest?) -> Void
        ) {
            completionHandler(nil)
        }

        func urlSession(_: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
            guard let pending = self.pending.withLock({ $0.removeValue(forKey: task.taskIdentifier) }) else { return }
            func fail(_ detail: String) {
                pending.continuation.resume(throwing: DataSyncError(.peerUnreachable, operation: "request", detail: detail))
            }
            if pending.isTooLong { return fail("the answer is longer than \(self.bytesMax) bytes") }
            if let error { return fail(Self.describe(error)) }
            guard let response = task.response as? HTTPURLResponse else { return fail("the answer is not HTTP") }
            var headers: [String: String] = [:]
            for (name, value) in response.allHeaderFields {
                if let name = name as? String, let value = value as? String { headers[name.lowercased()] = value }
            }
            pending.continuation.resume(returning: Answer(status: response.statusCode, body: pending.body, headers: headers))
        }

        private static func describe(_ error: any Error) -> String {
            guard let error = error as? URLError else { return "\(error)" }
            return switch error.code {
            case .cannotFindHost, .dnsLookupFailed: "the cloud's name cannot be resolved"
            case .cannotConnectToHost: "the cloud refuses the connection, or nobody listens there"
            case .timedOut: "no answer in time"
            case .networkConnectionLost: "the connection was lost"
            case .secureConnectionFailed, .serverCertificateUntrusted, .serverCertificateHasBadDate, .serverCertificateNotYetValid,
                .serverCertificateHasUnknownRoot:
                "the cloud's TLS certificate is not trusted by this machine"
            default: "error \(error.errorCode) of the network"
            }
        }
    }
}
