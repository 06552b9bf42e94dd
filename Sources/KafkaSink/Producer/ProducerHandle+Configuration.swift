// Owns: asking Kafka for the configuration of a topic or broker.
// Must not know: what follows from it.
import CRdkafka
import RelayCore

extension ProducerHandle {
  /// A resource's configuration. Nil where outboxd may not see it, or Kafka does not answer in time.
  func configuration(
    of type: rd_kafka_ResourceType_t, _ name: String, milliseconds: Int32
  ) -> [String: String]? {
    guard let resource = rd_kafka_ConfigResource_new(type, name) else { return nil }
    defer { rd_kafka_ConfigResource_destroy(resource) }
    guard let queue = rd_kafka_queue_new(client) else { return nil }
    defer { rd_kafka_queue_destroy(queue) }
    let options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS)
    defer { rd_kafka_AdminOptions_destroy(options) }
    _ = rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, nil, 0)
    var resources: [OpaquePointer?] = [resource]
    rd_kafka_DescribeConfigs(client, &resources, 1, options, queue)
    guard let event = rd_kafka_queue_poll(queue, milliseconds) else { return nil }
    defer { rd_kafka_event_destroy(event) }
    guard rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let result = rd_kafka_event_DescribeConfigs_result(event)
    else { return nil }
    var count = 0
    guard let found = rd_kafka_DescribeConfigs_result_resources(result, &count), count > 0,
      rd_kafka_ConfigResource_error(found[0]) == RD_KAFKA_RESP_ERR_NO_ERROR,
      let list = rd_kafka_ConfigResource_configs(found[0], &count)
    else { return nil }
    var values: [String: String] = [:]
    // SAFETY: the result holds `count` entries with NUL-terminated texts until the event is destroyed.
    for entry in UnsafeBufferPointer(start: list, count: count) {
      guard let name = rd_kafka_ConfigEntry_name(entry), let value = rd_kafka_ConfigEntry_value(entry)
      else { continue }
      values[String(cString: name)] = String(cString: value)
    }
    return values
  }
}
