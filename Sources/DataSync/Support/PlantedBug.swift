#if PLANTED_BUGS
    import FoundationEssentials
#endif

/// A promise that can be broken on purpose, in a build for `Scripts/mutants` alone, to see whether the simulation or a test notices.
///
/// Where such a bug would be made there is a switch of one line, `PlantedBug.isOn(…)`. In every other build it is a constant `false`, of
/// which nothing is left in the program.
package enum PlantedBug: String, CaseIterable, Sendable {
    // MARK: - Sending

    /// What has an id below the frontier is never looked at again.
    case frontierDecides
    /// Rows are settled from the first to the last of a batch, whatever else has an id between.
    case settledOverGaps
    /// Numbers go on behind those that are unsettled, not behind those that were given.
    case numberReused
    /// Rows are read before the transactions that insert them have committed.
    case numberedBeforeCommit
    /// Rows are read under locks, and what somebody has locked is passed over.
    case lockedRowsSkipped
    /// Rows are numbered by the time that their writers gave them.
    case orderedByCreateTime
    /// A flood of one type leaves no slot to the others.
    case noAgeingSlot
    /// Types are sent in the order of their ids.
    case noPriority
    /// A numbered row that is gone is waited for.
    case missingRowStops

    // MARK: - Position

    /// The position moves in a transaction of its own after the records' effect.
    case positionApart
    /// The position moves in a transaction of its own before the records' effect.
    case positionFirst
    /// What follows a gap is not received, but counts as received.
    case positionPastGap
    /// What follows a gap is received, and what belongs into the gap is taken for known.
    case gapAccepted
    /// The streams of all epochs of a branch have one position.
    case epochNotInKey
    /// A duplicate is answered without the version of its entity.
    case duplicateWithoutVersion

    // MARK: - Outcomes

    /// A batch that did not get through counts against its records.
    case transportFailureCounted
    /// A fault of the receiver's system counts against the records.
    case systemFaultCounted
    case refusalCountedTwice
    case deadAfterTwo
    case deadAfterFour
    /// Whoever finds a parked record to be due tries it, though somebody else may be doing so.
    case retryWithoutGuard
    /// One record that is at fault stops its type.
    case poisonStopsBatch
    /// Where everything was refused alike, nothing of it is tried again.
    case suspectsNotTried
    /// A record that another replica is at work on counts as one that has ended it.
    case othersTryCounted
    /// A later record of an entity overtakes one that is parked at the cloud.
    case overtakesParked
    /// The origin of a record that died at the cloud keeps what it has.
    case noCorrectionAfterDead
    case noCorrectionAfterDiscard
    /// What a person made succeed is not sent to its origin, which was corrected when it died.
    case successNotEchoed
    /// How a record ended is told once; if that is lost, never again.
    case outcomeToldOnce
    /// An action gives way to an unsettled one of its entity.
    case actionSuperseded

    // MARK: - SQL

    /// A unit is committed after a statement of it has waited for a lock in vain.
    case commitAfterLockTimeout
    /// A unit goes on after a deadlock has rolled back what it had done.
    case goesOnAfterDeadlock
    /// A commit of unknown outcome is taken to have succeeded.
    case unknownCommitIsDone
    /// A commit of unknown outcome is taken to have failed.
    case unknownCommitIsNotDone
    /// A version gives way to an equal one.
    case equalVersionGuard
    /// A version may be lowered.
    case noVersionGuard
    /// The fence changes no value.
    case fenceWithoutChange
    /// The session is compared by a read.
    case fenceByRead

    // MARK: - Convergence

    /// Rule 1: the cloud does not look for changes of its own.
    case noRule1
    /// Rule 1: the cloud looks for changes of its own before it applies.
    case rule1LooksFirst
    /// Rule 1: what the cloud has found of its own is not numbered before it applies again.
    case rule1NumbersNothing
    /// Rule 2: a branch does not look for changes of its own.
    case noRule2
    /// Rule 2: a branch looks for changes of its own before it applies.
    case rule2LooksFirst
    /// Rule 3: a branch pulls a type while it does not know what became of what it sent.
    case noRule3
    /// Rule 3: a branch that starts again forgets that it does not know.
    case rule3ForgetsAtStart
    /// Rule 3: what one copy of a push did not have taken in counts as never arrived, though another may bring it.
    case stopIsTheLastWord
    /// Rule 4: an older record is applied over a newer one.
    case noRule4
    /// Rule 4: the version that the cloud gave to an own record is not kept.
    case ownVersionNotKept
    /// How own records stand was read before the pulled ones.
    case outcomesReadBefore
    /// The counter of the log is not held to the commit.
    case placeTakenEarly
    /// A branch's own records come back to it.
    case ownEchoed
    /// A deletion goes where its payload says.
    case deletionRoutedByPayload
    /// What was deleted leaves no version behind.
    case tombstoneNotKept

    // MARK: - Restores

    /// A branch does not see that its database is an older copy.
    case restoredBranchNotSeen
    /// Positions are compared by their numbers, without the run that gave them.
    case comparedByNumberOnly
    /// A restored branch gives its rows new numbers, whatever the cloud has of them.
    case renumberedWithoutUID
    /// A restored branch goes on in its old epoch.
    case epochNotRaised
    /// A late copy of an opening opens a session.
    case lateOpenOpensAgain
    /// Records of a branch's own older epochs do not come back to it.
    case oldEpochNotReceived
    /// A cloud does not see that its log is an older copy.
    case restoredCloudNotSeen
    /// A restored cloud gives places again that it had given.
    case placesNotJumped
    /// A restored cloud goes on in its own old streams.
    case ownEpochNotRaised
    /// What a branch has read of a log that was lost is believed.
    case oldLogTrusted
    /// What the cloud had confirmed, and has lost, is not sent again.
    case lostNotSentAgain
    /// What is sent again does not come back to its origin.
    case againNotEchoed
    /// Actions that a restored cloud relays again are carried out again.
    case actionsNotKnown
    /// What the cloud was told before it was restored is not told again.
    case toldIsRemembered

    /// Two machines may take turns as one branch for ever.
    case cloneNotSuspended

    // MARK: - Access

    /// A pull hands out what is for other branches.
    case audienceNotChecked
    /// A branch may change what it does not see.
    case noEntitlement
    /// Where no key has the name that a token gives, one that was found before is taken.
    case unknownKeyFallsBack

    // MARK: - Comparing

    /// All states have the same digest.
    case digestIgnoresPayload
    /// A difference counts at once, whatever is on its way.
    case differenceCountsAtOnce
    /// What is not for a branch is compared with it all the same.
    case foreignEntitiesCompared

    // MARK: - Time

    /// Waits between tries are measured by the wall clock.
    case wallClockTimer
    /// What is kept for a retention is aged by the wall clock.
    case agedByWallClock
    /// All wait for equally long after a failure.
    case noJitter
    /// What waits for something is not tried again by the clock.
    case waitingNotTried

    /// What ``numberedBeforeCommit`` says to the server. Not where it is said: it is no statement of the product.
    package static let dirtyReads = "set transaction isolation level read uncommitted"

    #if PLANTED_BUGS
        /// The one that the environment variable `PLANTED_BUG` names.
        package static let planted: PlantedBug? = ProcessInfo.processInfo.environment["PLANTED_BUG"].flatMap { name in
            guard !name.isEmpty else { return nil }
            guard let bug = PlantedBug(rawValue: name) else { preconditionFailure("there is no planted bug \(name)") }
            return bug
        }

        package static func isOn(_ bug: PlantedBug) -> Bool { self.planted == bug }
    #else
        @inlinable package static func isOn(_: PlantedBug) -> Bool { false }
    #endif
}
