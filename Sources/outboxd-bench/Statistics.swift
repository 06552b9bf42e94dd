// Owns: what is told of several measurements of one thing; the clock of the measurements.
// Must not know: what was measured.
import Glibc

/// Median and spread.
struct Summary: Encodable {
  let median: Double
  let min: Double
  let max: Double
  /// In the order of the repetitions.
  let values: [Double]

  /// Nil for no values.
  init?(_ values: [Double]) {
    let sorted = values.sorted()
    guard let first = sorted.first, let last = sorted.last else { return nil }
    let middle = sorted.count / 2
    median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    min = first
    max = last
    self.values = values
  }
}

/// Seconds of CLOCK_MONOTONIC.
func monotonicSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

/// A Prometheus histogram's buckets, cumulative, by upper bound in seconds.
struct Histogram {
  private(set) var buckets: [(bound: Double, count: Double)] = []

  /// Takes the samples of `name` out of a scrape.
  init(_ name: String, scrape: String) {
    for line in scrape.split(separator: "\n") where line.hasPrefix(name + "_bucket{le=\"") {
      let rest = line.dropFirst(name.utf8.count + 12)
      guard let quote = rest.firstIndex(of: "\""), let value = rest.split(separator: " ").last,
        let count = Double(value)
      else { continue }
      buckets.append((Double(rest[..<quote]) ?? .infinity, count))
    }
  }

  var count: Double { buckets.last?.count ?? 0 }

  /// What came since `earlier`, at a quantile from 0 to 1, by a straight line within its bucket. Nil where
  /// nothing came.
  func quantile(_ quantile: Double, since earlier: Histogram) -> Double? {
    guard earlier.buckets.count == buckets.count else { return nil }
    let counts = zip(buckets, earlier.buckets).map { $0.count - $1.count }
    guard let total = counts.last, total > 0 else { return nil }
    let rank = quantile * total
    var lower = 0.0
    var below = 0.0
    for (index, count) in counts.enumerated() {
      let bound = buckets[index].bound
      if count >= rank {
        guard bound.isFinite, count > below else { return lower }
        return lower + (bound - lower) * (rank - below) / (count - below)
      }
      lower = bound
      below = count
    }
    return lower
  }
}
