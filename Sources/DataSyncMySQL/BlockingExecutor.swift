@preconcurrency import Dispatch

/// A thread for the blocking calls of one connection: whoever waits for the server holds none of Swift's own threads.
///
/// See GRDB's `SerializedDatabase` for the same idea. A serial queue runs its jobs one at a time, and an actor that has it
/// for its executor is what the compiler checks the rule "one caller at a time" of `MYSQL *` by.
final class BlockingExecutor: SerialExecutor {
    private let queue: DispatchQueue

    init(label: String) { self.queue = DispatchQueue(label: label) }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}
