// Owns: each fault of the configuration, with the exact place that it names.
import Foundation
import KafkaSink
import RelayCore
import Testing

@testable import outboxd

/// What stands before and after the faulty lines, so that they are the only fault.
private let postgres = "postgres: {conninfo: dbname=x}\n"
private let kafka = "kafka: {properties: {bootstrap.servers: k:9092}}\n"
private let both = postgres + kafka

/// The faults of a text, each as `line:column: message; suggestion`.
private func faults(_ text: String, environment: [String: String] = [:]) throws -> [String] {
  let folder = try TemporaryFolder()
  let file = try folder.write(text, to: "outboxd.yaml")
  do {
    _ = try ConfigurationLoader.load(ConfigurationRequest(file: file, environment: environment))
    return []
  } catch {
    return error.faults.map { $0.description.replacingOccurrences(of: "\(file):", with: "") }
  }
}

struct FaultCase: CustomTestStringConvertible, Sendable {
  var text: String
  var expected: [String]
  var testDescription: String { expected.first ?? "none" }

  init(_ text: String, _ expected: String...) {
    self.text = text
    self.expected = expected
  }
}

@Suite struct ConfigurationFaultTests {
  static let cases: [FaultCase] = [
    // What is missing is told where its absence matters.
    FaultCase(
      postgres + "kafka: {properties: {bootstrap.servers: k:9092, security.protocol: SASL_PLAINTEXT}}\n",
      "2:49: kafka.properties: sasl.mechanism is missing: without it a SASL login is GSSAPI (Kerberos), which needs "
        + "sasl.kerberos.keytab"),
    // Kafka's properties, beside other faults.
    FaultCase(
      """
      postgres: {conninfo: dbname=x, slut: x}
      kafka:
        properties:
          bootstrap.serverz: k:9092
          acks: 1
          linger.ms: abc
          sasl.password_file: /nowhere/password
          ssl.ca.location: /nowhere/ca.pem

      """,
      "1:32: unknown key \"slut\" in postgres; did you mean \"slot\"?",
      "2:1: kafka.properties: bootstrap.servers is missing; set it in the file or as OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS",
      "4:5: kafka.properties: bootstrap.serverz is not a property of librdkafka \(KafkaProperties.libraryVersion); did you mean bootstrap.servers?",
      "5:5: kafka.properties: acks must be all: an event counts as delivered only when every in-sync replica has it",
      "6:5: kafka.properties: linger.ms is refused: Invalid value for configuration property \"queue.buffering.max.ms\"",
      "7:25: kafka.properties.sasl.password_file: /nowhere/password cannot be read: No such file or directory",
      "8:5: kafka.properties: ssl.ca.location names the file /nowhere/ca.pem, which does not exist"),
    // The shape of the file.
    FaultCase(
      both + "log:\n\tlevel: info\n",
      "4:1: while scanning for the next token: found character that cannot start any token; YAML is indented with spaces; here is a tab"
    ),
    FaultCase(
      both + "log: {level: info\n", "4:1: while parsing a flow mapping: did not find expected ',' or '}'"),
    FaultCase(
      both + "log: {}\nlog: {}\n",
      "4:1: duplicate key \"log\"; the first is in line 3"),
    FaultCase(
      postgres + "kafka:\n  properties: &p\n    bootstrap.servers: k\n",
      "3:15: anchors (&) are not supported; write the value out"),
    FaultCase(
      both + "log: {level: *p}\n", "3:14: aliases (*) are not supported; write the value out",
      "3:14: log.level has no value; remove the line for the default, info"),
    FaultCase(both + "log: {level: !!str info}\n", "3:14: tags (!) are not supported; remove the tag"),
    FaultCase(both + "---\nlog: {}\n", "3:1: a second document begins here; keep one document in the file"),
    FaultCase(
      "[1, 2]\n", "1:1: the file must be a mapping of keys to values, not a list",
      "1:1: postgres.conninfo is missing; set it in the file or as OUTBOXD_POSTGRES_CONNINFO",
      "1:1: kafka.properties: bootstrap.servers is missing; set it in the file or as OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS"
    ),
    FaultCase(both + "? [a]\n: b\n", "3:3: a key must be a single value, not a list"),
    // Unknown keys.
    FaultCase(
      "postgres:\n  conninfo: dbname=x\n  slto: a\n" + kafka,
      "3:3: unknown key \"slto\" in postgres; did you mean \"slot\"?"),
    FaultCase(both + "slot: a\n", "3:1: unknown key \"slot\"; it belongs to postgres"),
    FaultCase(
      both + "log: {colour: red}\n",
      "3:7: unknown key \"colour\" in log; known are level, format"),
    FaultCase(
      both + "outboxes:\n- table: a.b\n  tpoic: x\n",
      "5:3: unknown key \"tpoic\" in outboxes[]; did you mean \"topic\"?"),
    FaultCase(
      both + "log.level: info\n",
      "3:1: unknown key \"log.level\"; in the file, write level within log"),
    // Types.
    FaultCase(both + "log: [info]\n", "3:6: log must be a mapping of keys to values, not a list"),
    FaultCase(both + "log: {level: [info]}\n", "3:14: log.level must be a single value, not a list"),
    FaultCase(
      both + "log: {level: }\n",
      "3:14: log.level has no value; remove the line for the default, info"),
    FaultCase(both + "log: {level: \"\"}\n", "3:14: log.level is empty"),
    FaultCase(
      both + "log: {level: inof}\n",
      "3:14: level: \"inof\" is not one of debug, info, notice, warning, error; did you mean info?"),
    FaultCase(
      both + "outboxes: {}\n",
      "3:11: outboxes must be a list of outbox tables, not a mapping; begin each with \"- table: schema.table\""
    ),
    FaultCase(
      both + "outboxes: []\n",
      "3:11: outboxes must be a list of outbox tables, not an empty one; begin each with \"- table: schema.table\""
    ),
    FaultCase(
      postgres + "kafka:\n  properties: [a]\n",
      "2:1: kafka.properties: bootstrap.servers is missing; set it in the file or as OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS",
      "3:15: kafka.properties must be a mapping of names to values, not a list"),
    FaultCase(
      both + "relay: {drain_timeout: 25}\n",
      "3:24: drain_timeout: \"25\" is not a duration; write 25s, 500ms or 2m, at most 24 hours"),
    FaultCase(
      both + "relay: {drain_timeout: -1s}\n",
      "3:24: drain_timeout: \"-1s\" is not a duration; write 25s, 500ms or 2m, at most 24 hours"),
    FaultCase(
      both + "relay: {drain_timeout: 99999999999999999999s}\n",
      "3:24: drain_timeout: \"99999999999999999999s\" is not a duration; write 25s, 500ms or 2m, at most 24 hours"
    ),
    FaultCase(
      both + "replay: {window: 24, max_bytes: 10GB}\n",
      "3:18: window: \"24\" is not a span of time; write 90s, 30m, 24h or 7d, at most 366d, or off",
      "3:33: max_bytes: \"10GB\" is not a size; write 10GiB, 512MiB, 64KiB, or a number of bytes"),
    FaultCase(
      both + "replay: {window: 0s, max_bytes: 99999999TiB}\n",
      "3:18: window: \"0s\" is not a span of time; write 90s, 30m, 24h or 7d, at most 366d, or off",
      "3:33: max_bytes: \"99999999TiB\" is not a size; write 10GiB, 512MiB, 64KiB, or a number of bytes"),
    FaultCase(
      both + "admin: {listen: 9464}\n",
      "3:17: listen: \"9464\" is not an address; write host:port, [::1]:9464, or off"),
    FaultCase(
      both + "admin: {listen: \"::1:9464\"}\n",
      "3:17: listen: \"::1:9464\" is not an address; write host:port, [::1]:9464, or off"),
    FaultCase(
      both + "admin: {listen: \"h:65536\"}\n",
      "3:17: listen: \"h:65536\" is not an address; write host:port, [::1]:9464, or off"),
    // Postgres.
    FaultCase(
      "postgres: {slot: a}\n" + kafka,
      "1:1: postgres.conninfo is missing; set it in the file or as OUTBOXD_POSTGRES_CONNINFO"),
    FaultCase(
      "postgres: {conninfo: hots=x}\n" + kafka,
      "1:22: postgres.conninfo cannot be read: invalid connection option \"hots\""),
    FaultCase(
      "postgres: {conninfo: password=a secret}\n" + kafka,
      "1:22: postgres.conninfo cannot be read: missing \"=\" after \"…\" in connection info string"),
    FaultCase(
      "postgres: {conninfo: dbname=x, slot: My-Slot}\n" + kafka,
      "1:38: slot: \"My-Slot\" is not a slot's name; use lower-case letters, digits and _, 63 at most"),
    FaultCase(
      "postgres: {conninfo: dbname=x, password_file: /nowhere}\n" + kafka,
      "1:47: postgres.password_file: /nowhere cannot be read: No such file or directory"),
    FaultCase(
      "postgres: {conninfo: dbname=x password=y, password_file: /etc/passwd}\n" + kafka,
      "1:58: postgres.password_file is set, and postgres.conninfo has a password too; keep one of them"),
    FaultCase(
      "postgres: {conninfo: dbname=x, password_file: /tmp}\n" + kafka,
      "1:47: postgres.password_file: /tmp is a directory, not a regular file"),
    // Kafka.
    FaultCase(
      postgres + "kafka: {missing_topic: hold}\n",
      "2:1: kafka.properties: bootstrap.servers is missing; set it in the file or as OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS"
    ),
    FaultCase(
      postgres
        + "kafka:\n  properties:\n    bootstrap.servers: k\n    sasl.password: a\n    sasl.password_file: /dev/null\n",
      "6:5: kafka.properties has both sasl.password and sasl.password_file; keep one of them"),
    FaultCase(
      postgres + "kafka:\n  properties:\n    bootstrap.servers: k\n    sasl.password_file: /nowhere\n",
      "5:25: kafka.properties.sasl.password_file: /nowhere cannot be read: No such file or directory"),
    FaultCase(
      postgres
        + "kafka:\n  properties:\n    bootstrap.servers: k\n    acks: 1\n    enable.idempotence: false\n",
      "5:5: kafka.properties: acks must be all: an event counts as delivered only when every in-sync replica has it",
      "6:5: kafka.properties: enable.idempotence must be true: without it, retries would duplicate and reorder events"
    ),
    // Outboxes.
    FaultCase(both + "outboxes:\n  - source: /a\n", "4:5: this outbox has no table; add table: schema.table"),
    FaultCase(
      both + "outboxes:\n  - table: outbox\n",
      "4:12: table: the table \"outbox\" has no schema; write public.outbox"),
    FaultCase(
      both + "outboxes:\n  - table: a.b.c\n",
      "4:12: table: \"a.b.c\" is not schema.table; a name with a dot in it needs double quotes"),
    FaultCase(
      both + "outboxes:\n  - table: a.Outbox\n",
      "4:12: table: the name Outbox has \"O\" in it, which Postgres only keeps in double quotes; write '\"Outbox\"' in place of Outbox, or its real name in lower case"
    ),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n  - table: '\"a\".b'\n",
      "5:12: duplicate outbox for table a.b; remove one of them"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    topic: \"{x\"\n",
      "5:12: topic: the template \"{x\" has a { without its }; write a placeholder as {column}, and a brace itself as {{ or }}"
    ),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    topic: a b\n",
      "5:12: topic: the topic \"a b\" has \" \" in it; a topic's name is made of [A-Za-z0-9._-]"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    extensions: {correlationId: x, type: y, data: z}\n",
      "5:18: \"correlationId\" cannot be the name of an attribute: CloudEvents allows [a-z0-9]; write correlationid",
      "5:36: \"type\" is reserved by CloudEvents and cannot be an extension; choose another name",
      "5:45: \"data\" is reserved by CloudEvents and cannot be an extension; choose another name"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    partitionkey: yes\n",
      "5:19: partitionkey: \"yes\" is neither true nor false"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    key: none\n    partitionkey: true\n",
      "6:19: partitionkey carries the record's key, and key is none; remove one of them"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    datacontenttype: json\n",
      "5:22: datacontenttype: \"json\" is not a media type; write for example application/json"),
    FaultCase(
      both + "outboxes:\n  - table: a.b\n    on_rejection: skip\n",
      "5:19: on_rejection: \"skip\" is not one of halt"),
    // Expansion.
    FaultCase(
      "postgres: {conninfo: \"dbname=${NOT_SET}\"}\n" + kafka,
      "1:22: postgres.conninfo: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}"
    ),
    FaultCase(both + "log: {level: \"${EMPTY}\"}\n", "3:14: log.level is empty"),
    FaultCase(
      both + "log: {level: \"${A\"}\n",
      "3:14: log.level: ${ without its }; write $$ for a dollar sign before a brace"),
  ]

  @Test("Each fault names its line and column", arguments: cases)
  func place(_ example: FaultCase) throws {
    #expect(try faults(example.text, environment: ["EMPTY": ""]) == example.expected)
  }

  @Test(
    "A control character in a configured name or template is refused with its place",
    arguments: [
      (#"\n"#, "U+000A"), (#"\e"#, "U+001B"), (#"\x7F"#, "U+007F"), (#"\x9B"#, "U+009B"),
      (#"\u061C"#, "U+061C"), (#"\u2028"#, "U+2028"), (#"\u202E"#, "U+202E"), (#"\u2066"#, "U+2066"),
    ])
  func controls(_ escape: String, _ code: String) throws {
    func refused(_ text: String, _ place: String) throws {
      let found = try faults(text)
      #expect(found.count == 1 && found[0].hasPrefix("\(place): "), "\(text): \(found)")
      #expect(found.first?.contains("has the control character \(code) in it; remove it") == true, "\(found)")
    }
    let value = "\"a.b\(escape)DROP TABLE x;--\""
    try refused(both + "outboxes:\n  - table: \(value)\n", "4:12")
    for key in ["source", "topic", "key", "dataschema", "datacontenttype"] {
      let column = 7 + key.utf8.count
      try refused(both + "outboxes:\n  - table: a.b\n    \(key): \(value)\n", "5:\(column)")
    }
    try refused(both + "outboxes:\n  - table: a.b\n    columns: {id: \(value)}\n", "5:19")
    try refused(both + "outboxes:\n  - table: a.b\n    extensions: {a: \(value)}\n", "5:21")
    for key in ["slot", "publication"] {
      try refused("postgres: {conninfo: dbname=x, \(key): \(value)}\n" + kafka, "1:\(34 + key.utf8.count)")
    }
  }

  @Test("A control character comes in neither by a variable, nor by the environment or a flag")
  func controlsElsewhere() throws {
    #expect(
      try faults(
        "postgres: {conninfo: dbname=x, publication: \"${P}\"}\n" + kafka, environment: ["P": "a\u{1B}[2J"])
        == [#"1:45: publication: "a\u001b[2J" has the control character U+001B in it; remove it"#])
    for request in [
      ConfigurationRequest(
        settings: [("postgres.publication", "a\nb")], environment: ["OUTBOXD_POSTGRES_CONNINFO": "dbname=x"]),
      ConfigurationRequest(
        environment: ["OUTBOXD_POSTGRES_PUBLICATION": "a\nb", "OUTBOXD_POSTGRES_CONNINFO": "dbname=x"]),
    ] {
      do throws(ConfigurationInvalid) {
        _ = try ConfigurationLoader.load(request)
        Issue.record("taken")
      } catch {
        let text = error.relayError.message
        #expect(text.contains(#""a\nb" has the control character U+000A in it"#), "\(text)")
      }
    }
  }

  @Test("All faults of a file come at once, in the order of the file")
  func together() throws {
    let found = try faults("postgres: {slto: a}\nkafka: {properties: {}}\nlog: {level: x}\n")
    #expect(found.map { $0.prefix(4) } == ["1:1:", "1:12", "2:1:", "3:14"])
  }

  @Test("A file that is too large, not UTF-8, nested too deep or a bomb of aliases is a fault")
  func hostileFiles() throws {
    #expect(
      try faults(String(repeating: "# x\n", count: 300_000)).first?.hasPrefix(
        "1:1: the file is larger than 1048576")
        == true)
    #expect(
      try faults(both + "x: " + String(repeating: "[", count: 40)).first?.hasPrefix("3:20: nested more")
        == true)
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"
    #expect(try faults(both + bomb).contains { $0.contains("aliases (*)") })
    let folder = try TemporaryFolder()
    let file = "\(folder.path)/bytes.yaml"
    try Data(Array("postgres:\n  slot: a".utf8) + [0xFF, 0xFE]).write(to: URL(fileURLWithPath: file))
    #expect {
      try ConfigurationLoader.load(ConfigurationRequest(file: file))
    } throws: {
      ($0 as? ConfigurationInvalid)?.faults.map(\.description) == [
        "\(file):2:10: invalid leading UTF-8 octet"
      ]
    }
  }

  @Test("Truncated and mangled files never trap (seeded)")
  func mangled() throws {
    let bytes = Array(
      try String(contentsOfFile: Repository.path + "/deploy/outboxd.yaml", encoding: .utf8).utf8)
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var state = seed | 1
    func random(_ bound: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state % UInt64(bound))
    }
    let environment = ["PGHOST": "x"]
    for _ in 0..<2000 {
      var text = Array(bytes.prefix(random(bytes.count) + 1))
      for _ in 0..<random(4) { text[random(text.count)] = UInt8(random(256)) }
      var found: [ConfigurationFault] = []
      guard let root = YAMLDocument.parse(text, file: "f", faults: &found) else { continue }
      var reader = ConfigurationFile(file: "f", environment: environment)
      _ = reader.layer(from: root)
    }
  }

  @Test("A missing file is named, and nothing else is said")
  func missingFile() {
    #expect {
      try ConfigurationLoader.load(ConfigurationRequest(file: "/nowhere/outboxd.yaml"))
    } throws: {
      ($0 as? ConfigurationInvalid)?.faults.map(\.description) == [
        "/nowhere/outboxd.yaml: the file cannot be read: No such file or directory"
      ]
    }
  }
}
