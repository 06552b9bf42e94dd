// Owns: `outboxd status`: what the database knows of the relay, and the outboxd here, once or again and again.
// Must not know: catalog queries, how it is shown.
import Glibc
import PostgresSource
import RelayCore

enum StatusCommand {
  static func run(_ invocation: Invocation) throws(RelayError) -> Int32 {
    let configuration = try invocation.loadConfiguration().configuration
    let isWatching = invocation.isSet("watch")
    while true {
      let facts = try PostgresSource.inspect(
        settings: configuration.postgres, mappings: configuration.outboxes, stop: StopSignal())
      let answer = configuration.admin.flatMap { AdminClient(settings: $0).status() }
      let status = RelayStatus(
        facts: facts, settings: configuration.postgres, mappings: configuration.outboxes,
        local: answer.flatMap(LocalRelay.init),
        replay: try PostgresSource.replayStatus(
          settings: configuration.postgres.on(facts.server), stop: StopSignal()))
      Terminal.printOutput(invocation.isSet("json") ? status.json.pretty : status.text)
      guard isWatching else { return status.isHealthy ? 0 : 1 }
      Terminal.printOutput("\n")
      sleep(2)
    }
  }
}
