// Owns: a password in a URI that was not percent-encoded: refused, and no part of it shown.
import Foundation
import Glibc
import KafkaSink
import PostgresSource
import RelayCore
import RelayTesting
import Testing

@testable import outboxd

@Suite struct ConninfoSecretTests {
  @Test(
    "A password that libpq would take for a host, port or database is refused with the place, and not shown",
    arguments: [
      "postgresql://u:hunter/two@h/db", "postgresql://u:hunter@two@h/db",
      "postgresql://u:hun/ter@two@h:5432/db",
      "postgres://u:/hunter@h/db", "postgres://u:@hunter@h/db", "postgresql://u:hunter/two?x=y@h/db",
      "postgresql://u:hunter:two/three@h/db", "postgresql://u:12/hunter@h/db", "postgresql://u:hunter%/@h/db",
      "host=postgresql://u:hunter@h/db", "dbname=postgres://u:hunter@h/db", "host=u:hunter@h dbname=db",
      "host=h port=hunter dbname=db",
    ])
  func refused(_ conninfo: String) throws {
    let fault = try #require(
      PostgresSettings.conninfoProblem(conninfo, name: "--as").map { $0.message + ($0.suggestion ?? "") })
    #expect(!fault.contains("hunter") && !fault.contains("two") && !fault.contains("three"), "\(fault)")
    #expect(fault.contains("--as") && fault.contains("percent-encode"), "\(fault)")
    let folder = try TemporaryFolder()
    let file = try folder.write(
      "postgres:\n  conninfo: \"\(conninfo)\"\nkafka:\n  properties: {bootstrap.servers: 'h:1'}\n",
      to: "outboxd.yaml")
    do throws(ConfigurationInvalid) {
      _ = try ConfigurationLoader.load(ConfigurationRequest(file: file))
      Issue.record("\(conninfo) was taken")
    } catch {
      let text = error.faults.map(\.description).joined(separator: "\n")
      #expect(text.hasPrefix("\(file):2:13: ") && text.contains("percent-encode"), "\(text)")
      #expect(!text.contains("hunter"), "\(text)")
    }
  }

  @Test(
    "What has its own right to such characters is taken",
    arguments: [
      "postgresql://u:p%2Fq%40r@h:5432/db?sslmode=require", "postgresql://h/db?user=a@b&password=x@y/z",
      "postgresql:///db", "postgresql://", "postgresql://[::1]:5432,[2001:db8::1]/db",
      "postgresql://h1:1,h2:2/db",
      "postgresql://u@h", "postgresql://%2Fvar%2Frun/db", "host=/tmp user=a@b password='p/q@r'",
      "host=@abstract",
      "host=h port=5432,5433", "postgresql://u:p?q@h/db",
    ])
  func taken(_ conninfo: String) {
    #expect(PostgresSettings.conninfoProblem(conninfo) == nil)
  }

  @Test("A key that has OpenSSL load a library from a path is refused")
  func keyFromLibrary() {
    let problem = PostgresSettings.conninfoProblem("host=h sslkey=/tmp/evil.so:key")
    #expect(problem?.message.contains("load a library") == true, "\(String(describing: problem))")
    #expect(PostgresSettings.conninfoProblem("host=h sslkey=/etc/outboxd/client.key") == nil)
    #expect(PostgresSettings.conninfoProblem("host=h sslkey=pkcs11:key") == nil)
  }

  @Test("A certificate or key that is a named pipe is refused, not waited for", .timeLimit(.minutes(1)))
  func namedPipe() throws {
    let folder = try TemporaryFolder()
    let pipe = folder.path + "/pipe"
    mkfifo(pipe, 0o600)
    for keyword in ["sslrootcert", "sslcert", "sslkey", "sslcrl"] {
      var settings = PostgresSettings()
      settings.conninfo = "host=127.0.0.1 port=1 \(keyword)=\(pipe)"
      #expect {
        _ = try SQLConnection(settings, stop: StopSignal())
      } throws: { error in
        (error as? RelayError)?.kind == .sourceDenied && "\(error)".contains("named pipe")
      }
    }
    for property in [
      "ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "sasl.kerberos.keytab",
    ] {
      var settings = KafkaSettings()
      settings.properties = ["bootstrap.servers": "h:1", property: pipe]
      let faults = KafkaProperties.faults(settings).filter { $0.property == property }
      #expect(faults.contains { $0.reason.contains("named pipe") }, "\(property): \(faults)")
    }
  }

  @Test("Whatever characters a password has, it is either read as it is meant or not shown")
  func anyPassword() {
    var random = SeededGenerator("conninfo")
    let separators = [
      "/", "@", ":", "?", "#", "%", "&", "=", "[", "]", ",", " ", "%4", "//", "\\", "'", "\"",
    ]
    for _ in 0..<20_000 {
      var password = "QZX"
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        password += (separators.randomElement(using: &random) ?? "/") + "QZX"
      }
      let conninfo = "postgresql://u:\(password)@h:5432/db"
      if let problem = PostgresSettings.conninfoProblem(conninfo) {
        #expect(!problem.message.contains("QZX"), "\(conninfo): \(problem.message)")
      } else {
        #expect(!Redaction.conninfo(conninfo).contains("QZX"), "\(conninfo): \(Redaction.conninfo(conninfo))")
        #expect((try? conninfoDatabase(conninfo)) == "db", "\(conninfo)")
      }
    }
  }

  @Test("A broker's address with a password in it is refused, and not shown")
  func brokers() throws {
    let folder = try TemporaryFolder()
    let file = try folder.write(
      "postgres: {conninfo: host=h}\nkafka:\n  properties: {bootstrap.servers: 'u:hunter@h:9092'}\n",
      to: "outboxd.yaml")
    do throws(ConfigurationInvalid) {
      _ = try ConfigurationLoader.load(ConfigurationRequest(file: file))
      Issue.record("it was taken")
    } catch {
      let text = error.faults.map(\.description).joined(separator: "\n")
      #expect(text.contains("sasl.username") && !text.contains("hunter"), "\(text)")
    }
  }
}
