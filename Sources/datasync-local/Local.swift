import ArgumentParser
import DataSync

@main
struct Local: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "datasync-local", abstract: "The branch side of DataSync: carries records between this branch's database and the cloud.",
        version: DataSyncVersion.current,
        subcommands: [
            Init.self, Join.self, Run.self, Sync.self, Status.self, Put.self, Dead.self, Types.self, Config.self, GrantsCommand.self,
        ])
}
