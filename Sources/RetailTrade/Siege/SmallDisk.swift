public import Foundation

/// A file system of its own, in memory, that can be full for a while. Only root may mount one, and not everywhere.
public struct SmallDisk: Sendable {
    private let folder: URL
    private let bytes: Int

    /// Mounts it at an empty folder.
    public init(at folder: URL, mebibytes: Int) throws {
        self.folder = folder
        self.bytes = mebibytes << 20
        try self.mount("size=\(self.bytes)", "tmpfs", folder.path)
    }

    /// Leaves room for a few more bytes and no others. A smaller disk is full as one that somebody else has filled, and costs no memory.
    public func fill() throws {
        // What is written meanwhile does not fit any more, and a disk cannot be smaller than what is on it.
        for room in [64 << 10, 1 << 20, 4 << 20, 16 << 20] where try self.leave(room) { return }
    }

    /// - Returns: Whether that much room is left now, and no more.
    private func leave(_ room: Int) throws -> Bool {
        var statistics = statvfs()
        guard statvfs(self.folder.path, &statistics) == 0 else { throw TradeError("\(self.folder.path) is no file system") }
        let used = Int(statistics.f_blocks - statistics.f_bfree) * Int(statistics.f_frsize)
        return (try? self.mount("remount,size=\(used + room)", self.folder.path)) != nil
    }

    /// Gives back the room that there was.
    public func clear() throws { try self.mount("remount,size=\(self.bytes)", self.folder.path) }

    public func unmount() { _ = try? CommandResult.of("/usr/bin/env", ["umount", "-l", self.folder.path], in: URL(filePath: "/")) }

    private func mount(_ options: String, _ arguments: String...) throws {
        let result = try CommandResult.of("/usr/bin/env", ["mount", "-t", "tmpfs", "-o", options] + arguments, in: URL(filePath: "/"))
        guard result.status == 0 else { throw TradeError("nothing can be mounted at \(self.folder.path): \(result.complaints)") }
    }
}
