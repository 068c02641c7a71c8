/// Guesses whether the entities of a chunk are new, so that they need not be looked for: most orders are.
///
/// A wrong guess harms nothing. The rows of new entities are inserted before the commit, plainly; one that exists makes the
/// unit run again, with a look. So it costs a unit, and is not made again for a while.
struct NoveltyGuess: Sendable {
    private struct Key: Hashable {
        var branch: ServerID
        var type: BusinessTypeID
    }

    /// Chunks that are still to be looked at before the next guess.
    private var careful: [Key: Int] = [:]
    static let carefulChunks = 100

    /// Whether to guess that all entities of `types` in a chunk of `branch` are new.
    mutating func shouldGuess(_ types: some Sequence<BusinessTypeID>, of branch: ServerID) -> Bool {
        var isConfident = true
        for type in types {
            guard let left = self.careful[Key(branch: branch, type: type)] else { continue }
            isConfident = false
            self.careful[Key(branch: branch, type: type)] = left > 1 ? left - 1 : nil
        }
        return isConfident
    }

    mutating func wasWrong(_ types: some Sequence<BusinessTypeID>, of branch: ServerID) {
        for type in types { self.careful[Key(branch: branch, type: type)] = Self.carefulChunks }
    }
}
