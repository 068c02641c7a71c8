package import DataSync
import DataSyncServer

package enum BranchLines {
    package static func json(_ branch: ServerRow) -> String {
        var writer = JSONWriter()
        branch.write(to: &writer)
        return writer.text
    }
}
