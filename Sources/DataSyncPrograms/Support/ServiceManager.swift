import Foundation
import ServiceLifecycle

/// Tells the service manager that started this process how it is doing, in datagrams to the socket that `NOTIFY_SOCKET` names: the
/// protocol of sd_notify(3).
package struct ServiceManager: Sendable {
    private let path: String
    /// Within which it wants to hear that the process gets on; nil if it does not watch.
    package let watchdog: Duration?

    /// Nil where nobody wants to be told.
    package init?(_ environment: [String: String] = ProcessInfo.processInfo.environment) {
        guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@"), path.utf8.count < Self.pathBytesMax else { return nil }
        self.path = path
        // It may be meant for another process, which left it in the environment of this one.
        let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
        self.watchdog = isMeant && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    private static let pathBytesMax = MemoryLayout.size(ofValue: sockaddr_un().sun_path)

    /// Nothing depends on its arrival: a manager that does not hear it acts by what it was told before.
    package func tell(_ state: String) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            bytes.copyBytes(from: self.path.utf8)
            // A name that is no file's begins with a zero byte.
            if self.path.hasPrefix("@") { bytes[0] = 0 }
        }
        let length = socklen_t(MemoryLayout.offset(of: \sockaddr_un.sun_path)! + self.path.utf8.count)
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                state.withCString { sendto(descriptor, $0, strlen($0), Int32(MSG_NOSIGNAL), address, length) }
            }
        }
    }
}

/// Tells the service manager that the process is ready, that it gets on, and that it ends.
///
/// The watchdog is fed by progress alone: when `steps` has grown since the last look. A process that is up, and whose loop waits for
/// something that never comes, is started again.
package struct Watchdog: Service {
    private let manager: ServiceManager
    private let steps: @Sendable () -> UInt64

    /// - Parameter steps: How many steps have ended so far; 0 until the process is ready.
    package init(_ manager: ServiceManager, steps: @escaping @Sendable () -> UInt64) {
        self.manager = manager
        self.steps = steps
    }

    package func run() async throws {
        try await cancelWhenGracefulShutdown { try await self.watch() }
        self.manager.tell("STOPPING=1")
    }

    private func watch() async throws {
        var seen: UInt64 = 0
        while !Task.isCancelled {
            let steps = self.steps()
            if steps != seen { self.manager.tell(seen == 0 ? "READY=1\nWATCHDOG=1" : "WATCHDOG=1") }
            seen = steps
            let pause: Duration = seen == 0 ? .milliseconds(50) : min((self.manager.watchdog ?? .seconds(40)) / 4, .seconds(10))
            do { try await Task.sleep(for: pause) } catch is CancellationError { return }
        }
    }
}
