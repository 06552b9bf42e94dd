// Owns: the topics that were seen: their librdkafka objects, whether they exist, how much each was given.
// Must not know: records. A lookup costs no allocation and builds no String.
import CRdkafka
import Glibc
import RelayCore

/// Topic bytes to an index, by open addressing. Topics go with their client: librdkafka itself lets go of none.
struct TopicTable {
  enum State: Equatable {
    /// Not asked yet, or no longer sure.
    case unknown
    case exists
  }

  struct Entry {
    let topic: OpaquePointer
    /// librdkafka's copy of the name, alive as long as `topic`.
    let name: UnsafeRawPointer
    let length: Int
    let hash: UInt64
    /// The topic's opaque in librdkafka, so that a delivery finds it without a lookup.
    fileprivate let counter: UnsafeMutablePointer<UInt64>
    var state = State.unknown
    /// How often the topic was asked for in vain since it last existed.
    var attempts = 0
    /// When it was asked for last.
    var partitions = 0
    var retryTime = MonotonicTime(nanoseconds: 0)

    /// Acknowledged records.
    // SAFETY: the counter lives as long as its entry is in the table.
    var delivered: UInt64 { counter.pointee }
  }

  private let client: OpaquePointer
  private let seed = UInt64.random(in: .min ... .max)
  private(set) var entries: [Entry] = []
  /// By index: why records of a topic are held.
  private(set) var reasons: [Int: String] = [:]
  /// Of all topics that exist.
  private(set) var partitions = 0
  /// Index + 1 of an entry, 0 where free. A power of two, at most half full.
  private var slots = [UInt32](repeating: 0, count: 64)
  private var last = -1

  init(client: OpaquePointer) { self.client = client }

  /// Must be called before the client is destroyed.
  mutating func destroy() {
    for entry in entries {
      rd_kafka_topic_destroy(entry.topic)
      // SAFETY: allocated with the entry; a delivery, which may point at it, is not taken any more.
      entry.counter.deallocate()
    }
    entries = []
    slots = [UInt32](repeating: 0, count: slots.count)
    last = -1
  }

  /// The topic's index; the topic is added when it is new.
  /// - Throws: `recordRejected` where librdkafka does not take the name.
  mutating func index(of name: LentBytes) throws(RelayError) -> Int {
    if let index = find(name) { return index }
    last = try add(name, hash: Self.hash(name, seed: seed))
    return last
  }

  /// Nil for a topic that is new.
  @inline(__always)
  mutating func find(_ name: LentBytes) -> Int? {
    // Rows of one table mostly go to one topic.
    if last >= 0, matches(entries[last], name) { return last }
    return search(name)
  }

  private mutating func search(_ name: LentBytes) -> Int? {
    let hash = Self.hash(name, seed: seed)
    var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
    while slots[slot] != 0 {
      let index = Int(slots[slot]) - 1
      if entries[index].hash == hash, matches(entries[index], name) {
        last = index
        return index
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    return nil
  }

  @inline(__always)
  private func matches(_ entry: Entry, _ name: LentBytes) -> Bool {
    guard entry.length == name.count, let base = name.baseAddress else { return false }
    // SAFETY: both hold at least `length` bytes: librdkafka's copy, and the caller's name of that count.
    return memcmp(entry.name, base, entry.length) == 0
  }

  private mutating func add(_ name: LentBytes, hash: UInt64) throws(RelayError) -> Int {
    let index = entries.count
    let counter = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
    counter.initialize(to: 0)
    guard let topic = Self.makeTopic(name, opaque: counter, client: client),
      let copy = rd_kafka_topic_name(topic)
    else {
      counter.deallocate()
      let code = rd_kafka_last_error()
      throw RelayError(
        .recordRejected,
        "librdkafka does not accept the topic \"\(String(decoding: name, as: UTF8.self))\"",
        code: KafkaFailure.name(code),
        remedy: "A topic name is 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    }
    entries.append(
      Entry(
        topic: topic, name: UnsafeRawPointer(copy), length: name.count, hash: hash, counter: counter))
    if entries.count * 2 > slots.count { grow() } else { place(index) }
    return index
  }

  private static func makeTopic(
    _ name: LentBytes, opaque: UnsafeMutableRawPointer, client: OpaquePointer
  ) -> OpaquePointer? {
    guard !name.isEmpty, let configuration = rd_kafka_default_topic_conf_dup(client) else { return nil }
    rd_kafka_topic_conf_set_opaque(configuration, opaque)
    let topic = withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
      for (position, byte) in name.enumerated() { buffer[position] = CChar(bitPattern: byte) }
      buffer[name.count] = 0
      // SAFETY: the buffer is NUL-terminated, and librdkafka copies it.
      return rd_kafka_topic_new(client, buffer.baseAddress, configuration)
    }
    if topic == nil { rd_kafka_topic_conf_destroy(configuration) }
    return topic
  }

  private mutating func grow() {
    slots = [UInt32](repeating: 0, count: slots.count * 2)
    for index in entries.indices { place(index) }
  }

  private mutating func place(_ index: Int) {
    var slot = Int(truncatingIfNeeded: entries[index].hash) & (slots.count - 1)
    while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
    slots[slot] = UInt32(index + 1)
  }

  /// Eight bytes at a time; topic names are short.
  static func hash(_ name: LentBytes, seed: UInt64) -> UInt64 {
    var hash = seed ^ UInt64(name.count)
    var position = 0
    while position + 8 <= name.count {
      // SAFETY: `position + 8` is within the count; loadUnaligned needs no alignment.
      mix(&hash, name.loadUnaligned(fromByteOffset: position, as: UInt64.self))
      position += 8
    }
    var tail: UInt64 = 0
    while position < name.count {
      tail = tail << 8 | UInt64(name[position])
      position += 1
    }
    mix(&hash, tail)
    return hash
  }

  @inline(__always)
  private static func mix(_ hash: inout UInt64, _ word: UInt64) {
    let product = (hash ^ word).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    hash = product.high ^ product.low
  }

  // MARK: What is known of a topic

  @inline(__always)
  func exists(_ index: Int) -> Bool { entries[index].state == .exists }

  @inline(__always)
  func topic(_ index: Int) -> OpaquePointer { entries[index].topic }

  func name(_ index: Int) -> String {
    // SAFETY: librdkafka's copy of the name holds `length` bytes while the topic lives.
    String(
      decoding: UnsafeRawBufferPointer(start: entries[index].name, count: entries[index].length),
      as: UTF8.self)
  }

  mutating func markExisting(_ index: Int, partitions count: Int) {
    partitions += count - entries[index].partitions
    entries[index].partitions = count
    entries[index].state = .exists
    entries[index].attempts = 0
    reasons[index] = nil
  }

  /// Records of the topic wait, and it is asked for again after so many milliseconds.
  mutating func hold(_ index: Int, reason: String, milliseconds: Int) {
    entries[index].state = .unknown
    entries[index].attempts += 1
    entries[index].retryTime = MonotonicTime.now().advanced(milliseconds: milliseconds)
    reasons[index] = reason
  }

  /// Counts an acknowledged record.
  /// - Parameter topic: of the message, one of this table's.
  @inline(__always)
  static func countDelivery(to topic: OpaquePointer?) {
    // SAFETY: the opaque of each topic of this client is its entry's counter, which lives until `destroy`.
    rd_kafka_topic_opaque(topic)?.assumingMemoryBound(to: UInt64.self).pointee &+= 1
  }
}
