/// Everything that can be set, in one table: what a file may hold, what the sample says of it, and what the
/// environment is asked for (`storage.url` is `DATASYNC_STORAGE_URL`).
package struct SettingKey: Sendable {
    package enum Program: String, Sendable, CaseIterable {
        case cloud = "datasync-cloud", local = "datasync-local"
    }

    let name: String
    /// The default, as it would be written; nil where there is none.
    let standard: String?
    /// One line for the sample, in the words of an operator.
    let help: String
    let programs: Set<Program>
    let isSecret: Bool

    private init(_ name: String, _ standard: String?, _ help: String, _ programs: Set<Program> = [.cloud, .local], isSecret: Bool = false) {
        self.name = name
        self.standard = standard
        self.help = help
        self.programs = programs
        self.isSecret = isSecret
    }

    package static let all: [SettingKey] = [
        SettingKey(
            "storage.url", "sqlite:./datasync.sqlite",
            "where the tables are: sqlite:PATH, or mysql://user@host/database (parameters: socket, tls, tls_ca, tls_certificate, tls_key, server_public_key)"),
        SettingKey("storage.password", nil, "better in the environment: DATASYNC_STORAGE_PASSWORD, or in a file", isSecret: true),
        SettingKey("storage.password_file", nil, "a file that holds the password and nothing else"),
        SettingKey("storage.connections", "16", "most connections to the database at a time"),
        SettingKey("storage.wait", "2s", "how long a request waits for one of them"),

        SettingKey("identity.key_file", "./datasync.key", "this machine's private key; readable by its user only"),
        SettingKey("identity.people_key_file", "./datasync-people.key", "the private key that signs what people who log in get; readable by its user only"),

        SettingKey("cloud.url", nil, "the cloud's address: https://host[:port][/prefix]", [.local]),
        SettingKey("cloud.allow_plain_http", "false", "whether http may be used to another machine; records are readable on the way then", [.local]),
        SettingKey("schedule.interval", "10s", "from one cycle to the next; 0s: back to back", [.local]),
        SettingKey("schedule.watch", "200ms", "how often the branch's own database is asked for new records", [.local]),
        SettingKey("schedule.backoff", "1s", "the first wait after a cycle that failed; doubles", [.local]),
        SettingKey("schedule.backoff_max", "5m", "the longest", [.local]),
        SettingKey("schedule.alarm", "1h", "a record that waits for longer raises an alarm in the log, again and again", [.local]),
        SettingKey("http.compression", "true", "whether bodies that gain by it are compressed", [.local]),
        SettingKey("http.deadline", "30s", "for one exchange with the cloud, and more for large bodies", [.local]),
        SettingKey("health.host", "127.0.0.1", "where /health and /ready are answered", [.local]),
        SettingKey("health.port", nil, "a port for them; none: not answered", [.local]),

        SettingKey("http.host", "127.0.0.1", "the address to listen at; 0.0.0.0 for all", [.cloud]),
        SettingKey("http.port", "8080", "the port; 0: a free one, said in the log", [.cloud]),
        SettingKey("http.prefix", "", "a path before /datasync, if a proxy does not take it away", [.cloud]),
        SettingKey("http.tls_certificate", nil, "the certificate and its chain, in PEM; none: plain HTTP, behind a proxy that ends TLS", [.cloud]),
        SettingKey("http.tls_key", nil, "its private key, in PEM", [.cloud]),
        SettingKey("http.tls_at_proxy", "false", "whether a proxy ends TLS, where http.host is not this machine alone and there is no certificate", [.cloud]),
        SettingKey("http.trusted_proxies", "", "addresses of proxies whose X-Forwarded-For is believed, by comma", [.cloud]),
        SettingKey("http.idle", "20s", "a silent connection is closed after this", [.cloud]),
        SettingKey("http.connections", "2000", "most connections at a time", [.cloud]),
        SettingKey("http.connections_per_address", "20", "most of one address; those of trusted proxies and of this machine are not counted", [.cloud]),
        SettingKey("http.workers", "8", "requests that work at a time", [.cloud]),
        SettingKey("http.branch_requests", "6000", "most requests of one branch in a minute; it is told to come back then", [.cloud]),
        SettingKey("http.branch_bytes", "10737418240", "most bytes that one branch sends in a day; it is told to come back then", [.cloud]),

        SettingKey("local.host", "127.0.0.1", "where people and applications of this branch log in; another machine's only with TLS", [.local]),
        SettingKey("local.port", nil, "a port for them; none: nobody logs in over HTTP", [.local]),
        SettingKey("local.tls_certificate", nil, "the certificate and its chain, in PEM", [.local]),
        SettingKey("local.tls_key", nil, "its private key, in PEM", [.local]),
        SettingKey("local.trusted_proxies", "", "addresses of proxies whose X-Forwarded-For is believed, by comma", [.local]),

        SettingKey("admin.host", "127.0.0.1", "where people of the cloud log in and administer; another machine's only with TLS", [.cloud]),
        SettingKey("admin.port", nil, "a port for them; none: nobody logs in over HTTP", [.cloud]),
        SettingKey("admin.tls_certificate", nil, "the certificate and its chain, in PEM", [.cloud]),
        SettingKey("admin.tls_key", nil, "its private key, in PEM", [.cloud]),

        SettingKey("limits.record_bytes", "1048576", "the largest payload"),
        SettingKey("limits.batch_records", "1000", "most records in one request"),
        SettingKey("limits.batch_bytes", "8388608", "most payload bytes in one request"),
        SettingKey("limits.chunk_records", "1000", "most records in one transaction"),
        SettingKey("limits.chunk_bytes", "4194304", "most payload bytes in one transaction"),
        SettingKey("limits.open_records", "10000", "most refused records of one type and origin that wait"),
        SettingKey("limits.open_bytes", "67108864", "most payload bytes of them"),
        SettingKey("limits.dead_records", "10000", "most dead records of one type and origin; where more would be refused that type stops", [.cloud]),
        SettingKey("limits.dead_bytes", "67108864", "most payload bytes of them", [.cloud]),
        SettingKey("limits.suspects", "100", "records of one type and origin refused alike while none passes, before that type stops"),
        SettingKey("limits.suspect_age", "1d", "after this a refusal of such a record counts, unless the type is stopped"),
        SettingKey("limits.retry_delays", "30s, 5m", "before the second and the third try of a refused record"),
        SettingKey("limits.waiting_delay", "30s", "before a record whose dependency is missing is tried again; doubles"),
        SettingKey("limits.waiting_delay_max", "1h", "the longest such wait"),
        SettingKey("limits.waiting_age", "7d", "after this a missing dependency is a failure"),
        SettingKey("limits.retention", "14d", "for how long settled rows and receipts are kept"),

        SettingKey("log.level", "info", "trace, debug, info, notice, warning, error or critical"),
        SettingKey("log.format", "text", "text, or json for one object a line"),
    ]

    static func keys(of program: Program) -> [SettingKey] { self.all.filter { $0.programs.contains(program) } }
}
