// Owns: the offsets of a time zone, as the C library has them; which names are zones to Postgres too.
// Must not know: what they are for.
import Glibc
public import RelayCore

/// Asks the C library for a zone's offsets from 1900 to 2100, by its variable TZ, which is the process's: only while the
/// configuration is loaded, before there is another thread.
public enum TimeZoneDatabase {
  private static let years = (first: Int64(-2_208_988_800), last: Int64(4_102_444_800))
  /// No two changes of a zone's offset lie closer together.
  private static let step: Int64 = 86_400

  /// - Throws: `configurationInvalid` for a name that the system's time zone database does not have. The C library would
  ///   take it for UTC.
  public static func rules(_ name: String) throws(RelayError) -> TimeZoneRules {
    if name == "UTC" { return .utc }
    // To Postgres these are abbreviations, each with one offset all the year, except as the setting TimeZone.
    if ["CET", "EET", "MET", "WET"].contains(name) {
      throw RelayError(
        .configurationInvalid, "\"\(name)\" is ambiguous in Postgres: a zone, and a fixed offset",
        remedy: "write a name with a region, for example Europe/Paris")
    }
    let folder = getenv("TZDIR").map { String(cString: $0) } ?? "/usr/share/zoneinfo"
    guard isName(name), isZoneFile("\(folder)/\(name)") else {
      throw RelayError(
        .configurationInvalid, "\"\(name)\" is not a time zone of the database in \(folder)",
        remedy:
          "write a name of IANA's, as pg_timezone_names has it (Europe/Berlin), or UTC; the database comes with "
          + "the package tzdata")
    }
    let before = getenv("TZ").map { String(cString: $0) }
    setenv("TZ", ":" + name, 1)
    tzset()
    defer {
      if let before { setenv("TZ", before, 1) } else { unsetenv("TZ") }
      tzset()
    }
    return TimeZoneRules(name: name, offsets: offsets())
  }

  /// Not the files beside the zones, nor the zones that count leap seconds.
  private static func isName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 100 && !name.contains("..") && !name.hasSuffix("/")
      && name.utf8.first.map { (0x41...0x5A).contains($0) } == true
      && name.utf8.allSatisfy {
        (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || (0x2B...0x39).contains($0) || $0 == 0x5F
      }
  }

  private static func isZoneFile(_ path: String) -> Bool {
    (try? SmallFile.read(path, .anyOwner, limit: 4))?.elementsEqual("TZif".utf8) == true
  }

  private static func offsets() -> [TimeZoneRules.Offset] {
    var list = [TimeZoneRules.Offset(start: years.first, seconds: offset(at: years.first))]
    var time = years.first
    while time < years.last {
      let next = time + step
      let seconds = offset(at: next)
      if seconds != list[list.count - 1].seconds {
        list.append(TimeZoneRules.Offset(start: change(after: time, by: next), seconds: seconds))
      }
      time = next
    }
    return list
  }

  /// The first second with the offset of `later`.
  private static func change(after earlier: Int64, by later: Int64) -> Int64 {
    let seconds = offset(at: later)
    var (low, high) = (earlier, later)
    while high - low > 1 {
      let middle = (low + high) / 2
      if offset(at: middle) == seconds { high = middle } else { low = middle }
    }
    return high
  }

  private static func offset(at time: Int64) -> Int64 {
    var moment = time_t(time)
    var local = tm()
    localtime_r(&moment, &local)
    return Int64(local.tm_gmtoff)
  }
}
