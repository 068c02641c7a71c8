import ArgumentParser
import DataSync
import DataSyncIdentity
import DataSyncPrograms
import DataSyncSQL

extension Cloud {
    struct Key: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The cloud's key: shows which it is, changes it.",
            discussion: """
                A change has three steps. `rotate` makes the next key and has the branches told of it. `activate` lets it sign; branches that \
                have not heard of it are still answered by the one before. `retire` ends the change, when all active branches know the new key.
                """,
            subcommands: [Show.self, Rotate.self, Activate.self, Retire.self])

        struct Show: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Prints the keys, how far a change has got, and who does not know the newer one.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await withRing(options) { ring in
                    let standing = try await ring.standing()
                    Terminal.say("\(standing.present.thumbprint)  signs")
                    guard let other = standing.other else { return }
                    let state = standing.phase == .announced ? "is announced; `key activate` lets it sign" : "is still trusted; `key retire` ends that"
                    Terminal.say("\(other.thumbprint)  \(state)")
                    let unaware = standing.unaware.map { "\($0)" }.joined(separator: ", ")
                    Terminal.say(unaware.isEmpty ? "every active branch knows the newer key" : "branches that have not seen the newer key: \(unaware)")
                }
            }
        }

        struct Rotate: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Makes the next key, beside the present one, and has the branches told of it.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await withRing(options) { ring in
                    let key = try await ring.announce(by: currentActor())
                    Terminal.say(
                        "the next key is \(key.thumbprint): back up its file, and copy it to the other replicas. Branches hear of it with their next "
                            + "answers; then `key activate`")
                }
            }
        }

        struct Activate: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Lets the next key sign. The one before is still trusted.")
            @OptionGroup var options: GlobalOptions

            func run() async throws {
                try await withRing(options) { ring in
                    let key = try await ring.activate(by: currentActor())
                    Terminal.say("\(key.thumbprint) signs within 5 s; when `key show` names no branch any more: `key retire`")
                }
            }
        }

        struct Retire: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Ends the change: the key before is worth nothing.")
            @OptionGroup var options: GlobalOptions
            @Flag(help: "Also where active branches have not seen the present key; they need a new join token then.") var force = false

            func run() async throws {
                try await withRing(options) { ring in
                    let key = try await ring.retire(isForced: force, by: currentActor())
                    Terminal.say("the cloud has the key \(key.thumbprint) alone")
                }
            }
        }
    }
}

private func withRing(_ options: GlobalOptions, _ work: (CloudKeyRing<SQLStorage>) async throws -> Void) async throws {
    try await exiting {
        let cloud = try CloudProgram(try options.start(.cloud))
        try await cloud.storage.checkSchema()
        try await work(try cloud.keyRing())
    }
}
