import Configuration
package import DataSync
import DataSyncHTTP
package import DataSyncSQL
package import DataSyncServer
import Logging
import Yams

/// What a program was told: by flags, else by the environment, else by its file, else by default.
package struct Settings: Sendable {
    package let program: SettingKey.Program
    private let reader: ConfigReader
    /// The file, if there is one.
    package let path: String?
    package let types: [TypeMapping]

    /// - Parameters:
    ///   - path: The configuration file; without one, only flags and the environment speak.
    ///   - overrides: What flags say, by dotted names.
    /// - Throws: `invalidConfiguration`.
    package init(program: SettingKey.Program, path: String?, overrides: [String: String]) throws(DataSyncError) {
        self.program = program
        self.path = path
        let file: ConfigurationFile?
        if let path { file = try ConfigurationFile(path: path, program: program) } else { file = nil }
        let known = SettingKey.keys(of: program)
        for name in overrides.keys.sorted() {
            guard let key = known.first(where: { $0.name == name }) else {
                throw ConfigurationFile.failure("--set \(name): there is no such setting of \(program.rawValue)")
            }
            // It would stand in the list of processes, for everybody on this machine.
            if key.isSecret {
                throw ConfigurationFile.failure("\(name) must not be given on the command line: set DATASYNC_STORAGE_PASSWORD or storage.password_file")
            }
        }
        let flags = InMemoryProvider(
            name: "flags",
            values: overrides.reduce(into: [:]) { values, entry in
                values[AbsoluteConfigKey(entry.key.split(separator: ".").map { String($0) })] = ConfigValue(.string(entry.value), isSecret: false)
            })
        let environment = EnvironmentVariablesProvider(secretsSpecifier: .specific(["DATASYNC_STORAGE_PASSWORD"])).prefixKeys(with: "datasync")
        var providers: [any ConfigProvider] = [flags, environment]
        if let file { providers.append(file.provider) }
        self.reader = ConfigReader(providers: providers)
        self.types = try file?.types.map { (node) throws(DataSyncError) in try TypesFile.mappings(node, path: path ?? "") } ?? []
    }

    // MARK: - Single values

    /// The value as it is written, or the default.
    package func text(_ name: String) -> String? {
        let key = self.key(name)
        precondition(!key.isSecret, "\(name) is a secret")
        return self.value(of: key)
    }

    func secret(_ name: String) -> Secret<String>? { self.value(of: self.key(name)).map { Secret($0) } }

    private func key(_ name: String) -> SettingKey {
        guard let key = SettingKey.keys(of: self.program).first(where: { $0.name == name }) else {
            preconditionFailure("\(name) is not a setting of \(self.program.rawValue)")
        }
        return key
    }

    private func value(of key: SettingKey) -> String? {
        let name = key.name
        let value = self.reader.string(forKey: ConfigKey(name.split(separator: ".").map { String($0) }), isSecret: key.isSecret)
        guard let value, !value.isEmpty else { return key.standard.flatMap { $0.isEmpty ? nil : $0 } }
        return value
    }

    private func refuse(_ name: String, _ expected: String) -> DataSyncError {
        ConfigurationFile.failure("\(name) is '\(self.text(name) ?? "")', which is not \(expected)")
    }

    func required(_ name: String) throws(DataSyncError) -> String {
        guard let text = self.text(name) else {
            throw ConfigurationFile.failure(
                "\(name) is not set: give it in \(self.path ?? "a configuration file"), or as DATASYNC_\(name.uppercased().replacing(".", with: "_"))")
        }
        return text
    }

    package func integer(_ name: String) throws(DataSyncError) -> Int {
        guard let value = Int(try self.required(name)) else { throw self.refuse(name, "a whole number") }
        return value
    }

    func port(_ name: String) throws(DataSyncError) -> Int {
        let port = try self.integer(name)
        guard (0...65_535).contains(port) else { throw self.refuse(name, "a port, from 0 to 65535") }
        return port
    }

    func flag(_ name: String) throws(DataSyncError) -> Bool {
        switch try self.required(name).lowercased() {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw self.refuse(name, "true or false")
        }
    }

    func duration(_ name: String) throws(DataSyncError) -> Duration {
        guard let value = Duration(setting: try self.required(name)) else { throw self.refuse(name, "a time such as 500ms, 10s, 5m, 2h or 7d") }
        return value
    }

    /// A time of at least `min`, which is there because less of it would not be a shorter wait but none.
    func duration(_ name: String, min: Duration, written: String) throws(DataSyncError) -> Duration {
        let value = try self.duration(name)
        guard value >= min else { throw self.refuse(name, "a time of at least \(written)") }
        return value
    }

    func list(_ name: String) -> [String] {
        (self.text(name) ?? "").split(separator: ",").map { $0.trimmingSpaces }.filter { !$0.isEmpty }
    }

    /// The proxies whose `X-Forwarded-For` is believed.
    func trustedProxies() throws(DataSyncError) -> Set<String> {
        let name = self.program == .cloud ? "http.trusted_proxies" : "local.trusted_proxies"
        let addresses = self.list(name)
        // A name would never be the address of a connection, and all who come through that proxy one address.
        guard addresses.allSatisfy({ TrustedProxies.isAddress($0) }) else { throw self.refuse(name, "a list of IP addresses") }
        return Set(addresses)
    }

    // MARK: - Groups of them

    package func limits() throws(DataSyncError) -> SyncLimits {
        var limits = SyncLimits()
        limits.recordBytesMax = try self.integer("limits.record_bytes")
        limits.batchRecordsMax = try self.integer("limits.batch_records")
        limits.batchBytesMax = try self.integer("limits.batch_bytes")
        limits.chunkRecordsMax = try self.integer("limits.chunk_records")
        limits.chunkBytesMax = try self.integer("limits.chunk_bytes")
        limits.openRecordsMax = try self.integer("limits.open_records")
        limits.openBytesMax = try self.integer("limits.open_bytes")
        // A branch has no such bound, and no setting that could contradict the others.
        limits.deadRecordsMax = self.program == .cloud ? try self.integer("limits.dead_records") : limits.openRecordsMax
        limits.deadBytesMax = self.program == .cloud ? try self.integer("limits.dead_bytes") : limits.openBytesMax
        limits.suspectsMax = try self.integer("limits.suspects")
        limits.suspectAgeMax = try self.duration("limits.suspect_age")
        limits.waitingDelay = try self.duration("limits.waiting_delay")
        limits.waitingDelayMax = try self.duration("limits.waiting_delay_max")
        limits.waitingAgeMax = try self.duration("limits.waiting_age")
        limits.retention = try self.duration("limits.retention")
        let delays = self.list("limits.retry_delays").map { Duration(setting: $0) }
        guard !delays.contains(nil) else { throw self.refuse("limits.retry_delays", "a list of times such as 30s, 5m") }
        limits.retryDelays = delays.compactMap { $0 }
        try limits.validate()
        return limits
    }

    package func schedule() throws(DataSyncError) -> AgentSchedule {
        let backoff = try self.duration("schedule.backoff", min: .milliseconds(1), written: "1ms")
        let backoffMax = try self.duration("schedule.backoff_max")
        guard backoffMax >= backoff else { throw self.refuse("schedule.backoff_max", "at least schedule.backoff") }
        return AgentSchedule(
            interval: try self.duration("schedule.interval"),
            watch: try self.duration("schedule.watch", min: .milliseconds(1), written: "1ms"),
            backoff: Backoff(base: backoff, max: backoffMax),
            alarm: try self.duration("schedule.alarm", min: .seconds(1), written: "1s"))
    }

    func httpLimits() throws(DataSyncError) -> HTTPLimits {
        var limits = HTTPLimits()
        limits.isCompressing = try self.flag("http.compression")
        limits.exchange = try self.duration("http.deadline", min: .seconds(1), written: "1s")
        limits.silence = limits.exchange
        return limits
    }

    package func serverLimits() throws(DataSyncError) -> ServerLimits {
        var limits = ServerLimits()
        limits.idleTimeout = try self.duration("http.idle", min: .seconds(1), written: "1s")
        limits.connectionsMax = try self.integer("http.connections")
        limits.connectionsPerAddressMax = try self.integer("http.connections_per_address")
        limits.workersMax = try self.integer("http.workers")
        limits.branchRequestsPerMinute = try self.integer("http.branch_requests")
        limits.branchBytesPerDay = try self.integer("http.branch_bytes")
        return limits
    }

    /// - Parameter group: Of the settings.
    /// - Throws: `invalidConfiguration`, also where records would be readable on the way and nobody says that a proxy sees to it.
    package func tlsFiles(_ group: String = "http") throws(DataSyncError) -> TLSFiles? {
        switch (self.text("\(group).tls_certificate"), self.text("\(group).tls_key")) {
        case (nil, nil):
            guard group == "http", self.program == .cloud else { return nil }
            let host = try self.required("http.host")
            let isAtProxy = try self.flag("http.tls_at_proxy")
            guard Self.isOfThisMachine(host) || isAtProxy else {
                throw ConfigurationFile.failure(
                    "http.host is \(host), which others reach, and there is no TLS: records would be readable on the way. Set http.tls_certificate and "
                        + "http.tls_key, or http.tls_at_proxy where a proxy before it ends TLS")
            }
            return nil
        case (let certificate?, let key?): return TLSFiles(certificate: certificate, key: key, settings: group)
        default: throw ConfigurationFile.failure("\(group).tls_certificate and \(group).tls_key belong together: one of them is missing")
        }
    }

    private static func isOfThisMachine(_ host: String) -> Bool { ["localhost", "::1"].contains(host) || host.hasPrefix("127.") }

    /// Where people log in; nil where they do not.
    /// - Throws: `invalidConfiguration` where passwords would be readable on the way.
    func peopleListener() throws(DataSyncError) -> PeopleListener? {
        let group = self.program == .cloud ? "admin" : "local"
        let tls = try self.tlsFiles(group)
        guard self.text("\(group).port") != nil else { return nil }
        let host = try self.required("\(group).host")
        guard tls != nil || Self.isOfThisMachine(host) else {
            throw ConfigurationFile.failure(
                "\(group).host is \(host), which others reach, and there is no TLS: passwords would be readable on the way. Set \(group).tls_certificate and "
                    + "\(group).tls_key, or listen at 127.0.0.1 behind a proxy that ends TLS")
        }
        return PeopleListener(address: ListenAddress(host: host, port: try self.port("\(group).port")), tls: tls)
    }

    /// Reads everything that `run` or `serve` would read, without doing anything.
    package func check() throws(DataSyncError) {
        let limits = try self.limits()
        switch self.program {
        case .cloud:
            try self.serverLimits().validate(limits)
            _ = try self.tlsFiles()
            _ = try self.peopleListener()
            _ = try self.trustedProxies()
            _ = try self.port("http.port")
        case .local:
            _ = try self.schedule()
            _ = try self.httpLimits()
            let allowsPlainHTTP = try self.flag("cloud.allow_plain_http")
            if let url = self.text("cloud.url") { _ = try CloudEndpoint(url, allowsPlainHTTP: allowsPlainHTTP) }
            if self.text("health.port") != nil { _ = try self.port("health.port") }
            _ = try self.peopleListener()
            _ = try self.trustedProxies()
        }
    }

    func logLevel() throws(DataSyncError) -> Logger.Level {
        guard let level = Logger.Level(rawValue: try self.required("log.level").lowercased()) else {
            throw self.refuse("log.level", "one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return level
    }

    func logFormat() throws(DataSyncError) -> LineLogHandler.Format {
        guard let format = LineLogHandler.Format(rawValue: try self.required("log.format").lowercased()) else {
            throw self.refuse("log.format", "text or json")
        }
        return format
    }
}

extension Settings: CustomReflectable {
    /// Without what was set: among it may be a password.
    package var customMirror: Mirror { Mirror(self, children: ["program": self.program, "path": self.path as Any]) }
}

extension Duration {
    /// `500ms`, `10s`, `5m`, `2h`, `7d`. Nil for anything else: a number without a unit would be taken for what it is not.
    package init?(setting text: String) {
        let text = text.trimmingSpaces
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int64(digits), number <= 1_000_000_000 else { return nil }
        switch text.dropFirst(digits.count) {
        case "ms": self = .milliseconds(number)
        case "s": self = .seconds(number)
        case "m": self = .seconds(number * 60)
        case "h": self = .seconds(number * 3_600)
        case "d": self = .seconds(number * 86_400)
        default: return nil
        }
    }
}

extension StringProtocol {
    var trimmingSpaces: String {
        String(self.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
