import HTTPTypes
import Hummingbird
import NIOCore

/// The proxies whose word is taken for where a request came from.
public struct TrustedProxies: Sendable {
    private let addresses: Set<String>

    public init(_ addresses: Set<String>) { self.addresses = Set(addresses.map { Self.plain($0) ?? $0 }) }

    /// Whether `text` is an address that a connection can come from: a name never is.
    public static func isAddress(_ text: String) -> Bool { self.plain(text) != nil }

    /// An address as it is compared and shown: without a zone, IPv4 as itself where a socket for both shows it as IPv6, and IPv6 in its shortest form.
    static func plain(_ text: String) -> String? {
        guard let address = (try? SocketAddress(ipAddress: String(text.prefix { $0 != "%" }), port: 0))?.ipAddress else { return nil }
        return address.hasPrefix("::ffff:") && address.contains(".") ? String(address.dropFirst(7)) : address
    }

    /// Where a request came from: the connection, or what the nearest proxy that is not trusted told a trusted one.
    func origin(of request: Request, _ context: some RequestContext) -> String {
        guard let peer = (context as? any CallerAddressContext)?.callerAddress else { return "unknown" }
        return self.origin(peer: peer, forwarded: request.headers[values: HTTPField.Name("x-forwarded-for")!])
    }

    /// - Parameter forwarded: The values of `X-Forwarded-For`, in the order in which they stand there: the last is the one that the nearest proxy wrote.
    func origin(peer: String, forwarded: [String]) -> String {
        let peer = Self.plain(peer) ?? peer
        guard self.addresses.contains(peer) else { return peer }
        let path = forwarded.flatMap { $0.split(separator: ",") }.map { entry in
            let text = entry.filter { $0 != " " }
            // What a stranger wrote there goes into logs and the audit: no more than an address has room for.
            return Self.plain(text) ?? String(text.prefix(64))
        }
        return path.last { !self.addresses.contains($0) } ?? peer
    }
}
