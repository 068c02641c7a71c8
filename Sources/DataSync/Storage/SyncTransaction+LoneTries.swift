extension SyncTransaction {
    /// Decides whether the record with this number is to be tried alone, and writes down that it is.
    /// - Parameters:
    ///   - name: Of the setting that holds what was begun with last in this line.
    ///   - age: Of the database.
    ///   - time: Running time of the process.
    func beginAlone(
        _ name: String, epoch: Int32, number: Int64, age: Int64, _ watch: LoneWatch, at time: Duration
    ) async throws -> LoneTry.Verdict {
        let noted = try await self.setting(name).flatMap { LoneTry(text: $0) }
        let lease = noted.map { watch.lease($0, name, at: time) } ?? .zero
        let verdict = LoneTry.verdict(epoch: epoch, number: number, noted: noted, age: age, by: watch.owner, lease: lease)
        if case .begin(let next) = verdict {
            watch.hasEnded(name)
            try await self.putSetting(name, next.text)
        }
        return verdict
    }

    /// Takes back that the process `owner` has begun in a line, unless another has since.
    func endAlone(_ name: String, by owner: Int64) async throws {
        guard let noted = try await self.setting(name).flatMap({ LoneTry(text: $0) }), noted.owner == owner else { return }
        try await self.removeSetting(name)
    }

    /// Notes that a record which was begun with alone has got through, if one was.
    func endAlone(_ name: String?) async throws {
        if let name { try await self.removeSetting(name) }
    }

    /// Counts that a process has come up.
    /// - Returns: Whether it is to be careful, since those before it did not get through their work.
    func countStart(_ name: String) async throws -> Bool {
        let before = try await self.setting(name).flatMap { Int($0) } ?? 0
        try await self.putSetting(name, String(before + 1))
        return before >= Start.suspicious
    }
}

extension LoneTry {
    /// Runs `body`, for which a record was begun with alone, and takes that back where it threw: it did not end this process. Where it took
    /// too long it may be to blame for that, and stays.
    /// - Parameters:
    ///   - name: Of the setting that says so, which `body` removes where it succeeds; nil where no record was begun with.
    ///   - watch: Learns where it could not be taken back.
    ///   - end: Removes it.
    static func takingBack<Result>(
        _ name: String?, _ watch: LoneWatch, by end: (String) async throws -> Void, _ body: () async throws -> Result
    ) async throws -> Result {
        do { return try await body() } catch {
            guard let name, !(error is CancellationError) else { throw error }
            do { try await end(name) } catch let failure {
                watch.owes(name)
                // Whoever goes on after a setback must not find it begun with.
                if error is ChunkSetback { throw failure }
            }
            throw error
        }
    }
}
