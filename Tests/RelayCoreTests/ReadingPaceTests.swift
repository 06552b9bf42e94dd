// Owns: when a reader naps, and for how long.
@testable import RelayCore
import Testing

@Suite struct ReadingPaceTests {
  /// A stream whose rounds each bring `bytes`, one every `milliseconds`.
  private struct Stream {
    var pace: ReadingPace
    var received: UInt64 = 0
    var now = MonotonicTime(nanoseconds: 5_000_000_000)

    init(isAdaptive: Bool = true) { pace = ReadingPace(isAdaptive: isAdaptive) }

    mutating func round(bytes: UInt64, milliseconds: Int, isInTransaction: Bool = false) -> ReadingPace.Rest {
      received += bytes
      now = now.advanced(milliseconds: milliseconds)
      return pace.rest(received: received, isInTransaction: isInTransaction, now: now)
    }
  }

  @Test func `events that come singly share a nap, and a stream that brings nothing is waited for`() {
    var stream = Stream()
    for _ in 0..<100 {
      #expect(stream.round(bytes: 500, milliseconds: 1) == .gather(2_500))
      #expect(stream.round(bytes: 0, milliseconds: 2) == .wait)
    }
  }

  @Test func `the more comes, the less a nap needs to gather`() {
    var stream = Stream()
    for _ in 0..<100 { _ = stream.round(bytes: 5_000, milliseconds: 2) }
    #expect(stream.round(bytes: 5_000, milliseconds: 2) == .gather(1_000))
    for _ in 0..<100 { _ = stream.round(bytes: 500, milliseconds: 2) }
    #expect(stream.round(bytes: 500, milliseconds: 2) == .gather(2_500))
  }

  @Test func `the rest of a transaction is not waited for as long`() {
    var stream = Stream()
    #expect(stream.round(bytes: 500, milliseconds: 1, isInTransaction: true) == .nap(100))
  }

  @Test func `a backlog is looked at six times more, and then let gather`() {
    var stream = Stream()
    // 50 MB/s, until the rate is known.
    for _ in 0..<100 { _ = stream.round(bytes: 500_000, milliseconds: 10) }
    while stream.round(bytes: 1_000_000, milliseconds: 10) != .nap(15_000) {}
    for _ in 0..<6 { #expect(stream.round(bytes: 1_000, milliseconds: 0) == .nap(30)) }
    #expect(stream.round(bytes: 1_000, milliseconds: 0) == .nap(15_000))
    #expect(stream.round(bytes: 1_000_000, milliseconds: 10) == .nap(15_000))
  }

  @Test func `without adapting, nothing naps or gathers`() {
    var stream = Stream(isAdaptive: false)
    for _ in 0..<100 { #expect(stream.round(bytes: 500, milliseconds: 1) == .wait) }
    #expect(stream.round(bytes: 500, milliseconds: 1, isInTransaction: true) == .wait)
    for _ in 0..<100 { #expect(stream.round(bytes: 1_000_000, milliseconds: 10) == .wait) }
  }

  @Test func `after a second of silence there is no backlog any more`() {
    var stream = Stream()
    for _ in 0..<100 { _ = stream.round(bytes: 500_000, milliseconds: 10) }
    #expect(stream.round(bytes: 500, milliseconds: 1_500) == .gather(2_500))
  }
}

@Suite struct JSONStringTests {
  @Test func `a character that needs an escape gets it, wherever it stands`() {
    let escapes: [(UInt8, String)] = [
      (0x22, "\\\""), (0x5C, "\\\\"), (0x0A, "\\n"), (0x00, "\\u0000"), (0x1F, "\\u001f"), (0x20, " "),
      (0x7F, "\u{7F}"),
    ]
    for count in 1...20 {
      for position in 0..<count {
        for (byte, escape) in escapes {
          // 0x21 and 0x5D are next to those that are escaped.
          var bytes = (0..<count).map { $0 % 2 == 0 ? UInt8(0x21) : 0x5D }
          bytes[position] = byte
          var expected = Array("\"".utf8)
          for index in 0..<count { expected += index == position ? Array(escape.utf8) : [bytes[index]] }
          expected += Array("\"".utf8)
          var writer = JSONWriter()
          bytes.withUnsafeBytes { writer.string($0) }
          #expect(Array(writer.bytes) == expected)
        }
      }
    }
    var writer = JSONWriter()
    Array("é€😀ééééé".utf8).withUnsafeBytes { writer.string($0) }
    #expect(String(decoding: writer.bytes, as: UTF8.self) == "\"é€😀ééééé\"")
  }
}
