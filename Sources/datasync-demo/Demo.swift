import ArgumentParser
import Foundation
import RetailTrade

/// A cloud and two branches trade for a while, with the two programs as processes of their own. Run by `Scripts/demo`.
@main
struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "datasync-demo", abstract: "Shows DataSync at work on real retail data.")

    @Option(help: "Where the two programs are.") var programs: String
    @Option(help: "The folder with the data.") var data: String
    @Option(help: "An empty folder for databases, keys, configurations and logs.") var work: String
    @Option(help: "The socket of a MariaDB server; without it, SQLite.") var socket: String?

    func run() async throws {
        let data = try RetailData(folder: URL(filePath: self.data))
        let database: SiteDatabase = self.socket.map { .mariadb(socket: $0) } ?? .sqlite
        let story = Story()
        story.tell("a cloud and \(data.stores.count) branches on \(self.socket == nil ? "SQLite" : "MariaDB"), in \(self.work)")
        let company = try await Company(stores: data.stores, in: URL(filePath: self.work), programs: self.programs, database: database)
        let trade = DemoTrade(company: company, data: data, story: story)
        do {
            let isGood = try await trade.run()
            await company.close()
            guard isGood else { throw ExitCode.failure }
        } catch {
            await company.close()
            if !(error is ExitCode) { print("demo: failed: \(error)\nThe logs are in \(self.work).") }
            throw ExitCode.failure
        }
    }
}

/// Says what happens, and when.
struct Story: Sendable {
    private let start = ContinuousClock.now

    func tell(_ text: String) {
        let time = String(format: "%5.1f s  ", self.start.seconds)
        FileHandle.standardOutput.write(Data((time + text + "\n").utf8))
    }
}
