import ArgumentParser
import DataSync
import DataSyncPrograms
import DataSyncSQL

extension Cloud {
    struct Types: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Helps to describe business types.", subcommands: [Draft.self])

        struct Draft: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Prints the YAML for tables that exist.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The tables; without any, all of them.") var tables: [String] = []

            func run() async throws {
                try await exiting {
                    let cloud = try CloudProgram(try options.start(.cloud))
                    Terminal.say(try await TypeDraft.draft(tables, isCloud: true, in: cloud.storage))
                }
            }
        }
    }

    struct Config: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Looks at the configuration.", subcommands: [Check.self])

        struct Check: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Compares the configuration with the database, and changes nothing.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await exiting {
                    let cloud = try CloudProgram(try options.start(.cloud))
                    try cloud.settings.check()
                    try await cloud.storage.checkSchema()
                    let types = try await cloud.settings.mappedTypes(in: cloud.storage)
                    for warning in types.flatMap(\.warnings) { Terminal.complain("warning: \(warning)") }
                    Terminal.say("\(cloud.settings.path ?? "the configuration") fits \(cloud.storage.database.name): \(types.count) business types")
                }
            }
        }
    }

    struct GrantsCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "grants", abstract: "Prints the least that DataSync's and the applications' database users need.")
        @OptionGroup var options: GlobalOptions

        func run() async throws {
            try await exiting {
                let settings = try options.start(.cloud)
                let types = try await settings.mappedTypes(in: try settings.storage())
                Terminal.say(try settings.grants(types: types))
            }
        }
    }
}
