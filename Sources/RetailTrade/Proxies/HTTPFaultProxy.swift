import Dispatch
import Foundation
import Synchronization

/// Stands between branches and the replicas of a cloud as a load balancer does, a replica by chance for each exchange, and treats whole
/// exchanges as bad proxies do: doubles them, holds them, swaps their answers, answers itself, breaks them off.
public final class HTTPFaultProxy: Sendable {
    /// What happens to one exchange.
    public enum Fault: Hashable, Sendable {
        case none
        /// Both copies arrive at the same instant, at two servers where there are two; the answer that comes first is passed on.
        case duplicate
        /// The request is passed on when so many other exchanges were answered.
        case holdRequest(others: Int)
        /// The client is cut off, and the request arrives when so many other exchanges were answered.
        case lateRequest(others: Int)
        /// The answer is passed on when so many other exchanges were answered.
        case holdAnswer(others: Int)
        /// This exchange and the next one get each other's answers.
        case swapAnswers
        /// Somebody else answers, in place of the server or although it has worked.
        case impostor(Impostor, hasArrived: Bool)
        /// Ends within the request, after this share of its bytes.
        case cutRequest(after: Double)
        /// Ends within the answer, after this share of its bytes.
        case cutAnswer(after: Double)

        /// What it is counted as; nil for none.
        public var kind: String? {
            switch self {
            case .none: nil
            case .duplicate: "doubled"
            case .holdRequest, .holdAnswer: "held"
            case .lateRequest: "late"
            case .swapAnswers: "swapped"
            case .impostor: "impostors"
            case .cutRequest, .cutAnswer: "halves"
            }
        }
    }

    public enum Impostor: CaseIterable, Sendable {
        case captivePortal, badGateway

        var answer: [UInt8] {
            let (status, type, body) =
                switch self {
                case .captivePortal: ("200 OK", "text/html", "<html><body>Please accept our terms of use.</body></html>")
                case .badGateway: ("502 Bad Gateway", "text/plain", "no replica answers")
                }
            return Array("HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)".utf8)
        }
    }

    private struct State {
        var dice: Dice
        var isCalm = true
        var counts: [String: Int] = [:]
        var listener: CInt = -1
        var open = OpenDescriptors()
    }

    private let servers: [ProxyAddress]
    private let choose: @Sendable (inout Dice) -> Fault
    private let exchanges: Exchanges
    private let state: Mutex<State>

    /// Listens at once.
    /// - Parameters:
    ///   - servers: The replicas. One that nobody listens at is passed over.
    ///   - seed: Decides which replica gets what, and is behind the dice for `choose`.
    ///   - holdMax: Nothing is held for longer, whatever else is answered.
    ///   - choose: Says for each exchange, while exchanges are disturbed, what happens to it.
    public init(
        at address: ProxyAddress, to servers: [ProxyAddress], seed: UInt64, holdMax: Duration = .seconds(2),
        choose: @escaping @Sendable (inout Dice) -> Fault
    ) throws {
        self.state = Mutex(State(dice: Dice(seed: seed)))
        self.servers = servers
        self.choose = choose
        self.exchanges = Exchanges(holdMax: holdMax)
        let listener = try Sockets.listen(at: address)
        self.state.withLock { $0.listener = listener }
        Thread.detachNewThread {
            while let client = Sockets.accept(listener) {
                self.state.withLock { $0.open.add(client) }
                Thread.detachNewThread { self.serve(client) }
            }
        }
    }

    /// Faults so far, by kind.
    public var counts: [String: Int] { self.state.withLock { $0.counts } }

    /// From now on exchanges are disturbed. Until then everything is passed on.
    public func disturb() {
        self.exchanges.set(isCalm: false)
        self.state.withLock { $0.isCalm = false }
    }

    /// From now on everything is passed on again; what was held is let go of.
    public func heal() {
        self.state.withLock { $0.isCalm = true }
        self.exchanges.set(isCalm: true)
    }

    /// Returns when so many exchanges wait for others.
    func waitUntilHolding(_ count: Int) { self.exchanges.waitUntilHolding(count) }

    public func stop() {
        self.heal()
        let listener = self.state.withLock { state in
            state.open.shutdownAll()
            defer { state.listener = -1 }
            return state.listener
        }
        guard listener >= 0 else { return }
        Sockets.shutdown(listener)
        close(listener)
    }

    // MARK: - One exchange

    private func serve(_ client: CInt) {
        var reader = HTTPMessageReader(client)
        while let request = reader.request() {
            let fault = self.state.withLock { state in
                let fault = state.isCalm ? .none : self.choose(&state.dice)
                if let kind = fault.kind { state.counts[kind, default: 0] += 1 }
                return fault
            }
            guard self.exchange(request, with: client, fault) else { break }
        }
        self.close(client)
    }

    /// - Returns: Whether the connection goes on.
    private func exchange(_ request: [UInt8], with client: CInt, _ fault: Fault) -> Bool {
        var isLast = false
        var answer: [UInt8]?
        switch fault {
        case .none, .swapAnswers: answer = self.exchanges.swap(self.ask(request), isOffering: fault == .swapAnswers)
        case .duplicate: answer = self.askTwice(request)
        case .holdRequest(let others):
            self.exchanges.hold(others: others)
            answer = self.ask(request)
        case .lateRequest(let others):
            Sockets.shutdown(client)
            self.exchanges.hold(others: others)
            _ = self.ask(request)
        case .holdAnswer(let others):
            answer = self.ask(request)
            self.exchanges.hold(others: others)
        case .impostor(let impostor, let hasArrived):
            if hasArrived { _ = self.ask(request) }
            (answer, isLast) = (impostor.answer, true)
        case .cutRequest(let share): self.begin(request[..<Int(share * Double(request.count))])
        case .cutAnswer(let share):
            answer = self.ask(request).map { Array($0[..<Int(share * Double($0.count))]) }
            isLast = true
        }
        guard let answer, Sockets.write(answer[...], to: client) else { return false }
        self.exchanges.noteAnswer()
        return !isLast
    }

    /// What a server answers; nil where it went away meanwhile.
    private func ask(_ request: [UInt8]) -> [UInt8]? {
        for server in self.serversByChance() {
            guard let descriptor = self.connect(to: server) else { continue }
            return self.ask(request, on: descriptor)
        }
        return Impostor.badGateway.answer
    }

    private func askTwice(_ request: [UInt8]) -> [UInt8]? {
        let order = self.serversByChance()
        let descriptors = [order[0], order[order.count > 1 ? 1 : 0]].compactMap { self.connect(to: $0) }
        let answers = Mutex<[[UInt8]?]>([])
        DispatchQueue.concurrentPerform(iterations: descriptors.count) { index in
            let answer = self.ask(request, on: descriptors[index])
            answers.withLock { $0.append(answer) }
        }
        return answers.withLock { $0 }.lazy.compactMap { $0 }.first
    }

    private func ask(_ request: [UInt8], on descriptor: CInt) -> [UInt8]? {
        defer { self.close(descriptor) }
        guard Sockets.write(request[...], to: descriptor) else { return nil }
        var reader = HTTPMessageReader(descriptor)
        return reader.answer()
    }

    private func begin(_ part: ArraySlice<UInt8>) {
        guard let descriptor = self.serversByChance().lazy.compactMap({ self.connect(to: $0) }).first else { return }
        Sockets.write(part, to: descriptor)
        self.close(descriptor)
    }

    private func serversByChance() -> [ProxyAddress] { self.state.withLock { self.servers.shuffled(using: &$0.dice) } }

    private func connect(to server: ProxyAddress) -> CInt? {
        guard let descriptor = Sockets.connect(to: server) else { return nil }
        self.state.withLock { $0.open.add(descriptor) }
        return descriptor
    }

    private func close(_ descriptor: CInt) { self.state.withLock { $0.open.close(descriptor) } }
}

extension HTTPFaultProxy.Fault {
    /// For this share of all exchanges any fault, all of them alike.
    public static func random(_ share: Double, using generator: inout some RandomNumberGenerator) -> Self {
        guard Double.random(in: 0..<1, using: &generator) < share else { return .none }
        let others = Int.random(in: 1...8, using: &generator)
        let after = Double.random(in: 0..<1, using: &generator)
        switch Int.random(in: 0..<8, using: &generator) {
        case 0: return .duplicate
        case 1: return .holdRequest(others: others)
        case 2: return .lateRequest(others: others)
        case 3: return .holdAnswer(others: others)
        case 4: return .swapAnswers
        case 5: return .impostor(.allCases.randomElement(using: &generator)!, hasArrived: Bool.random(using: &generator))
        case 6: return .cutRequest(after: after)
        default: return .cutAnswer(after: after)
        }
    }
}

/// What exchanges know of each other: how many were answered, and which of them wants to swap its answer.
private final class Exchanges: @unchecked Sendable {  // everything below is read and written under the condition's lock
    private final class Offer {
        var answer: [UInt8]?
        var isTaken = false

        init(_ answer: [UInt8]?) { self.answer = answer }
    }

    private let holdMax: Duration
    private let condition = NSCondition()
    private var isCalm = true
    private var answered = 0
    private var held = 0
    private var offer: Offer?

    init(holdMax: Duration) { self.holdMax = holdMax }

    func set(isCalm: Bool) {
        self.condition.withLock {
            self.isCalm = isCalm
            self.condition.broadcast()
        }
    }

    func noteAnswer() {
        self.condition.withLock {
            self.answered += 1
            self.condition.broadcast()
        }
    }

    /// Waits until so many others were answered, all is calm, or `holdMax` has passed.
    func hold(others: Int) {
        self.condition.withLock {
            let goal = self.answered + others
            self.wait { self.answered >= goal }
        }
    }

    /// Gives `answer` to an exchange that offers its own, and returns that; else returns `answer`.
    /// - Parameter isOffering: Whether to wait for such an exchange where none is there.
    func swap(_ answer: [UInt8]?, isOffering: Bool) -> [UInt8]? {
        self.condition.withLock {
            if let other = self.offer {
                self.offer = nil
                other.isTaken = true
                defer {
                    other.answer = answer
                    self.condition.broadcast()
                }
                return other.answer
            }
            guard isOffering else { return answer }
            let offer = Offer(answer)
            self.offer = offer
            self.wait { offer.isTaken }
            if self.offer === offer { self.offer = nil }
            return offer.answer
        }
    }

    func waitUntilHolding(_ count: Int) {
        self.condition.withLock { while self.held < count { self.condition.wait() } }
    }

    private func wait(until isDone: () -> Bool) {
        let end = Date(timeIntervalSinceNow: Double(self.holdMax.components.seconds) + Double(self.holdMax.components.attoseconds) / 1e18)
        self.held += 1
        self.condition.broadcast()
        while !isDone(), !self.isCalm, self.condition.wait(until: end) {}
        self.held -= 1
    }
}
