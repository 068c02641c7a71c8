import DataSyncHTTP
import DataSyncServer

// Bounds for tests of everything but these bounds: that a machine is busy cuts nobody off.

extension ServerLimits {
    static var patient: ServerLimits {
        var limits = ServerLimits()
        (limits.bodyDeadline, limits.idleTimeout, limits.workWait) = (.seconds(600), .seconds(600), .seconds(600))
        return limits
    }
}

extension HTTPLimits {
    static var patient: HTTPLimits {
        var limits = HTTPLimits()
        (limits.silence, limits.exchange) = (.seconds(600), .seconds(600))
        return limits
    }
}
