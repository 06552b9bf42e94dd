// Owns: Prometheus' text format, version 0.0.4.
// Must not know: which metrics there are.

enum MetricsText {
  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  static func render(_ metrics: [Metric], _ snapshot: MetricSnapshot) -> String {
    var text = ""
    for metric in metrics {
      let samples = metric.samples(snapshot)
      if samples.isEmpty { continue }
      text += "# HELP \(metric.name) \(escape(metric.help, quotes: false))\n"
      text += "# TYPE \(metric.name) \(metric.kind.rawValue)\n"
      for sample in samples {
        text += metric.name + sample.suffix
        if !sample.labels.isEmpty {
          let labels = sample.labels.map { "\($0.name)=\"\(escape($0.value, quotes: true))\"" }
          text += "{" + labels.joined(separator: ",") + "}"
        }
        text += " \(sample.value)\n"
      }
    }
    return text
  }

  private static func escape(_ text: String, quotes: Bool) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
