// Owns: the way from the file's tree to a layer: known keys, the right kind of node, expanded values.
// Must not know: what a value means.
import RelayCore

/// Walks the tree and records every fault on the way.
struct ConfigurationFile {
  let file: String
  let environment: [String: String]
  var faults: [ConfigurationFault] = []

  init(file: String, environment: [String: String]) {
    self.file = file
    self.environment = environment
  }

  mutating func layer(from root: YAMLNode) -> ConfigurationLayer {
    var layer = ConfigurationLayer()
    section(root, path: "", into: &layer)
    return layer
  }

  private mutating func section(_ node: YAMLNode, path: String, into layer: inout ConfigurationLayer) {
    layer.sections[path] = .file(file, node.position)
    if node.isNull { return }
    guard case .mapping(let entries) = node.content else {
      let subject = path.isEmpty ? "the file" : display(path)
      fault(node.position, "\(subject) must be a mapping of keys to values, not \(node.kindName)")
      return
    }
    for entry in entries {
      let entryPath = path.isEmpty ? entry.key : "\(path).\(entry.key)"
      let isName = !entry.key.contains { $0 == "." || $0 == "[" }
      if isName, let key = ConfigurationKey.named(entryPath) {
        value(entry, of: key, into: &layer)
      } else if isName, ConfigurationKey.isSection(entryPath) {
        section(entry.value, path: entryPath, into: &layer)
        layer.sections[entryPath] = .file(file, entry.keyPosition)
      } else {
        unknown(entry, in: path)
      }
    }
  }

  private mutating func value(
    _ entry: YAMLEntry, of key: ConfigurationKey, into layer: inout ConfigurationLayer
  ) {
    switch key.kind {
    case .map: layer.maps[key.path] = map(entry, path: key.path, faulty: &layer.faulty)
    case .list: layer.outboxes = list(entry, path: key.path)
    case .texts:
      if let setting = texts(entry.value, name: display(key.path)) {
        layer.values[key.path] = setting
      } else {
        layer.faulty.insert(key.path)
      }
    default:
      let setting = scalar(entry.value, name: display(key.path), default: key.defaultText)
      if let setting, !setting.text.isEmpty {
        layer.values[key.path] = setting
      } else {
        if setting != nil { fault(entry.value.position, "\(display(key.path)) is empty") }
        layer.faulty.insert(key.path)
      }
    }
  }

  private mutating func map(_ entry: YAMLEntry, path: String, faulty: inout Set<String>) -> [MapEntry] {
    if entry.value.isNull { return [] }
    guard case .mapping(let entries) = entry.value.content else {
      fault(
        entry.value.position,
        "\(display(path)) must be a mapping of names to values, not \(entry.value.kindName)")
      return []
    }
    return entries.compactMap { item in
      guard let setting = scalar(item.value, name: "\(display(path)).\(item.key)", default: nil) else {
        faulty.insert("\(path).\(item.key)")
        return nil
      }
      return MapEntry(name: item.key, nameOrigin: .file(file, item.keyPosition), setting: setting)
    }
  }

  private mutating func list(_ entry: YAMLEntry, path: String) -> [ConfigurationLayer] {
    guard case .sequence(let items) = entry.value.content, !items.isEmpty else {
      let found = entry.value.isNull ? "nothing" : entry.value.kindName
      fault(
        entry.value.position,
        "\(path) must be a list of outbox tables, not \(isEmptyList(entry) ? "an empty one" : found)",
        "begin each with \"- table: schema.table\"")
      return []
    }
    return items.map { item in
      var layer = ConfigurationLayer()
      section(item, path: path + "[]", into: &layer)
      return layer
    }
  }

  /// The items with commas between them, as the environment and flags write them.
  private mutating func texts(_ node: YAMLNode, name: String) -> Setting? {
    guard case .sequence(let items) = node.content else { return scalar(node, name: name, default: nil) }
    let before = faults.count
    let texts = items.compactMap { scalar($0, name: name, default: nil)?.text }
    guard faults.count == before else { return nil }
    return Setting(text: texts.joined(separator: ","), origin: .file(file, node.position))
  }

  private func isEmptyList(_ entry: YAMLEntry) -> Bool { entry.value.content == .sequence([]) }

  private mutating func scalar(_ node: YAMLNode, name: String, default defaultText: String?) -> Setting? {
    guard case .scalar(let text, _) = node.content else {
      fault(node.position, "\(name) must be a single value, not \(node.kindName)")
      return nil
    }
    if node.isNull {
      let hint = defaultText.map { "remove the line for the default, \($0)" }
      fault(node.position, "\(name) has no value", hint ?? "give it one, or remove the line")
      return nil
    }
    do throws(Expansion.Failure) {
      let expanded = try Expansion.expand(text, environment: environment)
      return Setting(
        text: expanded, origin: .file(file, node.position), written: expanded == text ? nil : text)
    } catch {
      fault(node.position, "\(name): \(error.message)", error.suggestion)
      return nil
    }
  }

  private mutating func unknown(_ entry: YAMLEntry, in path: String) {
    let place = path.isEmpty ? "" : " in \(display(path))"
    let siblings = ConfigurationKey.names(in: path)
    let elsewhere = ConfigurationKey.all.first { $0.name == entry.key && !$0.path.contains("[]") }
    let dotted = entry.key.contains(".") ? ConfigurationKey.named(entry.key) : nil
    let suggestion =
      dotted.map { "in the file, write \($0.name) within \($0.path.dropLast($0.name.count + 1))" }
      ?? NearestName.question(entry.key, among: siblings)
      ?? elsewhere.map { "it belongs to \($0.path.dropLast($0.name.count + 1))" }
      ?? "known are \(siblings.joined(separator: ", "))"
    fault(entry.keyPosition, "unknown key \"\(entry.key)\"\(place)", suggestion)
  }

  private func display(_ path: String) -> String {
    path.hasPrefix("outboxes[].") ? String(path.dropFirst("outboxes[].".count)) : path
  }

  private mutating func fault(_ position: SourcePosition, _ message: String, _ suggestion: String? = nil) {
    faults.append(ConfigurationFault(.file(file, position), message, suggestion: suggestion))
  }
}
