package import ArgumentParser
import DataSync
import DataSyncSQL

/// Which of the two programs a shared command belongs to.
package protocol ProgramChoice {
    static var program: SettingKey.Program { get }
}

/// `types draft`, of both programs.
package struct TypesCommand<Choice: ProgramChoice>: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "types", abstract: "Helps to describe business types.", subcommands: [Draft.self])
    }

    package init() {}

    package struct Draft: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "draft", abstract: "Prints the YAML for tables that exist.")
        }
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The tables; without any, all of them.") var tables: [String] = []

        package init() {}

        package func run() async throws {
            try await exiting {
                let storage = try self.options.start(Choice.program).storage()
                Terminal.say(try await TypeDraft.draft(self.tables, isCloud: Choice.program == .cloud, in: storage))
            }
        }
    }
}

/// `config check`, of both programs.
package struct ConfigCommand<Choice: ProgramChoice>: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "config", abstract: "Looks at the configuration.", subcommands: [Check.self])
    }

    package init() {}

    package struct Check: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "check", abstract: "Compares the configuration with the database, and changes nothing.")
        }
        @OptionGroup var options: GlobalOptions

        package init() {}

        package func run() async throws {
            try await exiting {
                let settings = try self.options.start(Choice.program)
                try settings.check()
                let storage = try settings.storage()
                try await storage.checkSchema()
                let types = try await settings.mappedTypes(in: storage)
                for warning in types.flatMap(\.warnings) { Terminal.complain("warning: \(warning)") }
                Terminal.say("\(settings.path ?? "the configuration") fits \(storage.database.name): \(types.count) business types")
            }
        }
    }
}

/// `grants`, of both programs.
package struct GrantsCommand<Choice: ProgramChoice>: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "grants", abstract: "Prints the least that DataSync's and the applications' database users need.")
    }
    @OptionGroup var options: GlobalOptions

    package init() {}

    package func run() async throws {
        try await exiting {
            let settings = try self.options.start(Choice.program)
            let types = try await settings.mappedTypes(in: try settings.storage())
            Terminal.say(try settings.grants(types: types))
        }
    }
}
