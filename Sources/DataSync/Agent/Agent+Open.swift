import Logging
import Synchronization

extension Agent {
    /// Opens a session if none is open.
    ///
    /// Where types do not flow because the two sides do not agree on them, a new one once a minute: only opening compares
    /// them, and the cloud may know them by now.
    func openSession(attempt: Int = 1) async throws {
        let now = self.environment.runningTime()
        if let session = self.state.withLock({ $0.session }), session.unsupported.isEmpty || now < session.openedAt + .seconds(60) { return }
        guard let term = self.state.withLock({ $0.term }) else {
            throw DataSyncError(.leaseLost, operation: "open", detail: "this agent has not taken over the database")
        }
        let read = try await self.storage.withTransaction(.snapshot) { try await $0.positions(from: .cloud) }.max { $0.key < $1.key }
        let nonce = (self.environment.fingerprint().hex, self.environment.fingerprint().hex)
        await self.environment.passes(.openBeforeSend)
        let answer = try await self.transport.open(
            OpenRequest(
                nonce: nonce.0 + nonce.1, software: self.software, types: self.types.definitions.map(TypeSummary.init), host: self.host,
                logEpoch: read?.key ?? 1, cursors: read?.value.mapValues(\.position) ?? [:]))
        await self.environment.passes(.openAfterReply)
        // Nothing is numbered and nothing is sent before both sides have been compared.
        let verdict = try await self.compareStreams(with: answer, epoch: term.epoch)
        if case .receiverLost(let lost) = verdict { try await self.putBack(lost) }
        if verdict == .senderRestored || answer.session.epoch < term.epoch {
            try await self.recoverStreams(answer, epoch: term.epoch)
            guard attempt < 3 else {
                throw DataSyncError(.diverged, operation: "open", detail: "the cloud does not keep the new epoch of this branch")
            }
            return try await self.openSession(attempt: attempt + 1)
        }
        if let cursors = answer.cursors { try await self.adopt(cursors: cursors, logEpoch: answer.logEpoch) }
        try await self.renumberOldManifests()
        var session = AgentSession(answer)
        session.openedAt = now
        let differences = session.compare(self.types.definitions, with: answer.types)
        // A stream that has nothing unsettled is known to its end; the others begin where they are not settled.
        let backlog = try await self.storage.withTransaction(.snapshot) { try await $0.manifestSummary() }
        for type in backlog.keys {
            let first = try await self.storage.withTransaction(.snapshot) {
                try await $0.manifests(ofType: type, after: nil, limit: 1)
            }
            if let manifest = first.first { session.follow(type, first: manifest.synID(at: manifest.settled)) }
        }
        let opened = session
        self.state.withLock { state in
            state.session = opened
            // What the cloud was told in an older session it may have lost.
            if !PlantedBug.isOn(.toldIsRemembered) { state.told = [:] }
        }
        self.logger.info("session opened", metadata: ["session": "\(answer.session.number)", "epoch": "\(answer.session.epoch)"])
        for difference in differences { self.reportOnce(difference) }
        await self.environment.passes(.openAfter)
    }

    /// After this the next cycle opens a new session.
    func closeSession() { self.state.withLock { $0.session = nil } }

    /// Says something that stays true for long once, and not in every cycle.
    func reportOnce(_ message: String) {
        if self.state.withLock({ $0.reported.insert(message).inserted }) { self.logger.error("\(message): its records wait") }
    }
}
