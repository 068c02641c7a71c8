import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms

@main
struct Cloud: AsyncParsableCommand, PeopleChoice {
    typealias People = OperatorSet
    static let program = SettingKey.Program.cloud
    static let configuration = CommandConfiguration(
        commandName: "datasync-cloud", abstract: "The cloud side of DataSync: takes in what branches send, and hands out what is for them.",
        version: DataSyncVersion.current,
        subcommands: [
            Init.self, Serve.self, Restored.self, Branch.self, Key.self, Status.self, Dead.self, Put.self, TypesCommand<Cloud>.self, ConfigCommand<Cloud>.self,
            GrantsCommand<Cloud>.self, AuditCommand<Cloud>.self, UserCommand<Cloud>.self,
        ])
}
