import DataSync
import Testing

@Suite struct OutboundStreamTests {
    @Test func sendsAheadAndIsKnownWhenAllIsAnswered() {
        var stream = OutboundStream(answered: 0, received: 0)
        #expect(stream.next == 1)
        #expect(!stream.isUnknown)
        stream.handOver(through: 10)
        stream.handOver(through: 20)
        #expect(stream.next == 21)
        #expect(stream.isUnknown)
        stream.takeAnswer(first: 1, last: 10, count: 10)
        #expect(stream.answered == 10)
        #expect(stream.isUnknown)
        stream.takeAnswer(first: 11, last: 20, count: 10)
        #expect(stream.answered == 20)
        #expect(!stream.isUnknown)
        #expect(stream.next == 21)
    }

    @Test func whatWasNotTakenInIsSentAgainAndStaysUnknown() {
        var stream = OutboundStream(answered: 0, received: 0)
        stream.handOver(through: 10)
        stream.takeAnswer(first: 1, last: 10, count: 4)
        #expect(stream.answered == 4)
        #expect(stream.next == 5)
        // Another copy of the request may bring it.
        #expect(stream.isUnknown)
        #expect(stream.mayArriveLate)
        stream.handOver(through: 10)
        stream.takeAnswer(first: 5, last: 10, count: 6)
        #expect(!stream.isUnknown)
        #expect(!stream.mayArriveLate)
    }

    @Test func aStopInTheFirstOfTwoBatchesConcernsBoth() {
        var stream = OutboundStream(answered: 0, received: 0)
        stream.handOver(through: 10)
        stream.handOver(through: 20)
        stream.takeAnswer(first: 1, last: 10, count: 0)
        stream.takeAnswer(first: 11, last: 20, count: 0)
        #expect(stream.isUnknown)
        #expect(stream.next == 1)
    }

    @Test func whatTheCloudHadWhenTheSessionWasOpenedCannotArriveLate() {
        // 4 to 7 were received before: they are unknown, and no copy adds to them.
        var stream = OutboundStream(answered: 3, received: 7)
        #expect(stream.isUnknown)
        #expect(!stream.mayArriveLate)
        stream.handOver(through: 7)
        stream.takeAnswer(first: 4, last: 7, count: 0)
        #expect(!stream.mayArriveLate)
        stream.handOver(through: 8)
        #expect(stream.mayArriveLate)
    }

    @Test func aLostAnswerLeavesTheRowsUnknownUntilTheyAreAnswered() {
        var stream = OutboundStream(answered: 0, received: 0)
        stream.handOver(through: 10)
        stream.loseAnswer()
        #expect(stream.next == 1)
        #expect(stream.isUnknown)
        stream.handOver(through: 10)
        #expect(stream.isUnknown)
        stream.takeAnswer(first: 1, last: 10, count: 10)
        #expect(!stream.isUnknown)
    }

    @Test func aCopyWithoutEffectSaysNothingAboutAnEarlierOne() {
        // The first copy may have been received, its answer was lost; the second was not looked at, since the type stood still.
        var stream = OutboundStream(answered: 0, received: 0)
        stream.handOver(through: 10)
        stream.loseAnswer()
        stream.handOver(through: 12)
        stream.takeAnswer(first: 1, last: 12, count: 0)
        #expect(stream.isUnknown)
        #expect(stream.next == 1)
        stream.handOver(through: 12)
        stream.takeAnswer(first: 1, last: 12, count: 12)
        #expect(!stream.isUnknown)
    }

    @Test func anOpenedSessionTellsWhatMayHaveBeenReceived() {
        // Answered up to 3, received up to 7: 4 to 7 are unknown; 8 and later cannot arrive any more.
        var stream = OutboundStream(answered: 3, received: 7)
        #expect(stream.next == 4)
        #expect(stream.isUnknown)
        stream.handOver(through: 9)
        stream.takeAnswer(first: 4, last: 9, count: 0)
        #expect(stream.isUnknown)
        stream.handOver(through: 9)
        stream.takeAnswer(first: 4, last: 9, count: 4)
        #expect(stream.isUnknown)
        #expect(stream.next == 8)
        stream.handOver(through: 9)
        stream.takeAnswer(first: 8, last: 9, count: 2)
        #expect(!stream.isUnknown)
        #expect(!OutboundStream(answered: 7, received: 7).isUnknown)
    }
}
