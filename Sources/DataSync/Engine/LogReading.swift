/// What a pull has read of the log so far, against what it may hand out.
struct LogReading: Sendable {
    private(set) var recordsLeft: Int
    private(set) var bytesLeft: Int
    private let cursors: [BusinessTypeID: Position]
    private var runs: [BusinessTypeID: PullRun] = [:]
    private var atEnd: Set<BusinessTypeID> = []

    init(cursors: [BusinessTypeID: Position], recordsMax: Int, bytesMax: Int) {
        self.cursors = cursors
        self.recordsLeft = recordsMax
        self.bytesLeft = bytesMax
    }

    func isAtEnd(of type: BusinessTypeID) -> Bool { self.atEnd.contains(type) }
    func position(of type: BusinessTypeID) -> Position { self.runs[type]?.position ?? self.cursors[type] ?? .start }
    func run(of type: BusinessTypeID) -> PullRun? { self.runs[type] }

    /// Takes over as much of `page` as fits: own records move the position and are left out.
    /// - Returns: How many records were taken.
    mutating func take(_ page: LogPage, of type: BusinessTypeID, limit: Int, owner: LogOwner, recordBytesMax: Int) -> Int {
        var run = self.runs[type] ?? PullRun(type: type, records: [], position: self.position(of: type))
        var taken = 0
        var isCut = false
        for var record in page.records {
            precondition(record.logSeq > run.position.number, "the log was read out of order")
            if !owner.owns(record) {
                let bytes = record.record.payload.utf8.count
                guard taken < limit, self.recordsLeft > 0, self.bytesLeft > 0 else {
                    isCut = true
                    break
                }
                if bytes > recordBytesMax {
                    record.omission = .tooBig
                    record.record.payload = ""
                }
                taken += 1
                self.recordsLeft -= 1
                self.bytesLeft -= record.record.payload.utf8.count
                run.records.append(record)
            }
            run.position = Position(number: record.logSeq, fingerprint: record.mark)
        }
        if page.isLast, !isCut { self.atEnd.insert(type) }
        if !page.records.isEmpty { self.runs[type] = run }
        return taken
    }
}

extension LogPage {
    /// Several audiences' pages of one log as one page, in the order of the log. It ends where the first of them ends that
    /// is not the last: what that audience holds beyond is not known.
    static func merged(_ pages: [LogPage]) -> LogPage {
        let bound = pages.filter { !$0.isLast }.compactMap { $0.records.last?.logSeq }.min() ?? .max
        let records = pages.flatMap(\.records).filter { $0.logSeq <= bound }.sorted { $0.logSeq < $1.logSeq }
        return LogPage(records: records, isLast: pages.allSatisfy(\.isLast))
    }
}
