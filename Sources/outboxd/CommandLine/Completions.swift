// Owns: completions for bash, zsh and fish, made from the table of commands.
// Must not know: any command by name.

enum Completions {
  enum Shell: String, CaseIterable, Sendable { case bash, zsh, fish }

  static func script(for shell: Shell) -> String {
    switch shell {
    case .bash: bash()
    case .zsh: zsh()
    case .fish: fish()
    }
  }

  private static var commands: [CommandDescription] { CommandTable.visible }

  private static func options(of command: CommandDescription) -> [CommandOption] {
    command.allOptions.filter { !$0.isHidden }
  }

  /// The words that may follow the command itself.
  private static func argumentChoices(of command: CommandDescription) -> [String] {
    command.name == "help" ? commands.map(\.name) : command.arguments.flatMap(\.choices)
  }

  // MARK: bash

  private static func bash() -> String {
    var text = """
      # bash completion for outboxd
      _outboxd() {
        local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words=""
        COMPREPLY=()
        if [ "$COMP_CWORD" -eq 1 ]; then
          words="\(commands.map(\.name).joined(separator: " ")) --help --version"
          COMPREPLY=($(compgen -W "$words" -- "$word"))
          return
        fi
        case "${COMP_WORDS[1]} $previous" in

      """
    for command in commands {
      for option in options(of: command) where option.value != nil {
        let names = ["--\(option.name)"] + (option.short.map { ["-\($0)"] } ?? [])
        let patterns = names.map { "\"\(command.name) \($0)\"" }.joined(separator: "|")
        let action =
          option.isFile
          ? "COMPREPLY=($(compgen -f -- \"$word\"))"
          : "COMPREPLY=($(compgen -W \"\(option.choices.joined(separator: " "))\" -- \"$word\"))"
        text += "    \(patterns)) \(action); return ;;\n"
      }
    }
    text += "  esac\n  case \"${COMP_WORDS[1]}\" in\n"
    for command in commands {
      let words = argumentChoices(of: command) + options(of: command).map { "--\($0.name)" }
      text += "    \(command.name)) words=\"\(words.joined(separator: " "))\" ;;\n"
    }
    return text + """
        esac
        COMPREPLY=($(compgen -W "$words" -- "$word"))
      }
      complete -F _outboxd outboxd

      """
  }

  // MARK: zsh

  private static func zsh() -> String {
    var text = """
      #compdef outboxd
      _outboxd() {
        local -a commands
        commands=(

      """
    for command in commands { text += "    \(shellQuoted("\(command.name):\(command.summary)"))\n" }
    text += """
        )
        if (( CURRENT == 2 )); then
          _describe -t commands command commands
          return
        fi
        case "${words[2]}" in

      """
    for command in commands {
      text += "    \(command.name))\n      shift words; (( CURRENT-- ))\n      _arguments -s"
      for option in options(of: command) { text += " \\\n        \(zshSpecification(option))" }
      let choices = argumentChoices(of: command)
      if !choices.isEmpty {
        text += " \\\n        \(shellQuoted("1:argument:(\(choices.joined(separator: " ")))"))"
      }
      text += "\n      ;;\n"
    }
    return text + """
        esac
      }
      if [ "$funcstack[1]" = "_outboxd" ]; then _outboxd "$@"; else compdef _outboxd outboxd; fi

      """
  }

  private static func zshSpecification(_ option: CommandOption) -> String {
    let help = String(option.help.map { "[]:".contains($0) ? " " : $0 })
    let action =
      option.isFile ? "_files" : option.choices.isEmpty ? " " : "(\(option.choices.joined(separator: " ")))"
    let value = option.value.map { ":\($0.map { $0 == ":" ? " " : String($0) }.joined()):\(action)" } ?? ""
    let repeated = option.isRepeatable ? "*" : ""
    return shellQuoted("\(repeated)--\(option.name)[\(help)]\(value)")
  }

  // MARK: fish

  private static func fish() -> String {
    let first = "__fish_use_subcommand"
    var text = "# fish completion for outboxd\ncomplete -c outboxd -f\n"
    for command in commands {
      text += "complete -c outboxd -n \(first) -a \(command.name) -d \(shellQuoted(command.summary))\n"
    }
    for command in commands {
      let seen = "'__fish_seen_subcommand_from \(command.name)'"
      for option in options(of: command) {
        var line = "complete -c outboxd -n \(seen) -l \(option.name)"
        if let short = option.short { line += " -s \(short)" }
        if option.value != nil { line += option.isFile ? " -r -F" : " -x" }
        if !option.choices.isEmpty { line += " -a '\(option.choices.joined(separator: " "))'" }
        text += line + " -d \(shellQuoted(option.help))\n"
      }
      let choices = argumentChoices(of: command)
      if !choices.isEmpty {
        text += "complete -c outboxd -n \(seen) -a '\(choices.joined(separator: " "))'\n"
      }
    }
    return text
  }

  /// In single quotes. A quote itself is left out of the quotes, which sh and fish read alike.
  private static func shellQuoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }
}
