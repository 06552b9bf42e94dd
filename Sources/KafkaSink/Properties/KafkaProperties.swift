// Owns: which of librdkafka's properties an operator may set, what outboxd sets itself, and the making of
// a librdkafka configuration from them.
// Must not know: YAML. Positions in a file are the configuration's business.
import CRdkafka
import Glibc
import RelayCore

/// The rules for `kafka.properties`.
public enum KafkaProperties {
  /// What is wrong with one property.
  public struct Fault: Equatable, Sendable {
    /// The name as the operator wrote it; for a missing one, the name that is missing.
    public var property: String
    /// Follows "kafka.properties: NAME ". Never holds a secret.
    public var reason: String
    /// True where a file could not be read, which a restart or a person may repair.
    public var isFile: Bool

    init(_ property: String, _ reason: String, isFile: Bool = false) {
      self.property = property
      self.reason = reason
      self.isFile = isFile
    }
  }

  /// Everything that is wrong with the settings, found without a connection. Reads the files that hold
  /// secrets. Sorted by name.
  public static func faults(_ settings: KafkaSettings) -> [Fault] {
    let found = check(settings)
    return found.isEmpty ? rehearse(settings) : found
  }

  /// The text of the linked library's version, as `2.0.2`.
  public static var libraryVersion: String {
    // SAFETY: a constant of the library, NUL-terminated.
    rd_kafka_version_str().map { String(cString: $0) } ?? "unknown"
  }

  /// What the linked library was built with, as `sasl_scram`, `lz4`, `oidc`.
  public static let features: [String] = {
    guard let configuration = rd_kafka_conf_new() else { return [] }
    defer { rd_kafka_conf_destroy(configuration) }
    return (value(of: "builtin.features", in: configuration) ?? "").split(separator: ",").map(String.init)
  }()

  /// The properties that outboxd sets where the operator does not.
  static func defaults(_ settings: KafkaSettings) -> [(name: String, value: String)] {
    [
      ("client.id", "outboxd"),
      ("enable.idempotence", "true"),
      ("request.required.acks", "all"),
      ("enable.gapless.guarantee", "true"),
      // A broker has no sequence to compare a new producer's first batch with: if that one is refused, those that
      // follow in the pipeline are taken, and a key's later events come before its earlier ones.
      ("max.in.flight.requests.per.connection", "1"),
      ("message.timeout.ms", "0"),
      ("partitioner", "murmur2_random"),
      ("compression.codec", "lz4"),
      ("queue.buffering.max.ms", String(Tuning.Linger.milliseconds)),
      ("queue.buffering.max.messages", String(Tuning.InFlight.queue)),
      ("queue.buffering.max.kbytes", String(queueKilobytes(settings))),
      ("socket.nagle.disable", "true"),
      ("socket.keepalive.enable", "true"),
      // As Java clients: a Kafka that is back is used within a second.
      ("reconnect.backoff.max.ms", "1000"),
      // Asking for a topic makes a broker create it, where its owner allows that.
      ("allow.auto.create.topics", settings.missingTopic == .hold ? "true" : "false"),
    ]
  }

  /// The default of queue.buffering.max.kbytes: room for the largest message at least.
  static func queueKilobytes(_ settings: KafkaSettings) -> Int {
    max(Tuning.InFlight.queueKilobytes, number("message.max.bytes", settings) / 1024 + 1)
  }

  /// What the operator has written for a property, under any of its names. Reads the file where it is in one.
  static func text(of canonical: String, _ settings: KafkaSettings) -> String? {
    let catalogue = PropertyCatalogue.shared
    if let value = settings.properties.first(where: { catalogue.canonical($0.key) == canonical })?.value {
      return value
    }
    guard let path = settings.propertyFiles.first(where: { catalogue.canonical($0.key) == canonical })?.value,
      let value = try? secret(path)
    else { return nil }
    return value
  }

  /// The content of the file of a property.
  static func secret(_ path: String) throws(SmallFile.Refusal) -> String {
    try SmallFile.secret(path, limit: 1 << 20)
  }

  /// The number that librdkafka makes of a property, within the property's range: librdkafka's default where it is not
  /// set or is refused. What the operator has written may be any number at all, and must not be reckoned with.
  static func number(_ name: String, _ settings: KafkaSettings) -> Int {
    Int(valueInForce(name, settings)) ?? 0
  }

  /// What librdkafka makes of a property: its own default where it is not set or is refused.
  static func valueInForce(_ name: String, _ settings: KafkaSettings) -> String {
    guard let configuration = rd_kafka_conf_new() else { return "" }
    defer { rd_kafka_conf_destroy(configuration) }
    if let text = text(of: name, settings) { _ = set(name, text, in: configuration) }
    return value(of: name, in: configuration) ?? ""
  }

  /// The SASL mechanism in force, in capitals. Nil without SASL.
  static func mechanism(_ settings: KafkaSettings) -> String? {
    guard text(of: "security.protocol", settings)?.lowercased().hasPrefix("sasl") == true else { return nil }
    let mechanism = text(of: "sasl.mechanisms", settings) ?? ""
    return mechanism.isEmpty ? "GSSAPI" : mechanism.uppercased()
  }

  /// Whether the value of a property is a secret, which is printed nowhere.
  public static func isSecret(_ name: String) -> Bool {
    let name = name.lowercased()
    return [
      "password", "secret", "pem", "token", "credential", "sasl.jaas", "oauthbearer.config", "passphrase",
    ].contains { name.contains($0) }
  }

  private static let kinit = "sasl.kerberos.kinit.cmd"

  /// The properties that are set by which librdkafka runs a command or loads a library that the configuration names:
  /// name and value.
  public static func codeSettings(_ settings: KafkaSettings) -> [(name: String, value: String)] {
    [kinit, "ssl.engine.location", "ssl.providers"].compactMap { name in
      guard let value = text(of: name, settings), !value.isEmpty else { return nil }
      // A provider without a path is one that OpenSSL was installed with.
      return name == "ssl.providers" && !value.contains("/") ? nil : (name, value)
    }
  }

  /// The files of certificates and keys that are named: property and path.
  public static func tlsFiles(_ settings: KafkaSettings) -> [(name: String, path: String)] {
    fileProperties.sorted().compactMap { name in
      guard let path = text(of: name, settings), !path.isEmpty, path != "probe" else { return nil }
      return (name, path)
    }
  }

  // MARK: Faults

  static func check(_ settings: KafkaSettings) -> [Fault] {
    let catalogue = PropertyCatalogue.shared
    var faults: [Fault] = []
    var seen: [String: String] = [:]
    let names = settings.properties.keys.sorted() + settings.propertyFiles.keys.sorted()
    for name in names {
      let canonical = catalogue.canonical(name)
      if let other = seen[canonical] {
        let how = other == name ? "is given twice: as a value and as a file" : "is the same as \(other)"
        faults.append(Fault(name, "\(how); give one of them"))
        continue
      }
      seen[canonical] = name
      if let fault = fault(name: name, settings: settings) { faults.append(fault) }
    }
    let servers = seen["metadata.broker.list"].flatMap { settings.properties[$0] ?? "file" }
    if servers == nil || servers?.isEmpty == true {
      faults.append(
        Fault("bootstrap.servers", "is missing: name at least one broker, as kafka.example:9092"))
    }
    if let fault = queueFault(settings) { faults.append(fault) }
    if let fault = tokenFault(settings) {
      // librdkafka's own words for it may be among them.
      faults.removeAll { $0.property == fault.property }
      faults.append(fault)
    }
    if let fault = kerberosFault(settings) { faults.append(fault) }
    return faults.sorted { $0.property < $1.property }
  }

  private static func fault(name: String, settings: KafkaSettings) -> Fault? {
    let catalogue = PropertyCatalogue.shared
    guard let entry = catalogue.entries[name] else {
      let suggestion = catalogue.nearest(to: name).map { "; did you mean \($0)?" } ?? ""
      return Fault(name, "is not a property of librdkafka \(libraryVersion)\(suggestion)")
    }
    guard entry.isForProducers else {
      return Fault(name, "is a consumer property, and outboxd only produces")
    }
    guard !entry.isProgrammatic else {
      return Fault(name, "can only be set by a program; outboxd sets its own")
    }
    var value = settings.properties[name] ?? ""
    let path = settings.propertyFiles[name]
    if let path {
      do throws(SmallFile.Refusal) {
        value = try secret(path)
      } catch {
        let remedy = error.remedy.map { ": \($0)" } ?? ""
        return Fault(name, "is in the file \(path), which \(error.reason)\(remedy)", isFile: true)
      }
    }
    var fault = refusal(canonical: catalogue.canonical(name), value: value).map { Fault(name, $0) }
    fault = fault ?? syntaxFault(name: name, value: value)
    // A file may be half-written, and is read again.
    if path != nil { fault?.isFile = true }
    return fault
  }

  /// Why a value is refused although librdkafka would take it.
  static func refusal(canonical: String, value: String) -> String? {
    brokenPromise(canonical, value.lowercased()) ?? misuse(canonical, value.lowercased())
  }

  private static func isTrue(_ text: String) -> Bool { ["true", "t", "1"].contains(text) }
  private static func isFalse(_ text: String) -> Bool { ["false", "f", "0"].contains(text) }

  /// Of what delivery and order rest on.
  private static func brokenPromise(_ canonical: String, _ text: String) -> String? {
    switch canonical {
    case "request.required.acks" where text != "all" && text != "-1":
      return "must be all: an event counts as delivered only when every in-sync replica has it"
    case "enable.idempotence" where isFalse(text):
      return "must be true: without it, retries would duplicate and reorder events"
    case "enable.gapless.guarantee" where isFalse(text):
      return "must be true: without it, later events could pass one that failed"
    case "message.timeout.ms" where text != "0":
      return "must be 0: an event is never given up because time has passed"
    case "max.in.flight.requests.per.connection" where Int(text) != 1:
      return
        "must be 1: Kafka takes any first sequence of a new producer, so that a batch could pass one that failed"
    case "message.send.max.retries":
      return "must not be set: an event is sent until Kafka has it"
    case "partitioner" where !["murmur2_random", "murmur2"].contains(text):
      return "must be murmur2_random or murmur2: keys go to the partitions that Java clients choose"
    case "transactional.id":
      return "must not be set: outboxd does not use Kafka's transactions"
    case "queuing.strategy" where text != "fifo":
      return "must be fifo: events of one key keep their order"
    case "delivery.report.only.error" where isTrue(text):
      return "must be false: the checkpoint follows the acknowledgements"
    default:
      return nil
    }
  }

  /// Of what outboxd sets itself, or what would leak or lose something.
  private static func misuse(_ canonical: String, _ text: String) -> String? {
    switch canonical {
    case "metadata.broker.list" where text.contains("@"):
      return "must not contain @: set user and password as sasl.username and sasl.password"
    case "plugin.library.paths":
      // librdkafka loads the library, and runs code of it, when the property is set.
      return "must not be set: outboxd loads no code that a configuration names"
    case "log.queue", "enabled_events":
      return "must not be set: outboxd takes librdkafka's log and events itself"
    case "test.mock.num.brokers":
      return "must not be set: events would go to a mock broker in memory and be lost"
    case "enable.sasl.oauthbearer.unsecure.jwt" where isTrue(text):
      return "must be false: an unsigned token proves nothing"
    case "statistics.interval.ms" where Int(text) != 0:
      return "must be 0: outboxd does not read librdkafka's statistics, and they take memory for each topic"
    case "client.id" where text.utf8.count > 200:
      return "is longer than 200 bytes"
    default:
      return nil
    }
  }

  /// What librdkafka itself says about the value.
  private static func syntaxFault(name: String, value: String) -> Fault? {
    guard !value.utf8.contains(0) else { return Fault(name, "holds a NUL byte") }
    if let reason = placeFault(name: name, path: value) { return Fault(name, reason, isFile: true) }
    guard let configuration = rd_kafka_conf_new() else { return nil }
    defer { rd_kafka_conf_destroy(configuration) }
    if let reason = set(name, value, in: configuration) {
      return Fault(
        name, isSecret(name) ? "has a value that librdkafka refuses" : "is refused: \(reason)")
    }
    return numberFault(name: name, value: value, taken: self.value(of: name, in: configuration) ?? value)
  }

  /// librdkafka takes 4294968296 for 1000 and 1e6 for 1, without a word.
  private static func numberFault(name: String, value: String, taken: String) -> Fault? {
    guard taken != value, let number = Int(taken),
      let first = value.utf8.first(where: { $0 != UInt8(ascii: " ") }),
      UInt8(ascii: "0")...UInt8(ascii: "9") ~= first || "+-".utf8.contains(first), Int(value) != number
    else { return nil }
    return Fault(
      name, "is refused: \"\(value)\" is not a whole number in its range (librdkafka would take \(taken))")
  }

  private static let fileProperties: Set = [
    "ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "ssl.key.location",
    "ssl.keystore.location", "sasl.kerberos.keytab",
  ]

  /// What OpenSSL says of a file that is not there, nobody understands.
  private static func placeFault(name: String, path: String) -> String? {
    // librdkafka looks for the system's certificates itself where it is told to.
    guard fileProperties.contains(name), !path.isEmpty, path != "probe" else { return nil }
    guard SmallFile.exists(path) else { return "names the file \(path), which does not exist" }
    do throws(SmallFile.Refusal) {
      _ = try SmallFile.status(path, .anyOwner)
      return nil
    } catch {
      return "names the file \(path), which \(error.reason)"
    }
  }

  private static func queueFault(_ settings: KafkaSettings) -> Fault? {
    let name = "queue.buffering.max.kbytes"
    let largest = number("message.max.bytes", settings)
    let needed = (largest + 1023) / 1024
    guard text(of: name, settings) != nil, number(name, settings) < needed else { return nil }
    return Fault(name, "must be at least \(needed): a record of message.max.bytes (\(largest)) must fit")
  }

  private static func tokenFault(_ settings: KafkaSettings) -> Fault? {
    guard mechanism(settings) == "OAUTHBEARER" else { return nil }
    guard text(of: "sasl.oauthbearer.method", settings)?.lowercased() == "oidc" else {
      return Fault("sasl.oauthbearer.method", "must be oidc: outboxd has no other source of tokens")
    }
    guard features.contains("oidc") else {
      return Fault(
        "sasl.oauthbearer.method",
        "is oidc, and librdkafka \(libraryVersion) here was built without libcurl, which that needs; install one that "
          + "was built with it, as Confluent's package librdkafka1 is (Debian 12's is not): outboxd check lists oidc then"
      )
    }
    return nil
  }

  /// Without a mechanism it is Kerberos, which whoever forgot the mechanism does not expect.
  private static func kerberosFault(_ settings: KafkaSettings) -> Fault? {
    let needed = ["sasl.kerberos.keytab", kinit, "sasl.kerberos.min.time.before.relogin"]
    guard mechanism(settings) == "GSSAPI", needed.allSatisfy({ text(of: $0, settings) == nil }) else {
      return nil
    }
    guard text(of: "sasl.mechanisms", settings) != nil else {
      return Fault(
        "sasl.mechanism",
        "is missing: without it a SASL login is GSSAPI (Kerberos), which needs sasl.kerberos.keytab")
    }
    return Fault("sasl.kerberos.keytab", "is missing: GSSAPI gets its ticket with it")
  }

  /// Builds a producer without brokers, which opens certificates and finds contradictions, and drops it.
  private static func rehearse(_ settings: KafkaSettings) -> [Fault] {
    var offline = settings
    for name in ["bootstrap.servers", "metadata.broker.list"] {
      offline.properties[name] = nil
      offline.propertyFiles[name] = nil
    }
    // What is examined here is only read: code is loaded where a connection is wanted.
    for (name, _) in codeSettings(settings) where name != kinit {
      offline.properties[name] = nil
      offline.propertyFiles[name] = nil
    }
    var overriding: [(name: String, value: String)] = []
    if mechanism(settings) == "GSSAPI" {
      // librdkafka runs this command as soon as there is a client. Its template is looked through all the same.
      overriding = [(kinit, "exit 0; " + (text(of: kinit, settings) ?? defaultValue(of: kinit)))]
    }
    do throws(RelayError) {
      rd_kafka_destroy(try client(RD_KAFKA_PRODUCER, configuration(offline, overriding: overriding)))
      return []
    } catch {
      let names = settings.properties.keys.sorted() + settings.propertyFiles.keys.sorted()
      let culprit =
        names.first { error.message.contains($0) }
        ?? names.first { $0.hasPrefix("sasl.mechanism") && error.message.contains("mechanism") }
      let reason = error.message.replacing(Self.refusalPrefix, with: "", maxReplacements: 1)
      return [
        Fault(
          culprit ?? "security.protocol", "is refused: \(reason)",
          isFile: error.kind != .configurationInvalid)
      ]
    }
  }

  private static func defaultValue(of name: String) -> String {
    guard let configuration = rd_kafka_conf_new() else { return "" }
    defer { rd_kafka_conf_destroy(configuration) }
    return value(of: name, in: configuration) ?? ""
  }
}
