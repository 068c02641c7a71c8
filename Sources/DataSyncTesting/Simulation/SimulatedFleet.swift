public import DataSync
import Logging

/// How large a simulated fleet is, how much it writes and how much goes wrong; drawn from a seed.
public struct SimulationPlan: Sendable {
    public var branches: Int
    public var replicas: Int
    /// How long things go wrong, in microseconds.
    public var dayTime: Int64
    public var faultTime: Int64 { self.dayTime + self.night }
    /// How many entities of each type there are: few, so that changes meet.
    public var entities: Int
    /// How long an application rests between two changes, at most, in microseconds.
    public var restMax: Int64
    /// How long an agent rests between two cycles, at most, in microseconds.
    public var cycleRestMax: Int64
    public var writesMax: Int
    public var database = DatabaseFaults()
    public var link = LinkFaults()
    /// Of a thousand changes, how many a server refuses for ever, at times, or calls too early.
    public var refusedAlways: Int
    public var refusedAtTimes: Int
    public var early: Int
    /// How long until the next thing is done to the fleet, at most, in microseconds.
    public var calmMax: Int64
    /// What the applications write about: all types, or few, so that changes meet.
    public var types: [BusinessTypeID]
    /// For how long an application keeps a transaction open, at most, in microseconds, and in how many of a hundred changes.
    public var holdMax: Int64
    public var holds: Int
    /// Of a hundred things that are done to the fleet, how many are a fault of the cloud's system that stops a type.
    public var breakdowns: Int
    /// How long such a fault lasts, at most, in microseconds.
    public var breakdownMax: Int64 = 3_000_000
    /// Hours or days in the middle, in microseconds, in which little is done and branches are offline; 0 for none.
    public var night: Int64
    public var limits = SyncLimits()

    public init(using executor: SimulatedExecutor) {
        self.branches = executor.pick([3, 3, 3, 4, 4, 5, 6, 8])
        self.replicas = executor.random(1...3)
        self.dayTime = executor.random(Int64(6_000_000)...16_000_000)
        self.entities = executor.random(1...3)
        self.restMax = executor.pick([40_000, 200_000, 900_000])
        self.cycleRestMax = executor.pick([30_000, 150_000, 800_000, 2_000_000])
        self.writesMax = executor.random(8...max(12, 130 / self.branches))
        self.database.busy = executor.pick([0, 500, 4_000])
        self.database.cut = executor.pick([0, 200, 1_500])
        self.database.unknownCommit = executor.pick([0, 5_000, 40_000])
        self.database.slow = executor.pick([0, 3_000, 20_000])
        self.link.lostRequest = executor.pick([0, 10_000, 60_000])
        self.link.lostAnswer = executor.pick([0, 10_000, 60_000])
        self.link.duplicate = executor.pick([0, 10_000, 60_000])
        self.link.delay = executor.pick([0, 3_000, 20_000])
        self.link.swap = executor.pick([0, 2_000, 10_000])
        self.refusedAlways = executor.pick([0, 5, 30])
        self.refusedAtTimes = executor.pick([0, 30, 150])
        self.early = executor.pick([0, 0, 40])
        self.calmMax = executor.pick([100_000, 200_000, 600_000])
        self.types = SimulatedType.definitions.map(\.id)
        self.holdMax = 60_000
        self.holds = 25
        self.breakdowns = 8
        self.night = executor.random(0...3) == 0 ? executor.random(Int64(3_600_000_000)...3 * 86_400_000_000) : 0
        self.limits.batchRecordsMax = executor.pick([2, 5, 20, 1_000])
        self.limits.chunkRecordsMax = executor.pick([1, 2, 7, 1_000])
        self.limits.manifestRowsMax = executor.pick([2, 5, 1_000])
        self.limits.retryDelays = [.seconds(1), .seconds(2)]
        self.limits.waitingDelay = .seconds(1)
        self.limits.waitingDelayMax = .seconds(8)
        self.limits.suspectsMax = executor.pick([4, 100])
        self.limits.suspectAgeMax = .seconds(executor.pick([3, 20]))
        self.limits.guessedMax = executor.pick([1, 20])
        // Where a full quota holds nothing but what is refused for ever, nothing can show whose fault that is: the type waits for a person.
        if self.limits.chunkRecordsMax < 8, self.refusedAlways == 0 { self.limits.openRecordsMax = executor.pick([8, 10_000]) }
        switch executor.random(0...5) {
        case 0: self.loseAnswers(using: executor)
        case 1: self.holdTransactions(using: executor)
        case 2: self.parkOften(using: executor)
        default: break
        }
    }

    /// Answers are lost while the cloud stops types again and again: what was sent stays unknown while others' changes come.
    private mutating func loseAnswers(using executor: SimulatedExecutor) {
        self.branches = executor.pick([3, 3, 4])
        // So many that a branch does not change each of them again at once: its next change would make up for it.
        self.entities = executor.pick([2, 4, 8])
        self.types = executor.pick([[2], [2], [2, 1]])
        self.dayTime = 16_000_000
        self.restMax = executor.pick([300_000, 800_000])
        self.cycleRestMax = executor.pick([30_000, 120_000])
        self.writesMax = 60
        self.link.lostAnswer = executor.pick([100_000, 250_000])
        self.link.delay = 0
        self.breakdowns = executor.pick([15, 30])
        self.breakdownMax = 300_000
        self.calmMax = 500_000
        self.refusedAlways = 0
        self.night = 0
    }

    /// Records are refused and taken at the next try, again and again, while everything takes long.
    private mutating func parkOften(using executor: SimulatedExecutor) {
        self.branches = executor.pick([3, 3, 4])
        self.entities = executor.pick([1, 1, 2])
        self.types = executor.pick([[2], [2, 1]])
        self.refusedAlways = 0
        self.refusedAtTimes = 500
        self.database.slow = executor.pick([50_000, 150_000])
        self.restMax = executor.pick([200_000, 600_000])
        self.cycleRestMax = executor.pick([30_000, 120_000])
        self.writesMax = 40
        self.limits.retryDelays = [.milliseconds(100), .milliseconds(200)]
        self.limits.waitingDelay = .milliseconds(100)
        self.night = 0
    }

    /// Applications keep their transactions open for long, about few entities, and all at once.
    private mutating func holdTransactions(using executor: SimulatedExecutor) {
        self.entities = executor.pick([1, 1, 2])
        self.types = executor.pick([[2], [1, 2], [2, 6]])
        self.holdMax = executor.pick([100_000, 300_000])
        self.holds = executor.pick([60, 100])
        self.restMax = executor.pick([100_000, 300_000])
        self.cycleRestMax = executor.pick([30_000, 120_000])
        self.writesMax = 40
        self.refusedAlways = 0
        self.night = 0
    }
}

/// A company in one process and on one thread: branches with the real agent, replicas of the real hub over one database, and
/// applications that write on every side.
final class SimulatedFleet: @unchecked Sendable {  // on the one thread of the simulation
    let executor: SimulatedExecutor
    let plan: SimulationPlan
    let log: SimulationLog
    let network: SimulatedNetwork
    let branches: [ServerID]
    private var machines: [ServerID: SimulatedMachine] = [:]
    /// Second machines of branches, each begun as a copy of the first.
    private var copies: [ServerID: SimulatedMachine] = [:]
    private(set) var isHealed = false
    /// Whether nothing is left to be done.
    var isAtRest = false
    /// When all faults ended.
    private var healTime: Int64 = 0
    /// The servers whose database is put back to a backup, or gives way to that of a copy.
    private var restored: Set<ServerID> = []
    private var cloned: ServerID?
    private var isReadmitting = false
    /// Whether the cloud's database was put back, and nobody has declared that yet.
    private var isDeclaring = false
    private(set) var cycles = 0
    /// What the comparison of each branch with the cloud said, once all has come to rest; nil before that.
    private var comparisons: [ServerID: ReconcileReport]?
    /// Differences that a comparison found while everything was under way: nobody here changes anything past DataSync.
    private var falseDifferences: [String] = []
    private var lastToken = 0
    /// Until when little is done.
    private var nightEnd: Int64 = 0
    /// Until when a type meets a fault of the system at a server.
    private var brokenUntil: [ServerID: [BusinessTypeID: Int64]] = [:]
    /// Until when a server refuses every record of a type, as if each were at fault.
    private var refusingUntil: [ServerID: [BusinessTypeID: Int64]] = [:]
    private let poison: UInt64
    private let logger = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }

    /// - Parameter clockShift: What all clocks are off by besides, in milliseconds.
    init(executor: SimulatedExecutor, plan: SimulationPlan, log: SimulationLog, clockShift: Int64) throws {
        self.executor = executor
        self.plan = plan
        self.log = log
        self.network = SimulatedNetwork(executor: executor, log: log)
        self.branches = (1...Int32(plan.branches)).map { ServerID(rawValue: $0) }
        self.poison = executor.random()
        for server in self.servers {
            let database = SimulatedDatabase(server: server, executor: executor, log: log)
            database.faults = plan.database
            var rows = [ServerRow(id: server, name: "s\(server)", status: .active)]
            if server.isCloud { rows += self.branches.map { ServerRow(id: $0, name: "s\($0)", status: .active) } }
            database.prepare(servers: rows)
            // Most clocks are right, some are wrong by years. Those of the cloud's replicas differ by two minutes.
            let error = executor.random(0...2) == 0 ? executor.random(-Self.tenYears...Self.tenYears) : 0
            self.machines[server] = SimulatedMachine(
                server: server, database: database, clock: SimulatedWallClock(offset: error + clockShift), host: "machine \(server)")
        }
        self.network.faults = plan.link
        for index in 0..<plan.replicas { try self.startReplica(index) }
        for branch in self.branches { self.startAgent(of: self.machine(branch)) }
        for server in self.servers { self.startApplication(of: self.machine(server)) }
    }

    /// In milliseconds.
    private static let tenYears: Int64 = 10 * 365 * 86_400_000

    var servers: [ServerID] { [.cloud] + self.branches }

    private func machine(_ server: ServerID) -> SimulatedMachine {
        guard let machine = self.machines[server] else { preconditionFailure("no server \(server)") }
        return machine
    }

    private func database(_ server: ServerID) -> SimulatedDatabase { self.machine(server).database }

    /// A machine of a server: of two, either.
    private func anyMachine(of server: ServerID) -> SimulatedMachine {
        self.copies[server].map { self.executor.pick([self.machine(server), $0]) } ?? self.machine(server)
    }

    private var allMachines: [SimulatedMachine] {
        self.servers.map { self.machine($0) } + self.copies.sorted { $0.key < $1.key }.map(\.value)
    }

    private func handlers(at server: ServerID) -> [any RecordHandler<SimulatedTransaction>] {
        SimulatedType.definitions.map { SimulatedType(definition: $0, server: server, conduct: self) }
    }

    // MARK: - Processes

    private func startReplica(_ index: Int) throws {
        guard !self.isDeclaring else { return }
        let process = self.executor.makeProcess("hub \(index)")
        process.wallClock = self.machine(.cloud).clock
        process.clockOffset = self.executor.random(Int64(-60_000)...60_000)
        let hub = try Hub(
            storage: self.database(.cloud).storage(for: process), types: self.handlers(at: .cloud), limits: self.plan.limits,
            environment: process.environment, logger: self.logger)
        let replica = SimulatedNetwork.Replica(process: process, hub: hub)
        if index < self.network.replicas.count { self.network.replicas[index] = replica } else { self.network.replicas.append(replica) }
        process.start { await self.runReplica(hub) }
    }

    /// The hub's own work, as `Hub.run()` does it; that one waits through a library that starts tasks of its own.
    private func runReplica(_ hub: Hub<SimulatedStorage>) async {
        while !Task.isCancelled {
            do {
                let hasMoreRows = try await hub.numberOwnRows()
                let hasMoreTries = try await hub.retryDue()
                if hasMoreRows || hasMoreTries { continue }
            } catch is CancellationError { return } catch {}
            try? await self.executor.sleep(self.rest(1_000_000))
        }
    }

    private func startAgent(of machine: SimulatedMachine) {
        let process = self.executor.makeProcess("agent \(machine.server)")
        process.wallClock = machine.clock
        machine.agent = process
        process.start { await self.runAgent(of: machine, in: process) }
    }

    private func runAgent(of machine: SimulatedMachine, in process: SimulatedProcess) async {
        let branch = machine.server
        let storage = machine.database.storage(for: process)
        guard
            let agent = try? Agent(
                server: branch, storage: storage, transport: SimulatedLink(network: self.network, branch: branch),
                types: self.handlers(at: branch), limits: self.plan.limits, environment: process.environment, host: machine.host,
                logger: self.logger)
        else { preconditionFailure("the fleet's agent is not valid") }
        var lease: (any StorageLease)?
        while !Task.isCancelled {
            do {
                try await self.executor.sleep(self.rest(self.isHealed ? 900_000 : self.plan.cycleRestMax))
                let isHeld = await lease?.isHeld() ?? false
                if !isHeld {
                    lease = try await storage.takeLease()
                    try await agent.takeOver()
                }
                self.cycles += 1
                _ = try await agent.cycle()
                try await self.compareSometimes(agent)
            } catch let error as DataSyncError where error.code == .leaseLost || error.code == .leaseHeld {
                break
            } catch is CancellationError {
                break
            } catch {
                self.log.append(.failed(branch: branch, String(reflecting: error)))
                // As the agent's own loop: it waits and tries again.
                try? await self.executor.sleep(self.rest(400_000))
            }
        }
        await lease?.release()
        // Ends as a program does that is started again by whoever watches over it.
        process.hasEnded = true
    }

    /// Compares a branch's tables with the cloud's: once at the end, and in some companies now and then before.
    private func compareSometimes(_ agent: Agent<SimulatedStorage, SimulatedLink>) async throws {
        if let comparisons = self.comparisons {
            if comparisons[agent.id] == nil { self.comparisons?[agent.id] = try await agent.reconcile(actor: "simulation") }
            return
        }
        // A restored server may have lost what others hold.
        guard !self.isHealed, self.restored.isEmpty, self.poison.isMultiple(of: 4) else { return }
        // Not drawn from the executor: the other three in four companies fare as if there were no comparisons.
        var generator = SeededGenerator(seed: self.poison &+ UInt64(self.cycles))
        guard Int.random(in: 0..<10, using: &generator) == 0 else { return }
        let report = try await agent.reconcile(actor: "simulation")
        self.falseDifferences += report.differences.filter { $0.kind != .heldUp }.map { "\($0.kind.rawValue) \($0.entity) of type \($0.type) at \(agent.id)" }
    }

    private func startApplication(of machine: SimulatedMachine) {
        let process = self.executor.makeProcess("application \(machine.server)")
        process.wallClock = machine.clock
        machine.application = process
        for _ in 0..<2 { process.start { await self.runApplication(of: machine, in: process) } }
        process.start { await self.readBalances(of: machine, in: process) }
    }

    /// How long somebody rests, at most `max`; longer while it is night, and the longer the longer nothing has gone wrong: what is not
    /// done yet waits for something that takes long.
    private func rest(_ max: Int64) -> Int64 {
        let now = self.executor.now
        let calm = self.isHealed ? min((now - self.healTime) / 8, self.isAtRest ? 30_000_000 : 4_000_000) : 0
        return self.executor.random(Int64(1_000)...Swift.max(max, (self.nightEnd - now) / 4, calm))
    }

    private func runApplication(of machine: SimulatedMachine, in process: SimulatedProcess) async {
        let server = machine.server
        let storage = machine.database.storage(for: process)
        for _ in 0..<self.plan.writesMax / 2 {
            guard (try? await self.executor.sleep(self.rest(self.plan.restMax))) != nil, !self.isHealed else { return }
            struct Rollback: Error {}
            _ = try? await storage.withTransaction(.write) { transaction in
                for _ in 0..<self.executor.pick([1, 1, 1, 2, 3]) { try await self.change(something: transaction, at: server) }
                if self.executor.random(0...19) == 0 { throw Rollback() }
            }
        }
    }

    /// What came out of one account went into another: whoever reads them sees both, or neither.
    private func readBalances(of machine: SimulatedMachine, in process: SimulatedProcess) async {
        let storage = machine.database.storage(for: process)
        while !self.isHealed {
            guard (try? await self.executor.sleep(self.rest(4_000_000))) != nil else { return }
            guard let rows = try? await storage.withTransaction(.snapshot, { try await $0.rows(SimulatedType.balances) }), !rows.isEmpty else { continue }
            self.log.append(.summed(at: machine.server, rows.values.compactMap { Int($0) }.reduce(0, +)))
        }
    }

    /// One change of an application, with its row of the outbox: the business row first.
    private func change(something transaction: SimulatedTransaction, at server: ServerID) async throws {
        let definitions = SimulatedType.definitions.filter { self.plan.types.contains($0.id) && !(server.isCloud && $0.route == .up) }
        let definition = self.executor.pick(definitions)
        let number = self.executor.random(1...self.plan.entities)
        var (key, scope, target) = (EntityKey("\(definition.name):\(number)"), ServerID.cloud, ServerID.cloud)
        switch definition.route {
        case .all: break
        case .shared:
            // A member of one branch alone can be changed by the cloud once it has it.
            let home = server.isCloud ? self.executor.pick(self.branches) : server
            key = EntityKey(self.executor.random(0...1) == 0 ? "shared:\(number)" : "own:\(home):\(number)")
        case .origin:
            scope = server.isCloud ? self.executor.pick(self.branches) : server
            if server.isCloud { target = scope }
        case .up: scope = server
        case .target:
            scope = server
            target = self.branches[(Int(server.rawValue) + number) % self.branches.count]
            if target == server { target = .cloud }
        }
        let entity = EntityID(type: definition.id, scope: scope, key: key)
        self.lastToken += 1
        let token = self.lastToken
        var isDeletion = false
        if definition.kind == .state {
            let isThere = try await transaction.row(definition.name, SimulatedType.row(of: entity)) != nil
            if server.isCloud, key.text.hasPrefix("own:"), !isThere { return }
            isDeletion = self.executor.random(0...99) < (isThere ? 20 : 4)
        }
        // Whoever deletes nothing says nothing: it holds no lock that would put it in order with others.
        guard try await SimulatedType.write(entity, token: token, isDeletion: isDeletion, kind: definition.kind, definition.name, in: transaction)
        else { return }
        if self.executor.random(0...99) < self.plan.holds { try await self.executor.sleep(self.executor.random(Int64(100)...self.plan.holdMax)) }
        let verb: SimulatedPayload.Verb = definition.kind == .action ? .act : isDeletion ? .delete : .set
        try await transaction.appendOutbox([
            NewOutboxRow(type: definition.id, key: key, payload: SimulatedPayload(verb: verb, token: token).text, target: target)
        ])
    }

    // MARK: - Databases that are put back, or copied

    /// What happens to databases in some companies.
    enum Misfortune: CaseIterable { case cloudRestored, branchRestored, bothRestored, cloned }

    func plan(_ misfortune: Misfortune) {
        let branch = self.executor.pick(self.branches)
        switch misfortune {
        case .cloudRestored: self.planRestore(of: .cloud)
        case .branchRestored: self.planRestore(of: branch)
        case .bothRestored: self.planRestore(of: .cloud, branch)
        case .cloned:
            self.restored = [branch]
            self.cloned = branch
            self.after(self.executor.random(self.plan.dayTime / 10...self.plan.dayTime * 3 / 4)) { self.clone(branch) }
        }
    }

    /// Puts the databases of servers back, all at once, each to what it was at some time before.
    private func planRestore(of servers: ServerID...) {
        self.restored = Set(servers)
        let time = self.executor.random(self.plan.dayTime / 10 + 50_000...self.plan.dayTime)
        for server in servers {
            self.executor.wake(after: self.executor.random(min(self.plan.dayTime / 10, time / 2)...min(self.plan.dayTime / 2, time))) {
                let backup = self.database(server).backUp()
                self.log.fault("backup of \(server)")
                self.executor.wake(after: time - self.executor.now) { self.restore(server, backup) }
            }
        }
    }

    private func restore(_ server: ServerID, _ backup: SimulatedDatabase.Backup) {
        self.log.fault("restore of \(server)")
        let machine = self.machine(server)
        guard server.isCloud else {
            // Sometimes under the feet of a running agent.
            if self.executor.random(0...2) > 0 { machine.agent?.kill() }
            machine.application?.kill()
            machine.database.restore(backup)
            if machine.agent?.isDead ?? true { self.startAgent(of: machine) }
            if !self.isHealed { self.startApplication(of: machine) }
            return
        }
        self.isDeclaring = true
        for replica in self.network.replicas { replica.process.kill() }
        machine.application?.kill()
        machine.database.restore(backup)
        self.startOperator { process in
            let hub = try Hub(
                storage: machine.database.storage(for: process), types: self.handlers(at: .cloud), limits: self.plan.limits,
                environment: process.environment, logger: self.logger)
            try await hub.declareRestored(by: "operator")
        } then: {
            self.isDeclaring = false
            for index in self.network.replicas.indices { try? self.startReplica(index) }
            if !self.isHealed { self.startApplication(of: machine) }
        }
    }

    /// A person does something at the cloud until it succeeds.
    private func startOperator(_ body: @escaping @Sendable (SimulatedProcess) async throws -> Void, then: @escaping @Sendable () -> Void) {
        let process = self.executor.makeProcess("operator")
        process.start {
            while !Task.isCancelled {
                do {
                    try await body(process)
                    break
                } catch { try? await self.executor.sleep(100_000) }
            }
            then()
        }
    }

    // MARK: - Clones

    /// A copy of a branch's machine is started beside it: with its database as it is now, and with its identity.
    private func clone(_ branch: ServerID) {
        self.log.fault("clone of \(branch)")
        let original = self.machine(branch)
        let database = SimulatedDatabase(server: branch, executor: self.executor, log: self.log)
        database.faults = self.plan.database
        database.restore(original.database.backUp())
        let copy = SimulatedMachine(
            server: branch, database: database, clock: SimulatedWallClock(offset: original.clock.offset), host: "copy of machine \(branch)")
        self.copies[branch] = copy
        self.startAgent(of: copy)
        self.startApplication(of: copy)
        self.lookAfter(branch)
    }

    private var isSuspended: Bool { self.cloned.map { self.database(.cloud).state.servers[$0]?.status == .suspended } ?? false }

    /// Sooner or later a person sees that the branch was suspended.
    private func lookAfter(_ branch: ServerID) {
        self.after(self.rest(3_000_000)) {
            if self.isSuspended { self.readmit(branch) }
            self.lookAfter(branch)
        }
    }

    /// Of two machines one goes on, and the other is thrown away with what it alone has.
    private func decide(for branch: ServerID) {
        guard let copy = self.copies.removeValue(forKey: branch) else { return }
        self.log.fault("decision for \(branch)")
        let original = self.machine(branch)
        let isCopyKept = self.executor.random(0...1) == 0
        let (kept, other) = isCopyKept ? (copy, original) : (original, copy)
        self.machines[branch] = kept
        other.isThrownAway = true
        other.agent?.kill()
        other.application?.kill()
        other.database.clear()
    }

    private func readmit(_ branch: ServerID) {
        self.decide(for: branch)
        guard !self.isReadmitting else { return }
        self.isReadmitting = true
        self.startOperator { process in
            try await self.database(.cloud).storage(for: process).withTransaction(.write) { transaction in
                guard var row = try await transaction.server(branch), row.status == .suspended else { return }
                row.readmit()
                guard try await transaction.replaceServer(row) else { throw DataSyncError(.storageBusy, operation: "readmit") }
                transaction.note(.readmitted(branch: branch))
            }
        } then: {
            self.isReadmitting = false
        }
    }

    /// What must hold after any of that.
    func restoreChecker() -> RestoreChecker? {
        guard !self.restored.isEmpty else { return nil }
        let written = self.log.events.compactMap { event in
            if case .written(let server, _, let change) = event { RestoreChecker.Written(server: server, change: change) } else { nil }
        }
        return RestoreChecker(
            restored: self.restored, branches: self.branches,
            states: Dictionary(uniqueKeysWithValues: self.servers.map { ($0, self.database($0).state) }), written: written)
    }

    // MARK: - Comparing

    /// From now on each agent compares its branch with the cloud, once.
    func beginComparing() { self.comparisons = [:] }

    var hasCompared: Bool { self.comparisons?.count == self.branches.count }

    /// What is wrong with what the comparisons said. They must find what differs, as anybody sees who looks into both databases, and nothing else.
    func comparisonFaults() -> [String] {
        var faults = self.falseDifferences.map { "a comparison says, while all is under way: \($0)" }
        let cloud = self.database(.cloud).state
        for branch in self.branches {
            guard let report = self.comparisons?[branch] else {
                faults.append("branch \(branch) was not compared")
                continue
            }
            let own = self.database(branch).state
            let known = Set(cloud.entities.values.filter { $0.isVisible(to: branch) }.map(\.id)).union(own.entities.keys)
            let different = known.filter { id in
                let definition = SimulatedType.definition(of: id.type)
                guard definition.kind == .state, definition.route != .up else { return false }
                let (table, row) = (definition.name, SimulatedType.row(of: id))
                // What a branch sent of a `target` type it keeps no list of: what the cloud has deleted since, nobody tells it to look for.
                if definition.route == .target, own.entities[id] == nil, cloud.tables[table]?[row] == nil { return false }
                return cloud.tables[table]?[row] != own.tables[table]?[row]
            }
            let said = Set(
                report.differences.map { EntityID(type: BusinessTypeID(rawValue: $0.type), scope: ServerID(rawValue: $0.scope), key: EntityKey($0.entity)) })
            for id in different.subtracting(said).sorted() { faults.append("\(id) differs at \(branch), and its comparison does not say so") }
            for id in said.subtracting(different).sorted() { faults.append("the comparison of \(branch) says that \(id) differs") }
            guard self.restored.isEmpty else { continue }
            for found in report.differences where found.kind != .heldUp {
                faults.append("\(found.entity) of type \(found.type) differs at \(branch) for no reason")
            }
            if report.types.contains(where: { $0.moving > 0 || $0.wasStopped }) {
                faults.append("the comparison of \(branch) came to no end: \(report.summary)")
            }
        }
        return faults
    }

    // MARK: - Faults

    /// Does something to the fleet, and again after a while, until it heals.
    func disturb() {
        if self.plan.night > 0 { self.after(self.executor.random(Int64(1_000_000)...self.plan.dayTime / 2)) { self.beginNight() } }
        self.disturbAgain()
    }

    private func disturbAgain() {
        self.executor.wake(after: self.rest(self.plan.calmMax)) {
            guard !self.isHealed else { return }
            self.disturbOnce()
            self.disturbAgain()
        }
    }

    /// Little is done for hours or days, and many branches cannot reach the cloud meanwhile.
    private func beginNight() {
        self.log.fault("night")
        self.nightEnd = self.executor.now + self.plan.night
        for branch in self.branches where self.executor.random(0...1) == 0 {
            self.takeOffline(branch, for: self.plan.night + self.executor.random(0...2_000_000))
        }
    }

    private func takeOffline(_ branch: ServerID, for time: Int64) {
        self.log.fault("offline \(branch)")
        self.network.offline.insert(branch)
        self.after(time) { self.network.offline.remove(branch) }
    }

    private func breakDown(_ type: BusinessTypeID, at server: ServerID) {
        self.log.fault("system fault of \(type) at \(server)")
        self.log.append(.brokeDown(at: server, type: type))
        self.brokenUntil[server, default: [:]][type] = self.executor.now + self.executor.random(Int64(50_000)...self.plan.breakdownMax)
    }

    private func after(_ microseconds: Int64, _ body: @escaping () -> Void) {
        self.executor.wake(after: microseconds) { if !self.isHealed { body() } }
    }

    private func disturbOnce() {
        let branch = self.executor.pick(self.branches)
        let server = self.executor.pick(self.servers)
        self.restartWhatEnded()
        if self.executor.random(0...99) < self.plan.breakdowns { return self.breakDown(self.executor.pick(self.plan.types), at: .cloud) }
        switch self.executor.random(0...12) {
        case 0...2:
            let machine = self.anyMachine(of: branch)
            guard let agent = machine.agent else { return }
            self.kill(agent)
            self.after(self.executor.random(Int64(1_000)...1_500_000)) {
                if machine.agent === agent, !machine.isThrownAway { self.startAgent(of: machine) }
            }
        case 3...4:
            let index = self.executor.random(0...self.network.replicas.count - 1)
            let process = self.network.replicas[index].process
            self.kill(process)
            self.after(self.executor.random(Int64(1_000)...1_000_000)) {
                if self.network.replicas[index].process === process { try? self.startReplica(index) }
            }
        case 5:
            self.log.fault("restart database \(server)")
            self.anyMachine(of: server).database.restart()
        case 6:
            let machine = self.anyMachine(of: server)
            guard let application = machine.application else { return }
            self.log.fault("kill \(application.name)")
            application.kill()
            self.startApplication(of: machine)
        case 7:
            let machine = self.anyMachine(of: branch)
            guard let agent = machine.agent else { return }
            self.pause(agent)
            // Somebody takes it for dead and starts another; the old one comes back.
            if self.executor.random(0...1) == 0 {
                self.after(self.executor.random(Int64(1_000)...500_000)) {
                    guard machine.agent === agent, !machine.isThrownAway else { return }
                    machine.database.disconnect(agent)
                    self.startAgent(of: machine)
                }
            }
        case 8: self.pause(self.executor.pick(self.network.replicas).process)
        case 9:
            self.takeOffline(branch, for: self.executor.random(Int64(100_000)...self.plan.dayTime))
        case 10: self.breakDown(self.executor.pick(self.plan.types), at: server)
        case 11:
            let type = self.executor.pick(self.plan.types)
            self.log.fault("all of \(type) refused at \(server)")
            self.log.append(.brokeDown(at: server, type: type))
            self.refusingUntil[server, default: [:]][type] = self.executor.now + self.executor.random(Int64(50_000)...6_000_000)
        default:
            let most = self.executor.pick([20_000, 3_600_000, Self.tenYears])
            let jump = self.executor.random(-most...most)
            self.log.fault("clock \(server)")
            self.anyMachine(of: server).clock.offset += jump
        }
    }

    private func kill(_ process: SimulatedProcess) {
        self.log.fault("kill \(process.name)")
        process.kill()
        self.log.append(.gone(process: process.number))
    }

    private func pause(_ process: SimulatedProcess) {
        self.log.fault("pause \(process.name)")
        process.pause()
        let time = self.executor.random(Int64(10_000)...(self.executor.random(0...3) == 0 ? 45_000_000 : 1_500_000))
        // The database ends the transactions of a client that does not speak for long.
        if time > 15_000_000 {
            self.executor.wake(after: 15_000_000) {
                self.allMachines.forEach { $0.database.disconnect(process) }
                if process.isPaused { self.log.append(.gone(process: process.number)) }
            }
        }
        self.executor.wake(after: time) { process.resume() }
    }

    private func restartWhatEnded() {
        for machine in self.allMachines {
            if let agent = machine.agent, agent.hasEnded || (self.isHealed && !agent.isRunning) { self.startAgent(of: machine) }
        }
        guard self.isHealed else { return }
        for (index, replica) in self.network.replicas.enumerated() where replica.process.isDead { try? self.startReplica(index) }
    }

    /// All faults end, and nobody writes any more.
    func heal() {
        self.isHealed = true
        self.healTime = self.executor.now
        self.network.faults = LinkFaults()
        self.network.offline = []
        if let branch = self.cloned { self.decide(for: branch) }
        for server in self.servers { self.database(server).faults = DatabaseFaults() }
        for replica in self.network.replicas { replica.process.resume() }
        for branch in self.branches { self.machine(branch).agent?.resume() }
        self.restartWhatEnded()
    }

    /// Starts again what has ended by itself since, and readmits who was suspended.
    func keepRunning() {
        self.restartWhatEnded()
        if let branch = self.cloned, self.isSuspended { self.readmit(branch) }
    }

    // MARK: - Rest

    /// What is still to be done; empty when all has come to rest.
    func unfinished() -> [String] {
        var unfinished: [String] = []
        for server in self.servers {
            let state = self.database(server).state
            let rows = state.outbox.filter { $0.state != .settled }
            if !rows.isEmpty { unfinished.append("\(rows.count) rows of \(server), such as \(rows[0].id) (\(rows[0].state), \(rows[0].payload))") }
            let open = state.memos.values.filter { $0.disposition.isOpen }.sorted { $0.id < $1.id }
            if let memo = open.first {
                let age = state.settings["age"] ?? "0"
                unfinished.append(
                    "\(open.count) open memos at \(server), such as \(memo.line) \(memo.number) \(memo.disposition.name) \(memo.reason), due at "
                        + "\(memo.nextTry), noted \(age)")
            }
            guard server.isBranch else { continue }
            let logEpoch = self.database(.cloud).state.settings["log.epoch"].flatMap { Int32($0) } ?? 1
            for (key, records) in self.database(.cloud).state.log where key.audience.contains(server) {
                let position = state.positions[InMemoryState.PositionKey(peer: .cloud, epoch: logEpoch, type: key.type)]?.position.number ?? 0
                if let last = records.last, last.logSeq > position {
                    unfinished.append("\(server) has type \(key.type) up to \(position) of \(last.logSeq)")
                }
            }
            for (key, received) in state.positions where key.epoch == logEpoch && received.reported < received.position.number {
                unfinished.append("\(server) has told of type \(key.type) up to \(received.reported) of \(received.position.number)")
            }
        }
        return unfinished.sorted()
    }

    var rest: SimulatedRest {
        var rest = SimulatedRest(branches: self.branches)
        for server in self.servers {
            let state = self.database(server).state
            rest.tables[server] = state.tables
            rest.outbox[server] = state.outbox.map { SimulatedRest.Row(id: $0.id, type: $0.head.type, synID: $0.synID, state: $0.state, reason: $0.reason) }
        }
        return rest
    }

    /// What must not change any more when all has come to rest. When a dead record is asked about next is left out: a person may
    /// decide on it at any time, so that goes on, once a minute. So is the time for which the database has run.
    var picture: [String: Int] {
        var picture: [String: Int] = [:]
        for server in self.servers {
            var state = self.database(server).state
            for id in state.memos.keys { state.memos[id]?.nextTry = 0 }
            state.settings["age"] = nil
            let hashes = [
                "outbox": state.outbox.hashValue, "memos": state.memos.hashValue, "positions": state.positions.hashValue, "log": state.log.hashValue,
                "entities": state.entities.hashValue, "tables": state.tables.hashValue, "manifests": state.manifests.hashValue,
                "confirmations": state.confirmations.hashValue, "settings": state.settings.hashValue,
            ]
            for (table, hash) in hashes { picture["\(table) of \(server)"] = hash }
        }
        return picture
    }

    /// How many records the cloud knows to be dead at a branch.
    var deadElsewhere: Int { self.database(.cloud).state.memos.values.count { $0.line.receiver.isBranch && $0.disposition == .dead } }

    func end() {
        self.executor.end()
        for server in self.servers { self.database(server).clear() }
        self.log.clear()
    }
}

/// The machine of a server: its database, and what runs there. The cloud's replicas run on others.
final class SimulatedMachine: @unchecked Sendable {  // on the one thread of the simulation
    let server: ServerID
    let database: SimulatedDatabase
    let clock: SimulatedWallClock
    /// What it calls itself.
    let host: String
    var agent: SimulatedProcess?
    var application: SimulatedProcess?
    /// Whether its branch goes on with another one.
    var isThrownAway = false

    init(server: ServerID, database: SimulatedDatabase, clock: SimulatedWallClock, host: String) {
        self.server = server
        self.database = database
        self.clock = clock
        self.host = host
    }
}

extension SimulatedFleet: SimulatedConduct {
    func judge(_ token: Int, of type: BusinessTypeID, at server: ServerID) throws {
        if !self.isHealed, let until = self.brokenUntil[server]?[type], until > self.executor.now {
            throw DataSyncError(.storageFailed, operation: "simulation", detail: "a table is missing")
        }
        if !self.isHealed, let until = self.refusingUntil[server]?[type], until > self.executor.now { throw RecordFault.refused("everything") }
        // The same for the same record at the same server.
        var generator = SeededGenerator(seed: self.poison &+ UInt64(token) &* 64 &+ UInt64(server.rawValue))
        let lot = Int.random(in: 0..<1_000, using: &generator)
        if lot < self.plan.refusedAlways { throw RecordFault.refused("for ever") }
        guard !self.isHealed, self.executor.random(0...2) > 0 else { return }
        if lot < self.plan.refusedAlways + self.plan.refusedAtTimes { throw RecordFault.refused("at times") }
        guard lot < self.plan.refusedAlways + self.plan.refusedAtTimes + self.plan.early else { return }
        // Some say what they need, and some cannot.
        throw lot % 2 == 0 ? RecordFault.missingDependency(detail: nil) : .missingDependency(on: EntityKey("\(SimulatedType.table(of: type)):1"))
    }
}
