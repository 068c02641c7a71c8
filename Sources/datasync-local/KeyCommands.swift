import ArgumentParser
import DataSyncIdentity
import DataSyncPrograms

extension Local {
    struct Key: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "This branch's key: shows which it is, changes it.", subcommands: [Show.self, Rotate.self])

        struct Show: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Prints the fingerprint of this branch's key.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await exiting { Terminal.say(try LocalProgram(try options.start(.local)).key().publicKey.thumbprint) }
            }
        }

        struct Rotate: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Makes another key and has the cloud take it in place of the old one.",
                discussion: "A running agent goes on with the new key. Where this breaks off, run it again: the branch can sync all the while.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await exiting {
                    let key = try await LocalProgram(try options.start(.local)).changeKey(by: currentActor())
                    Terminal.say("this branch has the key \(key.thumbprint) now; the old one is worth nothing")
                }
            }
        }
    }
}
