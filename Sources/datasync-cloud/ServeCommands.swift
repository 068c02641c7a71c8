import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms
import DataSyncSQL
import Foundation
import Logging
import ServiceLifecycle

extension Cloud {
    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Creates what is missing: a sample configuration, the tables, the cloud's key. Changes nothing that is there.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            try await exiting {
                let path = options.path(of: .cloud) ?? GlobalOptions.standardPath(of: .cloud)
                if !FileManager.default.fileExists(atPath: path) {
                    let text = SampleConfiguration.text(of: .cloud, values: options.storage.map { ["storage.url": $0] } ?? [:])
                    guard FileManager.default.createFile(atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600]) else {
                        throw DataSyncError(.invalidConfiguration, operation: "init", detail: "\(path) cannot be written")
                    }
                    Terminal.say("wrote \(path), with every setting and its meaning")
                }
                let settings = try Settings(program: .cloud, path: path, overrides: try options.overrides())
                let cloud = try CloudProgram(settings)
                let before = try await cloud.storage.migrate(limits: cloud.limits, environment: .program)
                Terminal.say(
                    before == 0
                        ? "created the tables in \(cloud.storage.database.name)" : "the tables in \(cloud.storage.database.name) are there, version \(before)")
                let keyFile = settings.text("identity.key_file") ?? ""
                let key: MachineKey
                if FileManager.default.fileExists(atPath: keyFile) {
                    key = try cloud.key()
                    Terminal.say("the cloud's key is \(key.publicKey.thumbprint), in \(keyFile)")
                } else {
                    key = try MachineKey.generate()
                    try key.write(to: keyFile)
                    Terminal.say("made the cloud's key \(key.publicKey.thumbprint), in \(keyFile): back it up, every branch trusts it")
                }
                await SyncEnvironment.program.passes(.cloudKeyWritten)
                try await cloud.storage.withTransaction { transaction in
                    guard try await transaction.server(.cloud) == nil else { return }
                    try await transaction.insertServer(
                        ServerRow(id: .cloud, name: "cloud", status: .active, publicKey: key.publicKey.text))
                }
                if let made = try cloud.settings.makePeopleKey() { Terminal.say(made) }
                Terminal.say(
                    "next: describe the business types in \(path), then `datasync-cloud config check`, `datasync-cloud serve`, `datasync-cloud branch add`")
            }
        }
    }

    struct Serve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Answers the branches, until it is told to stop.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "The address to listen at (http.host).") var host: String?
        @Option(help: "The port to listen on (http.port); 0 for a free one.") var port: Int?

        func run() async throws {
            try await exiting {
                boundHeaps()
                let settings = try options.start(.cloud, overrides: ["http.host": host, "http.port": port.map { "\($0)" }])
                let cloud = try CloudProgram(settings)
                let logger = cloud.logger
                try await cloud.run { port in
                    logger.notice("ready", metadata: ["port": "\(port)", "version": "\(DataSyncVersion.current)", "storage": "\(cloud.storage.database.name)"])
                }
                await SyncEnvironment.program.passes(.cloudShutdown)
                await cloud.storage.close()
                logger.notice("stopped")
            }
        }
    }
}
