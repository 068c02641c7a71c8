@testable import DataSync
import Testing

@Suite struct PushFlightTests {
    private func exchange(_ number: Int, stop: PushStop? = nil) -> PushExchange {
        PushExchange(
            number: number, batch: PushBatch(parts: [], request: PushRequest(session: SessionID(number: 1, epoch: 1), runs: [])),
            answer: .success(PushAnswer(runs: [PushRunAnswer(stop: stop)])))
    }

    @Test func twoBatchesAreOnTheirWayAtATime() {
        var flight = PushFlight()
        #expect(flight.takeOff() == 1)
        #expect(flight.mayTakeOff)
        #expect(flight.takeOff() == 2)
        #expect(!flight.mayTakeOff)
        #expect(flight.land(self.exchange(1)).map(\.number) == [1])
        #expect(flight.mayTakeOff)
        #expect(flight.settle(1) == false)
    }

    @Test func answersAreSettledInTheOrderOfSending() {
        var flight = PushFlight()
        _ = flight.takeOff()
        _ = flight.takeOff()
        #expect(flight.land(self.exchange(2)).isEmpty)
        #expect(!flight.mayTakeOff)
        #expect(flight.land(self.exchange(1)).map(\.number) == [1, 2])
        #expect(flight.settle(2) == false)
        #expect(flight.mayTakeOff)
    }

    @Test func aBatchThatOvertookTheOneBeforeItFindsAGapThatIsNoSurprise() {
        var flight = PushFlight()
        _ = flight.takeOff()
        _ = flight.takeOff()
        #expect(flight.land(self.exchange(2, stop: .gap(position: 0))).isEmpty)
        #expect(flight.land(self.exchange(1)).map(\.isBehindStop) == [false, true])
        #expect(flight.settle(2) == true)
        // Sent again with nothing before it on its way, it cannot have overtaken anything.
        _ = flight.takeOff()
        #expect(flight.land(self.exchange(3, stop: .gap(position: 0))).map(\.isBehindStop) == [false])
    }

    @Test func afterAStopNothingTakesOffUntilAllIsSettled() {
        var flight = PushFlight()
        _ = flight.takeOff()
        _ = flight.takeOff()
        let first = flight.land(self.exchange(1, stop: .unsupported))
        #expect(first.map(\.isBehindStop) == [false])
        #expect(!flight.mayTakeOff)
        #expect(flight.settle(1) == false)
        let second = flight.land(self.exchange(2, stop: .gap(position: 0)))
        #expect(second.map(\.isBehindStop) == [true])
        #expect(flight.settle(1) == true)
        #expect(flight.mayTakeOff)
    }
}

@Suite struct PushWindowTests {
    @Test func halvesOnALinkThatIsCutAndGrowsAgain() {
        var window = PushWindow()
        #expect(window.share(of: 1_000) == 1_000)
        window.shrink()
        #expect(window.share(of: 1_000) == 500)
        for _ in 0..<20 { window.shrink() }
        #expect(window.share(of: 1_000) == 7)
        #expect(window.share(of: 3) == 1)
        window.grow()
        #expect(window.share(of: 1_000) == 15)
        for _ in 0..<20 { window.grow() }
        #expect(window.share(of: 1_000) == 1_000)
    }
}
