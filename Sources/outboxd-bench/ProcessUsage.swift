// Owns: what the kernel says of a process: CPU time, memory, whether it has ended.
// Must not know: which process it is.
import Glibc

enum ProcessUsage {
  /// User and system CPU time in seconds, of all threads; nil where there is no such process. In nanoseconds
  /// while it runs, in ticks of 10 ms once it has ended and waits for its parent.
  static func cpuSeconds(_ processID: pid_t) -> Double? {
    guard let ticks = ticks(processID) else { return nil }
    return max(ticks.user + ticks.system, threadSeconds(processID))
  }

  /// The same, told apart, in ticks of 10 ms.
  static func ticks(_ processID: pid_t) -> (user: Double, system: Double)? {
    guard let text = content("/proc/\(processID)/stat"), let parenthesis = text.lastIndex(of: ")") else {
      return nil
    }
    // The fields after the name, which may hold spaces; utime is the 14th of all.
    let fields = text[text.index(after: parenthesis)...].split(separator: " ")
    guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
      return nil
    }
    let frequency = Double(sysconf(Int32(_SC_CLK_TCK)))
    return (user / frequency, system / frequency)
  }

  private static func threadSeconds(_ processID: pid_t) -> Double {
    guard let folder = opendir("/proc/\(processID)/task") else { return 0 }
    defer { closedir(folder) }
    var nanoseconds = 0.0
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard name != ".", name != "..", let text = content("/proc/\(processID)/task/\(name)/schedstat"),
        let first = text.split(separator: " ").first, let time = Double(first)
      else { continue }
      nanoseconds += time
    }
    return nanoseconds / 1e9
  }

  /// A line of /proc/PID/status in megabytes: `VmHWM` is the peak, `VmRSS` what it is now.
  static func megabytes(_ name: String, _ processID: pid_t) -> Double? {
    guard let text = content("/proc/\(processID)/status") else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix(name + ":") }
    return line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Double($0) }
      .map { $0 / 1024 }
  }

  /// True once a child has ended. It is not reaped, so its figures can still be read.
  static func hasEnded(_ processID: pid_t) -> Bool {
    var information = siginfo_t()
    return waitid(P_PID, id_t(processID), &information, WEXITED | WNOHANG | WNOWAIT) == 0
      && information.si_signo == SIGCHLD
  }

  /// A small file as text; nil where it cannot be read.
  static func content(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      guard count >= 0 else { return nil }
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[0..<count]
    }
  }
}
