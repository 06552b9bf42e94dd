// Owns: one librdkafka producer, its event queue and the eventfd that the queue wakes; their end in order.
// Must not know: records, topics, and what an event means.
import CRdkafka
import CSystem
import Glibc
import RelayCore

/// A producer. Confined to the thread that made it.
final class ProducerHandle {
  let client: OpaquePointer
  let queue: OpaquePointer
  let brokers = BrokerConnections()
  /// Readable when the queue went from empty to not empty.
  let descriptor: Int32

  /// - Throws: `configurationInvalid`, `sinkDenied` where a file cannot be used, `sinkFailed`.
  init(
    _ settings: KafkaSettings, overriding: [(name: String, value: String)] = []
  ) throws(RelayError) {
    let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard descriptor >= 0 else {
      throw RelayError(.sinkFailed, "no eventfd for the Kafka producer: errno \(errno)")
    }
    do throws(RelayError) {
      let configuration = try KafkaProperties.configuration(settings, overriding: overriding)
      brokers.watch(configuration)
      client = try KafkaProperties.client(RD_KAFKA_PRODUCER, configuration, watchedBy: brokers)
    } catch {
      close(descriptor)
      throw error
    }
    guard let queue = rd_kafka_queue_get_main(client) else {
      rd_kafka_destroy(client)
      close(descriptor)
      throw RelayError(.sinkFailed, "librdkafka gave no queue")
    }
    self.queue = queue
    self.descriptor = descriptor
    // One queue for deliveries, errors and log lines, so that one descriptor tells of all.
    rd_kafka_set_log_queue(client, queue)
    var one: UInt64 = 1
    // SAFETY: librdkafka copies the eight bytes during the call.
    rd_kafka_queue_io_event_enable(queue, descriptor, &one, MemoryLayout<UInt64>.size)
  }

  deinit {
    rd_kafka_queue_io_event_enable(queue, -1, nil, 0)
    rd_kafka_queue_destroy(queue)
    rd_kafka_destroy(client)
    close(descriptor)
  }

  /// The whole number that is in force for a property.
  func number(_ name: String) -> Int {
    rd_kafka_conf(client).map { KafkaProperties.number(name, in: $0) } ?? 0
  }

  /// How many records librdkafka's queue takes. 0 stands for no limit.
  var queueLimit: Int {
    let limit = number("queue.buffering.max.messages")
    return limit > 0 ? limit : .max
  }

  /// Must come before the queue is emptied: what arrives in between then wakes the descriptor again.
  func clearDescriptor() {
    var count: UInt64 = 0
    // SAFETY: read(2) writes the eight bytes of `count` or nothing.
    _ = Glibc.read(descriptor, &count, MemoryLayout<UInt64>.size)
  }

  /// The next event, ours to destroy.
  func nextEvent(milliseconds: Int32 = 0) -> OpaquePointer? { rd_kafka_queue_poll(queue, milliseconds) }

  /// Why the producer cannot go on, if it cannot.
  var fatalError: (code: rd_kafka_resp_err_t, reason: String)? {
    var code = RD_KAFKA_RESP_ERR_NO_ERROR
    let reason = KafkaProperties.withErrorText { text, size in
      code = rd_kafka_fatal_error(client, text, size)
    }
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : (code, reason)
  }

  /// Drops what is queued and in flight, and the reports about it, within `milliseconds`.
  func purge(milliseconds: Int) {
    rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
    let deadline = MonotonicTime.now().advanced(milliseconds: milliseconds)
    while rd_kafka_outq_len(client) > 0, MonotonicTime.now() < deadline {
      if let event = nextEvent(milliseconds: 10) { rd_kafka_event_destroy(event) }
    }
  }
}
