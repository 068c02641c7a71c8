import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms
import DataSyncSQL

extension Cloud {
    struct Restored: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Says that this database was restored from a backup, before the cloud serves again.",
            discussion: """
                Stop every replica, restore the database, run this once, and start the replicas. The log begins a new epoch far above \
                all numbers that were given, and the branches send again what the backup does not have. Running it where nothing was \
                restored does no harm but work: every branch compares itself with the cloud.
                """)
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            try await exiting {
                let cloud = try CloudProgram(try options.start(.cloud))
                try await cloud.storage.checkSchema()
                if let key = try await cloud.keyRing().adoptFile(by: currentActor()) {
                    Terminal.say("the backup is older than the cloud's key: \(key.thumbprint), in the key file, is the cloud's")
                }
                let epoch = try await cloud.hub().declareRestored(by: currentActor())
                Terminal.say("the log has epoch \(epoch) now; start the cloud: branches send again what this database does not have")
            }
        }
    }
}
