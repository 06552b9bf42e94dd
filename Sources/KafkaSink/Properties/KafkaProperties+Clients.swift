// Owns: the making of librdkafka's configurations and clients from an operator's properties.
// Must not know: which properties an operator may set.
import CRdkafka
import RelayCore

extension KafkaProperties {
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
          // librdkafka quotes the value.
          let why = isSecret(name) ? "librdkafka refuses its value" : "librdkafka refuses it: \(reason)"
          throw RelayError(.configurationInvalid, "kafka.properties: \(name): \(why)")
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
    func serves(_ name: String) -> Bool {
      catalogue.entries[name]?.isForConsumers != false && !ours.contains(catalogue.canonical(name))
    }
    reading.properties = settings.properties.filter { serves($0.key) }
    reading.propertyFiles = settings.propertyFiles.filter { serves($0.key) }
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
      do throws(SmallFile.Refusal) {
        result[catalogue.canonical(name)] = try secret(path)
      } catch {
        throw RelayError(
          .sinkDenied, "kafka.properties: \(name) is in the file \(path), which \(error.reason)",
          remedy: (error.remedy.map { "\($0). " } ?? "Correct the file. ")
            + "It is read again at the next attempt.")
      }
    }
    for (name, value) in overriding { result[name] = value }
    return result.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  static let refusalPrefix = "librdkafka refuses the configuration: "

  /// Takes the configuration over, also when it throws.
  /// - Parameter connections: whatever watches the client's brokers, told to the configuration before.
  /// - Throws: `sinkDenied`, since a file may be half-written or a certificate may not belong to its key yet;
  ///   `sinkFailed` where the machine has no threads left; `configurationInvalid` for a contradiction.
  static func client(
    _ type: rd_kafka_type_t, _ configuration: OpaquePointer, watchedBy connections: BrokerConnections? = nil
  ) throws(RelayError) -> OpaquePointer {
    let usesFiles = value(of: "security.protocol", in: configuration)?.hasSuffix("ssl") == true
    var handle: OpaquePointer?
    let reason = withErrorText { text, size in
      handle = rd_kafka_new(type, configuration, text, size)
    }
    if let handle { return handle }
    let code = rd_kafka_last_error()
    // librdkafka takes the configuration only when it succeeds. Once it has called an interceptor, however, it has
    // freed the list that the configuration still points to: destroying it would crash, so that it is leaked. That
    // takes a file that was good an instant ago: see `rehearse`.
    if connections?.wereAttached != true { rd_kafka_conf_destroy(configuration) }
    if code == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE {
      throw RelayError(
        .sinkFailed, "the Kafka client could not start: \(reason)", code: KafkaFailure.name(code),
        remedy:
          "Raise the limits of threads and memory that outboxd runs under (ulimit -u, the cgroup's pids.max)."
      )
    }
    throw RelayError(
      usesFiles ? .sinkDenied : .configurationInvalid, refusalPrefix + reason,
      remedy: "Correct the named property under kafka.properties, or the file that it names.")
  }

  /// Nil: the property is set. Otherwise librdkafka's reason.
  static func set(_ name: String, _ value: String, in configuration: OpaquePointer) -> String? {
    var result = RD_KAFKA_CONF_OK
    let reason = withErrorText { text, size in
      result = rd_kafka_conf_set(configuration, name, value, text, size)
    }
    return result == RD_KAFKA_CONF_OK ? nil : reason
  }

  /// The whole number that librdkafka has made of a property. It lies within the property's range.
  static func number(_ name: String, in configuration: OpaquePointer) -> Int {
    value(of: name, in: configuration).flatMap { Int($0) } ?? 0
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
      var text = buffer.baseAddress.map { String(cString: $0) } ?? ""
      while text.last == "\n" { text.removeLast() }
      return text
    }
  }
}
