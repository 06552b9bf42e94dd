// Owns: the run: options, servers, one case after the other, the report.
// Must not know: what a case measures.
import Glibc
import RelayTesting

@main
struct OutboxdBench {
  static func main() {
    do {
      let options = try Options(Array(CommandLine.arguments.dropFirst()))
      if options.wantsHelp { return print(Options.help, terminator: "") }
      let cases = Case.all.filter { options.selects($0.name) }
      guard !cases.isEmpty else { throw HarnessError("no such case; see --list") }
      if options.list {
        for item in cases { print("\(item.name)\n    \(item.summary)") }
        return
      }
      try run(cases, options)
    } catch {
      Progress.say("outboxd-bench: \(error)")
      exit(1)
    }
  }

  private static func run(_ cases: [Case], _ options: Options) throws {
    let began = monotonicSeconds()
    let bench = Bench(servers: try Servers(), options: options)
    var report = try RunReport(bench.servers, command: CommandLine.arguments, repetitions: options.turns)
    print(report.head)
    try warmUp(bench)
    for item in cases {
      let result = CaseReport(item.name, title: item.summary)
      do {
        try item.run(bench, result)
      } catch {
        // The other cases' figures are worth having.
        result.fail(error)
        Progress.say("\(item.name) failed: \(error)")
      }
      print(result.table)
      fflush(nil)
      report.cases.append(result)
      // After each case, so that an interrupted run leaves something.
      if let path = options.json { try report.write(to: path) }
    }
    print("\n\(cases.count) cases in \(Int((monotonicSeconds() - began) / 60)) minutes")
    if report.cases.contains(where: \.hasFailed) { exit(1) }
  }

  /// A broker is a JVM too: what it does first is slow.
  private static func warmUp(_ bench: Bench) throws {
    Progress.say("warming up \(bench.servers.kafkaName)")
    let backlog = try Backlog(Workload(rows: 10_000), bench.servers.database)
    try Drain(servers: bench.servers, backlog: backlog).produce(bench.options.quick ? 300_000 : 1_000_000)
    try backlog.clear()
  }
}
