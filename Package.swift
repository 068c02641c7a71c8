// swift-tools-version: 6.2

import PackageDescription

/// A build for `Scripts/mutants` has switches that each break one promise (`PlantedBug`); no other build has them.
let plantedBugs: [SwiftSetting] = Context.environment["DATASYNC_PLANTED_BUGS"] == nil ? [] : [.define("PLANTED_BUGS")]

/// Every target of ours: strict, and quiet or broken. Dependencies are not rebuilt when this changes.
let settings: [SwiftSetting] =
    plantedBugs + [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .treatAllWarnings(as: .error),
    ]

/// What the two programs are made of.
let programs: [Target.Dependency] = [
    "DataSync", "DataSyncIdentity", "DataSyncPrograms", "DataSyncSQL",
    .product(name: "ArgumentParser", package: "swift-argument-parser"),
    .product(name: "Logging", package: "swift-log"),
    .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
]

let package = Package(
    name: "DataSync",
    products: [
        .library(name: "DataSync", targets: ["DataSync"]),
        .library(name: "DataSyncSQL", targets: ["DataSyncSQL"]),
        .library(name: "DataSyncMySQL", targets: ["DataSyncMySQL"]),
        .library(name: "DataSyncSQLite", targets: ["DataSyncSQLite"]),
        .library(name: "DataSyncIdentity", targets: ["DataSyncIdentity"]),
        .library(name: "DataSyncHTTP", targets: ["DataSyncHTTP"]),
        .library(name: "DataSyncServer", targets: ["DataSyncServer"]),
        .library(name: "DataSyncTesting", targets: ["DataSyncTesting"]),
        .executable(name: "datasync-cloud", targets: ["datasync-cloud"]),
        .executable(name: "datasync-local", targets: ["datasync-local"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-configuration.git", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.35.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/vapor/jwt-kit.git", from: "5.7.0"),
    ],
    targets: [
        .target(
            name: "DataSync",
            dependencies: [
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings),
        .target(name: "DataSyncSQL", dependencies: ["DataSync"], swiftSettings: settings),
        .systemLibrary(
            name: "CMariaDB", pkgConfig: "libmariadb", providers: [.apt(["libmariadb-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "DataSyncMySQL", dependencies: ["DataSyncSQL", "CMariaDB"], swiftSettings: settings),
        .target(
            name: "DataSyncSQLite",
            dependencies: ["DataSyncSQL", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings),
        .target(
            name: "DataSyncIdentity",
            dependencies: [
                "DataSync",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "CryptoExtras", package: "swift-crypto"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .target(name: "DataSyncCompression", dependencies: ["DataSync", "CZlib"], swiftSettings: settings),
        .target(
            name: "DataSyncHTTP", dependencies: ["DataSync", "DataSyncIdentity", "DataSyncCompression"],
            swiftSettings: settings),
        .target(
            name: "DataSyncServer",
            dependencies: [
                "DataSync", "DataSyncIdentity", "DataSyncCompression",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings),
        .target(
            name: "DataSyncTesting", dependencies: ["DataSync", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .executableTarget(
            name: "datasync-simulate",
            dependencies: ["DataSyncTesting", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: settings),
        .target(
            name: "DataSyncPrograms",
            dependencies: [
                "DataSync", "DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncIdentity", "DataSyncHTTP",
                "DataSyncServer",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings),
        .executableTarget(name: "datasync-cloud", dependencies: programs, swiftSettings: settings),
        .executableTarget(name: "datasync-local", dependencies: programs, swiftSettings: settings),
        .target(
            name: "RetailTrade", dependencies: ["DataSync", "DataSyncMySQL", "DataSyncSQL", "DataSyncSQLite"],
            swiftSettings: settings),
        .executableTarget(
            name: "datasync-demo",
            dependencies: ["RetailTrade", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: settings),
        .executableTarget(
            name: "datasync-torture",
            dependencies: ["DataSync", "RetailTrade", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: settings),
        .executableTarget(
            name: "datasync-bench",
            dependencies: [
                "DataSync", "DataSyncMySQL", "DataSyncSQL", "RetailTrade", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "DataSyncTests",
            dependencies: ["DataSync", "DataSyncTesting", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .testTarget(
            name: "DataSyncSQLiteTests", dependencies: ["DataSyncSQLite", "DataSyncTesting"], swiftSettings: settings),
        .testTarget(
            name: "DataSyncMySQLTests", dependencies: ["DataSyncMySQL", "DataSyncTesting"], swiftSettings: settings),
        .testTarget(
            name: "DataSyncSQLTests",
            dependencies: [
                "DataSync", "DataSyncSQL", "DataSyncMySQL", "DataSyncSQLite", "DataSyncTesting", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "DataSyncIdentityTests",
            dependencies: [
                "DataSync", "DataSyncIdentity", "DataSyncTesting",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "DataSyncHTTPTests",
            dependencies: [
                "DataSync", "DataSyncCompression", "DataSyncHTTP", "DataSyncIdentity", "DataSyncServer", "DataSyncTesting",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTesting", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "ExampleTests",
            dependencies: [
                "DataSync", "DataSyncHTTP", "DataSyncIdentity", "DataSyncServer", "DataSyncSQL", "DataSyncSQLite", "DataSyncTesting",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "ProgramTests",
            dependencies: [
                "DataSync", "DataSyncIdentity", "DataSyncMySQL", "DataSyncPrograms", "DataSyncSQL", "DataSyncSQLite", "RetailTrade",
                "datasync-cloud", "datasync-local",
            ],
            swiftSettings: settings),
    ]
)
