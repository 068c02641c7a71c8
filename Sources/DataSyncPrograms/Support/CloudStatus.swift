package import DataSync
import DataSyncServer

/// What `status` prints.
package enum CloudStatus {
    package static func text(_ overview: Overview) -> String {
        var parts: [String] = []
        let branches = overview.servers.filter(\.id.isBranch)
        if branches.isEmpty {
            parts.append("There is no branch yet: `datasync-cloud branch add`.")
        } else {
            let rows = branches.map { branch in
                [
                    "\(branch.id)", branch.name, branch.status.rawValue,
                    branch.lastSeen > 0 ? overview.age(branch.lastSeen) + " ago" : "never",
                    overview.confirmations.filter { $0.peer == branch.id }.map(\.time).max().map { overview.age($0) + " ago" } ?? "never",
                    "\(overview.count(Overview.openDispositions, at: branch.id))", "\(overview.count([.dead], at: branch.id))",
                ]
            }
            parts.append(Terminal.table(["BRANCH", "NAME", "STATUS", "SEEN", "CONFIRMED", "REFUSED THERE", "DEAD THERE"], rows))
        }
        let rows = overview.types.map { type in
            [
                "\(type.id)", type.name, "\(overview.tails[type.id] ?? 0)", "\(type.waiting)", overview.age(type.oldest),
                "\(overview.count(Overview.openDispositions, of: type.id, at: .cloud))", "\(overview.count([.dead], of: type.id, at: .cloud))",
            ]
        }
        if !rows.isEmpty {
            parts.append(Terminal.table(["TYPE", "NAME", "IN THE LOG", "NOT YET", "OLDEST", "REFUSED HERE", "DEAD HERE"], rows))
        }
        return parts.joined(separator: "\n\n")
    }

    /// - Parameter sees: Which branches are shown.
    package static func json(_ overview: Overview, sees: (ServerID) -> Bool = { _ in true }) -> String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.key("branches")
            writer.array { writer in for branch in overview.servers where branch.id.isBranch && sees(branch.id) { branch.write(to: &writer) } }
            writer.key("types")
            writer.array { writer in
                for type in overview.types {
                    writer.object { writer in
                        writer.member("id", type.id.rawValue)
                        writer.member("name", type.name)
                        writer.member("log", overview.tails[type.id] ?? 0)
                        writer.member("waiting", type.waiting)
                        if let oldest = type.oldest { writer.member("oldest", oldest) }
                    }
                }
            }
            writer.key("confirmed")
            writer.array { writer in
                for confirmation in overview.confirmations where sees(confirmation.peer) {
                    writer.object { writer in
                        writer.member("branch", confirmation.peer.rawValue)
                        writer.member("type", confirmation.type.rawValue)
                        writer.member("number", confirmation.position.number)
                        writer.member("time", confirmation.time)
                        writer.member("lag_ms", confirmation.lag)
                    }
                }
            }
            writer.key("records")
            writer.array { writer in
                for count in overview.memos {
                    writer.object { writer in
                        writer.member("held_by", count.receiver.rawValue)
                        writer.member("type", count.type.rawValue)
                        writer.member("is", count.disposition.name)
                        writer.member("count", count.count)
                    }
                }
            }
        }
        return writer.text
    }
}
