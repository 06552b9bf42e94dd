// Owns: numbers as people read them.
// Must not know: what is counted.

/// Numbers for people.
enum JobText {
  /// `1,234,567`
  static func grouped(_ number: UInt64) -> String {
    let digits = Array(String(number))
    return digits.indices.map { ($0 > 0 && (digits.count - $0) % 3 == 0 ? "," : "") + String(digits[$0]) }
      .joined()
  }

  /// `0:07`, `12:03`, `3:00:07`
  static func duration(seconds: Int) -> String {
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    return hours > 0
      ? "\(hours):\(two(minutes)):\(two(seconds % 60))" : "\(minutes):\(two(seconds % 60))"
  }
}
