import Testing

@testable import RelayCore

@Suite struct TextFormTests {
  @Test func `an LSN reads and prints as Postgres writes it`() {
    #expect(LSN("16/B374D848")?.rawValue == 0x16_B374_D848)
    #expect(LSN(0x16_B374_D848).description == "16/B374D848")
    for text in ["", "/", "16", "16/", "/1", "1/2/3", "G/1", "+1/2", "123456789/1", " 1/2"] {
      #expect(LSN(text) == nil, "\(text)")
    }
  }

  @Test(arguments: [
    (Int64(0), "2000-01-01T00:00:00.000000Z"), (-946_684_800_000_000, "1970-01-01T00:00:00.000000Z"),
    (5_097_599_999_999, "2000-02-28T23:59:59.999999Z"), (5_097_600_000_000, "2000-02-29T00:00:00.000000Z"),
    (RFC3339.lowest, "0001-01-01T00:00:00.000000Z"), (RFC3339.end - 1, "9999-12-31T23:59:59.999999Z"),
    (Int64.max, "infinity"), (Int64.min, "-infinity"), (RFC3339.lowest - 1, "-infinity"),
    (RFC3339.end, "infinity"),
  ])
  func `a time has its RFC 3339 form`(time: Int64, text: String) {
    #expect(RFC3339.string(microseconds: time) == text)
  }

  @Test func `the times of transactions that follow each other are told as each by itself`() {
    let seed = freshSeed()
    print("times of transactions: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    var texts = TransactionTexts()
    var time: PostgresMicroseconds = 0
    for _ in 0..<20_000 {
      switch Int.random(in: 0..<20, using: &random) {
      case 0: time = Int64.random(in: RFC3339.lowest..<RFC3339.end, using: &random)
      case 1: time = [RFC3339.lowest, RFC3339.end - 1, -1, 0, .max, .min].randomElement(using: &random) ?? 0
      case 2: time = time / 1_000_000 * 1_000_000
      default: time = time &+ Int64.random(in: -2_000_000...2_000_000, using: &random)
      }
      let text = texts.time(time).map { String(decoding: $0, as: UTF8.self) }
      let expected = RFC3339.string(microseconds: time)
      #expect(text == (expected.hasSuffix("infinity") ? nil : expected), "seed \(seed)")
    }
  }

  @Test func `templates keep literals, placeholders and doubled braces`() throws {
    #expect(
      try Template("a.{b}-{{c}}").parts == [.literal("a."), .placeholder("b"), .literal("-{c}")])
    #expect(try Template("a.{b}-{{c}}").description == "a.{b}-{{c}}")
    for text in ["{", "}", "a{}", "{a{b}}", "x}y"] {
      #expect(throws: RelayError.self, "\(text)") { try Template(text) }
    }
  }

  @Test(arguments: [
    ("{}", true), ("[1, 2.5e-3, true, null, \"\\u00e9\"]", true), ("-0", true), ("01", false), ("1.", false),
    ("{\"a\":1,}", false), ("[1 2]", false), ("\"\u{1}\"", false), ("nul", false), ("", false),
    ("{} x", false),
    ("\"\\x\"", false), ("1e999", true), (String(repeating: "[", count: 10_000), false),
  ])
  func `JSON is told from what is not`(text: String, valid: Bool) {
    #expect(Array(text.utf8).withUnsafeBytes(JSONScanner.isValid) == valid)
  }

  @Test func `random bytes never trap the JSON scanner, the UTF-8 rules or the media type`() {
    let seed = freshSeed()
    print("text rules seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let alphabet = Array(#"{}[]",:\u0123456789eE+-. truefalsn/;"#.utf8) + [0, 0x80, 0xC3, 0xED, 0xF4, 0xFF]
    for _ in 0..<50_000 {
      let count = Int.random(in: 0...24, using: &random)
      let bytes = (0..<count).map { _ in alphabet.randomElement(using: &random)! }
      bytes.withUnsafeBytes {
        _ = JSONScanner.isValid($0)
        _ = CloudEventRules.isString($0)
        _ = CloudEventRules.isMediaType($0)
        _ = CloudEventRules.isURI($0)
      }
    }
  }

  @Test func `a byte is found wherever it stands in a text of whatever length`() {
    for count in 0...40 {
      for place in 0..<max(1, count) {
        for byte: UInt8 in [0x00, 0x1F, 0x20, 0x22, 0x5C, 0x7E, 0x7F, 0xFF] {
          var bytes = [UInt8](repeating: 0x61, count: count)
          if count > 0 { bytes[place] = byte }
          let isString = bytes.allSatisfy { (0x20...0x7E).contains($0) }
          #expect(bytes.withUnsafeBytes(CloudEventRules.isString) == isString, "\(count) \(place) \(byte)")
          let isPlain = isString && !bytes.contains(0x22) && !bytes.contains(0x5C)
          #expect(bytes.withUnsafeBytes(JSONWriter.isPlainASCII) == isPlain, "\(count) \(place) \(byte)")
          var writer = JSONWriter()
          bytes.withUnsafeBytes { writer.string($0) }
          let text = bytes.flatMap { byte in
            switch byte {
            case 0x22, 0x5C: [0x5C, byte]
            case 0x00: Array("\\u0000".utf8)
            case 0x1F: Array("\\u001f".utf8)
            default: [byte]
            }
          }
          #expect(Array(writer.bytes) == [0x22] + text + [0x22], "\(count) \(place) \(byte)")
        }
      }
    }
  }

  @Test func `a text grows beyond its buffer, and the buffer is given back`() {
    var writer = JSONWriter()
    let kept = writer.capacity
    for _ in 0..<2 {
      writer.reset()
      #expect(writer.capacity == kept)
      var whole: [UInt8] = []
      for number in 0..<200 {
        let piece = [UInt8](repeating: UInt8(number), count: 5_000)
        piece.withUnsafeBytes { writer.raw($0) }
        whole += piece
      }
      #expect(writer.bytes.elementsEqual(whole))
    }
  }

  @Test(arguments: [0x22, 0x0A, 0x01] as [UInt8])
  func `a string takes the room that it needs, however many escapes are in it`(byte: UInt8) {
    for share in [1, 2, 100, 100_000] {
      let bytes = (0..<100_000).map { ($0 + 1) % share == 0 ? byte : 0x61 }
      var writer = JSONWriter()
      bytes.withUnsafeBytes { writer.string($0) }
      let escape = byte == 0x01 ? 6 : 2
      #expect(writer.count == bytes.count + bytes.count / share * (escape - 1) + 2)
      #expect(writer.capacity <= 2 * writer.count + 10_000, "\(writer.capacity) for \(writer.count)")
      #expect(JSONScanner.isValid(writer.bytes))
    }
  }

  @Test func `the String rule of CloudEvents forbids control characters and noncharacters`() {
    func check(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { CloudEventRules.isString($0) } }
    #expect(check(Array("grün 日本 🎉".utf8)))
    for bytes in [
      [0x07], [0x7F], [0xC2, 0x85], [0xEF, 0xBF, 0xBF], [0xEF, 0xB7, 0x90], [0xED, 0xA0, 0x80], [0xC3],
    ]
      as [[UInt8]]
    {
      #expect(!check(bytes), "\(bytes)")
    }
  }

  @Test(arguments: Log.Format.allCases)
  func `a log line cannot be broken by what stands in it`(format: Log.Format) {
    let line = LogLine.render(
      time: 0, level: .info, message: "hello", fields: [("f", "a b\n\"c\"")], format: format)
    #expect(!line.contains("\n"))
    switch format {
    case .text: #expect(line == #"2000-01-01T00:00:00.000Z info    hello f="a b\n\"c\"""#)
    case .logfmt: #expect(line == #"ts=2000-01-01T00:00:00.000Z level=info msg=hello f="a b\n\"c\"""#)
    case .json:
      #expect(
        line == #"{"ts":"2000-01-01T00:00:00.000Z","level":"info","msg":"hello","f":"a b\n\"c\""}"#)
    }
  }
}
