import CRdkafka
import Foundation
import RelayCore
import Testing

@testable import KafkaSink

/// A folder with a certificate, its key and files that are not whole. Deleted at its end.
private final class Certificates {
  let folder = NSTemporaryDirectory() + "outboxd-certificates-\(UUID().uuidString)/"

  init() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for name in ["one", "other"] {
      let openssl = Process()
      openssl.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      openssl.arguments =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client -days 2"
        .split(separator: " ").map(String.init) + [
          "-keyout", path(name + ".key"), "-out", path(name + ".crt"),
        ]
      openssl.standardError = FileHandle.nullDevice
      try openssl.run()
      openssl.waitUntilExit()
    }
    let key = try Data(contentsOf: URL(fileURLWithPath: path("one.key")))
    try key.prefix(key.count / 2).write(to: URL(fileURLWithPath: path("half.key")))
    try Data().write(to: URL(fileURLWithPath: path("empty.key")))
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func path(_ name: String) -> String { folder + name }
}

/// `rd_kafka_new` fails after it has begun. librdkafka 2.0.2 has then freed a part of the configuration.
@Suite struct ClientFailureTests {
  private func settings(_ properties: [String: String]) -> KafkaSettings {
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": "127.0.0.1:1"].merging(properties) { $1 }
    return settings
  }

  private func sinkFailure(_ settings: KafkaSettings) throws -> RelayError {
    try #require(throws: RelayError.self) {
      try KafkaSink(settings: settings, metrics: RelayMetrics(), log: Log(level: .error))
    }
  }

  @Test(
    "a key that cannot be used is told, tried again and then taken", arguments: ["half", "empty", "other"])
  func key(name: String) throws {
    let certificates = try Certificates()
    let key = certificates.path("client.key")
    try FileManager.default.copyItem(atPath: certificates.path(name + ".key"), toPath: key)
    let settings = settings([
      "security.protocol": "SSL", "ssl.certificate.location": certificates.path("one.crt"),
      "ssl.key.location": key,
    ])
    for _ in 0..<3 {
      let error = try sinkFailure(settings)
      #expect(error.kind == .sinkDenied, "\(error)")
      #expect(error.message.contains("ssl") || error.message.contains("key"), "\(error)")
      // The check beforehand may have seen a file that was whole.
      #expect(throws: RelayError.self) { try ProducerHandle(settings) }
      #expect(throws: RelayError.self) { try TailReader(settings) }
    }
    try FileManager.default.removeItem(atPath: key)
    try FileManager.default.copyItem(atPath: certificates.path("one.key"), toPath: key)
    let sink = try KafkaSink(settings: settings, metrics: RelayMetrics(), log: Log(level: .error))
    sink.abandon()
  }

  @Test func `a secret in a file that is half-written is tried again`() throws {
    let certificates = try Certificates()
    var settings = settings(["security.protocol": "SSL"])
    settings.propertyFiles["ssl.key.pem"] = certificates.path("half.key")
    let error = try sinkFailure(settings)
    #expect(error.kind == .sinkDenied, "\(error)")
    #expect(error.message.contains("ssl.key.pem"))
  }

  @Test func `Kerberos without a keytab is a fault of the configuration, and no crash`() throws {
    guard KafkaProperties.features.contains("sasl_gssapi") else { return }
    let settings = settings(["security.protocol": "SASL_PLAINTEXT"])
    let forgotten = try #require(KafkaProperties.faults(settings).first)
    #expect(forgotten.property == "sasl.mechanism" && forgotten.reason.contains("sasl.kerberos.keytab"))
    var named = settings
    named.properties["sasl.mechanism"] = "GSSAPI"
    #expect(KafkaProperties.faults(named).map(\.property) == ["sasl.kerberos.keytab"])
    // A template that names a property which is not set.
    named.properties["sasl.kerberos.kinit.cmd"] = "kinit -t %{sasl.kerberos.keytab} x"
    #expect(KafkaProperties.faults(named).first?.reason.contains("sasl.kerberos.keytab") == true)
    for _ in 0..<3 {
      #expect(try sinkFailure(settings).kind == .configurationInvalid)
      #expect(throws: RelayError.self) { try ProducerHandle(settings) }
      #expect(throws: RelayError.self) { try TailReader(settings) }
    }
  }

  @Test func `looking through the configuration runs no kinit`() throws {
    guard KafkaProperties.features.contains("sasl_gssapi") else { return }
    let mark = NSTemporaryDirectory() + "outboxd-kinit-\(UUID().uuidString)"
    let faults = KafkaProperties.faults(
      settings([
        "security.protocol": "SASL_PLAINTEXT", "sasl.kerberos.kinit.cmd": "touch \(mark)",
      ]))
    #expect(faults.isEmpty)
    #expect(!FileManager.default.fileExists(atPath: mark))
  }
}
