// Owns: floating-point numbers as Postgres prints them (float8out and float4out; src/common/d2s.c and f2s.c).
// Must not know: what the text is for.
import Glibc

/// The shortest decimal that reads back as the same number, though never one that lies exactly between two numbers:
/// Postgres does not rely on how its reader rounds. Between 1e-4 and 1e15 (float4: 1e6) it is written out, elsewhere with
/// an exponent of two digits or more.
enum FloatText {
  /// The longest text, in bytes: `-1.2345678901234567e-308`.
  static let maximumCount = 32

  static func write(_ number: Double, to target: UnsafeMutableRawPointer) -> Int {
    write(number, digits: 17, fixedLimit: 15, to: target)
  }

  static func write(_ number: Float, to target: UnsafeMutableRawPointer) -> Int {
    write(number, digits: 9, fixedLimit: 6, to: target)
  }

  private static func write<Number: BinaryFloatingPoint & LosslessStringConvertible>(
    _ number: Number, digits: Int, fixedLimit: Int, to target: UnsafeMutableRawPointer
  ) -> Int {
    var cursor = ByteCursor(target)
    if number.isNaN {
      cursor.put("NaN")
      return cursor.count
    }
    if number.sign == .minus { cursor.put("-") }
    if number.isInfinite {
      cursor.put("Infinity")
    } else if number.isZero {
      cursor.put("0")
    } else {
      put(shortest(number.magnitude, digits: digits), fixedLimit: fixedLimit, to: &cursor)
    }
    return cursor.count
  }

  /// `digits · 10^exponent`; the last digit is not 0.
  private struct Decimal {
    var digits: UInt64
    var exponent: Int

    init(digits: UInt64, exponent: Int) {
      self.digits = digits
      self.exponent = exponent
      while self.digits > 0, self.digits % 10 == 0 {
        self.digits /= 10
        self.exponent += 1
      }
    }

    /// Of `1.25e-07`, `0.5` or `1250.0`.
    init(_ text: some Sequence<UInt8>) {
      var digits: UInt64 = 0
      var scale = 0
      var exponent = 0
      var (isFraction, isExponent, isNegative) = (false, false, false)
      for byte in text {
        switch byte {
        case 0x30...0x39 where isExponent: exponent = exponent * 10 + Int(byte - 0x30)
        case 0x30...0x39:
          digits = digits &* 10 &+ UInt64(byte - 0x30)
          if isFraction { scale -= 1 }
        case 0x2E: isFraction = true
        case 0x65, 0x45: isExponent = true
        case 0x2D: isNegative = true
        default: break
        }
      }
      self.init(digits: digits, exponent: scale + (isNegative ? -exponent : exponent))
    }

    var text: String { "\(digits)e\(exponent)" }
    var count: Int { String(digits).utf8.count }
  }

  private static func put(_ decimal: Decimal, fixedLimit: Int, to cursor: inout ByteCursor) {
    var digits = String(decimal.digits)
    digits.withUTF8 { digits in
      let first = decimal.exponent + digits.count - 1
      if first >= -4 && first < fixedLimit {
        let whole = first + 1
        if whole <= 0 {
          cursor.put("0.")
          cursor.put(zeros: -whole)
        }
        for (index, digit) in digits.enumerated() {
          if index == whole, index > 0 { cursor.put(".") }
          cursor.put(byte: digit)
        }
        cursor.put(zeros: decimal.exponent)
      } else {
        for (index, digit) in digits.enumerated() {
          if index == 1 { cursor.put(".") }
          cursor.put(byte: digit)
        }
        cursor.put("e")
        cursor.put(first < 0 ? "-" : "+")
        cursor.put(Int64(first.magnitude), width: 2)
      }
    }
  }

  /// Of a number above 0. Swift finds the shortest one too, but takes one that lies between two numbers where that
  /// rounds to this one.
  private static func shortest<Number: BinaryFloatingPoint & LosslessStringConvertible>(
    _ number: Number, digits limit: Int
  ) -> Decimal {
    let decimal = Decimal(number.description.utf8)
    guard isBetween(decimal, number) else { return decimal }
    var count = decimal.count + 1
    while count <= limit {
      let rounded = self.rounded(Double(number), digits: count)
      for candidate in [rounded.digits, rounded.digits + 1, rounded.digits - 1] {
        let decimal = Decimal(digits: candidate, exponent: rounded.exponent)
        if Number(decimal.text) == number, !isBetween(decimal, number) { return decimal }
      }
      count += 1
    }
    return decimal
  }

  /// The nearest number of that many digits, zeros at its end included.
  private static func rounded(_ number: Double, digits: Int) -> (digits: UInt64, exponent: Int) {
    var text = [CChar](repeating: 0, count: maximumCount)
    let written = withVaList([Int32(digits - 1), number]) { arguments in
      // SAFETY: vsnprintf writes at most the array's count; the arguments are those of the format.
      vsnprintf(&text, text.count, "%.*e", arguments)
    }
    let bytes = text.prefix(max(0, Int(written))).map { UInt8(bitPattern: $0) }
    let mantissa = bytes.prefix { $0 != 0x65 }.reduce(UInt64(0)) {
      (0x30...0x39).contains($1) ? $0 &* 10 &+ UInt64($1 - 0x30) : $0
    }
    let exponent = String(decoding: bytes.drop { $0 != 0x65 }.dropFirst(), as: UTF8.self)
    return (mantissa, (Int(exponent) ?? 0) - digits + 1)
  }

  /// Whether it lies exactly between `number` and one of its neighbours.
  private static func isBetween<Number: BinaryFloatingPoint>(_ decimal: Decimal, _ number: Number) -> Bool {
    guard let (odd, power) = binary(decimal) else { return false }
    // number = significand · 2^scale
    let scale = Int(number.ulp.exponent)
    let significand = UInt128(Double(number / number.ulp))
    if odd == significand * 2 + 1 || odd == significand * 2 - 1 { return power == scale - 1 }
    // Below a power of two the numbers lie twice as dense.
    return odd == significand * 4 - 1 && power == scale - 2 && number.significandBitPattern == 0
  }

  /// As `odd · 2^power`. Nil where it is no such number, or one of more digits than lie between two numbers.
  private static func binary(_ decimal: Decimal) -> (odd: UInt128, power: Int)? {
    // 5^28 alone has more bits than a number and the half of its last place.
    guard decimal.exponent.magnitude < 28 else { return nil }
    var fives: UInt128 = 1
    for _ in 0..<decimal.exponent.magnitude { fives *= 5 }
    var odd = UInt128(decimal.digits)
    if decimal.exponent >= 0 {
      odd *= fives
    } else {
      guard odd % fives == 0 else { return nil }
      odd /= fives
    }
    let zeros = odd.trailingZeroBitCount
    return (odd >> zeros, decimal.exponent + zeros)
  }
}
