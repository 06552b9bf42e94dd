// Owns: the promise that text of a stranger steers no terminal and no reader.
import Testing

@testable import RelayCore

@Suite struct PrintableTextTests {
  @Test(
    "Controls of terminals, lines and directions are escaped in text and in JSON",
    arguments: [
      (0x00, #"\u0000"#), (0x07, #"\u0007"#), (0x0A, #"\n"#), (0x0D, #"\r"#), (0x1B, #"\u001b"#),
      (0x7F, #"\u007f"#), (0x85, #"\u0085"#), (0x9B, #"\u009b"#), (0x061C, #"\u061c"#),
      (0x200E, #"\u200e"#), (0x200F, #"\u200f"#), (0x2028, #"\u2028"#), (0x2029, #"\u2029"#),
      (0x202A, #"\u202a"#), (0x202E, #"\u202e"#), (0x2066, #"\u2066"#), (0x2069, #"\u2069"#),
    ] as [(UInt32, String)])
  func escaped(_ code: UInt32, _ escape: String) throws {
    let text = "a\(Character(try #require(Unicode.Scalar(code))))b"
    #expect(PrintableText.escapingControls(text) == "a\(escape)b")
    #expect(PrintableText.quoted(text) == "\"a\(escape)b\"")
  }

  @Test func `what has no such power is left as it is`() {
    let text = "Grüße 你好 שלום \u{200D}👩‍👩‍👧 \u{00A0}~"
    #expect(PrintableText.escapingControls(text) == text)
    #expect(PrintableText.escapingControls("a\n\tb\u{1B}[2J\r", keepsLines: true) == "a\n\tb\\u001b[2J\\r")
  }
}
