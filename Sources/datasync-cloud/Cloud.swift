import ArgumentParser
import DataSync

@main
struct Cloud: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "datasync-cloud", abstract: "The cloud side of DataSync: takes in what branches send, and hands out what is for them.",
        version: DataSyncVersion.current,
        subcommands: [Init.self, Serve.self, Branch.self, Status.self, Dead.self, Put.self, Types.self, Config.self, GrantsCommand.self])
}
