// Owns: how the release binary is linked: what others may plant beside it, and what its own memory lets happen.
import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite(.enabled(if: TestTools.outboxd?.contains("/release/") == true, "needs a release build"))
  struct ReleaseBuildTests {
    private func readelf(_ option: String) throws -> String {
      try ChildProcess.check(["readelf", option, "-W", OutboxdProcess.binary()])
    }

    @Test
    func `the binary is hardened: no run path, bound at the start, at any address, no executable stack`()
      throws
    {
      let dynamic = try readelf("-d")
      #expect(!dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"), "\(dynamic)")
      #expect(dynamic.contains("BIND_NOW") && dynamic.contains("PIE"), "\(dynamic)")
      #expect(!dynamic.contains("TEXTREL"), "\(dynamic)")
      let segments = try readelf("-l").split(separator: "\n")
      #expect(segments.contains { $0.contains("GNU_RELRO") })
      #expect(segments.contains { $0.contains("GNU_STACK") && $0.contains(" RW ") }, "\(segments)")
      #expect(!segments.contains { $0.contains("LOAD") && $0.contains(" RWE ") }, "\(segments)")
      #expect(try readelf("-h").contains("Type:                              DYN"))
    }

    @Test func `a library that somebody planted beside the binary or in the working folder is not loaded`()
      throws
    {
      let folder = TestFolder.make("planted")
      try FileManager.default.copyItem(atPath: OutboxdProcess.binary(), toPath: folder + "/outboxd")
      let needed = try readelf("-d").matches(of: /NEEDED.*\[(lib(?:yaml|pq|rdkafka|microhttpd)[^\]]*)\]/).map(
        \.1)
      #expect(needed.count == 4, "\(needed)")
      for name in needed {
        // No library at all: whoever loads it fails.
        try Data("planted".utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
      }
      let result = try ChildProcess.run(["sh", "-c", "cd \"$1\" && exec ./outboxd version", "sh", folder])
      #expect(result.status == 0, "\(result.errors)")
    }
  }
}
