import Synchronization

/// Places that are taken for a while: so many in all, and so many by one name, such as an address. Nobody waits for one.
package final class BoundedPlaces: Sendable {
    private struct Taken {
        var count = 0
        var byName: [String: Int] = [:]
    }

    private let max: Int
    private let maxOfOne: Int
    private let taken = Mutex(Taken())

    package init(_ max: Int, ofOne maxOfOne: Int) {
        self.max = max
        self.maxOfOne = maxOfOne
    }

    /// Takes a place while `body` runs.
    /// - Parameters:
    ///   - name: Who takes it; nil: counted among all alone.
    ///   - full: Thrown where there is no place.
    package func taking<Result>(
        _ name: String?, else full: @autoclosure () -> DataSyncError, _ body: () async throws -> Result
    ) async throws -> Result {
        let isIn = self.taken.withLock { taken in
            guard taken.count < self.max, name.map({ taken.byName[$0, default: 0] < self.maxOfOne }) ?? true else { return false }
            taken.count += 1
            if let name { taken.byName[name, default: 0] += 1 }
            return true
        }
        guard isIn else { throw full() }
        defer {
            self.taken.withLock { taken in
                taken.count -= 1
                guard let name, let count = taken.byName[name] else { return }
                taken.byName[name] = count > 1 ? count - 1 : nil
            }
        }
        return try await body()
    }
}
