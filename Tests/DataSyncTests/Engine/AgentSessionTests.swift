@testable import DataSync
import Testing

@Suite struct AgentSessionTests {
    private let product = ItemType.product.definition
    private let order = ItemType.order.definition

    private func session(received: [BusinessTypeID: Int64] = [:]) -> AgentSession {
        AgentSession(
            OpenAnswer(
                session: SessionID(number: 3, epoch: 1), logEpoch: 1,
                positions: received.mapValues { Position(number: $0, fingerprint: .none) }, types: [], recordBytesMax: 100, time: 0))
    }

    @Test func typesThatBothSidesMeanAlikeFlow() {
        var session = self.session()
        #expect(session.compare([self.product, self.order], with: [TypeSummary(self.order), TypeSummary(self.product)]) == [])
        #expect(session.unsupported == [])
    }

    @Test func aTypeThatTheCloudDoesNotKnowIsHeldAndSaid() {
        var session = self.session()
        #expect(session.compare([self.product, self.order], with: [TypeSummary(self.order)]) == ["type 2 'product' is not configured at the cloud"])
        #expect(!session.maySend(2, at: .zero))
        #expect(session.maySend(3, at: .zero))
    }

    @Test func aTypeThatMeansSomethingElseAtTheCloudIsHeld() {
        var session = self.session()
        let other = TypeSummary(id: 2, name: "product", kind: .action, route: .all)
        #expect(session.compare([self.product], with: [other]).count == 1)
        #expect(session.unsupported == [2])
    }

    @Test func aHeldTypeMayBeSentWhenItsTimeHasCome() {
        var session = self.session()
        session.hold(2, until: .seconds(10))
        #expect(!session.maySend(2, at: .seconds(9)))
        #expect(session.maySend(2, at: .seconds(10)))
        session.markUnsupported(2)
        #expect(!session.maySend(2, at: .seconds(99)))
    }

    @Test func aStreamBeginsWhereItIsNotSettled() {
        var session = self.session(received: [2: 5])
        #expect(session.stream(2) == nil)
        session.follow(2, first: 4)
        #expect(session.stream(2) == OutboundStream(answered: 3, received: 5))
        #expect(session.isUnknown(2))
        // What is known of it already is known better.
        session.follow(2, first: 9)
        #expect(session.stream(2)?.next == 4)
        #expect(!session.isUnknown(3))
    }

    @Test func lostAnswersConcernEveryStream() {
        var session = self.session()
        for type in [2, 3] as [BusinessTypeID] {
            session.follow(type, first: 1)
            session.handOver(type, through: 8)
        }
        session.takeAnswer(2, first: 1, last: 8, count: 8)
        session.loseAnswers()
        #expect(!session.isUnknown(2))
        #expect(session.isUnknown(3))
        #expect(session.stream(3)?.next == 1)
    }
}
