// Owns: a TCP proxy between outboxd and a server, which fails on command. See Tests/oracle/fault_proxy.py.
import Foundation

public final class FaultProxy {
  public let port: Int
  private let process: ChildProcess
  private var answers = 1

  public init(target: Int, port: Int? = nil) throws {
    self.port = try port ?? freePort()
    process = try ChildProcess(
      [TestTools.python, Workload.folder + "/fault_proxy.py", "\(self.port)", "\(target)"], input: .open)
    try awaitAnswers()
  }

  /// `pass`, `blackhole`, `cut`, `refuse`, `delay SECONDS`, `cutafter BYTES`, `target PORT...`.
  public func command(_ line: String) throws {
    try process.write(line + "\n")
    answers += 1
    try awaitAnswers()
  }

  private func awaitAnswers() throws {
    try eventually("the fault proxy answers: \(process.errors)", within: 10) {
      process.output.split(separator: "\n").count >= answers
    }
  }
}
