// The README's reference tables are those of the code. OUTBOXD_UPDATE_README=1 writes them anew.
import Foundation
import RelayCore
import Testing

@testable import outboxd

private let readme = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appending(path: "README.md")

/// The lines between the comment that begins with `<!-- NAME` and `<!-- end of NAME -->`.
private func section(_ name: String, equals expected: String) throws {
  let text = try String(contentsOf: readme, encoding: .utf8)
  let begin = try #require(text.range(of: "<!-- \(name)"))
  let start = try #require(text.range(of: "-->\n", range: begin.upperBound..<text.endIndex)).upperBound
  let end = try #require(text.range(of: "<!-- end of \(name) -->")).lowerBound
  if ProcessInfo.processInfo.environment["OUTBOXD_UPDATE_README"] != nil {
    try text.replacingCharacters(in: start..<end, with: expected).write(
      to: readme, atomically: true, encoding: .utf8)
    return
  }
  #expect(String(text[start..<end]) == expected, "OUTBOXD_UPDATE_README=1 swift test --filter ReadmeTests")
}

@Suite(.serialized) struct ReadmeTests {
  @Test func `the README has every configuration key with its default`() throws {
    try section("configuration keys", equals: "\n" + ConfigCommand.keys() + "\n")
  }

  @Test func `the README has every metric`() throws {
    let rows = MetricTable.all.map { "| `\($0.name)` | \($0.kind.rawValue) | \($0.help) |\n" }.joined()
    try section("metrics", equals: "\n| Metric | Type | Meaning |\n| --- | --- | --- |\n" + rows + "\n")
  }

  @Test func `the README has every exit code`() throws {
    let rows = ExitCodes.all.map { "| \($0.code) | \($0.meaning) |\n" }.joined()
    try section("exit codes", equals: "\n| Code | Meaning |\n| --- | --- |\n" + rows + "\n")
  }

  @Test func `every kind of failure has a documented exit code`() {
    for kind in RelayError.Kind.allCases {
      #expect(ExitCodes.meaning(of: kind.exitCode) != nil, "\(kind)")
    }
  }

  @Test func `systemd restarts outboxd only where a restart may help`() throws {
    let text = try String(contentsOf: readme, encoding: .utf8)
    let listed = try #require(text.firstMatch(of: /\nRestartPreventExitStatus=([0-9 ]+)\n/)).1
    let halting = RelayError.Kind.allCases.filter { kind in
      switch kind.reaction {
      // An end that somebody asked for, and one whose cause is not known.
      case .halt: kind != .interrupted && kind != .failed
      case .applyPolicy: true
      case .reconnectSource, .standBy, .rebuildSink: false
      }
    }
    #expect(listed.split(separator: " ").map { Int32($0) } == Set(halting.map(\.exitCode)).sorted())
  }
}
