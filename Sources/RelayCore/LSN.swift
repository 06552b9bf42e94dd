// Owns: the log sequence number and its text form.
// Must not know: where an LSN comes from, or what is done with it.

/// A position in the write-ahead log: a byte offset, 0 to 2⁶⁴−1. Zero means "none".
///
/// Source: PostgreSQL manual, 8.20 "pg_lsn Type".
public struct LSN: Hashable, Comparable, Sendable {
  public let rawValue: UInt64

  public static let zero = LSN(0)

  @inlinable
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  @inlinable
  public static func < (left: LSN, right: LSN) -> Bool { left.rawValue < right.rawValue }
}

extension LSN: CustomStringConvertible, LosslessStringConvertible {
  /// Parses `16/B374D848`: two hexadecimal numbers of one to eight digits each. Nil for anything else.
  public init?(_ description: String) {
    let parts = description.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2,
      parts.allSatisfy({ (1...8).contains($0.utf8.count) && $0.utf8.allSatisfy(\.isHexDigit) }),
      let high = UInt64(parts[0], radix: 16), let low = UInt64(parts[1], radix: 16)
    else { return nil }
    self.init(high << 32 | low)
  }

  /// As Postgres prints it: `16/B374D848`.
  public var description: String {
    String(rawValue >> 32, radix: 16, uppercase: true) + "/"
      + String(rawValue & 0xFFFF_FFFF, radix: 16, uppercase: true)
  }
}

extension UInt8 {
  /// True for `0`–`9`, `a`–`f`, `A`–`F`. `UInt64(_:radix:)` alone would let a sign through.
  var isHexDigit: Bool {
    switch self {
    case 0x30...0x39, 0x41...0x46, 0x61...0x66: true
    default: false
    }
  }
}
