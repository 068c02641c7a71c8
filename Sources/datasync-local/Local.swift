import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms

@main
struct Local: AsyncParsableCommand, PeopleChoice {
    typealias People = StaffSet
    static let program = SettingKey.Program.local
    static let configuration = CommandConfiguration(
        commandName: "datasync-local", abstract: "The branch side of DataSync: carries records between this branch's database and the cloud.",
        version: DataSyncVersion.current,
        subcommands: [
            Init.self, Join.self, Key.self, Run.self, Sync.self, Reconcile.self, Status.self, Put.self, Dead.self, TypesCommand<Local>.self,
            ConfigCommand<Local>.self,
            GrantsCommand<Local>.self, AuditCommand<Local>.self, UserCommand<Local>.self,
        ])
}
