/// The commented file that `init` leaves where there is none.
package enum SampleConfiguration {
    /// - Parameter values: Settings that are known already; the others stand there as comments, with their defaults.
    package static func text(of program: SettingKey.Program, values: [String: String]) -> String {
        var lines = [
            "# \(program.rawValue): what it is told. Flags go before the environment (storage.url is DATASYNC_STORAGE_URL), and that",
            "# before this file. What is commented out has the value that is shown.",
        ]
        var group = ""
        for key in SettingKey.keys(of: program) {
            let parts = key.name.split(separator: ".", maxSplits: 1).map { String($0) }
            if parts[0] != group {
                group = parts[0]
                lines += ["", "\(group):"]
            }
            lines.append("  # \(key.help)")
            if let value = values[key.name] {
                lines.append("  \(parts[1]): \(value)")
            } else {
                lines.append("  # \(parts[1]): \(key.standard ?? "")")
            }
        }
        lines += ["", self.types(program)]
        return lines.joined(separator: "\n") + "\n"
    }

    private static func types(_ program: SettingKey.Program) -> String {
        let origin = program == .cloud ? "\n#         origin: branch_id            # receives the id of the branch; part of the primary key here" : ""
        return """
            # What is carried. `\(program.rawValue) types draft` writes this for tables that exist. Ids, names and routes must be the same on
            # both sides; tables and columns need not: {name in the payload: column here}.
            #
            # Routes: up (to the cloud alone), origin (to the cloud and back to its home), all (to every branch), target (to the server
            # in data_to_server_id), shared(column) (to all while the column is not 0, else as origin).
            # types:
            #   - id: 1
            #     name: member
            #     priority: 10                     # the smaller goes first
            #     route: shared(is_shared)
            #     tables:
            #       - table: members
            #         key: [id]
            #         columns: [name, {mobile: phone}, is_shared]
            #   - id: 2
            #     name: order
            #     priority: 20
            #     route: origin
            #     tables:                          # an order with its lines is one record
            #       - table: orders
            #         key: [id]
            #         columns: [member_id, ordered_at, total]\(origin)
            #       - table: order_lines
            #         as: lines                    # what the payload calls them
            #         key: [order_id, line]
            #         columns: [product_id, quantity]
            #         parent_key: {order_id: id}   # which column repeats the order's key\(origin)
            """
    }
}
