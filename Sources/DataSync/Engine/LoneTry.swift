/// That a receiver begins with one record alone, written down before it does: so a record that ends its receiver is found.
///
/// A process that dies over a chunk cannot say which record of it was to blame, and is given the same chunk again. Where that is
/// suspected each record has a transaction of its own, and what is said of it here is committed before and removed by that
/// transaction. What was begun with three times and never ended is given up: dead, with the reason `crash_suspect`.
package struct LoneTry: Hashable, Sendable {
    package var epoch: Int32
    package var number: Int64
    /// How many processes have begun with it, one after the end of the other.
    package var tries: Int
    /// Whether the one before it was given up and nothing has passed since. Then the fault may be the system's: this one is tried for
    /// an hour, and rarely, before it is given up too.
    var isAfterAnother: Bool
    /// When it was begun with last: running time of the database, in milliseconds.
    var time: Int64
    /// The process that began with it last, as that calls itself.
    var owner: Int64

    static let triesMax = 3
    /// How many more tries one has that comes after another, and how far apart they are, in milliseconds.
    static let probesMax = 12
    static let rest: Int64 = 300_000
    /// For how long it counts that another was given up.
    static let memory: Int64 = 3_600_000

    enum Verdict: Hashable, Sendable {
        /// Write this down, then try the record.
        case begin(LoneTry)
        /// It is not begun with again.
        case giveUp
        /// Its type is left alone for so long.
        case rest(Duration)
    }

    /// What is to be done with a record, where `noted` is what was written down last for its line.
    /// - Parameters:
    ///   - owner: The process that asks.
    ///   - lease: For how much longer whoever wrote that may be at work on it.
    static func verdict(epoch: Int32, number: Int64, noted: LoneTry?, age: Int64, by owner: Int64, lease: Duration) -> Verdict {
        if let noted, noted.owner != owner, lease > .zero { return .rest(lease) }
        guard let noted, noted.epoch == epoch, noted.number == number else {
            let isAfterAnother = noted.map { ($0.tries >= Self.triesMax || $0.isAfterAnother) && age - $0.time < Self.memory } ?? false
            return .begin(LoneTry(epoch: epoch, number: number, tries: 1, isAfterAnother: isAfterAnother, time: age, owner: owner))
        }
        var next = noted
        next.time = age
        // A process that is still there was not ended by it, whatever kept it from saying so.
        if noted.owner == owner { return .begin(next) }
        guard noted.tries < Self.triesMax + (noted.isAfterAnother ? Self.probesMax : 0) else { return .giveUp }
        let passed = age - noted.time
        if noted.tries >= Self.triesMax, passed < Self.rest { return .rest(.milliseconds(Self.rest - max(passed, 0))) }
        next.tries += 1
        next.owner = owner
        return .begin(next)
    }
}

extension LoneTry {
    /// As it is stored; nil for what this version did not write.
    package init?(text: String) {
        let fields = text.split(separator: " ").compactMap { Int64($0) }
        guard fields.count == 6, let epoch = Int32(exactly: fields[0]), let tries = Int(exactly: fields[2]) else { return nil }
        self.init(epoch: epoch, number: fields[1], tries: tries, isAfterAnother: fields[3] == 1, time: fields[4], owner: fields[5])
    }

    var text: String { "\(self.epoch) \(self.number) \(self.tries) \(self.isAfterAnother ? 1 : 0) \(self.time) \(self.owner)" }
}

/// What a process knows of those that came up before it on its database: where they ended again and again, something that they
/// applied may have ended them.
struct Start: Sendable {
    /// Whether it is written down that this process has come up.
    var isCounted = false
    /// Whether it is written down that it got through its work once.
    var isOver = false
    /// Whether those before it never got through theirs: then records are begun with alone.
    var isCareful = false

    /// So many times in a row are no coincidence.
    static let suspicious = 3
}
