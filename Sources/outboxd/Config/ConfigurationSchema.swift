// Owns: the JSON Schema of the configuration file, made from the table of keys.
// Must not know: any key by name.

enum ConfigurationSchema {
  static var json: JSONValue {
    var members: [JSONValue.Member] = [
      .init("$schema", .text("https://json-schema.org/draft/2020-12/schema")),
      .init("title", .text("outboxd.yaml")),
    ]
    members += object(section: "")
    return .object(members)
  }

  private static func object(section: String) -> [JSONValue.Member] {
    let properties = ConfigurationKey.names(in: section).map { name in
      let path = section.isEmpty ? name : "\(section).\(name)"
      return JSONValue.Member(name, property(path))
    }
    let required = ConfigurationKey.all.filter {
      $0.isRequired && section.hasSuffix("[]") && $0.path == "\(section).\($0.name)"
    }
    var members: [JSONValue.Member] = [
      .init("type", .text("object")), .init("additionalProperties", .boolean(false)),
      .init("properties", .object(properties)),
    ]
    // The environment may give what the file leaves out, except within an outbox.
    if !required.isEmpty { members.append(.init("required", .array(required.map { .text($0.name) }))) }
    return members
  }

  private static func property(_ path: String) -> JSONValue {
    guard let key = ConfigurationKey.named(path) else { return .object(object(section: path)) }
    var members = [JSONValue.Member("description", .text(key.help))] + form(of: key)
    if let text = key.defaultText {
      members.append(.init("default", key.kind == .boolean ? .boolean(text == "true") : .text(text)))
    }
    return .object(members)
  }

  /// Which values the key takes.
  private static func form(of key: ConfigurationKey) -> [JSONValue.Member] {
    switch key.kind {
    case .list:
      [
        .init("type", .text("array")), .init("minItems", .integer(1)),
        .init("items", .object(object(section: key.path + "[]"))),
      ]
    case .map:
      [
        .init("type", .text("object")),
        .init(
          "additionalProperties",
          .object([.init("type", .array([.text("string"), .text("number"), .text("boolean")]))])),
      ]
    case .texts:
      [
        .init("type", .array([.text("array"), .text("string")])),
        .init("items", .object([.init("type", .text("string"))])),
      ]
    case .choice(let names): [.init("enum", .array(names.map { .text($0) }))]
    case .boolean: [.init("type", .text("boolean"))]
    case .duration: text(matching: "^[0-9]+(ms|s|m)$")
    case .durationOrOff: text(matching: "^(off|[0-9]+(s|m|h|d))$")
    case .size:
      [
        .init("type", .array([.text("string"), .text("integer")])),
        .init("pattern", .text("^[0-9]+(KiB|MiB|GiB|TiB)?$")),
      ]
    case .slotName: text(matching: "^[a-z0-9_]{1,63}$")
    case .text, .file, .template, .templateOrNone, .address, .table, .name, .mediaType, .timeZone:
      [.init("type", .text("string"))]
    }
  }

  private static func text(matching pattern: String) -> [JSONValue.Member] {
    [.init("type", .text("string")), .init("pattern", .text(pattern))]
  }
}
