package import DataSync

/// What `status` prints.
package enum LocalStatus {
    package static func text(_ overview: Overview, branch: ServerID, isRunning: Bool) -> String {
        let name = overview.servers.first { $0.id == branch }?.name ?? ""
        var lines = ["branch \(branch) '\(name)': the agent is \(isRunning ? "running" : "not running")"]
        if let health = overview.health {
            lines.append(
                health.lastSuccess == nil
                    ? "no cycle has gone well yet" : "last cycle that went well: \(overview.age(health.lastSuccess)) ago")
            if health.failures > 0 { lines.append("failing: \(health.failures) in a row: \(health.lastError ?? "")") }
            for (type, reason) in health.stopped.sorted(by: { $0.key < $1.key }) { lines.append("type \(type) is stopped: \(reason)") }
        }
        let rows = overview.types.map { type in
            let confirmation = overview.confirmations.first { $0.type == type.id && $0.peer == .cloud }
            return [
                "\(type.id)", type.name, "\(type.waiting)", overview.age(type.oldest), "\(confirmation?.position.number ?? 0)",
                confirmation.map { overview.age($0.time) + " ago" } ?? "never",
                "\(overview.count(Overview.openDispositions, of: type.id))", "\(overview.count([.dead], of: type.id))",
            ]
        }
        if !rows.isEmpty {
            lines += ["", Terminal.table(["TYPE", "NAME", "WAITING", "OLDEST", "CONFIRMED", "WHEN", "REFUSED", "DEAD"], rows)]
        }
        return lines.joined(separator: "\n")
    }

    package static func json(_ overview: Overview, branch: ServerID, isRunning: Bool) -> String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.member("branch", branch.rawValue)
            writer.member("running", isRunning)
            if let health = overview.health {
                writer.member("failures", health.failures)
                if let time = health.lastSuccess { writer.member("last_success", time) }
                if let error = health.lastError { writer.member("last_error", error) }
            }
            writer.key("types")
            writer.array { writer in
                for type in overview.types {
                    let confirmation = overview.confirmations.first { $0.type == type.id && $0.peer == .cloud }
                    writer.object { writer in
                        writer.member("id", type.id.rawValue)
                        writer.member("name", type.name)
                        writer.member("waiting", type.waiting)
                        if let oldest = type.oldest { writer.member("oldest", oldest) }
                        writer.member("confirmed", confirmation?.position.number ?? 0)
                        writer.member("refused", overview.count(Overview.openDispositions, of: type.id))
                        writer.member("dead", overview.count([.dead], of: type.id))
                        if let reason = overview.health?.stopped["\(type.id)"] { writer.member("stopped", reason) }
                    }
                }
            }
        }
        return writer.text
    }
}
