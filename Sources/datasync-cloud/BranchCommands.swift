import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms
import DataSyncSQL
import Foundation

extension Cloud {
    struct Branch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Introduces branches, stops them, lists them.",
            subcommands: [Add.self, List.self, Suspend.self, Resume.self, Token.self, Replace.self])

        struct Add: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Introduces a branch and prints its join token: good once, for an hour.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The branch's number: positive, never used again.") var id: Int32
            @Argument(help: "What people call it.") var name: String

            func run() async throws {
                try await withEnrolment(options) { enrolment in
                    let token = try await enrolment.add(ServerID(rawValue: id), name: name, actor: currentActor())
                    show(token)
                }
            }
        }

        struct Token: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Prints a new join token; the old one is worth nothing then.",
                discussion: "For a branch that has not joined, or one that joins again with the key that it has.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The branch's number.") var id: Int32

            func run() async throws {
                try await withEnrolment(options) { enrolment in
                    show(try await enrolment.renewToken(of: ServerID(rawValue: id), actor: currentActor()))
                }
            }
        }

        struct Replace: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Shuts out the machine of a branch, which was lost or stolen, and prints a join token for another one.",
                discussion: """
                    The old key is worth nothing from now on. What the branch has sent stays; the new machine fetches what it had out of the log, \
                    and begins its numbers in a new epoch.
                    """)
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The branch's number.") var id: Int32

            func run() async throws {
                try await withEnrolment(options) { enrolment in
                    show(try await enrolment.replace(ServerID(rawValue: id), actor: currentActor()))
                }
            }
        }

        struct Suspend: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Stops a branch: nothing it sends has an effect from now on.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The branch's number.") var id: Int32

            func run() async throws {
                try await withEnrolment(options) { enrolment in
                    try await enrolment.suspend(ServerID(rawValue: id), actor: currentActor())
                    Terminal.say("branch \(id) is suspended")
                }
            }
        }

        struct Resume: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Lets a suspended branch go on where it was.")
            @OptionGroup var options: GlobalOptions
            @Argument(help: "The branch's number.") var id: Int32

            func run() async throws {
                try await withEnrolment(options) { enrolment in
                    try await enrolment.resume(ServerID(rawValue: id), actor: currentActor())
                    Terminal.say("branch \(id) is active")
                }
            }
        }

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Lists the branches.")
            @OptionGroup var options: GlobalOptions
            @Flag(help: "One JSON object a line.") var json = false

            func run() async throws {
                try await exiting {
                    let cloud = try CloudProgram(try options.start(.cloud))
                    try await cloud.storage.checkSchema()
                    let branches = try await cloud.storage.withTransaction(.snapshot) { try await $0.servers() }.filter(\.id.isBranch)
                    let now = SyncEnvironment.system.wallTime()
                    if json {
                        for branch in branches { Terminal.say(BranchLines.json(branch)) }
                    } else if branches.isEmpty {
                        Terminal.say("There is no branch yet: `datasync-cloud branch add`.")
                    } else {
                        let rows = branches.map { branch in
                            [
                                "\(branch.id)", branch.name, branch.status.rawValue,
                                branch.publicKey.flatMap { MachinePublicKey(text: $0)?.thumbprint } ?? "-", branch.version ?? "-",
                                branch.lastSeen > 0 ? Terminal.age(milliseconds: now - branch.lastSeen) + " ago" : "never",
                            ]
                        }
                        Terminal.say(Terminal.table(["ID", "NAME", "STATUS", "KEY", "SOFTWARE", "SEEN"], rows))
                    }
                }
            }
        }
    }
}

private func withEnrolment(_ options: GlobalOptions, _ work: (Enrolment<SQLStorage>) async throws -> Void) async throws {
    try await exiting {
        let cloud = try CloudProgram(try options.start(.cloud))
        try await cloud.storage.checkSchema()
        try await work(try cloud.enrolment())
    }
}

private func show(_ token: JoinToken) {
    // Not as an argument: everybody on a machine can read those.
    Terminal.complain("join token for branch \(token.server), good once and for an hour; at the branch: datasync-local join --cloud URL, and then the token")
    Terminal.say(token.text)
}
