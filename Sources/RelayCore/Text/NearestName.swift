// Owns: the guess at what a misspelled name was meant to be.
// Must not know: what the names name.

public enum NearestName {
  /// The candidate with the smallest distance to `name`, if it is small enough to be a slip of the hand.
  public static func of(_ name: String, among candidates: [String]) -> String? {
    let written = name.lowercased()
    let limit = max(1, min(3, written.count / 3))
    var best: (name: String, distance: Int)?
    for candidate in candidates {
      let distance = distance(written, candidate.lowercased())
      if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.name
  }

  /// `did you mean "slot"?`
  public static func question(_ name: String, among candidates: [String]) -> String? {
    of(name, among: candidates).map { "did you mean \"\($0)\"?" }
  }

  /// Damerau-Levenshtein, in the form of optimal string alignment: insertions, deletions, substitutions and
  /// swaps of neighbours.
  public static func distance(_ left: String, _ right: String) -> Int {
    // A name is short; what is longer is no slip of the hand, and would cost time in square.
    let left = Array(left.unicodeScalars.prefix(100))
    let right = Array(right.unicodeScalars.prefix(100))
    if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
    var beforeLast = [Int](repeating: 0, count: right.count + 1)
    var last = Array(0...right.count)
    for row in 1...left.count {
      var current = [row] + [Int](repeating: 0, count: right.count)
      for column in 1...right.count {
        let cost = left[row - 1] == right[column - 1] ? 0 : 1
        current[column] = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + cost)
        if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
          current[column] = min(current[column], beforeLast[column - 2] + 1)
        }
      }
      (beforeLast, last) = (last, current)
    }
    return last[right.count]
  }
}
