// Owns: the command line: parsing, suggestions, help, completions, exit codes.
import Foundation
import RelayCore
import RelayTesting
import Testing

@testable import outboxd

private func message(_ words: String...) -> String {
  do {
    _ = try CommandParser.parse(words, environment: [:])
    return "no error"
  } catch {
    return "\(error.kind): \(error.message)"
  }
}

@Suite struct CommandLineTests {
  @Test("Options, values and arguments are read in every usual form")
  func forms() throws {
    let words = ["run", "--config=a.yaml", "--set", "x=1=2", "--set=y=2", "--log-level", "debug"]
    let invocation = try CommandParser.parse(words, environment: [:])
    #expect(invocation.value("config") == "a.yaml" && invocation.values("set") == ["x=1=2", "y=2"])
    let request = try invocation.configurationRequest()
    #expect(request.settings.map(\.key) == ["x", "y", "log.level"])
    #expect(request.settings.map(\.value) == ["1=2", "2", "debug"])
    #expect(try CommandParser.parse(["--version"], environment: [:]).command.name == "version")
    #expect(try CommandParser.parse(["-h"], environment: [:]).command.name == "help")
    #expect(try CommandParser.parse(["run", "-h"], environment: [:]).isSet("help"))
    #expect(try CommandParser.parse(["completions", "--", "zsh"], environment: [:]).arguments == ["zsh"])
    let demo = try CommandParser.parse(["demo", "--events", "20"], environment: [:])
    #expect(try demo.number("events", in: 1...100) == 20)
    #expect(throws: RelayError.self) { try demo.number("events", in: 1...10) }
  }

  @Test("A wrong word is named, with the word that was probably meant")
  func slips() {
    #expect(message() == "usage: no command given")
    #expect(message("rnu") == "usage: unknown command \"rnu\"; did you mean \"run\"?")
    #expect(message("run", "--confg", "x") == "usage: run has no option --confg; did you mean \"--config\"?")
    #expect(message("run", "--config") == "usage: --config needs a value: FILE")
    #expect(message("run", "--config", "a", "--config", "b") == "usage: --config is given twice")
    #expect(message("check", "--json=1") == "usage: --json takes no value")
    #expect(message("run", "extra") == "usage: run does not take \"extra\"")
    #expect(message("completions") == "usage: completions needs SHELL: bash, zsh or fish.")
    #expect(message("completions", "csh") == "usage: SHELL must be one of bash, zsh, fish, not \"csh\"")
    #expect(
      message("run", "--log-level", "inof")
        == "usage: --log-level must be one of debug, info, notice, warning, error, not \"inof\"; did you mean info?"
    )
  }

  @Test(
    "Every command's help begins with its examples and has its options and exit codes",
    arguments: CommandTable.all.map(\.name))
  func help(_ name: String) throws {
    let command = try #require(CommandTable.named(name))
    let text = HelpText().command(command)
    #expect(!command.examples.isEmpty)
    let examples = try #require(text.range(of: "Examples:"))
    let usage = try #require(text.range(of: "Usage:"))
    #expect(examples.lowerBound < usage.lowerBound)
    for option in command.options { #expect(text.contains("--\(option.name)")) }
    #expect(text.contains("Exit codes:\n  0 "))
    #expect(!text.contains("\u{1B}"))
    for line in text.split(separator: "\n") { #expect(line.count <= 120, "\(line)") }
  }

  @Test("The overview lists what is visible, and every exit code of the program")
  func overview() {
    let text = HelpText().overview()
    for command in CommandTable.all { #expect(text.contains("\n  \(command.name) ") != command.isHidden) }
    for kind in RelayError.Kind.allCases { #expect(ExitCodes.meaning(of: kind.exitCode) != nil, "\(kind)") }
    #expect(HelpText(isStyled: true).overview().contains("\u{1B}[1m"))
  }

  @Test("Names of commands and options are used once")
  func names() {
    #expect(Set(CommandTable.all.map(\.name)).count == CommandTable.all.count)
    for command in CommandTable.all {
      let names = command.allOptions.map(\.name) + command.allOptions.compactMap(\.short).map(String.init)
      #expect(Set(names).count == names.count)
    }
  }

  @Test("Bash reads its completions, and they complete")
  func bashCompletions() throws {
    let script = Completions.script(for: .bash)
    try ChildProcess.check(["bash", "-n"], input: .text(script))
    func complete(_ words: String) throws -> String {
      let line =
        "COMP_WORDS=(\(words)); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _outboxd; echo \"${COMPREPLY[*]}\""
      let result = try ChildProcess.run(["bash", "-s"], input: .text(script + line))
      return (result.output + result.errors).trimmingCharacters(in: .newlines)
    }
    #expect(try complete("outboxd st") == "status")
    #expect(try complete("outboxd run --log-l") == "--log-level")
    #expect(try complete("outboxd run --log-level w") == "warning")
    #expect(try complete("outboxd completions z") == "zsh")
    #expect(try complete("outboxd help ch") == "check")
  }

  @Test("Completions for zsh and fish name every command and option, and close their quotes")
  func otherCompletions() {
    for shell in [Completions.Shell.zsh, .fish] {
      let script = Completions.script(for: shell)
      for command in CommandTable.visible {
        #expect(script.contains(command.name))
        for option in command.options { #expect(script.contains(option.name)) }
      }
      #expect(!script.contains("mock-broker"))
      for line in script.split(separator: "\n") where !line.hasPrefix("#") {
        let quotes = line.replacingOccurrences(of: "'\\''", with: "").filter { $0 == "'" }.count
        #expect(quotes.isMultiple(of: 2), "\(line)")
      }
    }
  }

  @Test("An error on a terminal says what happened and what to do, and cannot steer the terminal")
  func errors() {
    let error = RelayError(
      .slotMissing, "the slot \u{1B}[2J is missing", code: "42704", remedy: "outboxd init")
    #expect(
      CommandLineProgram.text(of: error)
        == "outboxd: the slot \\u001b[2J is missing [42704]\n  outboxd init\n")
    let faults = ConfigurationInvalid(faults: [
      ConfigurationFault(.file("f", SourcePosition(line: 1, column: 2)), "bad", suggestion: "worse")
    ])
    #expect(CommandLineProgram.text(of: faults.relayError) == "f:1:2: bad; worse\n")
    #expect(faults.relayError.kind.exitCode == 78)
  }

  @Test("The exit code is that of the error")
  func exitCodes() throws {
    #expect(CommandLineProgram.run(["nonsense"], environment: [:]) == 2)
    #expect(CommandLineProgram.run(["config", "--config", "/nowhere"], environment: [:]) == 78)
    #expect(CommandLineProgram.run(["config", "--set", "x"], environment: [:]) == 2)
  }

  @Test("JSON is written in order and escaped")
  func json() {
    let value = JSONValue.object([
      .init("b", .array([.integer(-1), .unsigned(.max), .number(1.5), .number(.nan), .null])),
      .init("a\"\n", .text("\u{1}é")), .init("e", .object([])), .init("t", .boolean(true)),
    ])
    #expect(
      value.compact
        == "{\"b\":[-1,18446744073709551615,1.5,null,null],\"a\\\"\\n\":\"\\u0001é\",\"e\":{},\"t\":true}")
  }
}
