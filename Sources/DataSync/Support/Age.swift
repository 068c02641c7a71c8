import Synchronization

/// Running time as a database counts it: for how long somebody has worked on it, and not how late somebody's clock says it is.
///
/// What outlives a process is aged by it, and what is tried again is due by it: a wall clock that jumps by a year must neither end a
/// retention, nor bring a try early or hold it back. Each process adds the time for which it runs; of several replicas the one that
/// counted most is believed.
package struct Age: Sendable {
    /// What was read or written last, in milliseconds, and when that was, in running time of the process.
    private var base: (value: Int64, at: Duration)?
    /// When this process wrote it down last.
    private var notedAt: Duration?

    /// How often the count is written down, and so how much of it a crash may lose.
    static let interval: Duration = .seconds(60)

    /// What the database holds.
    package struct Noted: Sendable {
        package var age: Int64
        /// Milliseconds since 1970, by the clock of who wrote it.
        var wall: Int64

        init(age: Int64, wall: Int64) {
            self.age = age
            self.wall = wall
        }

        package init?(_ text: String) {
            let parts = text.split(separator: " ").map { Int64($0) }
            guard parts.count == 2, let age = parts[0], let wall = parts[1] else { return nil }
            self.init(age: age, wall: wall)
        }

        var text: String { "\(self.age) \(self.wall)" }

        /// What it is for who begins at `wall`.
        ///
        /// What passed since it was written is taken for running time, as much as a crash may have lost. Or time would stand still for
        /// what never runs for long, such as one cycle every few minutes, and nothing would be tried again. A clock that is wrong
        /// adds as much as that once for each start, or nothing.
        func age(from wall: Int64) -> Int64 {
            let (passed, isBeyond) = wall.subtractingReportingOverflow(self.wall)
            return self.age + (isBeyond ? 0 : min(max(passed, 0), Age.interval.milliseconds))
        }
    }

    /// Milliseconds; nil until it was read once.
    func value(at time: Duration) -> Int64? { self.base.map { $0.value + (time - $0.at).milliseconds } }

    /// Whether it is to be written down: by each process once when it begins, or what never runs for long would never count.
    func isDue(at time: Duration) -> Bool { self.notedAt.map { time - $0 >= Self.interval } ?? true }

    /// Takes in that it is written down.
    mutating func noted(at time: Duration) { self.notedAt = time }

    /// Takes in what the database says.
    /// - Returns: What it is now, which is never less.
    mutating func meet(_ noted: Noted?, at time: Duration, wall: Int64) -> Int64 {
        let value = self.value(at: time).map { max(noted?.age ?? 0, $0) } ?? noted?.age(from: wall) ?? 0
        self.base = (value, time)
        return value
    }
}

/// Now, by both clocks that tables are written by.
struct Moment: Sendable {
    /// Milliseconds since 1970, by the machine's clock: for what is shown.
    var wall: Int64
    /// Running time of the database, in milliseconds.
    var age: Int64
}

/// Both clocks of one database, for the process that works on it.
package final class DatabaseClock: Sendable {
    private let environment: SyncEnvironment
    private let known = Mutex(Age())

    package init(_ environment: SyncEnvironment) { self.environment = environment }

    /// The running time of the database, in milliseconds; it is read where this process has not read it before.
    package func age(in transaction: some SyncTransaction) async throws -> Int64 {
        if PlantedBug.isOn(.agedByWallClock) { return self.environment.wallTime() }
        let time = self.environment.runningTime()
        if let value = self.known.withLock({ $0.value(at: time) }) { return value }
        let noted = try await self.noted(in: transaction)
        return self.known.withLock { $0.meet(noted, at: time, wall: self.environment.wallTime()) }
    }

    /// Whether it is time to write it down.
    var isDue: Bool { self.known.withLock { $0.isDue(at: self.environment.runningTime()) } }

    /// Writes it down, for whoever comes after this process, and takes in what other processes have counted.
    func note(in transaction: some SyncTransaction) async throws {
        let noted = try await self.noted(in: transaction)
        let (time, wall) = (self.environment.runningTime(), self.environment.wallTime())
        let age = self.known.withLock { known in
            known.noted(at: time)
            return known.meet(noted, at: time, wall: wall)
        }
        try await transaction.putSetting(SettingName.age, Age.Noted(age: age, wall: wall).text)
    }

    private func noted(in transaction: some SyncTransaction) async throws -> Age.Noted? {
        try await transaction.setting(SettingName.age).flatMap { Age.Noted($0) }
    }

    func now(in transaction: some SyncTransaction) async throws -> Moment {
        Moment(wall: self.environment.wallTime(), age: try await self.age(in: transaction))
    }
}

extension SyncTransaction {
    /// When a moment of this database's running time is or was, in milliseconds since 1970: as well as that can be told by who does not
    /// work on it.
    package func wallTime(ofAge age: Int64, _ environment: SyncEnvironment) async throws -> Int64 {
        let now = try await DatabaseClock(environment).now(in: self)
        return now.wall + (age - now.age)
    }
}
