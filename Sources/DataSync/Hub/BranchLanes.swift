import Synchronization

/// Keeps the pushes of one branch in the order in which they came to this process.
///
/// A branch sends its next batch before the last one is answered, so that it is received and read while the last is
/// applied. The database would serialise them in any order, and one that comes too early finds a gap: nothing is lost by
/// that, but it must be sent again.
final class BranchLanes: Sendable {
    /// One push, from its arrival to its end.
    struct Place: Sendable {
        fileprivate let number: UInt64
        fileprivate let branch: ServerID
        fileprivate let predecessor: AsyncSemaphore?
        fileprivate let end = AsyncSemaphore(0)

        /// Waits until the push before this one has ended.
        func turn() async throws {
            try await self.predecessor?.wait()
            // It may be asked again.
            self.predecessor?.signal()
        }
    }

    private struct State {
        var last: [ServerID: Place] = [:]
        var nextNumber: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Takes the next place of a branch. Must be followed by one ``leave(_:)``.
    func enter(_ branch: ServerID) -> Place {
        self.state.withLock { state in
            state.nextNumber += 1
            let place = Place(number: state.nextNumber, branch: branch, predecessor: state.last[branch]?.end)
            state.last[branch] = place
            return place
        }
    }

    func leave(_ place: Place) {
        place.end.signal()
        self.state.withLock { state in
            if state.last[place.branch]?.number == place.number { state.last[place.branch] = nil }
        }
    }
}
