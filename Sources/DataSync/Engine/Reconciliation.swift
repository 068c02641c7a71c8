/// The comparison of a branch's tables with those of the cloud, without I/O: type by type, page by page, each difference looked at twice.
///
/// What differs at the first look may be on its way. It counts if it differs still after a whole cycle in which the type flowed to its end, and if at that
/// moment nothing about the entity is under way: no unsettled row here, no row of the cloud's own applications that is not in the log, no place in the log
/// that this branch has not read, no record that either side has set aside.
struct Reconciliation: Sendable {
    enum Action: Hashable, Sendable {
        /// Compare the next page.
        case look(BusinessTypeID, after: EntityPlace?)
        /// See whether these differ still.
        case lookAgain(BusinessTypeID, [EntityPlace])
        /// Let another cycle pass.
        case wait
        case finish
    }

    /// What a second look at an entity shows.
    enum Finding: Hashable, Sendable {
        case equal
        case moving
        case heldUp(by: Disposition, isHere: Bool, memo: Int64?)
        case different(ReconcileReport.Kind)
    }

    let repair: ReconcileRepair?
    private(set) var report = ReconcileReport()
    /// Those that are left, by their index in the report. The first is worked on.
    private var left: [Int] = []
    private var place: EntityPlace?
    private var isPaged = false
    /// What differed, and how often it was found to be moving.
    private var suspects: [EntityPlace: Int] = [:]
    private var standstills = 0
    private var cycles = 0

    /// How often something may be found to be moving, and how many cycles a type may stand still, before it is left.
    static let looksMax = 5
    /// How many cycles one type may take.
    static let cyclesMax = 100_000
    /// Most entities of one second look, and of one repair.
    static let againMax = CompareRequest.namesMax

    /// - Parameter types: Those to be compared, with what stands against comparing them.
    init(_ types: [(definition: BusinessTypeDefinition, obstacle: String?)], repair: ReconcileRepair?) {
        self.repair = repair
        for (definition, obstacle) in types {
            var entry = ReconcileReport.Types(type: definition.id.rawValue, name: definition.name)
            entry.notCompared = obstacle
            if obstacle == nil { self.left.append(self.report.types.count) }
            self.report.types.append(entry)
        }
    }

    /// The type that is worked on; nil at the end.
    var type: BusinessTypeID? { self.left.first.map { BusinessTypeID(rawValue: self.report.types[$0].type) } }

    /// What comes next.
    ///
    /// - Parameters:
    ///   - isQuiet: Whether, in the last cycle, all there was of the type was carried.
    ///   - standstill: Why the type does not flow, if it does not.
    mutating func next(isQuiet: Bool, standstill: String?) -> Action {
        self.endTypeIfDone()
        guard let type else { return .finish }
        self.cycles += 1
        guard self.cycles <= Self.cyclesMax else {
            self.stop("there was always more to be carried")
            return .wait
        }
        if let standstill {
            self.standstills += 1
            guard self.standstills >= Self.looksMax else { return .wait }
            self.stop("it does not flow: \(standstill)")
            return .wait
        }
        self.standstills = 0
        guard !self.suspects.isEmpty else { return .look(type, after: self.place) }
        guard isQuiet || PlantedBug.isOn(.differenceCountsAtOnce) else { return .wait }
        return .lookAgain(type, Array(self.suspects.keys.sorted().prefix(Self.againMax)))
    }

    mutating func looked(_ difference: ComparedPage.Difference) {
        self.change { $0.compared += difference.compared }
        for suspect in difference.suspects { self.suspects[suspect] = 0 }
        switch difference.next {
        case .from(let place): self.place = place
        case .done: self.isPaged = true
        }
        self.endTypeIfDone()
    }

    /// - Returns: Those that are to be repaired.
    mutating func lookedAgain(_ names: [EntityPlace], _ findings: [EntityPlace: Finding]) -> [EntityPlace] {
        var different: [EntityPlace] = []
        for name in names {
            switch findings[name] ?? .equal {
            case .equal: self.suspects[name] = nil
            case .moving:
                let looks = (self.suspects[name] ?? 0) + 1
                self.suspects[name] = looks < Self.looksMax ? looks : nil
                if looks >= Self.looksMax { self.change { $0.moving += 1 } }
            case .heldUp(let disposition, let isHere, let memo):
                self.suspects[name] = nil
                self.change { $0.heldUp += 1 }
                self.list(name, .heldUp, held: disposition, isHere: isHere, memo: memo)
            case .different(let kind):
                self.suspects[name] = nil
                self.change { $0.different += 1 }
                self.list(name, kind)
                different.append(name)
            }
        }
        return self.repair == nil ? [] : different
    }

    /// The states of these are on their way.
    mutating func repaired(_ names: some Collection<EntityPlace>) {
        self.change { $0.repaired += names.count }
        let names = Set(names)
        guard let type else { return }
        for index in self.report.differences.indices where self.report.differences[index].type == type.rawValue {
            let difference = self.report.differences[index]
            let place = EntityPlace(scope: ServerID(rawValue: difference.scope), key: EntityKey(difference.entity))
            if names.contains(place) { self.report.differences[index].isRepaired = true }
        }
    }

    /// Leaves the present type.
    mutating func stop(_ reason: String) {
        self.change {
            $0.notCompared = reason
            $0.wasStopped = true
        }
        self.isPaged = true
        self.suspects = [:]
        self.endTypeIfDone()
    }

    /// Called after what was found in a second look was repaired, as far as that was wanted.
    mutating func endTypeIfDone() {
        guard self.isPaged, self.suspects.isEmpty, !self.left.isEmpty else { return }
        self.left.removeFirst()
        (self.place, self.isPaged, self.standstills, self.cycles) = (nil, false, 0, 0)
    }

    private mutating func change(_ body: (inout ReconcileReport.Types) -> Void) {
        guard let index = self.left.first else { preconditionFailure("a comparison went on after its end") }
        body(&self.report.types[index])
    }

    private mutating func list(
        _ name: EntityPlace, _ kind: ReconcileReport.Kind, held: Disposition? = nil, isHere: Bool? = nil, memo: Int64? = nil
    ) {
        guard let type, self.report.differences.count < ReconcileReport.differencesMax else { return }
        self.report.differences.append(
            ReconcileReport.Difference(
                type: type.rawValue, scope: name.scope.rawValue, entity: name.key.text, kind: kind, held: held?.name,
                heldAt: isHere.map { $0 ? "here" : "cloud" }, memo: memo, isRepaired: false))
    }
}
