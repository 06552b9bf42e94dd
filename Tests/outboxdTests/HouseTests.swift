// Owns: what the sources promise a reader: plain words, imports that point one way, headers that are true, small files.
// Must not know: what the sources do.
import Foundation
import Testing

/// A source file of the package, or a text that ships with it.
private struct SourceFile {
  /// Relative to the package.
  let path: String
  let lines: [Substring]

  static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  init(_ path: String) throws {
    self.path = path
    lines = try String(contentsOf: Self.package.appending(path: path), encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false)
  }

  /// The files below a folder, or the file itself, whose names end with one of `endings`.
  static func all(_ folder: String, _ endings: [String]) throws -> [SourceFile] {
    let names = try FileManager.default.subpathsOfDirectory(atPath: package.appending(path: folder).path)
    return try names.filter { name in endings.contains { name.hasSuffix($0) } }.sorted()
      .map { try SourceFile("\(folder)/\($0)") }
  }

  static func swift(_ folder: String = "Sources") throws -> [SourceFile] { try all(folder, [".swift"]) }

  /// The comment that the file begins with.
  var header: String { lines.prefix { $0.hasPrefix("//") && !$0.hasPrefix("///") }.joined(separator: "\n") }

  /// The modules that it imports.
  var imports: [String] {
    lines.compactMap { $0.wholeMatch(of: /(?:@testable |public )?import (\w+)/).map { String($0.1) } }
  }

  /// The functions and initializers with their first line, from 1, and the number of their lines. By the indentation,
  /// which the formatter keeps.
  var functions: [(line: Int, count: Int)] {
    let beginning = /^( *)(?:(?:@\w+(?:\([^)]*\))?|[a-z]+) )*(?:func [^ ]+|init[?]?[(<]|deinit).*$/
    return lines.indices.compactMap { first in
      guard let match = lines[first].wholeMatch(of: beginning), !lines[first].hasSuffix("}") else {
        return nil
      }
      let (end, indentation) = ("\(match.1)}", match.1.count)
      // A requirement of a protocol has no body: what follows at its depth is another member, or the protocol's end.
      let last = lines[(first + 1)...].firstIndex { line in
        !line.isEmpty && line.prefix { $0 == " " }.count <= indentation
          && !")]{".contains(line.drop { $0 == " " }.first ?? " ")
      }
      guard let last, lines[last] == end || lines[last].hasPrefix(end + " ") else { return nil }
      return (first + 1, last - first + 1)
    }
  }
}

@Suite struct HouseTests {
  /// Words that make a reader stop, and the plain ones in their place.
  private static let bannedWords: [(pattern: String, plain: String)] = [
    (#"mend(s|ed|ing)?"#, "fix, repair, correct"),
    ("anew", "again, new, rebuild"),
    ("for ever", "indefinitely, until"),
    ("to be had", "available"),
    ("not fit", "unsuitable, and the reason"),
    ("as it should( be)?", "unsuitable, and the reason"),
    ("here a second time", "duplicate"),
    ("trying again", "retrying, reconnecting"),
    ("records go on", "resuming"),
    ("ask(s|ed)? for a look|a look at|looks? at the publication|looked after", "check, request"),
    ("way on|way out", "next step, remedy"),
    ("counted are", "subject, verb, object"),
  ]

  @Test func `no message, comment or manual uses a banned word`() throws {
    let texts =
      try SourceFile.all("Sources", [".swift", ".h", ".c"]) + SourceFile.all("sql", [".sql", ".md"])
      + SourceFile.all("deploy", ["outboxd.yaml", "quick-start"]) + [SourceFile("README.md")]
    #expect(texts.count > 200)
    let words = Self.bannedWords.map { "(?:\($0.pattern))" }.joined(separator: "|")
    let banned = try Regex("\\b(?:\(words))\\b").ignoresCase()
    for text in texts {
      for (index, line) in text.lines.enumerated() {
        guard let found = line.firstMatch(of: banned) else { continue }
        Issue.record("\(text.path):\(index + 1): \"\(line[found.range])\" in: \(line)")
      }
    }
  }

  /// The modules of the package and the system that a target may import.
  private static let allowedImports: [String: Set<String>] = [
    "RelayCore": ["CSystem"],
    "PostgresSource": ["CLibpq", "CSystem", "RelayCore"],
    "KafkaSink": ["CRdkafka", "CSystem", "RelayCore"],
    "outboxd": ["CMicrohttpd", "CSystem", "CYaml", "KafkaSink", "PostgresSource", "RelayCore"],
  ]

  @Test func `imports point one way`() throws {
    let language: Set = ["Glibc", "FoundationEssentials", "Synchronization"]
    for (target, allowed) in Self.allowedImports {
      for file in try SourceFile.swift("Sources/\(target)") {
        let others = Set(file.imports).subtracting(allowed).subtracting(language)
        #expect(others.isEmpty, "\(file.path) imports \(others.sorted().joined(separator: ", "))")
      }
    }
  }

  /// Words of a "Must not know" that mean modules.
  private static let modulesOfWords: [(word: String, modules: Set<String>)] = [
    ("Postgres", ["CLibpq", "PostgresSource"]), ("libpq", ["CLibpq"]), ("Kafka", ["CRdkafka", "KafkaSink"]),
    ("librdkafka", ["CRdkafka"]), ("HTTP", ["CMicrohttpd"]), ("YAML", ["CYaml"]),
  ]

  @Test func `each file says what it owns and must not know, and imports none of that`() throws {
    for file in try SourceFile.swift() {
      let header = file.header
      #expect(header.contains("Owns: "), "\(file.path) does not say what it owns")
      guard let ignored = header.firstRange(of: "\n// Must not know: ") else {
        Issue.record("\(file.path) does not say what it must not know")
        continue
      }
      // What follows a semicolon or a sentence's end explains.
      let unknown = header[ignored.upperBound...].prefix { $0 != ";" && $0 != "." }
        .split { !$0.isLetter && !$0.isNumber }.map(String.init)
      for (word, modules) in Self.modulesOfWords where unknown.contains(word) {
        let known = modules.intersection(file.imports)
        #expect(
          known.isEmpty,
          "\(file.path) must not know \(word), and imports \(known.sorted().joined(separator: ", "))")
      }
    }
  }

  /// Functions of the sources over the limit, each with the reason: `file: first line`.
  private static let longFunctions: [String: String] = [:]

  @Test func `a file has at most 400 lines, and a function of the sources at most 40`() throws {
    for file in try SourceFile.swift() + SourceFile.swift("Tests") {
      // A newline ends the last line too.
      #expect(file.lines.count <= 401, "\(file.path) has \(file.lines.count - 1) lines")
    }
    for file in try SourceFile.swift() {
      for (line, count) in file.functions where count > 40 {
        let name = "\(file.path): \(file.lines[line - 1].drop { $0 == " " })"
        #expect(Self.longFunctions[name] != nil, "\(file.path):\(line) has a function of \(count) lines")
      }
    }
  }
}
