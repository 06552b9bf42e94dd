// Owns: what the decoder promises: streams of a real server are understood, and bad bytes are refused.
import Foundation
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct DecoderTests {
  @Test func thereAreGoldens() {
    #expect(Golden.all.map(\.name) == ["ddl", "operations", "partitions", "toast", "transactions", "types"])
  }

  @Test(arguments: Golden.all.map(\.name))
  func capturedStreamsDecodeToWhatTheServerDid(name: String) throws {
    let golden = try #require(Golden.all.first { $0.name == name })
    var decoder = PgOutputDecoder()
    for message in golden.messages {
      let text = try message.payload.withUnsafeBytes { bytes in
        render(try decoder.decode(bytes), decoder.relation)
      }
      #expect(text == message.expected)
    }
  }

  @Test(arguments: Golden.all.map(\.name))
  func everyTruncationIsRefusedAndLeavesNoTrace(name: String) throws {
    let golden = try #require(Golden.all.first { $0.name == name })
    var decoder = PgOutputDecoder()
    for message in golden.messages {
      let before = decoder.relation
      for length in 0..<message.payload.count {
        message.payload.withUnsafeBytes { bytes in
          expectMalformed(&decoder, LentBytes(rebasing: bytes[..<length]))
        }
      }
      var longer = message.payload
      longer.append(0)
      longer.withUnsafeBytes { expectMalformed(&decoder, $0) }
      #expect(decoder.relation == before)
      _ = try message.payload.withUnsafeBytes { bytes in try decoder.decode(bytes) }
    }
  }

  private func expectMalformed(_ decoder: inout PgOutputDecoder, _ bytes: LentBytes) {
    do throws(RelayError) {
      _ = try decoder.decode(bytes)
      Issue.record("accepted: \(hex(bytes))")
    } catch {
      if error.kind != .streamMalformed { Issue.record("\(error)") }
    }
  }

  @Test(arguments: [
    ("", "without a tag"),
    ("5a", "'Z' that is malformed at offset 0"),
    ("01", "0x01"),
    // A row of a relation that was not announced.
    ("49000000014e000161", "relation 1, which was not announced"),
    // Column counts of -1 and of 1665.
    ("5200000001007400640000" + "ffff", "'R'"),
    ("520000000100740064ffff", "-1 columns"),
    ("5200000001007400640681", "1665 columns"),
    // A name without its NUL.
    ("520000000161", "without its NUL"),
    // A message's content with the length -1.
    ("4d010000000000000001" + "7000" + "ffffffff", "a negative length, -1"),
    // 2^31-1 truncated relations.
    ("547fffffff00", "2147483647 relations announced"),
    ("54ffffffff00", "a negative count of relations"),
  ])
  func badMessagesAreRefusedWithTagAndOffset(payload: String, expected: String) {
    var decoder = PgOutputDecoder()
    bytes(payload).withUnsafeBytes { bytes in
      do throws(RelayError) {
        _ = try decoder.decode(bytes)
        Issue.record("accepted")
      } catch {
        #expect(error.kind == .streamMalformed)
        #expect(error.message.contains(expected), "\(error.message)")
      }
    }
  }

  @Test func rowsMustHaveTheColumnsOfTheirRelation() throws {
    var decoder = PgOutputDecoder()
    let relation = bytes("52000000010074006400020061000000001900000000006200000000190000000000".dropLast(2))
    _ = try relation.withUnsafeBytes { bytes in try decoder.decode(bytes) }
    #expect(decoder.relation.columns.map(\.name) == ["a", "b"])
    _ = try bytes("49000000014e00026e6e").withUnsafeBytes { bytes in try decoder.decode(bytes) }
    for bad in [
      "49000000014e00016e", "49000000014e00036e6e6e", "49000000014e00026e75", "49000000014b00026e6e",
      "49000000014e000262ffffffff6e", "49000000014e0002620000000a6e6e",
    ] {
      bytes(bad).withUnsafeBytes { expectMalformed(&decoder, $0) }
    }
  }

  @Test func copyMessagesAreFramedAsTheManualHasThem() throws {
    let wal = bytes("77" + "0000000000000001" + "0000000000000002" + "0000000000000003" + "4142")
    try wal.withUnsafeBytes { bytes in
      guard case .walData(let payload) = try CopyMessage.decode(bytes) else { throw Unexpected() }
      #expect(Array(payload) == [0x41, 0x42])
    }
    let keepalive = bytes("6b" + "00000016b374d848" + "0000000000000003" + "01")
    try keepalive.withUnsafeBytes { bytes in
      guard case .keepalive(let walEnd, let reply) = try CopyMessage.decode(bytes) else { throw Unexpected() }
      #expect(walEnd.description == "16/B374D848")
      #expect(reply)
    }
    for bad in [Array(wal.prefix(24)), Array(keepalive.dropLast()), keepalive + [0], [], [0x78]] {
      _ = bad.withUnsafeBytes { bytes in
        #expect(throws: RelayError.self) { try CopyMessage.decode(bytes) }
      }
    }
    let status = UnsafeMutableRawBufferPointer.allocate(byteCount: StatusMessage.count, alignment: 8)
    defer { status.deallocate() }
    StatusMessage.encode(position: LSN(0x16_B374_D848), clientTime: -2, requestReply: true, into: status)
    #expect(
      hex(status) == "72" + "00000016b374d848" + "00000016b374d848" + "00000016b374d848" + "fffffffffffffffe"
        + "01")
  }

  @Test func aMillionDamagedMessagesNeitherTrapNorReadBeyondTheirEnd() throws {
    var random = try SplitMix64.seeded(by: "OUTBOXD_FUZZ_SEED")
    let messages = Golden.all.flatMap { $0.messages }.map(\.payload).filter { $0.count <= 200 }
    let setup = messages.filter { $0.first == UInt8(ascii: "R") || $0.first == UInt8(ascii: "Y") }
    var fuzz = Fuzz(setup: setup)
    var accepted = 0
    for number in 0..<1_000_000 {
      if number % 5000 == 0 { try fuzz.begin() }
      let message = messages[Int(truncatingIfNeeded: random.next() % UInt64(messages.count))]
      if fuzz.decode(message, &random) { accepted += 1 }
    }
    // Damage to a value's bytes is none to the message, so some must pass, and most must not.
    #expect(accepted > 10_000 && accepted < 900_000, "\(accepted)")
  }
}

private struct Unexpected: Error {}

/// Runs damaged copies of messages through one decoder.
private struct Fuzz: ~Copyable {
  let setup: [[UInt8]]
  let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 8)
  var decoder = PgOutputDecoder()

  init(setup: [[UInt8]]) { self.setup = setup }
  deinit { buffer.deallocate() }

  mutating func begin() throws {
    decoder = PgOutputDecoder()
    for message in setup { _ = try message.withUnsafeBytes { try decoder.decode($0) } }
  }

  mutating func decode(_ message: [UInt8], _ random: inout SplitMix64) -> Bool {
    var chance = random.next()
    func draw(_ limit: Int) -> Int {
      let value = Int(truncatingIfNeeded: (chance & 0xFFFF) % UInt64(limit))
      chance >>= 16
      return value
    }
    message.withUnsafeBytes { buffer.copyMemory(from: $0) }
    var length = message.count
    if draw(8) == 0 { length = draw(message.count + 20) }
    for _ in 0...draw(3) { buffer[draw(max(1, message.count))] = UInt8(truncatingIfNeeded: random.next()) }
    let input = LentBytes(rebasing: UnsafeRawBufferPointer(buffer)[..<length])
    guard let change = try? decoder.decode(input) else { return false }
    switch change {
    case .insert(let row): for value in row.values { check(value.bytes, inside: input) }
    case .message(let message):
      check(message.prefix, inside: input)
      check(message.content, inside: input)
    default: break
    }
    return true
  }

  private func check(_ bytes: LentBytes, inside input: LentBytes) {
    guard let start = bytes.baseAddress, let base = input.baseAddress else { return }
    let offset = start - base
    if offset < 0 || offset + bytes.count > input.count { Issue.record("a value outside its message") }
  }
}

struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  /// The seed of the environment variable, or a new one; printed in any case.
  static func seeded(by variable: String) throws -> SplitMix64 {
    let given = ProcessInfo.processInfo.environment[variable].flatMap { UInt64($0) }
    let seed = given ?? UInt64.random(in: .min ... .max)
    print("\(variable)=\(seed)")
    return SplitMix64(seed: seed)
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
