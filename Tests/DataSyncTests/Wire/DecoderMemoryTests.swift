import DataSync
import Testing

#if canImport(Glibc)
    import Glibc

    /// What a peer can make this process take up with one body: the largest that is read, of the shapes that cost most.
    ///
    /// Each message's sample, with one of its lists repeated until the body is full. In a process of its own, or other tests would be
    /// measured.
    @Suite struct DecoderMemoryTests {
        @Test func aBodyTakesUpTwiceItsLengthAtMost() async throws {
            let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) { ResidentMemory.measureAllMessages() }
            let lines = String(decoding: try #require(result).standardOutputContent, as: UTF8.self).split(separator: "\n")
            #expect(lines.count > 20)
            for line in lines {
                let ratio = try #require(line.split(separator: " ").first.flatMap { Double($0) })
                #expect(ratio <= 2, "\(line)")
            }
        }
    }

    enum ResidentMemory {
        /// Ends the process. One line for each body: what it took up in its own length, and its beginning.
        static func measureAllMessages() -> Never {
            // Or nothing would be measured.
            let growth = Self.growth { withExtendedLifetime([UInt8](repeating: 1, count: 32 << 20)) {} }
            guard growth > Double(30 << 20) else { exit(EXIT_FAILURE) }
            for sample in WireSample.all {
                for body in Self.blownUp(sample.body, to: 16 << 20) {
                    print("\(Self.ratio(sample, body)) \(type(of: sample)) \(String(decoding: body.prefix(200), as: UTF8.self))")
                }
            }
            exit(EXIT_SUCCESS)
        }

        private static func ratio<Message: WireMessage>(_: Message, _ body: [UInt8]) -> Double {
            Self.growth { _ = try? Message(body: body) } / Double(body.count)
        }

        /// Bytes that `body` takes up at most, beside what is there before.
        static func growth(_ body: () -> Void) -> Double {
            Self.giveBackFreeMemory()
            // The high-water mark begins anew (proc(5), /proc/pid/clear_refs).
            if let file = fopen("/proc/self/clear_refs", "w") {
                fputs("5", file)
                fclose(file)
            }
            let before = self.status("VmRSS:")
            body()
            return Double(self.status("VmHWM:") - before) * 1_024
        }

        /// What is free in the process would be used again, and not be seen as growth (malloc_trim(3), which Swift's module does not show).
        private static func giveBackFreeMemory() {
            typealias Trim = @convention(c) (Int) -> Int32
            guard let symbol = dlsym(UnsafeMutableRawPointer(bitPattern: 0), "malloc_trim") else { return }
            _ = unsafeBitCast(symbol, to: Trim.self)(0)
        }

        /// A line of `/proc/self/status`, in kB.
        private static func status(_ name: String) -> Int {
            guard let file = fopen("/proc/self/status", "r") else { return 0 }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 256)
            while fgets(&line, Int32(line.count), file) != nil {
                let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if text.hasPrefix(name) { return Int(text.dropFirst(name.count).filter(\.isNumber)) ?? 0 }
            }
            return 0
        }

        /// The body as often as it has lists that are not empty, with the first element of one of them again and again.
        static func blownUp(_ body: [UInt8], to bytesMax: Int) -> some Sequence<[UInt8]> {
            body.indices.lazy.filter { body[$0] == UInt8(ascii: "[") }.compactMap { start in
                guard let end = self.endOfElement(in: body, from: start + 1), end > start + 1 else { return nil }
                let element = body[(start + 1)..<end] + [UInt8(ascii: ",")]
                var blownUp = Array(body[...start])
                blownUp.reserveCapacity(bytesMax)
                while blownUp.count + element.count + body.count <= bytesMax { blownUp += element }
                return blownUp + body[(start + 1)...]
            }
        }

        /// Where the value that begins at `start` ends; nil where none does.
        private static func endOfElement(in body: [UInt8], from start: Int) -> Int? {
            var (depth, isText, index) = (0, false, start)
            while index < body.count {
                switch body[index] {
                case UInt8(ascii: "\\") where isText: index += 1
                case UInt8(ascii: "\""): isText.toggle()
                case UInt8(ascii: "["), UInt8(ascii: "{"): if !isText { depth += 1 }
                case UInt8(ascii: "]"), UInt8(ascii: "}"):
                    if !isText, depth == 0 { return index }
                    if !isText { depth -= 1 }
                case UInt8(ascii: ","): if !isText, depth == 0 { return index }
                default: break
                }
                index += 1
            }
            return nil
        }
    }
#endif
