// Every way a connection to Postgres can be protected, and what is said of it.
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct PostgresTransportTests {
  private func transport(
    _ sslmode: String, _ encryption: PostgresTransport.Encryption, host: String = "db.example",
    address: String = "192.0.2.7", root: Bool = false, binds: Bool = false
  ) -> PostgresTransport {
    PostgresTransport(
      host: host, address: address, encryption: encryption, sslmode: sslmode, hasRootCertificate: root,
      bindsChannel: binds)
  }

  @Test(
    arguments: [
      ("disable", .none, false, "is not encrypted (sslmode=disable)"),
      ("allow", .none, false, "is not encrypted (sslmode=allow)"),
      ("prefer", .none, false, "is not encrypted (sslmode=prefer)"),
      ("prefer", .none, true, "is not encrypted (sslmode=prefer)"),
      ("allow", .tls, false, "sslmode=allow neither verifies a certificate nor insists on encryption"),
      (
        "prefer", .tls, false, "sslmode=prefer neither verifies a certificate nor insists on encryption"
      ),
      ("prefer", .tls, true, "sslmode=prefer neither verifies a certificate nor insists on encryption"),
      ("require", .tls, false, "no certificate is verified (sslmode=require)"),
      ("require", .tls, true, "the certificate's host is not verified (sslmode=require)"),
      ("verify-ca", .tls, true, "the certificate's host is not verified (sslmode=verify-ca)"),
    ] as [(String, PostgresTransport.Encryption, Bool, String)])
  func `what does not verify the server is warned of, with what can come of it and the remedy`(
    sslmode: String, encryption: PostgresTransport.Encryption, root: Bool, words: String
  ) throws {
    let warning = try #require(transport(sslmode, encryption, root: root).warning)
    #expect(warning.message.hasPrefix("the connection to Postgres at db.example is "))
    #expect(warning.message.contains(words), "\(warning.message)")
    #expect(warning.remedy?.contains("sslmode=verify-full") == true)
  }

  @Test func `a server that is verified, and one on this machine, need no warning`() {
    #expect(transport("verify-full", .tls, root: true).warning == nil)
    #expect(transport("require", .tls, binds: true).warning == nil)
    #expect(transport("prefer", .gss).warning == nil)
    for sslmode in ["disable", "allow", "prefer", "require", "verify-ca"] {
      #expect(transport(sslmode, .none, address: "127.0.0.1").warning == nil)
      #expect(transport(sslmode, .none, address: "::1").warning == nil)
      #expect(transport(sslmode, .none, host: "/var/run/postgresql", address: "").warning == nil)
    }
    // A name does not make an address one of this machine, and channel binding does not encrypt.
    #expect(transport("prefer", .none, host: "localhost", address: "192.0.2.7").warning != nil)
    #expect(transport("prefer", .none, binds: true).warning != nil)
  }
}
