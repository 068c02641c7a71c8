import DataSync
import Synchronization

/// Where a process can die or a link be cut. Each is a step of a run.
enum FaultPlace: Hashable, Sendable {
    /// Before a transaction: nothing was done.
    case transaction
    /// After a commit: all was done, and nobody knows.
    case commit
    /// Before a request has left.
    case request
    /// After the peer has answered: the answer is lost.
    case answer
}

/// Fails once, at the n-th of the chosen places that a run passes.
final class FaultPlan: Sendable {
    /// The process is gone: what threw this is not used again.
    struct Crash: Error {}

    private struct State {
        var left: Int?
        var places: Set<FaultPlace> = []
        var error: any Error = Crash()
    }

    private let state = Mutex(State())

    func arm(step: Int, at places: Set<FaultPlace> = [.transaction, .commit, .request, .answer], _ error: any Error = Crash()) {
        precondition(step > 0)
        self.state.withLock { $0 = State(left: step, places: places, error: error) }
    }

    func disarm() { self.state.withLock { $0.left = nil } }

    /// Whether the fault is still to come.
    var isArmed: Bool { self.state.withLock { $0.left != nil } }

    func pass(_ place: FaultPlace) throws {
        let error = self.state.withLock { state -> (any Error)? in
            guard let left = state.left, state.places.contains(place) else { return nil }
            state.left = left > 1 ? left - 1 : nil
            return left == 1 ? state.error : nil
        }
        if let error { throw error }
    }
}
