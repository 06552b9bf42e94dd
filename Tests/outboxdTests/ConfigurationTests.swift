// Owns: what a good configuration becomes: precedence, expansion, defaults, redaction, the example.
import Foundation
import KafkaSink
import PostgresSource
import RelayCore
import Testing

@testable import outboxd

private let minimal = [
  "OUTBOXD_POSTGRES_CONNINFO": "dbname=x", "OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS": "k:9092",
]

private func load(
  _ text: String? = nil, environment: [String: String] = minimal,
  settings: [(key: String, value: String)] = []
) throws -> LoadedConfiguration {
  let folder = try TemporaryFolder()
  let file = try text.map { try folder.write($0, to: "outboxd.yaml") }
  return try ConfigurationLoader.load(
    ConfigurationRequest(file: file, settings: settings, environment: environment, searchPaths: []))
}

@Suite struct ConfigurationTests {
  @Test("Two values are enough, and the rest are the defaults")
  func defaults() throws {
    var expected = Configuration()
    expected.postgres.conninfo = "dbname=x"
    expected.kafka.properties = ["bootstrap.servers": "k:9092"]
    let loaded = try load()
    #expect(loaded.configuration == expected)
    #expect(loaded.warnings.isEmpty && loaded.file == nil)
    #expect(loaded.configuration.outboxes == [OutboxMapping()])
    #expect(loaded.configuration.relay.drainTimeout == 25_000)
  }

  @Test("The defaults in the table of keys are the defaults of the values")
  func tableDefaults() throws {
    var sections: [String: [String]] = [:]
    for key in ConfigurationKey.all where key.defaultText != nil && !key.path.hasPrefix("outboxes") {
      sections[String(key.path.prefix { $0 != "." }), default: []].append(
        "  \(key.name): \"\(key.defaultText ?? "")\"\n")
    }
    var text = sections.map { "\($0.key):\n" + $0.value.joined() }.joined() + "outboxes:\n  -\n"
    for key in ConfigurationKey.all where key.path.hasPrefix("outboxes[]") {
      if let value = key.defaultText { text += "    \(key.name): \"\(value)\"\n" }
    }
    #expect(try load(text).configuration == load().configuration)
  }

  @Test("Flags win over the environment, that over the file")
  func precedence() throws {
    let text = "postgres: {conninfo: dbname=file, slot: file, publication: file}\nlog: {level: error}\n"
    var environment = minimal
    environment["OUTBOXD_POSTGRES_SLOT"] = "environment"
    environment["OUTBOXD_POSTGRES_PUBLICATION"] = "environment"
    let loaded = try load(text, environment: environment, settings: [("postgres.slot", "flag")])
    #expect(loaded.configuration.postgres.slot == "flag")
    #expect(loaded.configuration.postgres.publication == "environment")
    #expect(loaded.configuration.postgres.conninfo == "dbname=x")
    #expect(loaded.configuration.log.level == .error)
  }

  @Test("A property in a higher place replaces both of its forms in a lower one")
  func propertyForms() throws {
    let text = "kafka: {properties: {sasl.password_file: /dev/null, linger.ms: 5}}"
    var environment = minimal
    environment["OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD"] = "secret"
    let kafka = try load(text, environment: environment).configuration.kafka
    #expect(kafka.propertyFiles.isEmpty)
    #expect(
      kafka.properties == ["bootstrap.servers": "k:9092", "sasl.password": "secret", "linger.ms": "5"])
    environment["OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD"] = nil
    let folder = try TemporaryFolder()
    let empty = try folder.write("", to: "empty")
    environment["OUTBOXD_KAFKA_PROPERTIES_SSL_CA_LOCATION_FILE"] = empty
    #expect(
      try load(nil, environment: environment).configuration.kafka.propertyFiles == [
        "ssl.ca.location": empty
      ])
  }

  @Test("Variables are expanded in values, after parsing")
  func expansion() throws {
    let environment = ["A": "x: [", "E": ""]
    func expand(_ text: String) throws -> String { try Expansion.expand(text, environment: environment) }
    #expect(try expand("a${A}b") == "ax: [b")
    #expect(try expand("${B:-d}${E:-e}${A:-f}") == "dex: [")
    #expect(try expand("${E}|${B:-}") == "|")
    #expect(try expand("$${A} $$ $5 $") == "${A} $ $5 $")
    #expect(try expand("{column}") == "{column}")
    for bad in ["${A", "${}", "${1A}", "${A-b}", "${A:b}", "${a b}", "${C}"] {
      #expect(throws: Expansion.Failure.self, "\(bad)") { try expand(bad) }
    }
    let loaded = try load(
      "postgres: {conninfo: 'dbname=${D}'}",
      environment: ["D": "y},slot:z"].merging(
        ["OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS": "k"]) { $1 })
    #expect(loaded.configuration.postgres.conninfo == "dbname=y},slot:z")
    #expect(loaded.configuration.postgres.slot == "outboxd")
  }

  @Test("An outbox has every key of the example")
  func outbox() throws {
    let text = """
      outboxes:
        - table: 'sales."Order ""Outbox"'
          source: /orders
          topic: orders.v{schemaversion}
          key: none
          content_mode: structured
          columns: {id: event_id, type: kind, payload: body, subject: order_id, aggregatetype: agg, time: at,
            headers: meta, datacontenttype: ct}
          extensions: {correlationid: correlation_id, causationid: cause}
          datacontenttype: application/json; charset=utf-8
          dataschema: https://s/{type}
      """
    let mapping = try #require(try load(text).configuration.outboxes.first)
    #expect(mapping.schema == "sales" && mapping.table == "Order \"Outbox")
    #expect(mapping.source.description == "/orders" && mapping.key == nil)
    #expect(mapping.topic.placeholders == ["schemaversion"] && mapping.contentMode == .structured)
    #expect(mapping.columns.subject == "order_id" && mapping.columns.headers == "meta")
    #expect(
      mapping.extensions == [
        .init(name: "correlationid", column: "correlation_id"), .init(name: "causationid", column: "cause"),
      ])
    #expect(mapping.dataschema?.description == "https://s/{type}")
  }

  @Test("The address of the admin server has all its forms")
  func addresses() throws {
    func parse(_ text: String) throws -> AdminSettings? { try ConfigurationValues.address(text) }
    #expect(try parse("off") == nil)
    #expect(try parse("[::1]:0") == AdminSettings(host: "::1", port: 0))
    #expect(try parse("localhost:80") == AdminSettings(host: "localhost", port: 80))
    #expect(try parse(":9464")?.host == "")
    #expect(try load("admin: {listen: off}").configuration.admin == nil)
    #expect(AdminSettings(host: "::1", port: 5).text == "[::1]:5")
  }

  @Test("Environment variables that set nothing are warned of, those of Kubernetes are not")
  func strangeVariables() throws {
    var environment = minimal
    environment["OUTBOXD_POSTGERS_SLOT"] = "a"
    environment["OUTBOXD_SERVICE_HOST"] = "10.0.0.1"
    environment["OUTBOXD_PORT_9464_TCP"] = "tcp://10.0.0.1"
    #expect(
      try load(environment: environment).warnings.map(\.description) == [
        "OUTBOXD_POSTGERS_SLOT: this environment variable is not a setting; did you mean \"OUTBOXD_POSTGRES_SLOT\"?"
      ])
    environment["OUTBOXD_LOG_LEVEL"] = ""
    #expect {
      try load(environment: environment)
    } throws: {
      ($0 as? ConfigurationInvalid)?.faults.map(\.description) == [
        "OUTBOXD_LOG_LEVEL: this environment variable is empty; unset it, or give it a value"
      ]
    }
  }

  @Test("--set names what it does not know")
  func settings() throws {
    #expect {
      try load(settings: [("postgres.slto", "a"), ("outboxes.0.topic", "b"), ("log.level", "")])
    } throws: {
      ($0 as? ConfigurationInvalid)?.faults.map(\.description) == [
        "--set postgres.slto: unknown key; did you mean \"postgres.slot\"?",
        "--set outboxes.0.topic: outboxes can only be set in the file; write them under outboxes:",
        "--set log.level: the value is empty",
      ]
    }
    let loaded = try load(settings: [("kafka.properties.sasl.password", "x")])
    #expect(loaded.warnings.count == 1)
    #expect(loaded.warnings.first?.description.contains("use sasl.password_file") == true)
  }

  @Test("The role that reads tables has a conninfo and a password file of its own")
  func readingRole() throws {
    let folder = try TemporaryFolder()
    let shut = try folder.write("x", to: "shut", mode: 0o600)
    let loaded = try load(
      "postgres: {read_conninfo: user=r password=hunter2, conninfo: dbname=x, password_file: \(shut)}")
    let reading = loaded.configuration.postgres.reading
    #expect(reading.conninfo == "user=r password=hunter2" && reading.passwordFile == nil)
    let printed = ConfigurationPrinter.yaml(loaded.configuration)
    #expect(printed.contains("read_conninfo") && !printed.contains("hunter2"))
    let plain = try load("postgres: {conninfo: dbname=x, password_file: \(shut)}").configuration.postgres
    #expect(plain.reading == plain)
    #expect {
      try load("postgres: {conninfo: dbname=x, read_password_file: \(shut)}")
    } throws: {
      "\($0)".contains("postgres.read_password_file is set without postgres.read_conninfo")
    }
  }

  @Test("A secret's file that everybody can read is warned of")
  func worldReadable() throws {
    let folder = try TemporaryFolder()
    let open = try folder.write("x", to: "open", mode: 0o644)
    let shut = try folder.write("x", to: "shut", mode: 0o600)
    #expect(try load("postgres: {password_file: \(shut)}").warnings.isEmpty)
    #expect(
      try load("postgres: {password_file: \(open)}").warnings.first?.suggestion == "chmod 600 \(open)")
    #expect(try load("kafka: {properties: {client.id_file: \(open)}}").warnings.isEmpty)
    #expect(try load("kafka: {properties: {sasl.password_file: \(open)}}").warnings.count == 1)
  }

  @Test(
    "No form of a conninfo shows its password",
    arguments: [
      "host=db password=hunter2 user=u", "password = 'hunter2 \\' x' host=db", "sslpassword=hunter2",
      "password=hunter2\\ x", "password=x hunter2", "password='hunter2", "postgresql://u:hunter2@h:5432/db",
      "postgres://u:hunter2%40@h/db", "postgres://h/db?password=hunter2&connect_timeout=1",
      "postgres://h/db?pass%77ord=hunter2",
    ])
  func conninfo(_ text: String) {
    #expect(!Redaction.conninfo(text).contains("hunter2"))
    #expect(Redaction.conninfo(text).contains(Redaction.dots))
    #expect(PostgresSettings.conninfoProblem(text)?.message.contains("hunter2") != true)
    #expect(Redaction.conninfo("dbname=x user=u") == "user=u dbname=x")
  }

  @Test(
    "A complaint about a conninfo names keywords and separators, and no value",
    arguments: [
      ("postgresql://u:hunter2@h/db?sslmod=require", #"invalid URI query parameter: "sslmod""#),
      ("postgresql://u:hunter2@h/db?nonsense=1", #"invalid URI query parameter: "nonsense""#),
      ("host=db user password=hunter2", #"missing "=" after "user""#),
      ("host=db password=x hunter2", #"missing "=" after "…""#),
      ("host=db password=x usr=y", #"invalid connection option "usr""#),
      ("host=db password=x hunter=y", #"invalid connection option "…""#),
      ("host=db password=x sslmdoe=y", #"invalid connection option "sslmdoe""#),
      ("host=db nonsense=y password=x", #"invalid connection option "nonsense""#),
      ("postgresql://u:a/hunter?hunter=2@h", "a port that is not a number"),
      (#"password=x hun"ter"#, "missing …"),
    ])
  func conninfoComplaints(_ text: String, _ expected: String) throws {
    let problem = try #require(PostgresSettings.conninfoProblem(text)?.message)
    #expect(problem.contains(expected))
    #expect(!problem.contains("hunter"))
  }

  @Test("The printed configuration has no secret, and loads again to the same")
  func printed() throws {
    let text = """
      kafka:
        properties: {sasl.password: hunter2, ssl.key.password: hunter2, linger.ms: 5, client.id: 'a: $$b'}
      outboxes:
        - table: 'public."Outbox"'
          topic: "{type}"
          key: none
          columns: {id: "yes"}
          extensions: {tenantid: tenant}
        - table: b.c
      relay: {drain_timeout: 1500ms}
      admin: {listen: "[::1]:1"}
      log: {format: json}
      """
    let configuration = try load(text).configuration
    let yaml = ConfigurationPrinter.yaml(configuration)
    #expect(!yaml.contains("hunter2"))
    for name in ["ssl.key.pem", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "SASL.PASSWORD"]
    {
      #expect(Redaction.isSecret(property: name))
    }
    #expect(yaml.contains("sasl.password: \"••••••••\""))
    var again = try load(yaml, environment: [:]).configuration
    #expect(again.kafka.properties["client.id"] == "a: $b")
    again.kafka.properties = configuration.kafka.properties
    #expect(again == configuration)
  }

  @Test("The replay window has units of time and of size, and is printed as it is read")
  func replay() throws {
    for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("off", nil)] {
      let postgres = try load(settings: [("replay.window", text)]).configuration.postgres
      #expect(postgres.replayWindow == seconds)
    }
    for (text, bytes) in [("10GiB", 10 << 30), ("1MiB", 1 << 20), ("3KiB", 3072), ("77", 77)] {
      let configuration = try load(settings: [("replay.max_bytes", text), ("replay.window", "25h")])
        .configuration
      #expect(configuration.postgres.replayMaxBytes == UInt64(bytes))
      let again = try load(ConfigurationPrinter.yaml(configuration), environment: [:])
      #expect(again.configuration == configuration)
    }
  }

  @Test("The example in deploy/ is valid, says the defaults, and has every key")
  func example() throws {
    let text = try String(contentsOfFile: Repository.path + "/deploy/outboxd.yaml", encoding: .utf8)
    let loaded = try load(text, environment: [:]).configuration
    #expect(
      loaded.postgres.slot == "outboxd"
        && loaded.kafka.properties["bootstrap.servers"] == "kafka.example:9093")
    var outbox = try #require(loaded.outboxes.first)
    outbox.columns = .init()
    #expect(outbox == OutboxMapping() && loaded.log == LogSettings() && loaded.relay == RelaySettings())

    let uncommented = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let rest = line.drop { $0 == " " }
      guard rest.hasPrefix("#"), let next = rest.dropFirst().first, next != " " else { return String(line) }
      return String(repeating: " ", count: line.count - rest.count) + rest.dropFirst()
    }.joined(separator: "\n")
    var faults: [ConfigurationFault] = []
    let root = try #require(YAMLDocument.parse(Array(uncommented.utf8), file: "example", faults: &faults))
    var reader = ConfigurationFile(file: "example", environment: [:])
    let layer = reader.layer(from: root)
    #expect(faults.isEmpty && reader.faults.isEmpty)
    let item = try #require(layer.outboxes?.first)
    let paths = Set(layer.values.keys).union(layer.maps.keys).union(item.values.keys).union(item.maps.keys)
    #expect(paths.union(["outboxes"]) == Set(ConfigurationKey.all.map(\.path)))
  }

  @Test("The JSON Schema is JSON and has every key")
  func schema() throws {
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(ConfigurationSchema.json.pretty.utf8)) as? [String: Any])
    let properties = try #require(json["properties"] as? [String: Any])
    #expect(Set(properties.keys) == ["postgres", "replay", "kafka", "outboxes", "relay", "admin", "log"])
    let text = ConfigurationSchema.json.compact
    for key in ConfigurationKey.all { #expect(text.contains("\"\(key.name)\":{")) }
  }

  @Test(
    "Names are suggested for slips of the hand only",
    arguments: [
      ("slto", "slot"), ("conifno", "conninfo"), ("SLOT", "slot"), ("xyz", nil),
      ("publicatoin", "publication"),
    ] as [(String, String?)])
  func nearest(_ written: String, _ meant: String?) {
    #expect(NearestName.of(written, among: ConfigurationKey.names(in: "postgres")) == meant)
    #expect(NearestName.distance("ca", "abc") == 3)
    #expect(NearestName.distance("ab", "ba") == 1)
  }
}
