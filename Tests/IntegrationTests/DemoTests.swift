import Foundation
import RelayTesting
import Testing

extension Integration {
  @Suite struct DemoTests {
    @Test func `the demo shows its events and ends by itself, with nothing left behind`() throws {
      let folder = TestFolder.make("demo")
      chmod(folder, 0o755)
      let result = try OutboxdProcess.command(
        ["demo", "--events", "12"], environment: ["TMPDIR": folder], seconds: 120)
      #expect(result.status == 0, "\(result.errors)")
      for topic in ["outbox.event.order", "outbox.event.payment", "outbox.event.stock", "notifications.v1"] {
        #expect(result.output.contains(topic))
      }
      #expect(result.output.contains("12 of 12 events of 4 services arrived"))
      #expect(result.output.contains("/metrics") && result.output.contains("kcat"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }
}
