import ArgumentParser
import DataSync
import DataSyncMySQL
import DataSyncSQL
import Foundation
import RetailTrade

/// Measures the two programs against real MariaDB servers, and in the same run the floor: the same rows written once on
/// each side by plain inserts. Run by `Scripts/bench`, which starts the servers.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datasync-bench", abstract: "Measures DataSync beside plain inserts.")

    @Option(help: "The branch's MariaDB: its socket.") var branchSocket: String
    @Option(help: "The cloud's MariaDB: its socket.") var cloudSocket: String
    @Option(help: "Where the programs are.") var programs: String
    @Option(help: "A folder for keys, configurations and logs.") var work: String
    @Option(help: "Records in each direction.") var records = 100_000
    @Option(help: "Rounds; medians are printed.") var rounds = 3
    @Option(help: "Single records whose latency is measured, each round.") var samples = 200
    @Option(help: "Only push, or only pull: for a profiler.") var only: String?
    @Option(help: "Write the figures as JSON to this file.") var json: String?

    func run() async throws {
        var rounds: [Round] = []
        for number in 1...self.rounds {
            let bench = try await BenchRound(
                number: number, records: self.records, samples: self.samples, branchSocket: self.branchSocket,
                cloudSocket: self.cloudSocket, programs: self.programs, work: self.work, only: self.only)
            let round = try await bench.measure()
            rounds.append(round)
            print(round.line(number))
        }
        let result = Round.median(rounds)
        print("")
        print(result.table(records: self.records, rounds: self.rounds))
        if let json { try result.json.write(toFile: json, atomically: true, encoding: .utf8) }
    }
}

/// The figures of one round.
struct Round {
    var floor = 0.0
    var push = 0.0
    var pull = 0.0
    var latency50 = 0.0
    var latency99 = 0.0
    var agent = RunningProgram.Figures()
    var cloud = RunningProgram.Figures()

    func line(_ number: Int) -> String {
        "round \(number): floor \(Int(self.floor))/s, push \(Int(self.push))/s (\(Self.ratio(self.push / self.floor))), "
            + "pull \(Int(self.pull))/s (\(Self.ratio(self.pull / self.floor))), latency \(Self.ratio(self.latency50)) ms"
    }

    static func median(_ rounds: [Round]) -> Round {
        func median(_ value: (Round) -> Double) -> Double { rounds.map(value).sorted()[rounds.count / 2] }
        func program(_ path: @escaping (Round) -> RunningProgram.Figures) -> RunningProgram.Figures {
            var figures = RunningProgram.Figures()
            figures.rssMiB = median { path($0).rssMiB }
            figures.startMilliseconds = median { path($0).startMilliseconds }
            figures.cpuSeconds = median { path($0).cpuSeconds }
            return figures
        }
        return Round(
            floor: median(\.floor), push: median(\.push), pull: median(\.pull), latency50: median(\.latency50),
            latency99: median(\.latency99), agent: program(\.agent), cloud: program(\.cloud))
    }

    static func ratio(_ value: Double) -> String { String(format: "%.2f", value) }

    func table(records: Int, rounds: Int) -> String {
        func row(_ cells: [String]) -> String {
            zip(cells, [26, 14, 14, 14]).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined()
        }
        return [
            "\(records) records, median of \(rounds) rounds",
            row(["", "records/s", "x floor", ""]),
            row(["floor, both sides", "\(Int(self.floor))", "1.00", ""]),
            row(["push", "\(Int(self.push))", Self.ratio(self.push / self.floor), ""]),
            row(["pull", "\(Int(self.pull))", Self.ratio(self.pull / self.floor), ""]),
            row(["", "p50", "p99", ""]),
            row(["one record, ms", Self.ratio(self.latency50), Self.ratio(self.latency99), ""]),
            row(["", "peak MiB", "start ms", "CPU s"]),
            row(["agent", Self.ratio(self.agent.rssMiB), "\(Int(self.agent.startMilliseconds))", Self.ratio(self.agent.cpuSeconds)]),
            row(["cloud", Self.ratio(self.cloud.rssMiB), "\(Int(self.cloud.startMilliseconds))", Self.ratio(self.cloud.cpuSeconds)]),
        ].joined(separator: "\n")
    }

    var json: String {
        func program(_ program: RunningProgram.Figures) -> String {
            "{\"rss_mib\": \(Self.ratio(program.rssMiB)), \"start_ms\": \(Self.ratio(program.startMilliseconds)), \"cpu_seconds\": \(Self.ratio(program.cpuSeconds))}"
        }
        return """
            {"push": {"records_per_second": \(Int(self.push)), "ratio_to_floor": \(Self.ratio(self.push / self.floor))},
             "pull": {"records_per_second": \(Int(self.pull)), "ratio_to_floor": \(Self.ratio(self.pull / self.floor))},
             "latency_ms": {"p50": \(Self.ratio(self.latency50)), "p99": \(Self.ratio(self.latency99))},
             "agent": \(program(self.agent)), "cloud": \(program(self.cloud)),
             "floor": {"records_per_second": \(Int(self.floor))}}

            """
    }
}
