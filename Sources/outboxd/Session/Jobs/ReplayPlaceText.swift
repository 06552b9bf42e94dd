// Owns: the text forms of a place in the history, as a command line gives it.
// Must not know: what is done with the place.
import PostgresSource
import RelayCore

enum ReplayPlaceText {
  static let forms =
    "an LSN (0/16B3748), an event's sequence (00000000016b3748-00000000), a time with its zone "
    + "(2026-11-21T10:00:00Z), or how long ago (15m, 2h, 3d)"

  /// - Parameters:
  ///   - option: for messages: `--from`.
  ///   - now: what an age counts back from.
  /// - Throws: `usage`, on one line.
  static func parse(
    _ text: String, option: String, now: PostgresMicroseconds
  ) throws(RelayError) -> ReplayPlace {
    func fault(_ reason: String) -> RelayError {
      RelayError(.usage, "\(option) \"\(text)\" \(reason)", remedy: "Write \(forms).")
    }
    if text.contains("/") {
      guard let lsn = LSN(text) else {
        throw fault("is not an LSN: two hexadecimal numbers of 1 to 8 digits with a slash between them")
      }
      guard lsn > .zero else { throw fault("is not a position in the WAL") }
      return .lsn(lsn)
    }
    if let lsn = commitLSN(ofSequence: text) { return .lsn(lsn) }
    if let age = age(text) {
      guard age <= 100_000 * 86_400 else { throw fault("is too long ago") }
      return .time(now - age * 1_000_000)
    }
    do throws(RFC3339.ParseFault) {
      return .time(try RFC3339.parse(text))
    } catch {
      switch error {
      case .noZone: throw fault("has no zone; for UTC write \(text)Z")
      case .malformed: throw fault("is neither an LSN nor a time")
      }
    }
  }

  /// `30s`, `15m`, `2h`, `3d` in seconds.
  private static func age(_ text: String) -> Int64? {
    let digits = text.dropLast()
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), digits.utf8.count <= 9,
      let number = Int64(digits)
    else { return nil }
    switch text.last {
    case "s": return number
    case "m": return number * 60
    case "h": return number * 3600
    case "d": return number * 86_400
    default: return nil
    }
  }

  /// The commit LSN of an event's `sequence`: `00000000019a3f28-00000007`. Nil for anything else.
  static func commitLSN(ofSequence text: String) -> LSN? {
    Array(text.lowercased().utf8).withUnsafeBytes { EventSequence($0)?.commitLSN }
  }
}
