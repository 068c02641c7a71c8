import Foundation

/// Where a proxy listens, or what lies behind it.
public enum ProxyAddress: Sendable {
    /// Of 127.0.0.1.
    case port(Int)
    case socket(String)
}

/// The few calls that a proxy needs, on blocking descriptors: each connection has threads of its own.
enum Sockets {
    static func listen(at address: ProxyAddress) throws -> CInt {
        try self.withAddress(address) { family, pointer, length in
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
            var yes: CInt = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
            if case .socket(let path) = address { unlink(path) }
            guard bind(descriptor, pointer, length) == 0, Foundation.listen(descriptor, 256) == 0 else {
                let reason = String(cString: strerror(errno))
                close(descriptor)
                throw TradeError("nobody can listen at \(address): \(reason)")
            }
            return descriptor
        }
    }

    /// The next connection; nil when nobody listens any more.
    static func accept(_ listener: CInt) -> CInt? {
        while true {
            let descriptor = Foundation.accept(listener, nil, nil)
            if descriptor >= 0 { return descriptor }
            guard [EINTR, ECONNABORTED, EMFILE].contains(errno) else { return nil }
        }
    }

    /// A connection; nil where nobody listens.
    static func connect(to address: ProxyAddress) -> CInt? {
        try? self.withAddress(address) { family, pointer, length in
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
            if Foundation.connect(descriptor, pointer, length) == 0 { return descriptor }
            close(descriptor)
            throw TradeError("nobody listens at \(address)")
        }
    }

    /// - Returns: Whether all of it went out.
    @discardableResult
    static func write(_ bytes: ArraySlice<UInt8>, to descriptor: CInt) -> Bool {
        var left = bytes
        while !left.isEmpty {
            let written = left.withUnsafeBytes { send(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
            guard written > 0 else { return false }
            left = left.dropFirst(written)
        }
        return true
    }

    /// Ends both directions: whoever waits on the descriptor learns it. It stays open.
    static func shutdown(_ descriptor: CInt) { _ = Foundation.shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Makes a later close a reset, which throws away what was not read yet.
    static func resetOnClose(_ descriptor: CInt) {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    private static func withAddress<Result>(
        _ address: ProxyAddress, _ body: (CInt, UnsafePointer<sockaddr>, socklen_t) throws -> Result
    ) throws -> Result {
        switch address {
        case .port(let port):
            var inet = sockaddr_in()
            inet.sin_family = sa_family_t(AF_INET)
            inet.sin_port = in_port_t(port).bigEndian
            inet.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            return try withUnsafePointer(to: &inet) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body(AF_INET, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        case .socket(let path):
            var unix = sockaddr_un()
            unix.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(path.utf8CString)
            guard bytes.count <= MemoryLayout.size(ofValue: unix.sun_path) else { throw TradeError("\(path) is too long for a socket") }
            withUnsafeMutableBytes(of: &unix.sun_path) { $0.copyBytes(from: bytes.map { UInt8(bitPattern: $0) }) }
            return try withUnsafePointer(to: &unix) { pointer in
                try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body(AF_UNIX, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
        }
    }
}

/// The descriptors of a proxy that are open, so that all of them can be let go of at once.
///
/// A descriptor is closed under the same lock under which others shut it down: its number is never that of somebody else by then.
struct OpenDescriptors {
    private var descriptors: Set<CInt> = []

    mutating func add(_ descriptor: CInt) { self.descriptors.insert(descriptor) }

    mutating func close(_ descriptor: CInt) {
        guard self.descriptors.remove(descriptor) != nil else { return }
        _ = Foundation.close(descriptor)
    }

    func shutdownAll() { for descriptor in self.descriptors { Sockets.shutdown(descriptor) } }
}
