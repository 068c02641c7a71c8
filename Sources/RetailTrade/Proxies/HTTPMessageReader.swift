import Foundation

/// Reads whole HTTP/1.1 messages from a connection, as the bytes that they are.
///
/// As much of RFC 9112 as an honest client and an honest server of JSON need: bodies by `Content-Length`, in chunks, or up to the end.
struct HTTPMessageReader {
    private let descriptor: CInt
    private var buffer: [UInt8] = []
    /// Longer messages are not read to their end.
    private let bytesMax = 64 << 20

    init(_ descriptor: CInt) { self.descriptor = descriptor }

    /// The next request; nil where the connection ended before it was whole.
    mutating func request() -> [UInt8]? {
        guard let head = self.head() else { return nil }
        // A client with a large body may wait until it is asked for it.
        if head.has("expect", "100-continue"), self.buffer.count == head.bytes {
            Sockets.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)[...], to: self.descriptor)
        }
        return self.message(head, endsWithConnection: false)
    }

    /// The next final answer; nil where the connection ended before it was whole.
    mutating func answer() -> [UInt8]? {
        while let head = self.head() {
            guard let status = head.status else { return nil }
            if (100..<200).contains(status) {
                self.buffer.removeFirst(head.bytes)
                continue
            }
            if status == 204 || status == 304 { return self.take(head.bytes) }
            return self.message(head, endsWithConnection: true)
        }
        return nil
    }

    // MARK: - Parts

    private struct Head {
        /// With the empty line at its end.
        var bytes: Int
        var lines: [Substring]

        var status: Int? {
            let words = self.lines.first?.split(separator: " ") ?? []
            return words.count > 1 && words[0].hasPrefix("HTTP/1.") ? Int(words[1]) : nil
        }

        func value(_ name: String) -> String? {
            for line in self.lines.dropFirst() {
                let parts = line.split(separator: ":", maxSplits: 1)
                if parts.count == 2, parts[0].lowercased() == name { return parts[1].trimmingCharacters(in: .whitespaces).lowercased() }
            }
            return nil
        }

        func has(_ name: String, _ value: String) -> Bool { self.value(name) == value }
    }

    private mutating func head() -> Head? {
        guard let end = self.find("\r\n\r\n", from: 0) else { return nil }
        let text = String(decoding: self.buffer[..<end], as: UTF8.self)
        return Head(bytes: end + 4, lines: text.split(separator: "\r\n"))
    }

    private mutating func message(_ head: Head, endsWithConnection: Bool) -> [UInt8]? {
        if head.has("transfer-encoding", "chunked") { return self.chunks(from: head.bytes) }
        if let length = head.value("content-length") { return Int(length).flatMap { self.take(head.bytes + $0) } }
        guard endsWithConnection else { return self.take(head.bytes) }
        while self.fill() {}
        return self.take(self.buffer.count)
    }

    private mutating func chunks(from start: Int) -> [UInt8]? {
        var next = start
        while let end = self.find("\r\n", from: next) {
            let digits = self.buffer[next..<end].prefix { $0 != UInt8(ascii: ";") }
            guard let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size >= 0, size < self.bytesMax else { return nil }
            next = end + 2
            if size > 0 {
                next += size + 2
                continue
            }
            // Behind the last chunk: fields, if there are any, and an empty line.
            while let end = self.find("\r\n", from: next) {
                defer { next = end + 2 }
                if end == next { return self.take(end + 2) }
            }
        }
        return nil
    }

    /// Where `text` begins, reading more until it is there.
    private mutating func find(_ text: String, from start: Int) -> Int? {
        let wanted = Array(text.utf8)
        var next = start
        while true {
            while next + wanted.count <= self.buffer.count {
                if self.buffer[next..<(next + wanted.count)].elementsEqual(wanted) { return next }
                next += 1
            }
            guard self.fill() else { return nil }
        }
    }

    private mutating func take(_ count: Int) -> [UInt8]? {
        guard count <= self.bytesMax else { return nil }
        while self.buffer.count < count { guard self.fill() else { return nil } }
        defer { self.buffer.removeFirst(count) }
        return Array(self.buffer[..<count])
    }

    private mutating func fill() -> Bool {
        guard self.buffer.count < self.bytesMax else { return false }
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(self.descriptor, &piece, piece.count)
        guard count > 0 else { return false }
        self.buffer += piece[..<count]
        return true
    }
}
