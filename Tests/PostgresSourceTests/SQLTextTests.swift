// Owns: that quotes hold whatever Swift takes for one character.
import Testing

@testable import PostgresSource

@Suite struct SQLTextTests {
  @Test func `a tag of the body is found by its bytes, and a backslash whatever follows it`() {
    #expect(SQLText.dollarQuoted("x$outboxd$\u{301}").hasPrefix("$outboxd1$"))
    #expect(SQLText.literal("\\\u{301}'") == "E'\\\\\u{301}'''")
    #expect(SQLText.comment("a\n\r\u{1B}\u{2028}b") == "-- a\\n\\r\\u001b\\u2028b")
  }
}
