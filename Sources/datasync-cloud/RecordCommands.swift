import ArgumentParser
import DataSync
import DataSyncPrograms
import DataSyncSQL
import Foundation

extension Cloud {
    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows the branches, what waits for them, and what was refused.")
        @OptionGroup var options: GlobalOptions
        @Flag(help: "As one JSON object.") var json = false

        func run() async throws {
            try await exiting {
                let cloud = try CloudProgram(try options.start(.cloud))
                try await cloud.storage.checkSchema()
                let branches = try await cloud.storage.withTransaction(.snapshot) { try await $0.servers() }.map(\.id).filter(\.isBranch)
                let overview = try await Overview(
                    of: cloud.storage, definitions: cloud.settings.types.map(\.definition),
                    audiences: [.all] + branches.map { .server($0) }, now: SyncEnvironment.system.wallTime())
                Terminal.say(json ? CloudStatus.json(overview) : CloudStatus.text(overview))
            }
        }
    }

    struct Dead: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The records that were refused: lists them, tries them again, gives them up.",
            subcommands: [List.self, Retry.self, Discard.self])

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Lists the dead records, of the cloud and of the branches.")
            @OptionGroup var options: GlobalOptions
            @Flag(help: "Parked and waiting records too.") var all = false
            @Flag(help: "One JSON object a line.") var json = false
            @Option(help: "At most so many.") var limit = 200

            func run() async throws {
                try await exiting {
                    let cloud = try CloudProgram(try options.start(.cloud))
                    try await cloud.storage.checkSchema()
                    let names = Dictionary(cloud.settings.types.map { ($0.definition.id, $0.definition.name) }) { first, _ in first }
                    try await DeadRecords.list(in: cloud.storage, all: all, json: json, limit: limit, own: .cloud, names: names)
                }
            }
        }

        struct Retry: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Tries records again at once.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "Their ids, as `dead list` shows them.") var ids: [Int64]

            func run() async throws {
                try await exiting {
                    let hub = try await CloudProgram(try options.start(.cloud)).hub()
                    for id in ids {
                        let outcome = try await hub.retryMemo(id, actor: currentActor())
                        Terminal.say("record \(id): it is \(outcome.disposition.name) now" + (outcome.detail.map { " (\($0))" } ?? ""))
                    }
                }
            }
        }

        struct Discard: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Gives records up: they have no effect, and their origin gets what is true here.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "Their ids, as `dead list` shows them.") var ids: [Int64]

            func run() async throws {
                try await exiting {
                    let hub = try await CloudProgram(try options.start(.cloud)).hub()
                    for id in ids {
                        try await hub.discardMemo(id, actor: currentActor())
                        Terminal.say("record \(id): it is discarded now")
                    }
                }
            }
        }
    }

    struct Put: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Puts one record of the cloud's own into the outbox, as an application does with SQL.",
            discussion: "The payload is read from FILE or from standard input: {\"upsert\": {…}} or {\"delete\": {…}}.")
        @OptionGroup var options: GlobalOptions
        @Option(help: "The business type: its name or its number.") var type: String
        @Option(help: "The entity: the type's name and the key, such as order:17.") var key: String
        @Option(help: "The server it is for; of an `origin` type, the home.") var to: Int32 = 0
        @Argument(help: "A file; without one, standard input.") var file: String?

        func run() async throws {
            try await exiting {
                let cloud = try CloudProgram(try options.start(.cloud))
                try await cloud.storage.checkSchema()
                let types = try await cloud.settings.mappedTypes(in: cloud.storage)
                let (id, mapped) = try PutRecord.type(type, among: types)
                let row = NewOutboxRow(
                    type: id, key: EntityKey(key), payload: try PutRecord.read(file, bytesMax: cloud.limits.recordBytesMax),
                    target: ServerID(rawValue: to))
                let scope: ServerID? = mapped?.definition.route == .origin ? (to > 0 ? ServerID(rawValue: to) : nil) : .cloud
                try await PutRecord.enqueue(row, type: mapped, scope: scope, limits: cloud.limits, in: cloud.storage)
                Terminal.say("put \(key)")
            }
        }
    }
}
