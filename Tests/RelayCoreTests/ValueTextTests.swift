// Values of every type, at their extremes and at random: each has the text that Postgres prints, and none traps.
import Testing

@testable import RelayCore

/// The text of one value, or the reason why there is none.
func text(_ type: ColumnType, _ bytes: [UInt8], zone: LocalTime? = nil) -> String {
  var arena = ByteArena()
  let row = Row([.bytes(bytes)])
  let source = ColumnSource(index: 0, form: type.form, zone: zone)
  do throws(RowFault) {
    return String(
      decoding: try ValueText.text(of: row.view.values[0], source, part: "x", arena: &arena), as: UTF8.self)
  } catch {
    return "fault: \(error.reason)"
  }
}

private func numeric(_ weight: Int16, _ scale: UInt16, _ digits: [UInt16], sign: UInt16 = 0) -> [UInt8] {
  bigEndian(UInt16(digits.count)) + bigEndian(weight) + bigEndian(sign) + bigEndian(scale)
    + digits.flatMap(bigEndian)
}

@Suite struct ValueTextTests {
  @Test(
    arguments: [
      (.date, bigEndian(Int32.max), "infinity"), (.date, bigEndian(Int32.min), "-infinity"),
      (.date, bigEndian(Int32(2_145_031_948)), "5874897-12-31"),
      (.date, bigEndian(Int32(-2_451_545)), "4714-11-24 BC"),
      (.date, bigEndian(Int32(-730_120)), "0001-12-31 BC"), (.date, bigEndian(Int32(-730_119)), "0001-01-01"),
      (.date, bigEndian(Int32(2_921_940)), "10000-01-01"),
      (.date, bigEndian(Int32.max - 1), "5881610-07-10"),
      (.date, bigEndian(Int32.min + 1), "5877612-06-23 BC"),
      (.timestamptz, bigEndian(Int64.max), "infinity"), (.timestamptz, bigEndian(Int64.min), "-infinity"),
      (.timestamptz, bigEndian(RFC3339.end), "10000-01-01 00:00:00+00"),
      (.timestamptz, bigEndian(RFC3339.end - 1), "9999-12-31T23:59:59.999999Z"),
      (.timestamptz, bigEndian(RFC3339.lowest - 1), "0001-12-31 23:59:59.999999+00 BC"),
      (.timestamp, bigEndian(Int64(9_223_371_331_199_999_990)), "294276-12-31 23:59:59.99999"),
      (.timestamp, bigEndian(Int64(-211_813_488_000_000_000)), "4714-11-24 00:00:00 BC"),
      (.int2, bigEndian(Int16.min), "-32768"), (.int4, bigEndian(Int32.max), "2147483647"),
      (.int8, bigEndian(Int64.max), "9223372036854775807"),
      (.numeric, numeric(0, 0, [], sign: 0xD000), "Infinity"),
      (.numeric, numeric(0, 0, [], sign: 0xF000), "-Infinity"),
      (.numeric, numeric(.min, 2, []), "0.00"), (.numeric, numeric(-4, 15, [7000]), "0.000000000000700"),
      (.bpchar, Array("ab  ".utf8), "ab"), (.bpchar, Array("    ".utf8), ""),
      (.bpchar, Array(" a\t ".utf8), " a\t"), (.text, Array("ab  ".utf8), "ab  "),
    ] as [(ColumnType, [UInt8], String)])
  func `a value at the extreme of its type has the text of Postgres`(
    type: ColumnType, bytes: [UInt8], expected: String
  ) {
    #expect(text(type, bytes) == expected)
  }

  @Test(
    arguments: [
      (100, "100"), (0, "0"), (-0.0, "-0"), (.nan, "NaN"), (-.nan, "NaN"), (.infinity, "Infinity"),
      (-.infinity, "-Infinity"), (1e14, "100000000000000"), (1e15, "1e+15"),
      (123_456_789_012_345, "123456789012345"),
      (1234567890123456, "1.234567890123456e+15"), (0.0001, "0.0001"), (0.00001, "1e-05"),
      (-1.5e-7, "-1.5e-07"),
      (.leastNonzeroMagnitude, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"), (0.1, "0.1"),
      (1e100, "1e+100"),
      (2.2250738585072014e-308, "2.2250738585072014e-308"), (12.5, "12.5"), (0.5, "0.5"),
      // Its shorter form, 1e+23, lies exactly between two numbers.
      (1e23, "9.999999999999999e+22"), (0x1p-44, "5.684341886080802e-14"),
      (9007199254740992, "9.007199254740992e+15"),
    ] as [(Double, String)])
  func `a float8 is printed as Postgres prints it`(number: Double, expected: String) {
    #expect(text(.float8, bigEndian(number.bitPattern)) == expected)
  }

  @Test(
    arguments: [
      (100, "100"), (999_999, "999999"), (1_000_000, "1e+06"), (0.1, "0.1"), (.nan, "NaN"),
      (.infinity, "Infinity"), (3.4028235e38, "3.4028235e+38"), (.leastNonzeroMagnitude, "1e-45"),
      (-1.5, "-1.5"),
      (16_777_216, "1.6777216e+07"),
    ] as [(Float, String)])
  func `a float4 is printed as Postgres prints it`(number: Float, expected: String) {
    #expect(text(.float4, bigEndian(number.bitPattern)) == expected)
  }

  @Test func `a float's text reads back as the same float`() {
    let seed = freshSeed()
    print("floats: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20_000 {
      let number = Double(bitPattern: random.next())
      let printed = text(.float8, bigEndian(number.bitPattern))
      #expect(number.isNaN ? printed == "NaN" : Double(printed) == number, "seed \(seed): \(number)")
      let single = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      let short = text(.float4, bigEndian(single.bitPattern))
      #expect(single.isNaN ? short == "NaN" : Float(short) == single, "seed \(seed): \(single)")
    }
  }

  @Test func `no bytes of any type trap`() {
    let seed = freshSeed()
    print("bytes of values: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let types: [ColumnType] = [
      .bool, .int2, .int4, .int8, .float4, .float8, .numeric, .text, .bpchar, .uuid, .bytea, .json, .jsonb,
      .xml, .date, .timestamp, .timestamptz, .other(oid: 99_999, name: "mood"),
    ]
    let rules = TimeZoneRules(
      name: "Odd", offsets: [.init(start: -10, seconds: 86_399), .init(start: 10, seconds: -86_399)])
    rules.offsets.withUnsafeBufferPointer { offsets in
      let zone = LocalTime(offsets: offsets)
      for _ in 0..<100_000 {
        let type = types.randomElement(using: &random)!
        let count =
          random.chance(4)
          ? Int.random(in: 0...20, using: &random) : [2, 4, 8, 16].randomElement(using: &random)!
        let fill: UInt8? = random.chance(8) ? [0, 0xFF, 0x7F, 0x80].randomElement(using: &random) : nil
        var bytes = (0..<count).map { _ in fill ?? UInt8.random(in: 0...255, using: &random) }
        if let fill, count > 0, random.chance(2) { bytes[0] = fill ^ 0x80 }
        _ = text(type, bytes, zone: type == .timestamp ? zone : nil)
      }
    }
  }

  @Test func `a local time in a gap counts as before it, and in a fold as after it`() {
    // An hour forward at 1000000, an hour back at 2000000.
    let rules = TimeZoneRules(
      name: "Test",
      offsets: [
        .init(start: -1_000_000_000, seconds: 3600), .init(start: 1_000_000, seconds: 7200),
        .init(start: 2_000_000, seconds: 3600),
      ])
    func moment(_ local: Int64) -> Int64 {
      (rules.moment(local: local * 1_000_000 - .unixEpochOffset) + .unixEpochOffset) / 1_000_000
    }
    #expect(moment(0) == -3600)
    #expect(moment(1_000_000 + 3599) == 999_999)
    // The hour that does not exist.
    #expect(moment(1_000_000 + 3600) == 1_000_000)
    #expect(moment(1_000_000 + 7199) == 1_003_599)
    #expect(moment(1_000_000 + 7200) == 1_000_000)
    // The hour that comes twice.
    #expect(moment(2_000_000 + 3599) == 1_996_399)
    #expect(moment(2_000_000 + 3600) == 2_000_000)
    #expect(moment(2_000_000 + 7199) == 2_003_599)
    #expect(rules.moment(local: .max) == .max && rules.moment(local: .min) == .min)
    #expect(rules.moment(local: .min + 1) == .min)
  }
}
