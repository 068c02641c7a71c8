/// What an agent knows, in this session, about its own stream of one type.
///
/// It decides from where to send, and whether the type may be pulled: not while a row was handed to the transport and
/// has no answer (rule 3). A pulled record would be compared with a local change of which nobody knows whether the cloud
/// has it.
public struct OutboundStream: Hashable, Sendable {
    /// Up to here every number was answered, and the answer is stored.
    public private(set) var answered: Int64
    /// Up to here rows may have reached the cloud.
    public private(set) var handed: Int64

    /// The next number to send.
    public private(set) var next: Int64

    /// What the cloud had when the session was opened. No copy of an older request can add to it: opening fences them.
    private let fenced: Int64

    /// - Parameters:
    ///   - answered: The number before the first that is not settled here.
    ///   - received: The cloud's position, told when the session was opened. It fences every older copy, so what is
    ///     above it has not reached the cloud and cannot any more; what is below it is sent again to learn what became
    ///     of it.
    public init(answered: Int64, received: Int64) {
        self.answered = answered
        self.handed = PlantedBug.isOn(.rule3ForgetsAtStart) ? answered : max(answered, received)
        self.next = answered + 1
        self.fenced = max(answered, received)
    }

    /// Whether rows were handed over of which nobody knows what became.
    public var isUnknown: Bool { self.handed > self.answered }

    /// Whether a copy of a request of this session may still bring the cloud rows that were not answered. Only a new session, which
    /// fences it, tells what became of them without sending them again.
    public var mayArriveLate: Bool { self.handed > max(self.answered, self.fenced) }

    /// The numbers up to `number` are about to be given to the transport.
    public mutating func handOver(through number: Int64) {
        precondition(number >= self.next, "a number is handed over twice")
        self.next = number + 1
        self.handed = max(self.handed, number)
    }

    /// The peer answered the numbers `first` to `last`: for the first `count` of them, and of the rest that it did not take them in.
    ///
    /// The rest stays unknown. The network may have doubled the request, and the other copy reach the cloud when it takes the type
    /// again.
    public mutating func takeAnswer(first: Int64, last: Int64, count: Int) {
        if count > 0 {
            precondition(first <= self.answered + 1, "an answer is taken in before the one that comes first")
            self.answered = max(self.answered, first + Int64(count) - 1)
        }
        if PlantedBug.isOn(.stopIsTheLastWord), self.handed <= last { self.handed = self.answered }
        if first + Int64(count) <= last { self.next = self.answered + 1 }
    }

    /// No answer came: what was handed over is sent again.
    public mutating func loseAnswer() { self.next = self.answered + 1 }
}
