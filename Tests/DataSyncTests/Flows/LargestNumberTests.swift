import DataSync
import DataSyncTesting
import Synchronization
import Testing

/// A cloud that is broken, or not what it was, and answers with numbers that are nobody's.
@Suite struct LargestNumberTests {
    /// What is done to the numbers of answers, and which of them there were.
    private final class Numbers: Sendable {
        private struct State {
            var seen: Set<String> = []
            var place: String?
            var number = ""
            /// Answers that are still to be changed.
            var left = 0
            var changed = 0
            var calls = 0
        }
        private let state = Mutex(State())

        /// The places of all numbers that were met, such as `open.session.epoch`.
        var seen: Set<String> { self.state.withLock { $0.seen } }
        var changed: Int { self.state.withLock { $0.changed } }

        /// - Parameter number: As it is written in place of each number at `place`, in the first `answers` that have one.
        init(_ number: String = "", at place: String? = nil, answers: Int = 0) {
            self.state.withLock { ($0.number, $0.place, $0.left) = (number, place, answers) }
        }

        func take<Answer: WireMessage>(_ kind: String, _ answer: Answer) throws -> Answer {
            let calls = self.state.withLock { state in
                state.calls += 1
                return state.calls
            }
            guard calls < 5_000 else {
                Issue.record("the branch asks without an end: \(self.state.withLock { ($0.place ?? "", $0.number) })")
                throw CancellationError()
            }
            var text = ""
            var isChanged = false
            try JSONReader.read(answer.body) { reader in text = try self.rewrite(&reader, kind, &isChanged) }
            if isChanged {
                self.state.withLock { state in
                    state.left -= 1
                    state.changed += 1
                }
            }
            return try Answer(body: Array(text.utf8))
        }

        private func rewrite(_ reader: inout JSONReader, _ place: String, _ isChanged: inout Bool) throws -> String {
            var parts: [String] = []
            switch try reader.peek() {
            case .object:
                try reader.readObject { reader, name in parts.append("\"\(name)\":" + (try self.rewrite(&reader, "\(place).\(name)", &isChanged))) }
                return "{\(parts.joined(separator: ","))}"
            case .array:
                try reader.readArray { reader in parts.append(try self.rewrite(&reader, place, &isChanged)) }
                return "[\(parts.joined(separator: ","))]"
            case .number:
                let number = try reader.readRawValue()
                let other = self.state.withLock { state in
                    state.seen.insert(place)
                    return state.place == place && state.left > 0 ? state.number : nil
                }
                if other != nil { isChanged = true }
                return other ?? number
            case .string, .bool, .null: return try reader.readRawValue()
            }
        }
    }

    private struct ChangingTransport: SyncTransport {
        let base: FaultyTransport
        let numbers: Numbers

        func open(_ request: OpenRequest) async throws -> OpenAnswer { try await self.carry("open") { try await self.base.open(request) } }
        func push(_ request: PushRequest) async throws -> PushAnswer { try await self.carry("push") { try await self.base.push(request) } }
        func pull(_ request: PullRequest) async throws -> PullAnswer { try await self.carry("pull") { try await self.base.pull(request) } }
        func acknowledge(_ request: AcknowledgeRequest) async throws -> AcknowledgeAnswer {
            try await self.carry("acknowledge") { try await self.base.acknowledge(request) }
        }
        func recover(_ request: RecoverRequest) async throws -> RecoverAnswer { try await self.carry("recover") { try await self.base.recover(request) } }
        func compare(_ request: CompareRequest) async throws -> CompareAnswer { try await self.carry("compare") { try await self.base.compare(request) } }

        private func carry<Answer: WireMessage>(_ kind: String, _ call: () async throws -> Answer) async throws -> Answer {
            let answer: Answer
            do { answer = try await call() } catch let error as DataSyncError {
                throw try self.numbers.take("error", ErrorAnswer(error)).error(operation: "test")
            }
            return try self.numbers.take(kind, answer)
        }
    }

    /// Branch 1 as it lives with its cloud, in which each kind of answer comes with all of its members: records that are refused on both sides, a
    /// fault of the cloud's system, databases that are put back on both sides, a comparison. What fails is tried again, and no more.
    private func live(with numbers: Numbers) async throws {
        var limits = Company.eagerLimits
        limits.manifestRowsMax = 2
        limits.batchRecordsMax = 3
        var types = ItemType.all
        types[3].targets = .servers([1])
        var company = try await Company(branches: [1, 2], limits: limits) { _ in types }
        company.conduct(.cloud).cure("venom")
        func agent() throws -> Agent<FaultyStorage, ChangingTransport> {
            try Agent(
                server: 1, storage: company.storage(1), transport: ChangingTransport(base: company.agents[1]!.transport, numbers: numbers),
                types: types.map { $0.with(company.conduct(1)) }, limits: limits, environment: company.time.environment, logger: .silent)
        }
        func cycle(_ agent: Agent<FaultyStorage, ChangingTransport>, times: Int = 3) async throws {
            for _ in 0..<times {
                do { _ = try await agent.cycle() } catch let error as DataSyncError {
                    #expect(error.code != .storageFailed, "\(error)")
                    company.time.advance(by: .seconds(90_000))
                }
            }
        }
        var branch = try agent()
        for id in 1...3 { try await company.write(Item(id: id, text: "of 1"), .product, at: 1) }
        try await company.write(Item(id: 1, text: "+1"), .points, at: 1)
        try await company.write(Item(id: 1, text: "poison here"), .order, at: 1)
        try await company.write(Item(id: 2, text: "of 1"), .order, at: 1)
        try await company.write(Item(id: 5, text: "poison too"), .order, at: 1)
        try await company.write(Item(id: 1, text: "broken"), .visit, at: 1)
        try await company.write(Item(id: 1, text: "for 1"), .parcel, at: .cloud, to: 1)
        try await company.storage(.cloud).base.withTransaction { transaction in
            let row = try types[0].row(for: .upsert(Item(id: 15, text: "by somebody")))
            try await transaction.appendOutbox([NewOutboxRow(type: row.type, key: row.key, payload: row.payload, client: 3)])
        }
        for id in 11...13 { try await company.write(Item(id: id, text: "of the cloud"), .product, at: .cloud) }
        try await company.write(Item(id: 14, text: "venom"), .product, at: .cloud)
        try await cycle(branch, times: 1)
        company.conduct(.cloud).cure("broken")
        // How they stand is asked with a push, and with a pull where there is nothing to push.
        for (id, cured) in [(9, nil), (10, "poison here"), (nil, "poison too")] as [(Int?, String?)] {
            if let cured { company.conduct(.cloud).cure(cured) }
            company.time.advance(by: .seconds(3_600))
            _ = try await company.hub.retryDue()
            if let id { try await company.write(Item(id: id, text: "with a question"), .product, at: 1) }
            try await cycle(branch, times: 1)
        }
        // The cloud misses a number that it had, in the same session.
        try await company.storage(.cloud).base.withTransaction { transaction in
            for (epoch, positions) in try await transaction.positions(from: 1) {
                guard let position = positions[2]?.position else { continue }
                _ = try await transaction.movePosition(
                    from: 1, epoch: epoch, type: 2, expected: position.number, to: Position(number: position.number - 1, fingerprint: position.fingerprint))
            }
        }
        try await company.write(Item(id: 4, text: "behind a gap"), .product, at: 1)
        try await cycle(branch)
        company.link(1).once(.after(.pull)) { throw DataSyncError(.storageBusy, operation: "test", retryAfter: .seconds(1)) }
        try await cycle(branch)
        // The branch is put back.
        var backup = company.storage(1).base.backUp()
        try await company.write(Item(id: 5, text: "after the backup"), .product, at: 1)
        try await company.write(Item(id: 3, text: "after the backup"), .order, at: 1)
        try await company.write(Item(id: 4, text: "poison"), .order, at: 1)
        try await cycle(branch)
        company.storage(1).base.restore(backup)
        branch = try agent()
        try await company.write(Item(id: 6, text: "after the restore"), .product, at: 1)
        try await cycle(branch, times: 4)
        // The cloud is put back.
        backup = company.storage(.cloud).base.backUp()
        try await company.write(Item(id: 7, text: "after the backup"), .product, at: 1)
        try await company.write(Item(id: 3, text: "venom"), .points, at: .cloud)
        try await cycle(branch)
        company.storage(.cloud).base.restore(backup)
        try company.startAll(cloudTypes: types)
        try await company.hub.declareRestored(by: "test")
        branch = try agent()
        try await company.write(Item(id: 8, text: "after that"), .product, at: .cloud)
        try await cycle(branch, times: 4)
        // Tables are changed past DataSync.
        try await company.storage(1).base.withTransaction { transaction in
            for name in ["product", "order"] { try transaction.setRow(name, "\(name):2", "changed here") }
        }
        do { _ = try await branch.reconcile([2, 3], repair: .cloud, actor: "test") } catch is DataSyncError {}
        try await cycle(branch)
    }

    /// All numbers of the answers that there are.
    private static func places() throws -> Set<String> {
        let numbers = Numbers()
        _ = try numbers.take("open", WireSample.openAnswer)
        _ = try numbers.take("push", WireSample.pushAnswer)
        _ = try numbers.take("pull", WireSample.pullAnswer)
        _ = try numbers.take("recover", WireSample.recoverAnswer)
        _ = try numbers.take("compare", WireSample.compareAnswer)
        _ = try numbers.take("error", WireSample.errorAnswer)
        return numbers.seen
    }

    @Test func theLargestNumbersStopNoAgent() async throws {
        let honest = Numbers()
        try await self.live(with: honest)
        // In this life no range has so many entities that its answer ends before it. Outcomes are the same wherever they stand.
        let notMet: Set = ["compare.ranges.end.scope", "pull.outcomes.outcome.version", "recover.outcomes.outcome.version"]
        let missing = try Self.places().subtracting(honest.seen)
        #expect(missing == notMet)
        for place in honest.seen.sorted() {
            for number in ["\(Int64.max)", "\(Int64.min)", "\(Int32.max)", "\(Int32.min)"] {
                let numbers = Numbers(number, at: place, answers: 2)
                try await self.live(with: numbers)
                #expect(numbers.changed > 0, "\(place)")
            }
        }
    }

    /// A cloud that says that the branch has another epoch, and knows of nothing that was sent in it.
    private final class FarTransport: ForwardingTransport {
        let base: FaultyTransport
        private let epoch: Int32
        private let questions = Mutex(0)
        var asked: Int { self.questions.withLock { $0 } }

        init(_ base: FaultyTransport, epoch: Int32) {
            self.base = base
            self.epoch = epoch
        }

        func open(_ request: OpenRequest) async throws -> OpenAnswer {
            var answer = try await self.base.open(request)
            answer.session.epoch = self.epoch
            return answer
        }

        func recover(_ request: RecoverRequest) async throws -> RecoverAnswer {
            let asked = self.questions.withLock { questions in
                questions += 1
                return questions
            }
            guard asked < 5_000 else { throw DataSyncError(.peerUnreachable, operation: "test") }
            return RecoverAnswer(epoch: self.epoch)
        }
    }

    /// A branch asks for what it has forgotten epoch by epoch.
    @Test(arguments: [Int32.max, 1 << 30, 2_000])
    func anEpochThatNobodyComesNearIsNotAskedFor(epoch: Int32) async throws {
        let company = try await Company(branches: [1])
        try await company.settle()
        let transport = FarTransport(company.agents[1]!.transport, epoch: epoch)
        let agent = try Agent(
            server: 1, storage: company.storage(1), transport: transport, types: ItemType.all, limits: company.limits,
            environment: company.time.environment, logger: .silent)
        let error = await #expect(throws: DataSyncError.self) { try await agent.cycle() }
        #expect(error?.code == .peerInvalid)
        #expect(transport.asked == 0)
    }
}
