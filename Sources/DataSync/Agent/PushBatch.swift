/// A batch on its way: the request, and what is needed to settle its rows when the answer is there.
struct PushBatch: Sendable {
    /// Consecutive numbers of one manifest.
    struct Part: Sendable {
        var manifest: ManifestKey
        var run: Fingerprint
        /// The run that gave the number before the first one.
        var before: Fingerprint
        var isAgain: Bool
        /// Of the first record, among the entries of the manifest.
        var offset: Int
        var entries: [Manifest.Entry]
        /// Nil where the row is gone.
        var rows: [OutboxRow?]

        var type: BusinessTypeID { self.manifest.type }
        func synID(at index: Int) -> Int64 { self.manifest.firstSynID + Int64(self.offset + index) }
    }

    /// As the runs of the request.
    var parts: [Part]
    var request: PushRequest

    var count: Int { self.parts.reduce(0) { $0 + $1.entries.count } }
    var types: Set<BusinessTypeID> { Set(self.parts.map(\.type)) }

    /// The last number of each stream in the batch.
    var lastNumbers: [BusinessTypeID: Int64] {
        self.parts.reduce(into: [:]) { $0[$1.type] = $1.synID(at: $1.entries.count - 1) }
    }
}
