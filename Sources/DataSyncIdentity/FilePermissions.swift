import Glibc

/// Who else can read what should be secret.
package enum FilePermissions {
    /// The permissions of a file, and not of a link to it, as `chmod` takes them; nil where there is none that can be asked for.
    package static func of(_ path: String) -> UInt32? {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
    }

    /// Whether everybody on this machine can read, write or run it. A group may be allowed to.
    package static func letEverybodyIn(to path: String) -> Bool { (self.of(path) ?? 0) & 0o007 != 0 }
}
