// Owns: the settings of the C library's allocator that a relay needs.
// Must not know: who allocates.
import Glibc

/// librdkafka allocates each header of each record here and frees it on a thread of its own. With glibc's default
/// of 7 cached pieces of a size that costs more than all the rest of a row (measured: 6.2 against 2.7 µs). More than
/// the headers of what is usually in flight is of no use: a thread that frees what another allocates keeps as many
/// pieces as it may, for good (measured at 5,000 events/s: 77 MB in place of 41; with 1,000 topics, twice as many
/// pieces: 13 MB more). Half as many cost a tenth more CPU.
///
/// librdkafka also allocates a buffer for each request, whose memory glibc gives back to the system and takes again
/// each time, two system calls and a page fault a request. The settings are read before `main` only, from the
/// environment. So the process starts itself once more, in place.
enum AllocatorTuning {
  private static let variable = "GLIBC_TUNABLES"
  private static let first = "glibc.malloc.tcache_count"
  /// A fixed trim_threshold ends the adaptation of mmap_threshold, which is why that is set too. In bytes.
  private static let tunables =
    "\(first)=8192:glibc.malloc.trim_threshold=4194304:glibc.malloc.mmap_threshold=4194304"

  /// Returns where the settings are in force already, or the process cannot be started again: it then runs
  /// slower, and otherwise the same.
  static func apply(_ environment: [String: String]) {
    let current = environment[variable] ?? ""
    guard !current.contains(first), let path = executable() else { return }
    setenv(variable, current.isEmpty ? tunables : "\(current):\(tunables)", 1)
    let words = CommandLine.arguments.map { strdup($0) }
    // SAFETY: the list ends with nil, and its texts live until the call has replaced the process or failed.
    execv(path, words + [nil])
    words.forEach { free($0) }
  }

  private static func executable() -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
      // SAFETY: readlink(2) writes at most the buffer's size, and returns how much.
      guard let start = buffer.baseAddress else { return nil }
      let count = readlink("/proc/self/exe", start, buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }
}
