import Foundation

/// Something that is struck again and again; one fault at a time, which has healed when `strike` returns. Blocking: each has a thread.
protocol SiegeTarget: Sendable {
    /// Taken for each strike, and by whoever holds it.
    var turn: Turn { get }
    func strike(using dice: inout Dice) throws
    /// Starts again what has ended by itself, as a service manager does.
    func tend() throws
}

/// An agent, or a replica of the cloud.
struct ProgramTarget: SiegeTarget {
    let name: String
    let daemon: Daemon
    let kill: SiegeEvent
    let isFreezing: Bool
    let tally: SiegeTally
    let turn = Turn()

    func strike(using dice: inout Dice) throws {
        if self.isFreezing, Int.random(in: 0..<8, using: &dice) == 0 {
            self.daemon.program?.freeze(true)
            Thread.sleep(forTimeInterval: Double.random(in: 1...5, using: &dice))
            self.daemon.program?.freeze(false)
            return self.tally.count(.freezes)
        }
        self.daemon.kill()
        self.tally.count(self.kill)
        Thread.sleep(forTimeInterval: Double.random(in: 0...0.3, using: &dice))
        try self.start()
    }

    func tend() throws {
        guard let program = self.daemon.program, program.ending != nil else { return }
        self.judge(program)
        try self.start()
    }

    /// Starts it, and again until it is ready.
    func start() throws {
        let start = ContinuousClock.now
        while true {
            try self.daemon.start()
            do {
                try self.daemon.program?.waitUntilReady(within: 120)
                return
            } catch {
                guard start.seconds < 1_200 else { throw error }
                if let program = self.daemon.program, program.ending != nil { self.judge(program) }
                self.daemon.kill()
                Thread.sleep(forTimeInterval: 0.2)
            }
        }
    }

    /// Giving up because a database, a lease or a port is not to be had is what a program may do: whoever started it starts it again.
    /// Any other end would leave a branch standing still, or is a crash.
    private func judge(_ program: RunningProgram) {
        // A bug of FoundationNetworking: it ends the process when a connection ends within the head of an answer.
        if program.logText.contains("Fatal error: Transfer completed, but there's no response") { return self.tally.count(.urlSessionCrashes) }
        self.tally.count(.restarts)
        guard let ending = program.ending, ![.exit(69), .exit(75)].contains(ending) else { return }
        self.tally.note(mishap: "\(self.name) ended by itself, with \(ending): \(program.logText.split(separator: "\n").last ?? "")")
    }
}

/// A database server: of the cloud, or of all branches.
struct DatabaseTarget: SiegeTarget {
    let server: MariaDBServer
    /// Whether anything but kills is done to it.
    let isVaried: Bool
    let tally: SiegeTally
    let turn = Turn()

    func strike(using dice: inout Dice) throws {
        let seconds = Double.random(in: 1...4, using: &dice)
        switch self.isVaried ? Int.random(in: 0..<14, using: &dice) : 13 {
        case 0:
            self.server.freeze(true)
            Thread.sleep(forTimeInterval: seconds)
            self.server.freeze(false)
            self.tally.count(.databaseFreezes)
        case 1:
            try self.administer("set global read_only = 1")
            Thread.sleep(forTimeInterval: seconds)
            try self.administer("set global read_only = 0")
            self.tally.count(.readOnly)
        case 2:
            // Less is not to be had; a few that do nothing leave room for one or two.
            try self.administer("set global max_connections = 10; kill user retail")
            let idle = (0..<8).compactMap { _ in try? self.server.occupy(seconds: seconds) }
            for process in idle { process.waitUntilExit() }
            try self.administer("set global max_connections = 300")
            self.tally.count(.noConnections)
        case 3 where self.server.disk != nil:
            try self.server.disk?.fill()
            Thread.sleep(forTimeInterval: seconds)
            try self.server.disk?.clear()
            self.tally.count(.fullDisks)
            try self.tend()
        default:
            self.server.kill()
            self.tally.count(.databaseKills)
            Thread.sleep(forTimeInterval: Double.random(in: 0...0.3, using: &dice))
            try self.server.start()
        }
    }

    func tend() throws {
        if self.server.isRunning { return }
        self.tally.count(.databaseRestarts)
        try self.server.start()
    }

    /// A server that has ended meanwhile starts with what it was given at first.
    private func administer(_ statements: String) throws {
        let start = ContinuousClock.now
        while self.server.isRunning {
            do { return try self.server.administer(statements) } catch {
                guard start.seconds < 600 else { throw error }
                Thread.sleep(forTimeInterval: 0.1)
            }
        }
    }
}
