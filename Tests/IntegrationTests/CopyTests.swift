// Owns: that a copy of production publishes nothing unasked, and that the original goes on when an operator says so.
import Foundation
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

extension Integration {
  @Suite struct CopyTests {
    /// A production that has published, and stands still.
    private func production(_ version: Int) throws -> Scene {
      let scene = try Scene(version: version)
      let relay = try scene.start()
      try scene.workload.run(writers: 2, transactions: 10, size: 4, seed: 1)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
      return scene
    }

    private func publish(_ scene: Scene, _ count: Int) throws {
      let relay = try scene.start()
      try emit(scene.server, count)
      try scene.workload.settle(relay)
      #expect(try relay.terminate() == 0)
    }

    private func emit(_ server: PostgresServer, _ count: Int) throws {
      for key in 1...count {
        try server.sql("SELECT workload.emit('orders', ARRAY[\(key), 500], 10)", database: "shop")
      }
    }

    private func configuration(_ scene: Scene, _ copy: PostgresServer) -> RelayConfiguration {
      var configuration = scene.configuration
      configuration.conninfo = copy.conninfo("shop")
      return configuration
    }

    @Test(arguments: ends) func `a promoted base backup publishes only when it is said to be the original`(
      version: Int
    )
      throws
    {
      let scene = try production(version)
      let copy = try PostgresServer(copyOf: scene.server, withSlots: false, promoted: true)
      try emit(copy, 3)
      let configuration = configuration(scene, copy)
      let count = try scene.workload.count()
      let relay = try OutboxdProcess(configuration)
      #expect(try relay.process.wait(seconds: 30) == 10, "\(relay.tail)")
      let error = try #require(relay.log.last { $0.level == "error" })
      for word in [
        "may be a copy", scene.kafka.bootstrap, "--yes-this-is-the-original", "A copy of production",
      ] {
        #expect(error.text.contains(word), "\(word): \(error.text)")
      }
      let path = relay.configurationPath
      for options in [[], ["--tables"], ["--adopt"]] {
        let refused = try OutboxdProcess.command(["recover", "--config", path] + options)
        #expect(refused.status == 2, "\(refused.errors)")
        for word in ["outboxd recover --yes-this-is-the-original", scene.kafka.bootstrap] + options {
          #expect(refused.errors.contains(word), "\(word): \(refused.errors)")
        }
      }
      #expect(try OutboxdProcess.command(["recover", "--config", path, "--dry-run"]).status == 0)
      #expect(try scene.workload.count() == count)
      let accepted = try OutboxdProcess.command(["recover", "--config", path, "--yes-this-is-the-original"])
      #expect(accepted.status == 0, "\(accepted.errors)\(accepted.output)")
      let again = try OutboxdProcess(configuration)
      try again.waitUntilReady()
      #expect(try again.terminate() == 0)
    }

    @Test(arguments: ends) func `a storage clone sends nothing once its original has gone on`(version: Int)
      throws
    {
      let scene = try production(version)
      let clone = try PostgresServer(copyOf: scene.server, withSlots: true, promoted: false)
      // More than the clone itself will write.
      try scene.server.sql("SELECT pg_switch_wal()")
      try publish(scene, 5)
      let count = try scene.workload.count()
      let configuration = configuration(scene, clone)
      let relay = try OutboxdProcess(configuration)
      try relay.waitUntilReady()
      try emit(clone, 2)
      #expect(try relay.process.wait(seconds: 30) == 16, "\(relay.tail)")
      let error = try #require(relay.log.last { $0.level == "error" })
      for word in [
        "another server with the same history", scene.kafka.bootstrap, "--yes-this-is-the-original",
      ] {
        #expect(error.text.contains(word), "\(word): \(error.text)")
      }
      // A job does not send either.
      let job = try eventually("the slot is free", within: 20) {
        let job = try OutboxdProcess.command(["recover", "--config", relay.configurationPath, "--tables"])
        return job.status == 75 ? nil : job
      }
      #expect(job.status == 16, "\(job.errors)")
      #expect(try scene.workload.count() == count)
      // The original goes on as ever.
      try publish(scene, 2)
      // Had the original been restored, it would be told so.
      let word = ["recover", "--config", relay.configurationPath, "--yes-this-is-the-original"]
      let accepted = try OutboxdProcess.command(word)
      #expect(accepted.status == 0 && accepted.output.contains("is the original"), "\(accepted.errors)")
      let again = try OutboxdProcess(configuration)
      try eventually("the clone's events are delivered", within: 30) {
        try again.metric("outboxd_events_delivered_total").map { $0 >= 2 } ?? false
      }
      #expect(try again.terminate() == 0)
    }
  }
}
