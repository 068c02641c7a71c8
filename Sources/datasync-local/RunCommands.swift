import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms
import DataSyncSQL
import Foundation
import Logging
import ServiceLifecycle

extension Local {
    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Creates what is missing: a sample configuration and the tables. Changes nothing that is there.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            try await exiting {
                let path = options.path(of: .local) ?? GlobalOptions.standardPath(of: .local)
                if !FileManager.default.fileExists(atPath: path) {
                    let text = SampleConfiguration.text(of: .local, values: options.storage.map { ["storage.url": $0] } ?? [:])
                    guard FileManager.default.createFile(atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600]) else {
                        throw DataSyncError(.invalidConfiguration, operation: "init", detail: "\(path) cannot be written")
                    }
                    Terminal.say("wrote \(path), with every setting and its meaning")
                }
                let local = try LocalProgram(try Settings(program: .local, path: path, overrides: try options.overrides()))
                let before = try await local.storage.migrate(limits: local.limits, environment: .program)
                Terminal.say(
                    before == 0
                        ? "created the tables in \(local.storage.database.name)" : "the tables in \(local.storage.database.name) are there, version \(before)")
                if let made = try local.settings.makePeopleKey() { Terminal.say(made) }
                Terminal.say("next: describe the business types in \(path), then `datasync-local config check`, `datasync-local join`, `datasync-local run`")
            }
        }
    }

    struct Join: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Enrols this branch at its cloud, with the token that `datasync-cloud branch add` prints.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "The cloud's address (cloud.url).") var cloud: String?
        @Argument(help: "The join token. Better without: then it is read from standard input, and nobody else on the machine sees it.") var token: String?

        func run() async throws {
            try await exiting {
                let local = try LocalProgram(try options.start(.local, overrides: ["cloud.url": cloud]))
                guard let text = token ?? readLine(strippingNewline: true) else {
                    throw DataSyncError(.invalidInput, operation: "join", detail: "no join token was given")
                }
                guard let url = local.settings.text("cloud.url") else {
                    throw DataSyncError(.invalidConfiguration, operation: "join", detail: "where is the cloud? give --cloud, or set cloud.url")
                }
                let answer = try await local.join(try JoinToken(text: text.filter { !$0.isWhitespace }), cloud: url)
                Terminal.say("joined: this is '\(answer.name)'. next: `datasync-local run`")
            }
        }
    }

    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Carries records, until it is told to stop. One for each database.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "From one cycle to the next, such as 10s (schedule.interval).") var interval: String?

        func run() async throws {
            try await exiting {
                boundHeaps()
                let local = try LocalProgram(try options.start(.local, overrides: ["schedule.interval": interval]))
                let agent = try await local.agent()
                local.logger.info("starting", metadata: ["branch": "\(agent.id)", "storage": "\(local.storage.database.name)"])
                try await local.run(agent)
                await local.storage.close()
                local.logger.notice("stopped")
            }
        }
    }

    struct Sync: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Carries what waits now: has the running agent do it, or does it if none is running.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "Wait at most so long for the running agent.") var timeout = "60s"
        @Flag(help: "As one JSON object.") var json = false

        func run() async throws {
            try await exiting {
                let local = try LocalProgram(try options.start(.local))
                guard let timeout = Duration(setting: timeout) else { throw ValidationError("--timeout takes a time such as 60s") }
                let reply = try await local.ask(AgentRequest(.sync, actor: currentActor()), timeout: timeout)
                if json {
                    let encoder = JSONEncoder()
                    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                    Terminal.say(String(decoding: try encoder.encode(reply), as: UTF8.self))
                } else if reply.succeeded {
                    Terminal.say(reply.message)
                }
                if let error = reply.error(operation: "sync") { throw error }
            }
        }
    }
}
