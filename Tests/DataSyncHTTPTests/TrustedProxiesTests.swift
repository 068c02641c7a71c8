@testable import DataSyncServer
import Testing

@Suite struct TrustedProxiesTests {
    @Test(
        arguments: [
            ("127.0.0.1", "127.0.0.1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("::FFFF:7f00:1", "127.0.0.1"), ("0:0:0:0:0:ffff:10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1"), ("proxy.lan", nil), ("", nil), ("1.2.3", nil),
            ("10.0.0.1:80", nil),
        ] as [(String, String?)])
    func anAddressHasOneForm(text: String, plain: String?) {
        #expect(TrustedProxies.plain(text) == plain)
        #expect(TrustedProxies.isAddress(text) == (plain != nil))
    }

    /// A socket for both versions shows who comes by IPv4 in the form of IPv6.
    @Test(
        arguments: [
            (["10.0.0.1"], "::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"), (["::ffff:10.0.0.1"], "10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
            (["10.0.0.1", "10.0.0.2"], "10.0.0.1", ["1.1.1.1, 203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
            (["10.0.0.1"], "10.0.0.1", ["1.1.1.1", "203.0.113.5"], "203.0.113.5"), (["10.0.0.1"], "10.0.0.1", ["10.0.0.1"], "10.0.0.1"),
            (["10.0.0.1"], "10.0.0.1", [], "10.0.0.1"), (["10.0.0.1"], "::ffff:10.0.0.2", ["203.0.113.5"], "10.0.0.2"),
            ([], "10.0.0.1", ["203.0.113.5"], "10.0.0.1"),
            (["2001:db8::1"], "2001:0DB8:0::1", ["2001:db8::00ff"], "2001:db8::ff"),
        ] as [([String], String, [String], String)])
    func whereARequestCameFrom(trusted: [String], peer: String, forwarded: [String], origin: String) {
        #expect(TrustedProxies(Set(trusted)).origin(peer: peer, forwarded: forwarded) == origin)
    }

    @Test func whatIsNoAddressIsNoLongerThanOne() {
        let origin = TrustedProxies(["10.0.0.1"]).origin(peer: "10.0.0.1", forwarded: [String(repeating: "x", count: 10_000)])
        #expect(origin == String(repeating: "x", count: 64))
    }
}
