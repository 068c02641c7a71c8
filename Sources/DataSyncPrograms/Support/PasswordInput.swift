package import DataSync
import Foundation

/// Where a command gets a password from: never from its arguments, which everybody on the machine can list.
package enum PasswordInput {
    private static func refusal(_ detail: String) -> DataSyncError { DataSyncError(.invalidInput, operation: "password", detail: detail) }

    /// - Parameter fromStandardInput: Reads one line of it, without asking.
    package static func read(fromStandardInput: Bool, for name: String) throws -> Secret<String> {
        if fromStandardInput {
            guard let line = readLine(strippingNewline: true) else { throw self.refusal("there is no password on standard input") }
            return Secret(line)
        }
        guard let terminal = FileHandle(forUpdatingAtPath: "/dev/tty") else {
            throw self.refusal("there is no terminal to ask for a password at: give it on standard input, with --password-stdin")
        }
        let first = try self.ask("password for \(name): ", at: terminal)
        let second = try self.ask("again: ", at: terminal)
        guard first == second else { throw self.refusal("the two are not the same") }
        return first
    }

    /// Without echo, and without signals: the terminal is put back whatever is typed.
    private static func ask(_ question: String, at terminal: FileHandle) throws -> Secret<String> {
        let descriptor = terminal.fileDescriptor
        var before = termios()
        guard tcgetattr(descriptor, &before) == 0 else { throw self.refusal("the terminal cannot be asked") }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO | ISIG)
        guard tcsetattr(descriptor, TCSAFLUSH, &silent) == 0 else { throw self.refusal("the terminal cannot be asked") }
        defer {
            tcsetattr(descriptor, TCSAFLUSH, &before)
            terminal.write(Data("\n".utf8))
        }
        terminal.write(Data(question.utf8))
        var bytes: [UInt8] = []
        while bytes.count <= 1_024, let byte = try terminal.read(upToCount: 1)?.first, byte != 10, byte != 13 {
            guard byte != 3 else { throw self.refusal("nothing was changed") }
            bytes.append(byte)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw self.refusal("the password is not UTF-8") }
        return Secret(text)
    }
}
