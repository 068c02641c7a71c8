public import DataSync

extension PersonRow {
    /// As commands and the administrative interface show it: without the password's hash.
    public func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("name", self.name)
            writer.member("role", self.role)
            if let branches {
                writer.key("branches")
                writer.array { writer in for branch in branches { writer.integer(branch.rawValue) } }
            }
            writer.member("state", self.state.rawValue)
            writer.member("wrong_passwords", self.failures)
            writer.member("created", self.created)
            writer.member("changed", self.changed)
            if self.lastLogin > 0 { writer.member("last_login", self.lastLogin) }
        }
    }
}
