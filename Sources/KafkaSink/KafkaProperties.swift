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
    /// True where a file could not be read, which a restart or a person may mend.
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
      // For a backlog, whose requests are the larger and the fewer. Events that come singly do not wait for it:
      // see `KafkaSink.hasten`.
      ("queue.buffering.max.ms", "3"),
      ("queue.buffering.max.messages", String(queueMessages)),
      ("queue.buffering.max.kbytes", String(queueKilobytes(settings))),
      ("socket.nagle.disable", "true"),
      ("socket.keepalive.enable", "true"),
      // As Java clients: a Kafka that is back is used within a second.
      ("reconnect.backoff.max.ms", "1000"),
      // Asking for a topic makes a broker create it, where its owner allows that.
      ("allow.auto.create.topics", settings.missingTopic == .hold ? "true" : "false"),
    ]
  }

  /// The default of queue.buffering.max.messages. Mostly there are fewer: see `InFlightWindow`.
  static let queueMessages = 16_384

  /// How many records librdkafka's queue takes. Where that stands in a file, or is 0 for "no limit", it is librdkafka
  /// that says when it is full.
  static func queueLimit(_ settings: KafkaSettings) -> Int {
    let name = "queue.buffering.max.messages"
    guard settings.propertyFiles[name] == nil else { return .max }
    guard let text = settings.properties[name] else { return queueMessages }
    return Int(text).flatMap { $0 > 0 ? $0 : nil } ?? .max
  }

  /// The default of queue.buffering.max.kbytes: room for the largest message at least.
  static func queueKilobytes(_ settings: KafkaSettings) -> Int {
    let largest = settings.properties["message.max.bytes"].flatMap { Int($0) } ?? 1_000_000
    return max(16_384, min(largest, 1_000_000_000) / 1024 + 1)
  }

  /// The names of the properties whose values are secrets.
  static func isSecret(_ name: String) -> Bool {
    name.contains("password") || name.contains("secret") || name.contains("pem")
      || name.hasPrefix("sasl.oauthbearer.config")
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
    if let fault = tokenFault(settings) { faults.append(fault) }
    return faults.sorted { $0.property < $1.property }
  }

  private static func fault(name: String, settings: KafkaSettings) -> Fault? {
    let catalogue = PropertyCatalogue.shared
    guard let entry = catalogue.entries[name] else {
      let suggestion = catalogue.nearest(to: name).map { "; did you mean \($0)?" } ?? ""
      return Fault(name, "is not a property of librdkafka \(libraryVersion)\(suggestion)")
    }
    guard entry.isForProducers else {
      return Fault(name, "is a property of consumers, and outboxd only produces")
    }
    guard !entry.isProgrammatic else {
      return Fault(name, "can only be set by a program, and outboxd sets its own")
    }
    var value = settings.properties[name] ?? ""
    if let path = settings.propertyFiles[name] {
      switch SecretFile.read(path) {
      case .success(let text): value = text
      case .failure(let fault): return Fault(name, fault.reason, isFile: true)
      }
    }
    if let reason = refusal(canonical: catalogue.canonical(name), value: value) { return Fault(name, reason) }
    return syntaxFault(name: name, value: value)
  }

  /// Why a value is refused although librdkafka would take it.
  static func refusal(canonical: String, value: String) -> String? {
    let text = value.lowercased()
    let isTrue = ["true", "t", "1"].contains(text)
    let isFalse = ["false", "f", "0"].contains(text)
    switch canonical {
    case "request.required.acks" where text != "all" && text != "-1":
      return "must be all: an event counts as delivered only when every in-sync replica has it"
    case "enable.idempotence" where isFalse:
      return "must be true: without it, retries would duplicate and reorder events"
    case "enable.gapless.guarantee" where isFalse:
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
    case "delivery.report.only.error" where isTrue:
      return "must be false: the checkpoint follows the acknowledgements"
    case "log.queue", "enabled_events":
      return "must not be set: outboxd takes librdkafka's log and events itself"
    case "test.mock.num.brokers":
      return "must not be set: events would go to a broker in memory and be lost"
    case "enable.sasl.oauthbearer.unsecure.jwt" where isTrue:
      return "must be false: an unsigned token proves nothing"
    case "statistics.interval.ms" where Int(text) != 0:
      return "must be 0: nobody reads librdkafka's statistics here, and they take memory for each topic"
    case "client.id" where value.utf8.count > 200:
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
    guard let reason = set(name, value, in: configuration) else { return nil }
    return Fault(name, isSecret(name) ? "has a value that librdkafka refuses" : "is refused: \(reason)")
  }

  private static let fileProperties: Set = [
    "ssl.ca.location", "ssl.certificate.location", "ssl.crl.location", "ssl.key.location",
    "ssl.keystore.location",
  ]

  /// What OpenSSL says of a file that is not there, nobody understands.
  private static func placeFault(name: String, path: String) -> String? {
    // librdkafka looks for the system's certificates itself where it is told to.
    guard fileProperties.contains(name), !path.isEmpty, path != "probe", access(path, R_OK) != 0 else {
      return nil
    }
    return errno == ENOENT
      ? "names the file \(path), which does not exist" : "names the file \(path), which cannot be read"
  }

  private static func queueFault(_ settings: KafkaSettings) -> Fault? {
    let largest = settings.properties["message.max.bytes"].flatMap { Int($0) } ?? 1_000_000
    guard let text = settings.properties["queue.buffering.max.kbytes"], let kilobytes = Int(text),
      kilobytes < (largest + 1023) / 1024
    else { return nil }
    return Fault(
      "queue.buffering.max.kbytes",
      "must be at least \((largest + 1023) / 1024): a record of message.max.bytes (\(largest)) must fit")
  }

  private static func tokenFault(_ settings: KafkaSettings) -> Fault? {
    let mechanism = settings.properties["sasl.mechanism"] ?? settings.properties["sasl.mechanisms"]
    guard mechanism?.uppercased() == "OAUTHBEARER" else { return nil }
    guard settings.properties["sasl.oauthbearer.method"]?.lowercased() == "oidc" else {
      return Fault("sasl.oauthbearer.method", "must be oidc: outboxd has no other source of tokens")
    }
    guard features.contains("oidc") else {
      return Fault(
        "sasl.oauthbearer.method", "is oidc, for which librdkafka \(libraryVersion) here was not built")
    }
    return nil
  }

  /// Builds a producer without brokers, which opens certificates and finds contradictions, and drops it.
  private static func rehearse(_ settings: KafkaSettings) -> [Fault] {
    // With Kerberos, librdkafka runs kinit as soon as there is a producer.
    let mechanism = settings.properties["sasl.mechanism"] ?? settings.properties["sasl.mechanisms"] ?? ""
    let protocolName = settings.properties["security.protocol"]?.lowercased() ?? ""
    if protocolName.hasPrefix("sasl"), mechanism.isEmpty || mechanism.uppercased() == "GSSAPI" { return [] }
    var offline = settings
    for name in ["bootstrap.servers", "metadata.broker.list"] {
      offline.properties[name] = nil
      offline.propertyFiles[name] = nil
    }
    do throws(RelayError) {
      let configuration = try configuration(offline)
      rd_kafka_destroy(try producer(configuration))
      return []
    } catch {
      let names = settings.properties.keys.sorted() + settings.propertyFiles.keys.sorted()
      let culprit =
        names.first { error.message.contains($0) }
        ?? names.first { $0.hasPrefix("sasl.mechanism") && error.message.contains("mechanism") }
      return [Fault(culprit ?? "security.protocol", "is refused: \(error.message)")]
    }
  }

  // MARK: Building

  /// A configuration with the defaults and the operator's properties, ours to destroy or hand over.
  /// - Throws: `configurationInvalid`; `sinkDenied` where a file cannot be read.
  static func configuration(
    _ settings: KafkaSettings, base: [(name: String, value: String)]? = nil,
    overriding: [(name: String, value: String)] = []
  ) throws(RelayError) -> OpaquePointer {
    guard let configuration = rd_kafka_conf_new() else {
      throw RelayError(.sinkFailed, "librdkafka could not make a configuration")
    }
    do throws(RelayError) {
      for (name, value) in try effective(settings, base: base ?? defaults(settings), overriding: overriding) {
        if let reason = set(name, value, in: configuration) {
          throw RelayError(.configurationInvalid, "kafka.properties: \(name) is refused: \(reason)")
        }
      }
    } catch {
      rd_kafka_conf_destroy(configuration)
      throw error
    }
    rd_kafka_conf_set_events(
      configuration, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG)
    CertificateReason.install(in: configuration)
    return configuration
  }

  /// A configuration for reading, from the properties that are not for producers alone.
  /// - Throws: `configurationInvalid`; `sinkDenied` where a file cannot be read.
  static func consumerConfiguration(
    _ settings: KafkaSettings, overriding: [(name: String, value: String)] = []
  ) throws(RelayError) -> OpaquePointer {
    let catalogue = PropertyCatalogue.shared
    let ours = Set(defaults(settings).map(\.name)).subtracting(["client.id", "allow.auto.create.topics"])
    var reading = settings
    reading.properties = settings.properties.filter {
      catalogue.entries[$0.key]?.isForConsumers != false && !ours.contains(catalogue.canonical($0.key))
    }
    return try configuration(reading, base: [("client.id", "outboxd")], overriding: overriding)
  }

  private static func effective(
    _ settings: KafkaSettings, base: [(name: String, value: String)],
    overriding: [(name: String, value: String)]
  ) throws(RelayError) -> [(name: String, value: String)] {
    let catalogue = PropertyCatalogue.shared
    var result: [String: String] = ["log.queue": "true"]
    for (name, value) in base { result[name] = value }
    for (name, value) in settings.properties { result[catalogue.canonical(name)] = value }
    for (name, path) in settings.propertyFiles {
      switch SecretFile.read(path) {
      case .success(let text): result[catalogue.canonical(name)] = text
      case .failure(let fault):
        throw RelayError(
          .sinkDenied, "kafka.properties: \(name) \(fault.reason)",
          remedy: "Mend the file; it is read again at the next attempt.")
      }
    }
    for (name, value) in overriding { result[name] = value }
    return result.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Takes the configuration over, also when it throws.
  /// - Throws: `configurationInvalid`, or `sinkDenied` where a certificate or key cannot be used.
  static func producer(_ configuration: OpaquePointer) throws(RelayError) -> OpaquePointer {
    try client(RD_KAFKA_PRODUCER, configuration)
  }

  static func client(
    _ type: rd_kafka_type_t, _ configuration: OpaquePointer
  ) throws(RelayError) -> OpaquePointer {
    var handle: OpaquePointer?
    let reason = withErrorText { text, size in
      handle = rd_kafka_new(type, configuration, text, size)
    }
    if let handle { return handle }
    // librdkafka takes the configuration only when it succeeds.
    rd_kafka_conf_destroy(configuration)
    throw RelayError(
      reason.hasPrefix("ssl") ? .sinkDenied : .configurationInvalid,
      "librdkafka refuses the configuration: \(reason)",
      remedy: "Mend the named property under kafka.properties.")
  }

  /// Nil: the property is set. Otherwise librdkafka's reason.
  static func set(_ name: String, _ value: String, in configuration: OpaquePointer) -> String? {
    var result = RD_KAFKA_CONF_OK
    let reason = withErrorText { text, size in
      result = rd_kafka_conf_set(configuration, name, value, text, size)
    }
    return result == RD_KAFKA_CONF_OK ? nil : reason
  }

  static func value(of name: String, in configuration: OpaquePointer) -> String? {
    var size = 0
    guard rd_kafka_conf_get(configuration, name, nil, &size) == RD_KAFKA_CONF_OK else { return nil }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: size + 1) { buffer in
      guard let base = buffer.baseAddress,
        rd_kafka_conf_get(configuration, name, base, &size) == RD_KAFKA_CONF_OK
      else { return nil }
      // SAFETY: librdkafka has written at most `size` bytes with their NUL into `size + 1`.
      return String(cString: base)
    }
  }

  /// The text that a C function left in the buffer it was given.
  static func withErrorText(_ body: (UnsafeMutablePointer<CChar>?, Int) -> Void) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { buffer in
      buffer.initialize(repeating: 0)
      body(buffer.baseAddress, buffer.count)
      buffer[buffer.count - 1] = 0
      // SAFETY: the buffer is initialised, and its last byte is NUL.
      return buffer.baseAddress.map { String(cString: $0) } ?? ""
    }
  }
}

/// A small file that holds a secret.
enum SecretFile {
  struct Unreadable: Error, Equatable { var reason: String }

  static let limit = 1 << 20

  /// The content without its trailing newline.
  static func read(_ path: String) -> Result<String, Unreadable> {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      return .failure(Unreadable(reason: "is in the file \(path), which cannot be read: \(systemReason())"))
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: limit + 1)
    var count = 0
    while count < bytes.count {
      let chunk = bytes.withUnsafeMutableBytes { buffer in
        // SAFETY: `count` is below the buffer's size, and read(2) writes at most what is left of it.
        Glibc.read(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count)
      }
      if chunk < 0 {
        return .failure(Unreadable(reason: "is in the file \(path), which cannot be read: \(systemReason())"))
      }
      if chunk == 0 { break }
      count += chunk
    }
    guard count <= limit else {
      return .failure(Unreadable(reason: "is in the file \(path), which is larger than 1 MiB"))
    }
    bytes.removeSubrange(count...)
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    return .success(String(decoding: bytes, as: UTF8.self))
  }

  private static func systemReason() -> String {
    // SAFETY: strerror returns a NUL-terminated text that is copied before another call.
    String(cString: strerror(errno))
  }
}
