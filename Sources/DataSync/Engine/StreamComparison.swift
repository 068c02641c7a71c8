/// Compares what a branch knows of its own streams with what the cloud has received of them, when a session is opened.
///
/// Numbers alone cannot tell which side is an older copy, since they grow back; numbers with the run that gave them can.
struct StreamComparison: Sendable {
    enum Verdict: Hashable, Sendable {
        /// Both sides follow from each other.
        case same
        /// The cloud has received what this database does not know of: it is an older copy. Nothing may be sent or numbered before
        /// it has learnt what that was, and has a new epoch.
        case senderRestored
        /// The cloud has lost records that it had confirmed, above these numbers: they are to be sent again.
        case receiverLost([StreamName: Int64])
    }

    var ownEpoch: Int32
    /// The last number given in each stream of `ownEpoch`.
    var given: [BusinessTypeID: Int64]
    /// Up to where each own stream is settled.
    var settled: [StreamName: Int64]
    /// The run that gave the number at which the cloud stands, of those that are still known.
    var runs: [BusinessTypeID: Fingerprint]

    func verdict(on answer: OpenAnswer) -> Verdict {
        if answer.session.epoch > self.ownEpoch { return .senderRestored }
        if answer.session.epoch == self.ownEpoch, !PlantedBug.isOn(.restoredBranchNotSeen) {
            for (type, position) in answer.positions where position.number > 0 {
                if position.number > self.given[type] ?? 0 { return .senderRestored }
                if let run = self.runs[type], run != position.fingerprint, !PlantedBug.isOn(.comparedByNumberOnly) { return .senderRestored }
            }
        }
        var lost: [StreamName: Int64] = [:]
        for (stream, end) in self.settled {
            let positions = stream.epoch == answer.session.epoch ? answer.positions : answer.olderPositions[stream.epoch]
            let received = positions?[stream.type]?.number ?? 0
            if received < end, !PlantedBug.isOn(.lostNotSentAgain) { lost[stream] = received }
        }
        return lost.isEmpty ? .same : .receiverLost(lost)
    }
}
