// Owns: the text forms of a place in the history, as a command line gives it.
// Must not know: what is done with the place.
import RelayCore

enum ReplayPlaceText {
  /// The commit LSN of an event's `sequence`: `00000000019a3f28-00000007`. Nil for anything else.
  static func commitLSN(ofSequence text: String) -> LSN? {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].utf8.count == 16, parts[1].utf8.count == 8,
      parts.allSatisfy({ $0.utf8.allSatisfy(isHexadecimal) }), let value = UInt64(parts[0], radix: 16)
    else { return nil }
    return LSN(value)
  }

  private static func isHexadecimal(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x46, 0x61...0x66: true
    default: false
    }
  }
}
