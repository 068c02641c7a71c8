import Synchronization

/// Running time as a database counts it: for how long somebody has worked on it, and not how late somebody's clock says it is.
///
/// What outlives a process is aged by it, such as what is kept for a retention: a wall clock that jumps by a year must not end
/// that. Each process adds the time for which it runs; of several replicas the one that counted most is believed.
struct Age: Sendable {
    /// What was read or written last, in milliseconds, and when that was, in running time of the process.
    private var base: (value: Int64, at: Duration)?

    /// How often the count is written down, and so how much of it a crash may lose.
    static let interval: Duration = .seconds(60)

    /// Milliseconds; nil until it was read once.
    func value(at time: Duration) -> Int64? { self.base.map { $0.value + (time - $0.at).milliseconds } }

    func isDue(at time: Duration) -> Bool { self.base.map { time - $0.at >= Self.interval } ?? true }

    /// Takes in what the database says.
    /// - Returns: What is to be written, which is never less.
    mutating func meet(stored: Int64, at time: Duration) -> Int64 {
        let value = max(stored, self.value(at: time) ?? 0)
        self.base = (value, time)
        return value
    }
}

/// Now, by both clocks that tables are written by.
struct Moment: Sendable {
    /// Milliseconds since 1970, by the machine's clock: for what is shown, and for waits that may be wrong once.
    var wall: Int64
    /// Running time of the database, in milliseconds.
    var age: Int64
}

/// Both clocks of one database, for the process that works on it.
final class DatabaseClock: Sendable {
    private let environment: SyncEnvironment
    private let known = Mutex(Age())

    init(_ environment: SyncEnvironment) { self.environment = environment }

    /// Reads the running time of the database, in milliseconds, and writes it down where that is due.
    func age(in transaction: some SyncTransaction) async throws -> Int64 {
        if PlantedBug.isOn(.agedByWallClock) { return self.environment.wallTime() }
        let time = self.environment.runningTime()
        var age = self.known.withLock { $0 }
        if let value = age.value(at: time), !age.isDue(at: time) { return value }
        let isFirst = age.value(at: time) == nil
        let stored = try await transaction.setting(SettingName.age).flatMap { Int64($0) } ?? 0
        let value = age.meet(stored: stored, at: time)
        if !isFirst, value > stored { try await transaction.putSetting(SettingName.age, String(value)) }
        let met = age
        self.known.withLock { $0 = met }
        return value
    }

    func now(in transaction: some SyncTransaction) async throws -> Moment {
        Moment(wall: self.environment.wallTime(), age: try await self.age(in: transaction))
    }
}
