// The rules of the headers column: what becomes an attribute, a header, nothing; and that no row is stopped by it.
import Testing

@testable import RelayCore

private struct Encoded {
  var record: CopiedRecord
  var headersLeftOut: UInt64
  var notes: [Omission]

  /// The headers beside those of the attributes that every event has.
  var extra: [String] {
    let usual = [
      "content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time",
      "ce_sequence",
    ]
    return record.headers.filter { header in !usual.contains { header.hasPrefix($0 + ": ") } }
  }
}

private func encode(
  _ headers: Row.Value, type: ColumnType = .json, mode: OutboxMapping.ContentMode = .binary,
  _ change: (inout OutboxMapping) -> Void = { _ in }
) throws -> Encoded {
  var mapping = OutboxMapping()
  mapping.contentMode = mode
  change(&mapping)
  var encoder = EventEncoder(mappings: [mapping], database: "shop")
  encoder.prepare(outboxRelation(extra: [("headers", type)]))
  let row = outboxRow(extra: [headers])
  let record = try #require(try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0))
  return Encoded(
    record: CopiedRecord(record), headersLeftOut: encoder.omissions.headers,
    notes: encoder.omissions.notes.map(\.omission))
}

@Suite struct HeadersColumnTests {
  @Test(
    arguments: [
      // Nothing.
      ("null", [], 0), (" null ", [], 0), ("{}", [], 0), ("[]", [], 0), (" [ ] ", [], 0),
      (#"{"a":null,"b":""}"#, [], 0),
      // Attributes and headers.
      (#"{"a":"1","X-B":"2"}"#, ["ce_a: 1", "X-B: 2"], 0),
      (#"{"a":[1],"b":{"c":2}}"#, ["ce_a: [1]", #"ce_b: {"c":2}"#], 0),
      (#"{"id":"mine","time":"t"}"#, ["id: mine", "time: t"], 0),
      (#"{"traceparent":true}"#, ["ce_traceparent: true"], 0),
      // The last of several counts.
      (#"{"a":"1","b":"2","a":"3"}"#, ["ce_a: 3", "ce_b: 2"], 0), (#"{"a":"1","a":null}"#, [], 0),
      (#"{"a":null,"a":"2"}"#, ["ce_a: 2"], 0), (#"{"\u0061":"1","a":"2"}"#, ["ce_a: 2"], 0),
      // Names that belong to others.
      (#"{"ce_id":"x","a":"1"}"#, ["ce_a: 1"], 1), (#"{"CE_type":"x","Content-Type":"y"}"#, [], 2),
      (#"{"outboxd-replay":"wal"}"#, [], 1), (#"{"content-types":"x"}"#, ["content-types: x"], 0),
      // Names that are none.
      (#"{"":"x","a\u0000b":"y","c\n":"z","d":"1"}"#, ["ce_d: 1"], 3),
      // What CloudEvents forbids, Kafka allows.
      (#"{"a":"1\n2"}"#, ["a: 1\n2"], 1), (#"{"a":"\ud800","\udc00":"x"}"#, [], 2),
      // No object: nothing of it.
      ("[1]", [], 1), (#""text""#, [], 1), ("7", [], 1), ("true", [], 1), (#"{"a":"#, [], 1),
      (#"{"a":"1"} x"#, [], 1),
      (#"{"a":"1","b"}"#, [], 1), ("", [], 1), ("k=v", [], 1), ("null null", [], 1), ("[] {}", [], 1),
    ] as [(String, [String], UInt64)], OutboxMapping.ContentMode.allCases)
  func `the members of a headers column become what the table in the README says`(
    rule: (text: String, headers: [String], leftOut: UInt64), mode: OutboxMapping.ContentMode
  ) throws {
    let encoded = try encode(.text(rule.text), type: .text, mode: mode)
    #expect(encoded.headersLeftOut == rule.leftOut)
    let attributes = rule.headers.filter { $0.hasPrefix("ce_") }
    if mode == .binary {
      #expect(Set(encoded.extra) == Set(rule.headers))
    } else {
      #expect(Set(encoded.extra) == Set(rule.headers).subtracting(attributes))
      for attribute in attributes {
        let name = attribute.dropFirst(3).prefix { $0 != ":" }
        #expect(encoded.record.text?.contains(",\"\(name)\":") == true)
      }
      let value = try #require(encoded.record.value)
      #expect(value.withUnsafeBytes(JSONScanner.isValid))
    }
  }

  @Test func `numbers and truth keep their type in structured mode, and texts are texts`() throws {
    let encoded = try encode(
      .text(#"{"a":1,"b":true,"c":3000000000,"d":"1","e":1.5}"#), mode: .structured)
    #expect(encoded.record.text?.contains(#","a":1,"b":true,"c":"3000000000","d":"1","e":"1.5","#) == true)
  }

  @Test func `a name of the mapping's extensions is a plain header`() throws {
    let encoded = try encode(.text(#"{"kind":"x"}"#)) {
      $0.extensions = [.init(name: "kind", column: "aggregatetype")]
    }
    #expect(encoded.extra == ["ce_kind: order", "kind: x"])
  }

  @Test(arguments: OutboxMapping.ContentMode.allCases)
  func `64 members are kept, those after them are left out`(mode: OutboxMapping.ContentMode) throws {
    let headers = "{" + (0..<100).map { "\"k\($0)\":\"v\"" }.joined(separator: ",") + ",\"k0\":\"last\"}"
    let encoded = try encode(.text(headers), mode: mode)
    #expect(encoded.headersLeftOut == 36)
    #expect(encoded.notes == [.surplusHeader])
    if mode == .binary {
      #expect(encoded.extra.count == 64)
      #expect(encoded.record.header("ce_k0") == "last")
    } else {
      #expect(encoded.record.text?.contains(#""k63":"v""#) == true)
      #expect(encoded.record.text?.contains(#""k64""#) == false)
    }
  }

  @Test(arguments: OutboxMapping.ContentMode.allCases)
  func `a megabyte of headers costs no more for each than a few`(mode: OutboxMapping.ContentMode) throws {
    func time(_ count: Int) throws -> UInt64 {
      let headers = "{" + (0..<count).map { "\"k\($0)\":\"v\"" }.joined(separator: ",") + "}"
      let start = MonotonicTime.now()
      let encoded = try encode(.text(headers), mode: mode)
      #expect(encoded.headersLeftOut == UInt64(count - 64))
      return (MonotonicTime.now().nanoseconds - start.nanoseconds) / UInt64(count)
    }
    _ = try time(1000)
    let (few, many) = (try time(8_000), try time(80_000))
    print("headers: \(few) ns each of 8,000, \(many) ns each of 80,000")
    // Ten times as much would cost ten times as much each, were it quadratic.
    #expect(many < few * 5 + 1000)
  }

  @Test func `what is left out is told once for a table, and counted each time`() throws {
    var encoder = EventEncoder(mappings: [OutboxMapping()], database: "shop")
    encoder.prepare(outboxRelation(extra: [("headers", .json)]))
    let row = outboxRow(extra: [.text(#"{"ce_id":"x","":"y"}"#)])
    for _ in 0..<5 { _ = try encoder.encode(row.view, commitLSN: LSN(1), commitTime: 0, index: 0) }
    #expect(encoder.omissions.headers == 10)
    #expect(encoder.omissions.notes.map(\.omission) == [.reservedHeader, .unnamedHeader])
    #expect(encoder.omissions.notes.first?.detail == "\"ce_id\"")
    #expect(encoder.omissions.notes.first?.table == "public.outbox")
  }

  @Test func `random texts never stop a row, and never make an invalid envelope`() throws {
    let seed = freshSeed()
    print("headers column: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let pieces = [
      "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"ce_x\"", "\"\"", "\"\\u0000\"", "\"\\ud800\"",
      "null", "1",
      "-0.5e3", "true", " ", "\"X\"", "\"\\\"\"", "é", "\"é\"",
    ]
    for _ in 0..<5_000 {
      var text = ""
      if random.chance(2) {
        let members = (0..<Int.random(in: 0...5, using: &random)).map { _ in
          pieces.randomElement(using: &random)! + ":" + pieces.randomElement(using: &random)!
        }
        text = "{" + members.joined(separator: ",") + "}"
      } else {
        for _ in 0..<Int.random(in: 0...8, using: &random) { text += pieces.randomElement(using: &random)! }
      }
      let encoded = try encode(.text(text), mode: random.chance(2) ? .binary : .structured)
      if encoded.record.header("ce_id") == nil {
        let value = try #require(encoded.record.value)
        #expect(value.withUnsafeBytes(JSONScanner.isValid), "seed \(seed): \(text)")
      }
    }
  }
}
