import ArgumentParser
import DataSync
import DataSyncPrograms
import DataSyncSQL
import Foundation

extension Local {
    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows what waits, how far the cloud is, and what was refused.")
        @OptionGroup var options: GlobalOptions
        @Flag(help: "As one JSON object.") var json = false

        func run() async throws {
            try await exiting {
                let local = try LocalProgram(try options.start(.local))
                let branch = try await local.branch()
                let overview = try await Overview(
                    of: local.storage, definitions: local.settings.types.map(\.definition), audiences: [],
                    now: SyncEnvironment.system.wallTime())
                let isRunning = try await local.isRunning()
                Terminal.say(
                    json ? LocalStatus.json(overview, branch: branch, isRunning: isRunning) : LocalStatus.text(overview, branch: branch, isRunning: isRunning))
            }
        }
    }

    struct Put: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Puts one record into the outbox, as an application does with SQL.",
            discussion: "The payload is read from FILE or from standard input: {\"upsert\": {…}} or {\"delete\": {…}}.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "The business type: its name or its number.") var type: String
        @Option(help: "The entity: the type's name and the key, such as order:17.") var key: String
        @Option(help: "The server that a record of a `target` type is for.") var to: Int32 = 0
        @Argument(help: "A file; without one, standard input.") var file: String?

        func run() async throws {
            try await exiting {
                let local = try LocalProgram(try options.start(.local))
                let branch = try await local.branch()
                let (id, mapped) = try PutRecord.type(type, among: try await local.types())
                let row = NewOutboxRow(
                    type: id, key: EntityKey(key), payload: try PutRecord.read(file, bytesMax: local.limits.recordBytesMax),
                    target: ServerID(rawValue: to))
                try await PutRecord.enqueue(row, type: mapped, scope: branch, limits: local.limits, in: local.storage)
                Terminal.say("put \(key)")
            }
        }
    }

    struct Dead: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The records that were refused: lists them, tries them again, gives them up.",
            subcommands: [List.self, Retry.self, Discard.self])

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Lists the dead records: those that this branch refused, and its own that the cloud refused.")
            @OptionGroup var options: GlobalOptions
            @Flag(help: "Parked and waiting records too.") var all = false
            @Flag(help: "One JSON object a line.") var json = false
            @Option(help: "At most so many.") var limit = 200

            func run() async throws {
                try await exiting {
                    let local = try LocalProgram(try options.start(.local))
                    let branch = try await local.branch()
                    let names = Dictionary(local.settings.types.map { ($0.definition.id, $0.definition.name) }) { first, _ in first }
                    try await DeadRecords.list(in: local.storage, all: all, json: json, limit: limit, own: branch, names: names)
                }
            }
        }

        struct Retry: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Tries records again at once.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "Their ids, as `dead list` shows them.") var ids: [Int64]

            func run() async throws { try await ask(.retry, ids, options) }
        }

        struct Discard: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Gives records up: they have no effect here.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "Their ids, as `dead list` shows them.") var ids: [Int64]

            func run() async throws { try await ask(.discard, ids, options) }
        }
    }
}

/// Has the agent, which is the one writer of a branch's tables, carry out a person's decision.
private func ask(_ verb: AgentRequest.Verb, _ ids: [Int64], _ options: GlobalOptions) async throws {
    try await exiting {
        let local = try LocalProgram(try options.start(.local))
        for id in ids {
            let reply = try await local.ask(AgentRequest(verb, memo: id, actor: currentActor()), timeout: .seconds(60))
            if let error = reply.error(operation: "dead") { throw error }
            Terminal.say(reply.message)
        }
    }
}
