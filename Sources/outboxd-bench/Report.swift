// Owns: the results of one case and of the run, as a table and as JSON.
// Must not know: how they came about.
import FoundationEssentials
import Glibc
import RelayTesting

/// The figures of one case: one line for each label, a summary for each figure.
final class CaseReport: Encodable {
  let name: String
  let title: String
  private(set) var notes: [String] = []
  private(set) var labels: [String] = []
  private(set) var hasFailed = false
  private var values: [String: [Figure: [Double]]] = [:]

  init(_ name: String, title: String) {
    self.name = name
    self.title = title
  }

  func add(_ figures: Figures, to label: String) {
    if values[label] == nil { labels.append(label) }
    for (figure, value) in figures { values[label, default: [:]][figure, default: []].append(value) }
  }

  func note(_ text: String) {
    if !notes.contains(text) { notes.append(text) }
  }

  func fail(_ error: any Error) {
    hasFailed = true
    note("failed: \(error)")
  }

  func summary(_ label: String, _ figure: Figure) -> Summary? {
    values[label]?[figure].flatMap { Summary($0) }
  }

  // MARK: Table

  /// The cells are medians, and below them the spread where there was more than one repetition.
  var table: String {
    let columns = Figure.allCases.filter { figure in
      figure.isInTable && labels.contains { values[$0]?[figure] != nil }
    }
    var rows = [[""] + columns.map(\.title)]
    for label in labels where !columns.isEmpty {
      let summaries = columns.map { summary(label, $0) }
      rows.append(
        [label]
          + zip(columns, summaries).map { figure, summary in summary.map { figure.text($0.median) } ?? "" })
      guard summaries.contains(where: { ($0?.values.count ?? 0) > 1 }) else { continue }
      rows.append(
        [""]
          + zip(columns, summaries).map { figure, summary in
            guard let summary, summary.min != summary.max else { return "" }
            return "\(figure.text(summary.min))–\(figure.text(summary.max))"
          })
    }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    var text = "\n\(name): \(title)\n"
    for row in rows where row.count > 1 {
      var line = ""
      for (column, cell) in row.enumerated() {
        let space = String(repeating: " ", count: widths[column] - cell.count)
        line += column == 0 ? cell + space : "  " + space + cell
      }
      while line.last == " " { line.removeLast() }
      text += line + "\n"
    }
    for note in notes { text += "  \(note)\n" }
    return text
  }

  // MARK: JSON

  private enum Key: String, CodingKey { case name, title, notes, results, contender, figures }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(name, forKey: .name)
    try container.encode(title, forKey: .title)
    try container.encode(notes, forKey: .notes)
    var results = container.nestedUnkeyedContainer(forKey: .results)
    for label in labels {
      var result = results.nestedContainer(keyedBy: Key.self)
      try result.encode(label, forKey: .contender)
      var figures: [String: Summary] = [:]
      for figure in Figure.allCases { figures[figure.rawValue] = summary(label, figure) }
      try result.encode(figures, forKey: .figures)
    }
  }
}

/// The whole run.
struct RunReport: Encodable {
  struct Machine: Encodable {
    let processor: String
    let processors: Int
    let memoryGigabytes: Double
    let kernel: String
    /// Decides how many rows share a segment, and so what the walsender can send.
    let congestionControl: String

    static func read() -> Machine {
      func value(_ path: String, _ name: String) -> String {
        let line = ProcessUsage.content(path)?.split(separator: "\n").first { $0.hasPrefix(name) }
        let text = line?.split(separator: ":", maxSplits: 1).last ?? ""
        return String(text.drop(while: { $0 == " " || $0 == "\t" }))
      }
      let memory = value("/proc/meminfo", "MemTotal").split(separator: " ").first.flatMap { Double($0) } ?? 0
      func line(_ path: String) -> String {
        String(ProcessUsage.content(path)?.split(separator: "\n").first ?? "")
      }
      return Machine(
        processor: value("/proc/cpuinfo", "model name"), processors: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
        memoryGigabytes: (memory / 1024 / 1024 * 10).rounded() / 10,
        kernel: line("/proc/sys/kernel/osrelease"),
        congestionControl: line("/proc/sys/net/ipv4/tcp_congestion_control"))
    }
  }

  let command: [String]
  let machine = Machine.read()
  let postgres: String
  let kafka: String
  /// Lines of `outboxd version`.
  let outboxd: [String]
  let repetitions: Int
  var cases: [CaseReport] = []

  init(_ servers: Servers, command: [String], repetitions: Int) throws {
    self.command = command
    self.repetitions = repetitions
    postgres = try servers.database.value("SELECT version()") ?? ""
    kafka = servers.kafkaName
    outboxd = try ChildProcess.check([servers.outboxd, "version"]).split(separator: "\n").map(String.init)
  }

  var head: String {
    """
    \(machine.processors) processors (\(machine.processor)), \(machine.memoryGigabytes) GB, Linux \(machine.kernel)
    \(postgres.split(separator: ",").first ?? "") over TCP (\(machine.congestionControl)), fsync off, shared_buffers 512MB
    \(kafka), lz4; \(outboxd.joined(separator: ", "))
    medians of \(repetitions), interleaved; below them lowest–highest

    """
  }

  func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try encoder.encode(self).write(to: URL(filePath: path))
  }
}
