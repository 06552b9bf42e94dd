// Owns: temporary folders, polling with a deadline, free ports, and where the tools of the tests are.
import Foundation
import Glibc

/// Folders below one that is removed when the test process ends.
public enum TestFolder {
  private static let root: String = {
    var template = Array("/tmp/outboxd-test.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { return "/tmp" }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, 0o755)
    // OUTBOXD_TEST_KEEP leaves logs and data for a look afterwards.
    if ProcessInfo.processInfo.environment["OUTBOXD_TEST_KEEP"] == nil {
      Reaper.shared.tell("folder \(path)")
    }
    return path
  }()

  /// A new, empty folder that everybody may read.
  public static func make(_ name: String) -> String {
    let path = "\(root)/\(name)-\(ChildProcess.nextNumber())"
    mkdir(path, 0o755)
    return path
  }
}

/// Asks `condition` until it gives a value, at least every 20 ms. Throws `what` when `seconds` have passed.
@discardableResult
public func eventually<Value>(
  _ what: @autoclosure () -> String, within seconds: Double, _ condition: () throws -> Value?
) throws -> Value {
  let deadline = Date().addingTimeInterval(seconds)
  var pause: UInt32 = 1000
  while true {
    if let value = try condition() { return value }
    if Date() > deadline { throw HarnessError("not within \(seconds) s: \(what())") }
    usleep(pause)
    pause = min(pause * 2, 20_000)
  }
}

/// The same for a condition that is true or false.
public func eventually(
  _ what: @autoclosure () -> String, within seconds: Double, isTrue condition: () throws -> Bool
) throws {
  try eventually(what(), within: seconds) { try condition() ? true : nil }
}

/// A port of 127.0.0.1 that nobody listens on.
public func freePort() throws -> Int {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let bound = withUnsafeMutablePointer(to: &address) { pointer in
    // SAFETY: sockaddr_in is laid out as a sockaddr, and lives for the duration of the closure.
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
    }
  }
  guard bound else { throw HarnessError("no free port") }
  return Int(UInt16(bigEndian: address.sin_port))
}

/// Where things are that `Tests/setup` has put on the machine.
public enum TestTools {
  static let environment = ProcessInfo.processInfo.environment

  /// The repository's folder.
  public static let repository: String = {
    var url = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { url.deleteLastPathComponent() }
    return url.path
  }()

  static let cache: String = {
    if let cache = environment["OUTBOXD_TEST_CACHE"], !cache.isEmpty { return cache }
    if getuid() == 0 { return "/var/cache/outboxd-tests" }
    let base = environment["XDG_CACHE_HOME"] ?? "\(environment["HOME"] ?? "/tmp")/.cache"
    return "\(base)/outboxd-tests"
  }()

  /// The Python with the independent Kafka client.
  public static let python = "\(cache)/venv/bin/python"
  public static let hasOracle = access("\(cache)/venv/pins", R_OK) == 0

  /// The binary under test: OUTBOXD_BINARY, or the newest of the build folder.
  public static let outboxd: String? = {
    if let path = environment["OUTBOXD_BINARY"], !path.isEmpty { return path }
    return ["release", "debug"].map { "\(repository)/.build/\($0)/outboxd" }.first { access($0, X_OK) == 0 }
  }()

  /// A prefix that no other test has: topics are shared, where a Kafka is.
  public static func uniqueName(_ stem: String) -> String {
    "\(stem)-\(getpid())-\(ChildProcess.nextNumber())"
  }

  public static func say(_ line: String) {
    FileHandle.standardError.write(Data("tests: \(line)\n".utf8))
  }
}
