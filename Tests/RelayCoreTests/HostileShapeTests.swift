// Rows of hostile shape take time by their bytes and not by their square, in both modes.
import Glibc
import Testing

@testable import RelayCore

/// A row whose one part is `count` bytes long, about.
private struct Shape: CustomTestStringConvertible, Sendable {
  enum Part: Sendable { case headers, json, id, source, bytes }

  var testDescription: String
  var part: Part
  var text: @Sendable (_ count: Int) -> String

  init(_ name: String, _ part: Part, _ text: @escaping @Sendable (_ count: Int) -> String) {
    testDescription = name
    self.part = part
    self.text = text
  }
}

private func object(_ count: Int, _ member: (_ index: Int) -> String) -> String {
  var text = "{"
  var index = 0
  while text.utf8.count < count {
    text += (index == 0 ? "" : ",") + member(index)
    index += 1
  }
  return text + "}"
}

private let shapes = [
  Shape("many short keys", .headers) { object($0) { "\"k\($0)\":\"v\"" } },
  Shape("many plain headers", .headers) { object($0) { "\"X-\($0)\":1" } },
  Shape("one key again and again", .headers) { object($0) { _ in #""k":"v""# } },
  Shape("long keys that differ at their end", .headers) { count in
    let prefix = String(repeating: "k", count: 2000)
    return object(count) { "\"\(prefix)\(100_000 + $0)\":\"v\"" }
  },
  Shape("escaped keys", .headers) { object($0) { "\"\\u0061\($0)\":\"\\n\"" } },
  Shape("lone surrogates", .headers) { object($0) { "\"a\($0)\":\"\\ud800\"" } },
  Shape("names of the event", .headers) { object($0) { _ in #""ce_id":"x","Content-Type":"y""# } },
  Shape("deep nesting", .headers) { #"{"a":"# + String(repeating: "[", count: $0) },
  Shape("one text of escapes", .headers) { "{\"a\":\"" + String(repeating: "\\\"", count: $0 / 2) + "\"}" },
  Shape("empty arrays", .headers) { "{\"a\":[" + String(repeating: "[],", count: $0 / 3) + "[]]}" },
  Shape("no end", .headers) { "{\"a\":\"" + String(repeating: "é", count: $0 / 2) },
  Shape("a text declared to be JSON", .json) {
    "[" + String(repeating: "{\"a\":[1e9]},", count: $0 / 12) + "0]"
  },
  Shape("an id of quotes", .id) { String(repeating: "\"", count: $0) },
  Shape("a source of blanks and percents", .source) { String(repeating: " %", count: $0 / 2) },
  Shape("bytes", .bytes) { String(repeating: "x", count: $0) },
]

@Suite(.serialized) struct HostileShapeTests {
  /// Nanoseconds of this thread alone: the machine may have other things to do.
  private func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// Nanoseconds that one row takes, at best.
  private func time(_ shape: Shape, _ mode: OutboxMapping.ContentMode, _ count: Int, turns: Int) throws
    -> UInt64
  {
    var mapping = OutboxMapping()
    mapping.contentMode = mode
    let text = shape.text(count)
    var types: [(String, ColumnType)] = [
      ("id", .text), ("aggregatetype", .text), ("aggregateid", .text), ("type", .text), ("payload", .jsonb),
      ("headers", .text),
    ]
    var values: [Row.Value] = [
      .text("1"), .text("order"), .text("o-1"), .text("t"), .bytes([1] + Array("{}".utf8)), .text("{}"),
    ]
    switch shape.part {
    case .headers: values[5] = .text(text)
    case .json:
      mapping.datacontenttype = "application/json"
      types[4].1 = .text
      values[4] = .text(text)
    case .id: values[0] = .text(text)
    case .source:
      mapping.columns.headers = "none"
      types[5].0 = "place"
      mapping.source = try Template("/{place}")
      values[5] = .text(text)
    case .bytes:
      types[4].1 = .bytea
      values[4] = .text(text)
    }
    var encoder = EventEncoder(mappings: [mapping], database: "shop")
    encoder.prepare(relation(types))
    let row = Row(values)
    var best = UInt64.max
    for _ in 0..<turns {
      let start = now()
      _ = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)
      best = min(best, now() - start)
    }
    return best
  }

  @Test(arguments: shapes, OutboxMapping.ContentMode.allCases)
  fileprivate func `eight times the bytes take about eight times as long`(
    shape: Shape, mode: OutboxMapping.ContentMode
  ) throws {
    let few = try time(shape, mode, 64 << 10, turns: 3)
    let many = try time(shape, mode, 512 << 10, turns: 1)
    print("\(shape.testDescription), \(mode): \(few / 1000) µs for 64 KiB, \(many / 1000) µs for 512 KiB")
    // Were it quadratic, it would be 64 times as long.
    #expect(many < few * 24 + 5_000_000)
  }

  @Test func `a numeric of all digits that Postgres has is written once`() throws {
    // numeric_send: 147,455 digits, in groups of four.
    let groups = 36_865
    var bytes: [UInt8] = []
    for word in [groups, 32_767, 0, 16_383] { bytes += [UInt8(word >> 8 & 255), UInt8(word & 255)] }
    for _ in 0..<groups { bytes += [0x27, 0x0F] }
    var arena = ByteArena()
    let text = bytes.withUnsafeBytes { NumberText.numeric($0, arena: &arena)?.count }
    #expect(text == 4 * 32_768 + 1 + 16_383)
  }

  @Test func `JSON that is nested too deep is named by the limit, and not as invalid`() throws {
    let deep = String(repeating: "[", count: 600) + String(repeating: "]", count: 600)
    for mode in OutboxMapping.ContentMode.allCases {
      var mapping = OutboxMapping()
      mapping.contentMode = mode
      var encoder = EventEncoder(mappings: [mapping], database: "shop")
      encoder.prepare(outboxRelation(extra: [("headers", .json)]))
      let row = outboxRow(extra: [.text("{\"a\":\(deep)}")])
      _ = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0)
      #expect(encoder.omissions.headers == 1)
      #expect(encoder.omissions.notes.map(\.omission) == [.deepHeaders])
      #expect(Omission.deepHeaders.message.contains("deeper than 512 levels"))
    }
    var mapping = OutboxMapping()
    mapping.contentMode = .structured
    mapping.datacontenttype = "application/json"
    var encoder = EventEncoder(mappings: [mapping], database: "shop")
    encoder.prepare(outboxRelation(payload: .text))
    let payload = outboxRow(payload: .text(deep))
    defer { withExtendedLifetime(payload) {} }
    do {
      _ = try encoder.encode(payload.view, commitLSN: LSN(1), commitTime: 0, index: 0)
      Issue.record("it was taken")
    } catch {
      #expect("\(error)".contains("nested deeper than 512 levels"), "\(error)")
    }
    // The server has looked at a json, and at a jsonb: it is taken at any depth.
    encoder.prepare(outboxRelation(payload: .json))
    let record = try encoder.encode(payload.view, commitLSN: LSN(1), commitTime: 0, index: 0)
    #expect(record != nil)
  }
}
