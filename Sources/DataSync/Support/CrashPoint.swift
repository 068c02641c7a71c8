/// The labelled places between two steps at which a test ends a process, holds it or stops it, to see that nothing is lost by that and
/// nothing comes twice.
///
/// Whoever carries something out says that it passes one (`SyncEnvironment.passes`). In a release build that does nothing. The names
/// begin with the side, and with `init` for what both do.
package enum CrashPoint: String, CaseIterable, Sendable {
    // MARK: - A branch: numbering

    /// There are committed rows without a number.
    case numberBefore = "branch.number.before"
    case numberAfterFrontier = "branch.number.after_frontier"
    case numberBeforeCommit = "branch.number.before_commit"
    case numberAfterCommit = "branch.number.after_commit"
    /// There are rows that committed late.
    case lateBefore = "branch.late.before"
    case lateBeforeCommit = "branch.late.before_commit"
    case lateAfterCommit = "branch.late.after_commit"

    // MARK: - A branch: pushing

    case pushBeforeSend = "branch.push.before_send"
    /// At least one request is on its way, and the answer is waited for.
    case pushUnderWay = "branch.push.under_way"
    /// The answer is there, and nothing of it is written down.
    case pushAfterReply = "branch.push.after_reply"
    case settleBefore = "branch.settle.before"
    /// A batch is settled, and the next is not.
    case settleBetween = "branch.settle.between"
    /// Rows are settled, and the manifests do not say so yet.
    case settleMid = "branch.settle.mid"
    case settleBeforeCommit = "branch.settle.before_commit"
    case settleAfterCommit = "branch.settle.after_commit"

    // MARK: - A branch: pulling

    case pullBeforeSend = "branch.pull.before_send"
    case pullAfterReply = "branch.pull.after_reply"
    /// The outcomes of own records are noted, and none of the pulled ones is applied.
    case pullAfterOutcomes = "branch.pull.after_outcomes"
    /// The business's rows are written, and versions and positions are not.
    case pullMid = "branch.pull.mid"
    case pullBeforeCommit = "branch.pull.before_commit"
    case pullAfterCommit = "branch.pull.after_commit"
    case pullBetweenChunks = "branch.pull.between_chunks"
    case acknowledgeBeforeSend = "branch.ack.before_send"
    case acknowledgeAfterReply = "branch.ack.after_reply"
    case acknowledgeBeforeCommit = "branch.ack.before_commit"

    // MARK: - A branch: beginning and ending

    case leaseTaken = "branch.lease.taken"
    case termBeforeCommit = "branch.term.before_commit"
    case termAfterCommit = "branch.term.after_commit"
    case openBeforeSend = "branch.open.before_send"
    case openAfterReply = "branch.open.after_reply"
    case openAfter = "branch.open.after"
    /// The loop has ended, and the lease is still held.
    case shutdown = "branch.shutdown.before_release"
    /// The branch's key is written, and the cloud has not heard of it.
    case joinKeyWritten = "branch.join.key_written"
    /// The cloud has enrolled the branch, which has written nothing of that.
    case joinEnrolled = "branch.join.enrolled"
    case joinBeforeCommit = "branch.join.before_commit"
    case joinAfterCommit = "branch.join.after_commit"

    /// The next key is written, and the cloud has not heard of it.
    case keyWritten = "branch.key.written"
    /// The cloud knows the next key, and the branch still signs by the old one.
    case keyOffered = "branch.key.offered"
    /// The next key is in the place of the old one, and was not used.
    case keyInPlace = "branch.key.in_place"
    /// The cloud takes the new key alone, and the branch's database does not say so.
    case keyUsed = "branch.key.used"

    // MARK: - A branch: trying again, and what people decide

    case retryBeforeGuard = "branch.retry.before_guard"
    case retryAfterGuard = "branch.retry.after_guard"
    case retryAfterApply = "branch.retry.after_apply"
    case retryBeforeCommit = "branch.retry.before_commit"
    case retryAfterCommit = "branch.retry.after_commit"
    /// A person's retry is done, and the person does not know.
    case decisionRetried = "branch.decision.retried"
    case decisionBeforeCommit = "branch.decision.before_commit"
    case decisionAfterCommit = "branch.decision.after_commit"
    /// What somebody asked of the running agent is done, and not answered.
    case requestPerformed = "branch.request.performed"

    // MARK: - The cloud: receiving

    case cloudOpenBeforeCommit = "cloud.open.before_commit"
    case cloudOpenAfterCommit = "cloud.open.after_commit"
    case applyBeforeTransaction = "cloud.apply.before_tx"
    case applyAfterFence = "cloud.apply.after_fence"
    case applyAfterLocks = "cloud.apply.after_locks"
    /// The business's rows are written, and nothing is in the log.
    case applyMid = "cloud.apply.mid_tx"
    case applyAfterLog = "cloud.apply.after_log"
    case applyAfterPositions = "cloud.apply.after_positions"
    case applyAfterCommit = "cloud.apply.after_commit"
    case applyBetweenChunks = "cloud.apply.between_chunks"
    case cloudPushBeforeReply = "cloud.push.before_reply"
    case cloudAcknowledgeBeforeCommit = "cloud.ack.before_commit"
    case cloudAcknowledgeAfterCommit = "cloud.ack.after_commit"

    // MARK: - The cloud: handing out

    case cloudPullBeforeRead = "cloud.pull.before_read"
    case cloudPullBeforeReply = "cloud.pull.before_reply"
    case ownBefore = "cloud.own.before"
    case ownAfterFrontier = "cloud.own.after_frontier"
    /// The cloud's own rows are in the log, and are not settled.
    case ownAfterLog = "cloud.own.after_log"
    case ownBeforeCommit = "cloud.own.before_commit"
    case ownAfterCommit = "cloud.own.after_commit"
    /// There are rows that committed late.
    case ownLate = "cloud.own.late"

    // MARK: - The cloud: trying again, and what people decide

    case cloudRetryBeforeGuard = "cloud.retry.before_guard"
    case cloudRetryAfterGuard = "cloud.retry.after_guard"
    case cloudRetryAfterApply = "cloud.retry.after_apply"
    case cloudRetryBeforeCommit = "cloud.retry.before_commit"
    case cloudRetryAfterCommit = "cloud.retry.after_commit"
    /// A person's retry is done, and the person does not know.
    case cloudDecisionRetried = "cloud.decision.retried"
    case cloudDecisionBeforeCommit = "cloud.decision.before_commit"
    case cloudDecisionAfterCommit = "cloud.decision.after_commit"
    case inviteBeforeCommit = "cloud.invite.before_commit"
    /// The branch is known, and nobody has seen its token.
    case inviteAfterCommit = "cloud.invite.after_commit"
    case enrolBeforeCommit = "cloud.enrol.before_commit"
    case enrolAfterCommit = "cloud.enrol.after_commit"
    case offerBeforeCommit = "cloud.key_offer.before_commit"
    case offerAfterCommit = "cloud.key_offer.after_commit"
    case keyChangeBeforeCommit = "cloud.key_change.before_commit"
    case keyChangeAfterCommit = "cloud.key_change.after_commit"
    /// The cloud's next key is written, and nobody knows it.
    case cloudNextKeyWritten = "cloud.next_key.written"
    case cloudKeyBeforeCommit = "cloud.next_key.before_commit"
    case cloudKeyAfterCommit = "cloud.next_key.after_commit"
    /// The cloud's next key is in the place of the one before it.
    case cloudKeyInPlace = "cloud.next_key.in_place"
    case replaceBeforeCommit = "cloud.replace.before_commit"
    /// The old machine is shut out, and nobody has seen the token for the new one.
    case replaceAfterCommit = "cloud.replace.after_commit"
    /// All requests are answered, and the database is still open.
    case cloudShutdown = "cloud.shutdown.before_close"
    /// The cloud's key is written, and its row in `sync_server` is not.
    case cloudKeyWritten = "cloud.init.key_written"

    // MARK: - Both: creating the tables

    case initBetweenStatements = "init.between_statements"
    /// All statements of a step are done, and the version does not say so.
    case initBeforeVersion = "init.before_version"
    case initAfterVersion = "init.after_version"
}

extension SyncEnvironment {
    /// Says that the process passes `point`.
    package func passes(_ point: CrashPoint) async {
        #if DEBUG
            await self.atPoint?(point)
        #endif
    }
}
