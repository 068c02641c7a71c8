package import DataSync
import Foundation
import Synchronization

extension SyncEnvironment {
    /// What both programs work with: the machine's clocks and generator. In a debug build it also makes the process do what the
    /// environment variables say of its ``CrashPoint``s.
    package static let program: SyncEnvironment = {
        #if DEBUG
            var environment = SyncEnvironment.system
            let plan = CrashPlan(ProcessInfo.processInfo.environment)
            if !plan.isEmpty { environment.atPoint = { await plan.reach($0) } }
            return environment
        #else
            return .system
        #endif
    }()
}

#if DEBUG
    /// What the process does at which of its labelled points: `CRASH_AT=branch.push.before_send:3` ends it when it passes that for the
    /// third time.
    private final class CrashPlan: Sendable {
        enum Act: String, CaseIterable {
            /// As SIGKILL ends it: nothing is cleaned up.
            case crash = "CRASH_AT"
            /// Goes no further there, for ever.
            case hang = "HANG_AT"
            /// Is asked to end, as by the service manager, and goes on.
            case terminate = "TERM_AT"
            /// Stands still as a whole until somebody sends SIGCONT.
            case pause = "STOP_AT"
        }

        private let acts: [CrashPoint: (act: Act, count: Int)]
        private let counts = Mutex<[CrashPoint: Int]>([:])

        /// A name that does not exist ends the process: what was meant would never happen.
        init(_ environment: [String: String]) {
            var acts: [CrashPoint: (act: Act, count: Int)] = [:]
            for act in Act.allCases {
                guard let text = environment[act.rawValue] else { continue }
                let parts = text.split(separator: ":").map { String($0) }
                guard parts.count == 2, let point = CrashPoint(rawValue: parts[0]), let count = Int(parts[1]), count > 0 else {
                    Terminal.complain("\(act.rawValue)=\(text) is not the name of a point and a count")
                    exit(ExitStatus.usage.rawValue)
                }
                acts[point] = (act, count)
            }
            self.acts = acts
        }

        var isEmpty: Bool { self.acts.isEmpty }

        func reach(_ point: CrashPoint) async {
            guard let (act, count) = self.acts[point] else { return }
            let hits = self.counts.withLock { counts in
                counts[point, default: 0] += 1
                return counts[point, default: 0]
            }
            guard hits == count else { return }
            switch act {
            case .crash: kill(getpid(), SIGKILL)
            case .hang: await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            case .terminate: kill(getpid(), SIGTERM)
            case .pause: kill(getpid(), SIGSTOP)
            }
        }
    }
#endif
