package import ArgumentParser
package import DataSync
package import DataSyncIdentity
import DataSyncSQL
import Foundation

/// A program, and the set of people that log in there.
package protocol PeopleChoice: ProgramChoice {
    associatedtype People: PeopleSet
}

/// `user`, of both programs: each has people of its own.
package struct UserCommand<Choice: PeopleChoice>: AsyncParsableCommand {
    package static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "user", abstract: "The people, and at a branch the applications, that log in here: lets them in, shuts them out.",
            discussion: "Whoever may run this and write the database decides about all of them. There is no password that comes with the program.",
            subcommands: [
                Add.self, List.self, Disable.self, Enable.self, Passwd.self, Role.self, Unlock.self, Setup.self,
            ])
    }

    package init() {}

    /// What somebody may do, as options.
    package struct RoleOptions: ParsableArguments {
        @Option(help: "\(Choice.People.Role.allCases.map(\.rawValue).joined(separator: ", ")).") var role: String
        @Option(help: ArgumentHelp("Only these branches, by comma; without it, all. At the cloud alone.", valueName: "ids")) var branches: String?

        package init() {}

        func read() throws -> (role: Choice.People.Role, branches: [ServerID]?) {
            guard let role = Choice.People.Role(rawValue: self.role) else {
                throw ValidationError("--role takes one of \(Choice.People.Role.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard let branches else { return (role, nil) }
            guard Choice.People.kind == .operators else { throw ValidationError("--branches belongs to the people at the cloud") }
            let ids = branches.split(separator: ",").map { Int32($0.trimmingCharacters(in: .whitespaces)).map(ServerID.init(rawValue:)) }
            guard !ids.isEmpty, !ids.contains(nil), ids.allSatisfy({ $0?.isBranch == true }) else {
                throw ValidationError("--branches takes numbers of branches such as 7,8")
            }
            return (role, ids.compactMap { $0 })
        }
    }

    package struct Add: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "add", abstract: "Lets somebody in. The password is asked for at the terminal.")
        }
        @OptionGroup var options: GlobalOptions
        @OptionGroup var may: RoleOptions
        @Flag(help: "Read the password from standard input: one line.") var passwordStdin = false
        @Argument(help: "By which they log in: a to z, digits, '.', '_', '-' and '@'.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                let (role, branches) = try self.may.read()
                let register = try await register(self.options, Choice.self)
                let password = try PasswordInput.read(fromStandardInput: self.passwordStdin, for: self.name)
                try await register.add(self.name, role: role, branches: branches, password: password, by: currentActor())
                Terminal.say("\(self.name) is let in, as \(role.rawValue)")
            }
        }
    }

    package struct List: AsyncParsableCommand {
        package static var configuration: CommandConfiguration { CommandConfiguration(commandName: "list", abstract: "Lists them.") }
        @OptionGroup var options: GlobalOptions
        @Flag(help: "One JSON object a line.") var json = false

        package init() {}

        package func run() async throws {
            try await exiting {
                let people = try await register(self.options, Choice.self).all()
                if self.json {
                    for person in people { Terminal.say(PersonLines.json(person)) }
                } else if people.isEmpty {
                    Terminal.say("Nobody is let in yet: `\(Choice.program.rawValue) user add`.")
                } else {
                    let now = SyncEnvironment.system.wallTime()
                    let rows = people.map { person in
                        [
                            person.name, person.role, person.branches.map { $0.map { "\($0)" }.joined(separator: ",") } ?? "all", person.state.rawValue,
                            "\(person.failures)", person.lastLogin > 0 ? Terminal.age(milliseconds: now - person.lastLogin) + " ago" : "never",
                        ]
                    }
                    Terminal.say(Terminal.table(["NAME", "ROLE", "BRANCHES", "STATE", "WRONG PASSWORDS", "LOGGED IN"], rows))
                }
            }
        }
    }

    package struct Disable: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "disable", abstract: "Shuts somebody out, from this moment on.")
        }
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The name.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                try await register(self.options, Choice.self).disable(self.name, by: currentActor())
                Terminal.say("\(self.name) is shut out")
            }
        }
    }

    package struct Enable: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "enable", abstract: "Lets somebody in again who was shut out.")
        }
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The name.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                try await register(self.options, Choice.self).enable(self.name, by: currentActor())
                Terminal.say("\(self.name) is let in again")
            }
        }
    }

    package struct Passwd: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(
                commandName: "passwd", abstract: "Gives somebody another password. The password is asked for at the terminal.",
                discussion: "All logins with the old one end. Whoever was locked out by wrong passwords is let in again.")
        }
        @OptionGroup var options: GlobalOptions
        @Flag(help: "Read the password from standard input: one line.") var passwordStdin = false
        @Argument(help: "The name.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                let register = try await register(self.options, Choice.self)
                let password = try PasswordInput.read(fromStandardInput: self.passwordStdin, for: self.name)
                try await register.setPassword(password, of: self.name, by: currentActor())
                Terminal.say("\(self.name) has another password")
            }
        }
    }

    package struct Role: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "role", abstract: "Changes what somebody may do. All their logins end.")
        }
        @OptionGroup var options: GlobalOptions
        @OptionGroup var may: RoleOptions
        @Argument(help: "The name.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                let (role, branches) = try self.may.read()
                try await register(self.options, Choice.self).setRole(role, branches: branches, of: self.name, by: currentActor())
                Terminal.say("\(self.name) is \(role.rawValue) now")
            }
        }
    }

    package struct Unlock: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(commandName: "unlock", abstract: "Lets somebody try again who was locked out by wrong passwords.")
        }
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The name.") var name: String

        package init() {}

        package func run() async throws {
            try await exiting {
                try await register(self.options, Choice.self).unlock(self.name, by: currentActor())
                Terminal.say("\(self.name) can try again")
            }
        }
    }

    package struct Setup: AsyncParsableCommand {
        package static var configuration: CommandConfiguration {
            CommandConfiguration(
                commandName: "setup", abstract: "Prints a token by which somebody becomes the first administrator over HTTP: good once, for an hour.",
                discussion: "For whoever has no access to this machine. Where there is an administrator, there is no such token.")
        }
        @OptionGroup var options: GlobalOptions

        package init() {}

        package func run() async throws {
            try await exiting {
                let token = try await register(self.options, Choice.self).makeSetupToken(by: currentActor())
                Terminal.complain("setup token, good once and for an hour; POST /v1/setup {\"token\": …, \"name\": …, \"password\": …}")
                Terminal.say(token.text)
            }
        }
    }
}

private func register<Choice: PeopleChoice>(_ options: GlobalOptions, _: Choice.Type) async throws -> PeopleRegister<SQLStorage, Choice.People> {
    let storage = try options.start(Choice.program).storage()
    try await storage.checkSchema()
    return PeopleRegister(storage: storage, environment: .program)
}

package enum PersonLines {
    package static func json(_ person: PersonRow) -> String {
        var writer = JSONWriter()
        person.write(to: &writer)
        return writer.text
    }
}
