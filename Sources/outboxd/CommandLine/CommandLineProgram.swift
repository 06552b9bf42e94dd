// Owns: the way of one command line: parse, run, print what went wrong, exit code.
// Must not know: any command by name.
import Glibc
import RelayCore

enum CommandLineProgram {
  /// - Parameter words: without the program's name.
  /// - Returns: the exit code.
  static func run(_ words: [String], environment: [String: String]) -> Int32 {
    // A reader of our output that goes away must not kill the relay.
    signal(SIGPIPE, SIG_IGN)
    do throws(RelayError) {
      let invocation = try CommandParser.parse(words, environment: environment)
      if invocation.isSet("help") {
        let help = HelpText(isStyled: Terminal.wantsStyle(STDOUT_FILENO, environment: environment))
        Terminal.printStyledOutput(help.command(invocation.command))
        return 0
      }
      return try invocation.command.run(invocation)
    } catch {
      Terminal.printError(text(of: error))
      return error.kind.exitCode
    }
  }

  /// The configuration's faults stand for themselves, one a line; everything else has what happened, and
  /// below it what to do.
  static func text(of error: RelayError) -> String {
    if error.kind == .configurationInvalid, error.remedy == nil { return error.message + "\n" }
    var text = "outboxd: \(PrintableText.escapingControls(error.message))"
    if let code = error.code { text += " [\(code)]" }
    text += "\n"
    if let remedy = error.remedy { text += "  \(PrintableText.escapingControls(remedy))\n" }
    return text
  }

  /// The environment of this process. A variable that is not UTF-8 is repaired with U+FFFD.
  static func processEnvironment() -> [String: String] {
    var result: [String: String] = [:]
    var entry = environ
    // SAFETY: `environ` ends with NULL; each entry is a C string; no other thread runs yet.
    while let text = entry.pointee {
      let pair = String(cString: text)
      if let equals = pair.firstIndex(of: "=") {
        result[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
      }
      entry += 1
    }
    return result
  }
}
