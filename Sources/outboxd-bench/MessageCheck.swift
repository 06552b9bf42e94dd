// Owns: the proof that the yardstick does the same work: the C floor's messages are outboxd's, byte for byte.
// Must not know: throughput.
import CRdkafka
import Glibc
import RelayTesting

extension Case {
  static let messages = Case(
    name: "messages", summary: "the C floor's messages are outboxd's, byte for byte (no figures)"
  ) { bench, report in
    let backlog = try Backlog(Workload(rows: 1_000, rowsPerTransaction: 10), bench.servers.database)
    for mode in [ContentMode.structured, .binary] {
      let floor = try MessageCheck.messages(of: .floor(mode), backlog, bench.servers)
      let outboxd = try MessageCheck.messages(of: .outboxd(mode), backlog, bench.servers)
      guard let difference = zip(floor, outboxd).first(where: { $0 != $1 }) else {
        report.note("\(mode): \(floor.count.grouped) messages are the same.")
        continue
      }
      throw HarnessError("\(mode): the floor sends\n  \(difference.0)\nand outboxd\n  \(difference.1)")
    }
    try backlog.clear()
  }
}

enum MessageCheck {
  /// Key, headers and value of every message, in an order of their own.
  fileprivate static func messages(of contender: Contender, _ backlog: Backlog, _ servers: Servers) throws
    -> [String]
  {
    let prefix = servers.nextPrefix()
    let topics = backlog.topics(prefix: prefix)
    try servers.topics.create(topics)
    let slot = try backlog.copySlot()
    let rows = backlog.workload.rows
    let drainer = try contender.start(
      Assignment(servers: servers, backlog: backlog, slot: slot, prefix: prefix))
    try eventually("\(contender.name) delivers", within: 60, isTrue: { try drainer.delivered() >= rows })
    let messages = try read(topics[0], count: rows, servers.kafka.bootstrap)
    try drainer.stop()
    try backlog.drop(slot: slot)
    try servers.topics.delete(topics)
    return messages.sorted()
  }

  private static func read(_ topic: String, count: Int, _ bootstrap: String) throws -> [String] {
    let configuration = rd_kafka_conf_new()
    for (name, value) in [("bootstrap.servers", bootstrap), ("group.id", "outboxd-bench")] {
      rd_kafka_conf_set(configuration, name, value, nil, 0)
    }
    guard let client = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, nil, 0),
      let list = rd_kafka_topic_partition_list_new(4)
    else { throw HarnessError("no consumer") }
    defer { rd_kafka_destroy(client) }
    for partition: Int32 in 0..<4 {
      // SAFETY: the new entry lives as long as the list.
      rd_kafka_topic_partition_list_add(list, topic, partition).pointee.offset = 0
    }
    rd_kafka_assign(client, list)
    rd_kafka_topic_partition_list_destroy(list)
    var messages: [String] = []
    let deadline = monotonicSeconds() + 60
    while messages.count < count {
      guard monotonicSeconds() < deadline else {
        throw HarnessError("\(messages.count) of \(count) messages came")
      }
      guard let message = rd_kafka_consumer_poll(client, 100) else { continue }
      defer { rd_kafka_message_destroy(message) }
      if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR { messages.append(text(message)) }
    }
    rd_kafka_consumer_close(client)
    return messages
  }

  private static func text(_ message: UnsafeMutablePointer<rd_kafka_message_t>) -> String {
    // SAFETY: key and value have the lengths that the message names, and live as long as it does.
    func bytes(_ start: UnsafeRawPointer?, _ count: Int) -> String {
      String(decoding: UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : count), as: UTF8.self)
    }
    var parts = ["key=\(bytes(message.pointee.key, message.pointee.key_len))"]
    var headers: OpaquePointer?
    rd_kafka_message_headers(message, &headers)
    var name: UnsafePointer<CChar>?
    var value: UnsafeRawPointer?
    var size = 0
    while let headers,
      rd_kafka_header_get_all(headers, parts.count - 1, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR
    {
      parts.append("\(name.map { String(cString: $0) } ?? "")=\(bytes(value, size))")
    }
    parts.append(bytes(message.pointee.payload, message.pointee.len))
    return parts.joined(separator: " ")
  }
}
