// Owns: TLS and logins to both sides, and that secrets and payloads stay out of the log.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct SecurityTests {
    /// A CA, and a certificate for 127.0.0.1 by it.
    private func certificates() throws -> String {
      let folder = TestFolder.make("tls")
      let script = """
        cd "$1"
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=test CA" -keyout ca.key -out ca.crt
        openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >names
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=another CA" -keyout other.key -out other.crt
        """
      try ChildProcess.check(["sh", "-e", "-c", script, "sh", folder])
      return folder
    }

    private func secret(_ text: String) throws -> String {
      let path = TestFolder.make("secret") + "/secret"
      try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: path))
      return path
    }

    @Test func `TLS and SCRAM to Postgres, with the password from a file`() throws {
      let tls = try certificates()
      let scene = try Scene()
      for file in ["server.crt", "server.key"] {
        try scene.server.write(try String(contentsOfFile: "\(tls)/\(file)", encoding: .utf8), to: file)
      }
      try scene.server.write(
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n", to: "pg_hba.conf")
      try scene.server.set(["ssl": "on"])
      try scene.server.restart()
      let password = "pass'word \\ with everything"
      try scene.server.sql(
        "ALTER ROLE outboxd PASSWORD '\(password.replacingOccurrences(of: "'", with: "''"))'")
      scene.configuration.conninfo = scene.server.conninfo(
        "shop", more: "sslmode=verify-full sslrootcert=\(tls)/ca.crt channel_binding=require")
      scene.configuration.postgres = ["password_file: \(try secret(password))"]
      scene.configuration.level = "debug"
      let relay = try scene.start()
      #expect(
        try scene.server.sql(
          "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'outboxd'")
          == "t")
      try scene.workload.run(writers: 1, transactions: 10, size: 5, seed: 1)
      let verdict = try scene.finish(relay)
      #expect(verdict.ok, "\(verdict)")
      #expect(!relay.logText.contains("with everything"))
      // A server that another CA vouches for is not spoken to.
      scene.configuration.conninfo = scene.server.conninfo(
        "shop", more: "sslmode=verify-full sslrootcert=\(tls)/other.crt")
      let refused = try scene.start(waitUntilReady: false)
      try refused.waitForLog("the certificate is refused") { $0.text.contains("certificate verify failed") }
      #expect(try refused.terminate() == 0)
    }

    @Test(.enabled(if: KafkaCluster.canBeControlled, "needs a Kafka with TLS"))
    func `TLS with SASL PLAIN, mutual TLS, and refusals of Kafka that are named`() throws {
      let kafka = try KafkaCluster(nodes: 1, secure: true)
      let scene = try Scene(kafka: kafka)
      let plain = scene.configuration
      let passwordFile = try secret("outboxd-secret")
      let acl = { (operation: String, principal: String) in
        _ = try kafka.tool([
          "acls", "--add", "--allow-principal", "User:\(principal)", "--operation", operation, "--topic",
          scene.workload.prefix, "--resource-pattern-type", "prefixed",
        ])
      }
      for operation in ["Describe", "Create"] { try acl(operation, "outboxd") }

      func sasl(_ mechanism: String, password: String) throws -> RelayConfiguration {
        var configuration = plain
        configuration.properties.merge([
          "bootstrap.servers": try kafka.content("bootstrap-scram"), "security.protocol": "sasl_ssl",
          "sasl.mechanism": mechanism, "sasl.username": "outboxd",
          "ssl.ca.location": kafka.path("tls/ca.crt"),
          "sasl.password_file": password,
        ]) { $1 }
        return configuration
      }

      // A wrong password: held and named.
      scene.configuration = try sasl("PLAIN", password: try secret("not-the-secret"))
      var relay = try scene.start(waitUntilReady: false)
      try relay.waitForLog("authentication fails") { $0.text.lowercased().contains("authentication") }
      try relay.waitUntilNotReady()
      #expect(!relay.logText.contains("not-the-secret"))
      #expect(try relay.terminate() == 0)

      // No right to write: held; it goes on when the right is given.
      scene.configuration = try sasl("PLAIN", password: passwordFile)
      relay = try scene.start(waitUntilReady: false)
      try scene.workload.run(writers: 1, transactions: 10, size: 5, seed: 1)
      try relay.waitForLog("authorization fails") { $0.text.lowercased().contains("authoriz") }
      try relay.waitUntilNotReady()
      try acl("Write", "outboxd")
      try relay.waitUntilReady()
      try scene.workload.settle(relay)
      #expect(!relay.logText.contains("outboxd-secret"))
      #expect(try relay.terminate() == 0)

      // Mutual TLS.
      scene.configuration = plain
      scene.configuration.properties.merge([
        "bootstrap.servers": try kafka.content("bootstrap-mutual"), "security.protocol": "ssl",
        "ssl.ca.location": kafka.path("tls/ca.crt"), "ssl.certificate.location": kafka.path("tls/client.crt"),
        "ssl.key.location": kafka.path("tls/client.key"),
      ]) { $1 }
      for operation in ["Describe", "Create", "Write"] { try acl(operation, "CN=client") }
      relay = try scene.start()
      try scene.workload.run(writers: 1, transactions: 10, size: 5, seed: 2)
      let verdict = try scene.finish(relay, duplicatesAllowed: true)
      #expect(verdict.ok, "\(verdict)")

      // SCRAM: works with a new librdkafka; with an old one the reason is named.
      scene.configuration = try sasl("SCRAM-SHA-256", password: passwordFile)
      relay = try scene.start(waitUntilReady: false)
      try eventually("SCRAM works or is explained: \(relay.tail)", within: 60) {
        if relay.logText.contains("2.6.1") { return true }
        return try relay.get("/readyz").status == 200
      }
      #expect(try relay.terminate() == 0)
    }

    @Test func `logs carry no payload and no secret, at any level`() throws {
      let scene = try Scene()
      try scene.server.sql("ALTER ROLE outboxd PASSWORD 'hunter2-secret'")
      scene.configuration.conninfo += " password=hunter2-secret"
      scene.configuration.level = "debug"
      let relay = try scene.start()
      try scene.server.sql(
        """
        INSERT INTO public.outbox VALUES
          (gen_random_uuid(), 'order', 'a', 't', '{"card": "4111-payload"}', 1),
          ('11111111-2222-4333-8444-555555555555', 'bad topic', 'a', 't', '{"card": "4111-payload"}', 2);
        """, database: "shop")
      #expect(try relay.process.wait(seconds: 60) == 23)
      #expect(!relay.logText.contains("4111-payload"))
      #expect(!relay.logText.contains("hunter2-secret"))
      // Every line is one JSON object.
      let lines = relay.logText.split(separator: "\n")
      #expect(relay.log.count == lines.count, "\(relay.tail)")
      let printed = try OutboxdProcess.command(["config", "--config", relay.configurationPath])
      #expect(printed.status == 0)
      #expect(!printed.output.contains("hunter2-secret"))
    }
  }
}
