// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  // Checks at run time for what a debug build, in which all tests run, checks too. In the release build they cost
  // an eighth of the relay thread's instructions for a row.
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

let package = Package(
  name: "outboxd",
  products: [
    .executable(name: "outboxd", targets: ["outboxd"])
  ],
  targets: [
    .systemLibrary(name: "CSystem"),
    .systemLibrary(name: "CLibpq", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "CRdkafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(name: "CYaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(
      name: "CMicrohttpd", pkgConfig: "libmicrohttpd", providers: [.apt(["libmicrohttpd-dev"])]),

    .target(name: "RelayCore", dependencies: ["CSystem"], swiftSettings: settings),
    .target(
      name: "PostgresSource", dependencies: ["RelayCore", "CLibpq", "CSystem"],
      swiftSettings: settings),
    .target(
      name: "KafkaSink", dependencies: ["RelayCore", "CRdkafka", "CSystem"],
      swiftSettings: settings),
    .executableTarget(
      name: "outboxd",
      dependencies: [
        "RelayCore", "PostgresSource", "KafkaSink", "CYaml", "CMicrohttpd", "CSystem",
      ],
      swiftSettings: settings,
      linkerSettings: [
        // The program runs where no Swift is installed, and takes less memory. All addresses of its libraries are looked
        // up at the start, and the table of them is read-only from then on.
        .unsafeFlags(
          ["-static-stdlib", "-Xlinker", "-z", "-Xlinker", "now"],
          .when(configuration: .release))
      ]),

    // The benchmark: development programs, not products that ship.
    .executableTarget(
      name: "outboxd-bench",
      dependencies: ["RelayTesting", "CLibpq", "CRdkafka", "outboxd", "outboxd-bench-floor"],
      swiftSettings: settings),
    .executableTarget(
      name: "outboxd-bench-floor", dependencies: ["CLibpq", "CRdkafka"], path: "Sources/CBenchFloor",
      cSettings: [.define("_GNU_SOURCE")]),

    .target(
      name: "RelayTesting", dependencies: ["CSystem"], path: "Tests/RelayTesting", swiftSettings: settings),
    .testTarget(
      name: "RelayCoreTests", dependencies: ["RelayCore", "RelayTesting"], swiftSettings: settings),
    .testTarget(
      name: "PostgresSourceTests", dependencies: ["PostgresSource", "RelayCore", "RelayTesting"],
      exclude: ["Goldens"], swiftSettings: settings),
    .testTarget(
      name: "KafkaSinkTests", dependencies: ["KafkaSink", "RelayCore", "RelayTesting"],
      swiftSettings: settings),
    .testTarget(
      name: "outboxdTests",
      dependencies: ["outboxd", "RelayCore", "PostgresSource", "KafkaSink", "RelayTesting"],
      swiftSettings: settings),
    .testTarget(
      name: "IntegrationTests", dependencies: ["RelayTesting"], exclude: ["AllocationCounter"],
      swiftSettings: settings),
    .testTarget(
      name: "FaultTests", dependencies: ["RelayTesting"], swiftSettings: settings),
  ]
)
