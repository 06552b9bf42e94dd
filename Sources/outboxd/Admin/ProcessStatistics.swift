// Owns: what Linux says about this process.
// Must not know: who asks.
import Glibc
import RelayCore

struct ProcessStatistics: Sendable {
  /// User and system time, in seconds.
  var cpuSeconds: Double
  /// In bytes.
  var residentMemory: UInt64
  /// In bytes.
  var virtualMemory: UInt64
  var threads: UInt64
  var openDescriptors: Int?
  var maximumDescriptors: UInt64?
  /// Seconds since 1970.
  var startTime: Double?

  /// Nil where /proc cannot be read.
  /// Source: proc(5), /proc/pid/stat.
  static func read() -> ProcessStatistics? {
    // The second field, the name, may hold spaces and parentheses: the fields are counted from its end.
    guard let text = contents("/proc/self/stat"), let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    func field(_ number: Int) -> UInt64? {
      let index = number - 3
      return fields.indices.contains(index) ? UInt64(fields[index]) : nil
    }
    let ticks = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    guard let user = field(14), let system = field(15), let threads = field(20), let start = field(22),
      let virtualMemory = field(23), let pages = field(24)
    else { return nil }
    var limit = rlimit()
    let hasLimit = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
    return ProcessStatistics(
      cpuSeconds: Double(user + system) / ticks,
      residentMemory: pages * UInt64(max(1, sysconf(Int32(_SC_PAGESIZE)))), virtualMemory: virtualMemory,
      threads: threads, openDescriptors: descriptorCount(),
      maximumDescriptors: hasLimit ? UInt64(limit.rlim_cur) : nil,
      startTime: bootTime.map { $0 + Double(start) / ticks })
  }

  private static let bootTime: Double? = {
    guard let text = contents("/proc/stat"),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("btime ") })
    else { return nil }
    return Double(line.dropFirst("btime ".count))
  }()

  private static func contents(_ path: String) -> String? {
    guard let bytes = try? SmallFile.read(path, .anyOwner, limit: 1 << 20) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func descriptorCount() -> Int? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // Without ".", "..", and the directory's own descriptor.
    return max(0, count - 3)
  }
}
