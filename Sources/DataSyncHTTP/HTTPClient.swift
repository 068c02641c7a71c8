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
        do {
            guard let answer = try await withTimeout(deadline, { try await self.perform(request) }) else {
                throw DataSyncError(.peerUnreachable, operation: "request", detail: "no answer within \(deadline)")
            }
            return answer
        } catch var error as DataSyncError {
            // Which address that was is the first thing that whoever reads it wants to know.
            let address = [request.url?.host, request.url?.port.map { "\($0)" }].compactMap { $0 }.joined(separator: ":")
            error.detail = "\(address): \(error.detail ?? "")"
            throw error
        }
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

        private struct State {
            var pending: [Int: Pending] = [:]
            /// Tasks that were cancelled, and so ended, before anybody waited for them.
            var endedEarly: Set<Int> = []
        }

        private let bytesMax: Int
        private let state = Mutex(State())

        init(bytesMax: Int) { self.bytesMax = bytesMax }

        func expect(_ task: Int, _ continuation: CheckedContinuation<Answer, any Error>) {
            let hasEnded = self.state.withLock { state in
                if state.endedEarly.remove(task) != nil { return true }
                state.pending[task] = Pending(continuation: continuation)
                return false
            }
            if hasEnded { continuation.resume(throwing: CancellationError()) }
        }

        func urlSession(_: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
            let isTooLong = self.state.withLock { state in
                guard let count = state.pending[dataTask.taskIdentifier]?.body.count else { return false }
                guard count + data.count <= self.bytesMax else {
                    state.pending[dataTask.taskIdentifier]?.isTooLong = true
                    return true
                }
                state.pending[dataTask.taskIdentifier]?.body.append(contentsOf: data)
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
            let known = self.state.withLock { state in
                let known = state.pending.removeValue(forKey: task.taskIdentifier)
                if known == nil { state.endedEarly.insert(task.taskIdentifier) }
                return known
            }
            guard let pending = known else { return }
            func fail(_ detail: String) {
                pending.continuation.resume(throwing: DataSyncError(.peerUnreachable, operation: "request", detail: detail))
            }
            if pending.isTooLong { return fail("the answer is longer than \(self.bytesMax) bytes") }
            // Only the task that waits cancels it: at its deadline, or because it was cancelled itself.
            if let error = error as? URLError, error.code == .cancelled {
                return pending.continuation.resume(throwing: CancellationError())
            }
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
            // On Linux most failures, an untrusted certificate among them, have one code: only libcurl's words tell them apart.
            default: "the network: \(error.localizedDescription) (\(error.errorCode))"
            }
        }
    }
}
