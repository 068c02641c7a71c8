public import DataSync
import FoundationEssentials

/// Where a MySQL or MariaDB server is and how it is spoken to.
public struct MySQLConfiguration: Sendable {
    public var host: String
    public var port: Int
    /// A Unix socket; used in place of host and port.
    public var socket: String?
    public var user: String
    public var database: String
    public var password: Secret<String>?
    public var tls: TLS
    /// For MySQL's `caching_sha2_password` without TLS: the server's RSA key, in PEM.
    public var serverPublicKeyFile: String?
    public var connectTimeout: Duration = .seconds(5)
    /// For one answer of the server. Longer than the server's own limit for a statement, which says what was wrong.
    public var answerTimeout: Duration = .seconds(15)

    public struct TLS: Hashable, Sendable {
        public enum Mode: String, Hashable, Sendable, CaseIterable {
            /// As the server likes.
            case preferred
            /// Encrypted, whoever answers.
            case required
            /// Encrypted, with a certificate that the authorities in `ca` vouch for.
            case verified
            case disabled
        }
        public var mode: Mode
        public var ca: String?
        public var certificate: String?
        public var key: String?

        public init(mode: Mode = .preferred, ca: String? = nil, certificate: String? = nil, key: String? = nil) {
            self.mode = mode
            self.ca = ca
            self.certificate = certificate
            self.key = key
        }
    }

    public init(
        host: String = "127.0.0.1", port: Int = 3306, socket: String? = nil, user: String, database: String,
        password: Secret<String>? = nil, tls: TLS = TLS(), serverPublicKeyFile: String? = nil
    ) {
        self.host = host
        self.port = port
        self.socket = socket
        self.user = user
        self.database = database
        self.password = password
        self.tls = tls
        self.serverPublicKeyFile = serverPublicKeyFile
    }

    /// Reads `mysql://user@host:port/database`, with `socket`, `tls` (preferred, required, verified, disabled), `tls_ca`,
    /// `tls_certificate`, `tls_key` and `server_public_key` as parameters.
    ///
    /// A password in the URL is refused: it would stand in the list of processes and in shell histories.
    /// - Throws: `invalidConfiguration`.
    public init(url text: String, password: Secret<String>? = nil) throws(DataSyncError) {
        func refuse(_ detail: String) -> DataSyncError {
            DataSyncError(.invalidConfiguration, operation: "storage", detail: detail)
        }
        guard let url = URL(string: text), let scheme = url.scheme, ["mysql", "mariadb"].contains(scheme) else {
            throw refuse("not a URL of the form mysql://user@host/database")
        }
        if url.password() != nil {
            throw refuse("the storage URL must not hold a password: set storage.password or DATASYNC_STORAGE_PASSWORD")
        }
        let database = String(url.path.drop { $0 == "/" })
        guard !database.isEmpty, !database.contains("/") else { throw refuse("the storage URL names no database: mysql://user@host/database") }
        guard let user = url.user(percentEncoded: false), !user.isEmpty else { throw refuse("the storage URL names no user: mysql://user@host/database") }
        self.init(
            host: url.host(percentEncoded: false) ?? "127.0.0.1", port: url.port ?? 3306, user: user, database: database,
            password: password)
        for item in (url.query(percentEncoded: false) ?? "").split(separator: "&") {
            let pair = item.split(separator: "=", maxSplits: 1).map { String($0) }
            guard pair.count == 2 else { throw refuse("the storage URL has a parameter without a value: \(item)") }
            switch pair[0] {
            case "socket": self.socket = pair[1]
            case "tls":
                guard let mode = TLS.Mode(rawValue: pair[1]) else {
                    throw refuse("tls in the storage URL must be one of \(TLS.Mode.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                self.tls.mode = mode
            case "tls_ca": self.tls.ca = pair[1]
            case "tls_certificate": self.tls.certificate = pair[1]
            case "tls_key": self.tls.key = pair[1]
            case "server_public_key": self.serverPublicKeyFile = pair[1]
            default: throw refuse("the storage URL has an unknown parameter: \(pair[0])")
            }
        }
        if self.tls.mode == .verified, self.tls.ca == nil { throw refuse("tls=verified needs tls_ca") }
    }

    /// Without the password.
    public var name: String {
        let place = self.socket.map { "socket \($0)" } ?? "\(self.host):\(self.port)"
        return "\(self.database) at \(place)"
    }
}

extension MySQLConfiguration: CustomStringConvertible {
    public var description: String { "MySQLConfiguration(\(self.user), \(self.name))" }
}
