public import DataSync

/// Why a password is not taken.
public enum PasswordWeakness: String, Error, Hashable, Sendable, CaseIterable {
    case tooShort = "too_short"
    case tooLong = "too_long"
    case badCharacter = "bad_character"
    case repeated
    case sequence
    case common

    /// What somebody who chose it is told.
    public var words: String {
        switch self {
        case .tooShort: "a password needs at least \(PasswordPolicy.bytes.lowerBound) characters"
        case .tooLong: "a password may have at most \(PasswordPolicy.bytes.upperBound) bytes"
        case .badCharacter: "a password must not hold control characters"
        case .repeated: "a password must not be a few characters again and again"
        case .sequence: "a password must not be a row of the alphabet, of digits or of the keyboard"
        case .common: "this is one of the passwords that are tried first, or the name: four words that have nothing to do with each other are better"
        }
    }
}

/// Which passwords are taken: long ones, and none that is tried first. Nothing is asked of the kinds of characters.
///
/// The bytes are hashed as they come. The lists of leaked passwords have few entries of this length that are not a word of a short list with
/// digits around it, one after another, a row of keys, or something repeated; these are recognised instead of stored.
public enum PasswordPolicy {
    /// In UTF-8.
    public static let bytes = 12...128

    /// - Parameter name: Of whose password it is.
    /// - Throws: `invalidInput`, whose underlying error is a ``PasswordWeakness``.
    public static func check(_ password: Secret<String>, of name: String) throws(DataSyncError) {
        guard let weakness = self.weakness(password.revealed, name: name) else { return }
        throw DataSyncError(.invalidInput, operation: "password", detail: weakness.words, underlying: weakness)
    }

    static func weakness(_ password: String, name: String) -> PasswordWeakness? {
        guard password.utf8.count >= self.bytes.lowerBound else { return .tooShort }
        guard password.utf8.count <= self.bytes.upperBound else { return .tooLong }
        guard password.unicodeScalars.allSatisfy({ $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }) else { return .badCharacter }
        let folded = Array(password.lowercased().unicodeScalars.map(\.value))
        if Set(folded).count < 5 || self.hasPeriod(folded) { return .repeated }
        if self.isRow(folded) { return .sequence }
        return self.isCommon(password.lowercased(), name: name) ? .common : nil
    }

    /// Whether it is a third of it, or less, again and again.
    private static func hasPeriod(_ text: [UInt32]) -> Bool {
        (1...max(1, text.count / 3)).contains { period in (period..<text.count).allSatisfy { text[$0] == text[$0 - period] } }
    }

    /// Whether three of four steps lead to a neighbour.
    private static func isRow(_ text: [UInt32]) -> Bool {
        let easy = zip(text, text.dropFirst()).count { step in
            let distance = Int64(step.0) - Int64(step.1)
            return abs(distance) <= 1 || self.neighbours.contains([step.0, step.1])
        }
        return easy * 4 >= (text.count - 1) * 3
    }

    private static let neighbours: Set<[UInt32]> = {
        let rows = [
            "1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn", "!@#$%^&*()",
            "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "qazwsxedcrfvtgbyhnujmikolp", "1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "!qaz@wsx#edc$rfv",
        ]
        var pairs: Set<[UInt32]> = []
        for row in rows {
            let keys = row.unicodeScalars.map(\.value)
            for (left, right) in zip(keys, keys.dropFirst()) { pairs.formUnion([[left, right], [right, left]]) }
        }
        return pairs
    }()

    /// Whether nothing but words that everybody tries, and a few other characters, is in it.
    private static func isCommon(_ password: String, name: String) -> Bool {
        let plain = password.unicodeScalars.filter { (97...122).contains($0.value) }.map { Character($0) }
        let others = password.unicodeScalars.count - plain.count
        let read = password.unicodeScalars.map { Self.readings[Character($0)] ?? Character($0) }.filter { ("a"..."z").contains($0) }
        let letters = name.lowercased().filter { ("a"..."z").contains($0) }
        let words = letters.count >= 3 ? Self.words.union([letters, String(letters.reversed())]) : Self.words
        if others < 8, plain.count >= 4, self.isTiled(plain, by: words) { return true }
        // What only looks like digits and signs: `p4$$w0rd`. The digits at the end are digits.
        let end = password.unicodeScalars.reversed().prefix { !(97...122).contains($0.value) }.count
        let readFront = password.unicodeScalars.dropLast(end).map { Self.readings[Character($0)] ?? Character($0) }.filter { ("a"..."z").contains($0) }
        return password == name || (others < 12 && self.isTiled(read, by: words)) || (end < 8 && readFront.count >= 4 && self.isTiled(readFront, by: words))
    }

    private static let readings: [Character: Character] = [
        "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s", "!": "i", "+": "t", "|": "l",
    ]

    /// Whether `text` is at most three words of the list, one after another. Four were perhaps chosen by chance.
    private static func isTiled(_ text: [Character], by words: Set<String>) -> Bool {
        guard !text.isEmpty else { return false }
        let longest = words.map(\.count).max() ?? 0
        // How many words it takes to get there.
        var least = Array(repeating: Int.max, count: text.count + 1)
        least[0] = 0
        for end in 1...text.count {
            for length in 1...min(end, longest) where least[end - length] < min(3, least[end]) && words.contains(String(text[(end - length)..<end])) {
                least[end] = least[end - length] + 1
            }
        }
        return least[text.count] <= 3
    }

    /// The words that the long ones among leaked passwords are made of.
    private static let words: Set<String> = Set(
        """
        password passwort passwd pass pwd passphrase secret secrets geheim contrasena motdepasse mypassword thepassword login logon signin letmein welcome \
        welcom hello hallo bonjour admin administrator administrador administrateur root toor superuser sysadmin operator manager user username default guest \
        test testing tester demo example sample temp temporary changeme change change1 please access server database system master main super private public \
        company office branch cloud store shop retail datasync data sync mysql mariadb oracle postgres linux windows microsoft google apple android facebook \
        amazon youtube internet computer network security iloveyou iloveu loveyou loveme love lover lovely forever always sweetheart darling honey baby \
        babygirl princess prince queen king angel angels heaven jesus christ god godisgood blessed sunshine moonlight rainbow flower flowers butterfly \
        summer winter spring autumn monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september \
        october november december football baseball basketball soccer hockey tennis golf liverpool arsenal chelsea manchester united barcelona realmadrid \
        madrid juventus dragon monkey tiger lion panther eagle falcon shadow killer hunter ranger warrior ninja samurai knight batman superman spiderman \
        ironman pokemon pikachu naruto starwars skywalker matrix minecraft fortnite counterstrike michael michelle jessica jennifer ashley daniel david \
        george charlie thomas robert william jordan andrew anthony joshua matthew nicole amanda maria anna alexander christian samantha elizabeth victoria \
        chocolate cookie cookies cheese pepper ginger banana orange apple coffee whatever trustno trustnoone nothing freedom america american england london \
        paris berlin germany deutschland france china india mexico brazil canada qwerty qwertz azerty qwertyuiop asdfgh asdfghjkl zxcvbn zxcvbnm qaz wsx edc \
        qazwsx qwe asd zxc abc abcd abcdef abcdefg aaa xxx the my your our is a i am me you and for in on to it new old big one two three four five six \
        seven eight nine ten first last best good bad hot cool mimi lol haha
        """.split(whereSeparator: \.isWhitespace).map { String($0) })
}
