// Owns: what the demo prints.
// Must not know: servers and processes.
import KafkaSink
import RelayCore

struct DemoView {
  let isStyled: Bool
  let topicWidth: Int

  func progress(_ text: String) { Terminal.printStyledError("\(dim("· \(text)"))\n") }

  func whereToLook(
    brokers: String, topics: [String], port: UInt16, conninfo: String, configuration: String,
    relayLog: String, isEndless: Bool
  ) {
    let format = "'%t [%p] %k %h\\n%s\\n\\n'"
    let first = topics.first ?? ""
    var text = """

      \(bold("The relay is running.")) To watch it:
        events    kcat -b \(brokers) -C -u -f \(format) -t \(first)
        topics    \(topics.joined(separator: ", "))
        metrics   curl http://127.0.0.1:\(port)/metrics    (also /readyz, /livez, /status)
        database  psql '\(Self.withoutPassword(conninfo))'
        file      \(configuration)
        log       \(relayLog)

      """
    if isEndless { text += "  Ctrl-C ends the demo and removes everything.\n" }
    Terminal.printStyledOutput(text + "\n")
  }

  /// A given conninfo is shown only where it holds no password.
  private static func withoutPassword(_ conninfo: String) -> String {
    let isOpen = conninfo.contains("password") || conninfo.contains("://")
    return isOpen ? "(your conninfo)" : PrintableText.escapingControls(conninfo)
  }

  func heading() {
    Terminal.printStyledOutput(
      bold(
        row(["time (UTC)", "topic", "part", "key", "type", "id", "since commit"])) + "\n")
  }

  func show(_ event: DemoEvent, _ record: ConsumedRecord, microseconds: Int) {
    let key = record.key.map { String(decoding: $0, as: UTF8.self) } ?? "(null)"
    let time = RFC3339.string(microseconds: postgresNow(), digits: 3).dropFirst(11).prefix(12)
    Terminal.printOutput(
      row([
        String(time), record.topic, String(record.partition), key.count > 9 ? key.prefix(8) + "…" : key,
        event.type, event.id, Self.milliseconds(microseconds),
      ]) + "\n")
  }

  func closing(_ counts: DemoLedger.Counts) {
    let sorted = counts.latencies.sorted()
    var text =
      "\n\(bold("\(counts.arrived) of \(counts.written) events")) of \(counts.services.count) services arrived"
    if let worst = sorted.last {
      text += ", half of them within \(Self.milliseconds(sorted[sorted.count / 2])) of their commit"
      text += " (the slowest \(Self.milliseconds(worst)))"
    }
    text += ". \(counts.rolledBack) rolled back, \(counts.invented) of those seen"
    if counts.repeated > 0 { text += ", \(counts.repeated) seen twice" }
    Terminal.printStyledOutput(text + ". Everything is stopped and removed.\n")
  }

  private func row(_ cells: [String]) -> String {
    // The last column needs no width.
    let widths = [12, topicWidth, 4, 9, 17, 36, 0]
    return zip(cells, widths).map { cell, width in
      cell + String(repeating: " ", count: max(0, width - cell.count))
    }.joined(separator: "  ")
  }

  private static func milliseconds(_ microseconds: Int) -> String {
    let tenths = (microseconds + 50) / 100
    return "\(tenths / 10).\(tenths % 10) ms"
  }

  private func bold(_ text: String) -> String { styled(text, "\u{1B}[1m") }
  private func dim(_ text: String) -> String { styled(text, "\u{1B}[2m") }

  private func styled(_ text: String, _ style: String) -> String {
    let text = PrintableText.escapingControls(text)
    return isStyled ? "\(style)\(text)\u{1B}[0m" : text
  }
}
