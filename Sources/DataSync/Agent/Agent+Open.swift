import Logging
import Synchronization

extension Agent {
    /// Opens a session if none is open.
    ///
    /// Where types do not flow because the two sides do not agree on them, a new one once a minute: only opening compares
    /// them, and the cloud may know them by now.
    func openSession() async throws {
        let now = self.environment.runningTime()
        if let session = self.state.withLock({ $0.session }), session.unsupported.isEmpty || now < session.openedAt + .seconds(60) { return }
        guard let term = self.state.withLock({ $0.term }) else {
            throw DataSyncError(.leaseLost, operation: "open", detail: "this agent has not taken over the database")
        }
        let nonce = (self.environment.fingerprint().hex, self.environment.fingerprint().hex)
        let answer = try await self.transport.open(
            OpenRequest(
                nonce: nonce.0 + nonce.1, software: self.software, types: self.types.definitions.map(TypeSummary.init)))
        guard answer.session.epoch == term.epoch else {
            throw DataSyncError(
                .peerInvalid, operation: "open",
                detail: "the cloud counts epoch \(answer.session.epoch) of this branch, its database epoch \(term.epoch): "
                    + "was one of them restored from a backup?")
        }
        var session = AgentSession(answer)
        session.openedAt = now
        let differences = session.compare(self.types.definitions, with: answer.types)
        try await self.checkNumbers(answer)
        // A stream that has nothing unsettled is known to its end; the others begin where they are not settled.
        let backlog = try await self.storage.withTransaction(.snapshot) { try await $0.manifestSummary() }
        for type in backlog.keys {
            let first = try await self.storage.withTransaction(.snapshot) {
                try await $0.manifests(ofType: type, after: nil, limit: 1)
            }
            if let manifest = first.first { session.follow(type, first: manifest.synID(at: manifest.settled)) }
        }
        let opened = session
        self.state.withLock { $0.session = opened }
        self.logger.info("session opened", metadata: ["session": "\(answer.session.number)", "epoch": "\(answer.session.epoch)"])
        for difference in differences { self.reportOnce(difference) }
    }

    /// The cloud cannot have received a number that this database has not given, unless the database is an older copy.
    /// What would be numbered next would be taken for duplicates of what the cloud has.
    private func checkNumbers(_ answer: OpenAnswer) async throws {
        let last = try await self.storage.withTransaction(.snapshot) {
            try await $0.lastNumbers(origin: self.id, epoch: answer.session.epoch)
        }
        for (type, position) in answer.positions where position.number > last[type] ?? 0 {
            throw DataSyncError(
                .invalidState, operation: "open",
                detail: "the cloud has received number \(position.number) of type \(type), this database has given "
                    + "\(last[type] ?? 0): it was restored from a backup. Nothing is sent, nothing is lost; put back the newer database")
        }
    }

    /// After this the next cycle opens a new session.
    func closeSession() { self.state.withLock { $0.session = nil } }

    /// Says something that stays true for long once, and not in every cycle.
    func reportOnce(_ message: String) {
        if self.state.withLock({ $0.reported.insert(message).inserted }) { self.logger.error("\(message): its records wait") }
    }
}
