// Owns: one metric: its name, type, help, and where its samples come from.
// Must not know: the text format.

struct Metric: Sendable {
  enum Kind: String, Sendable { case counter, gauge, histogram }

  struct Sample: Sendable {
    /// `_bucket`, `_sum`, `_count` of a histogram; else empty.
    var suffix = ""
    var labels: [(name: String, value: String)] = []
    var value: String
  }

  let name: String
  let kind: Kind
  let help: String
  /// No sample: the value is not known, and the metric is left out.
  let samples: @Sendable (MetricSnapshot) -> [Sample]
}
