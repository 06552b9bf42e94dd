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
    var members: [JSONValue.Member] = [.init("description", .text(key.help))]
    switch key.kind {
    case .list:
      members += [
        .init("type", .text("array")), .init("minItems", .integer(1)),
        .init("items", .object(object(section: path + "[]"))),
      ]
    case .map:
      let value = JSONValue.object([
        .init("type", .array([.text("string"), .text("number"), .text("boolean")]))
      ])
      members += [.init("type", .text("object")), .init("additionalProperties", value)]
    case .texts:
      members += [
        .init("type", .array([.text("array"), .text("string")])),
        .init("items", .object([.init("type", .text("string"))])),
      ]
    case .choice(let names):
      members.append(.init("enum", .array(names.map { .text($0) })))
    case .boolean:
      members.append(.init("type", .text("boolean")))
    case .duration:
      members += [.init("type", .text("string")), .init("pattern", .text("^[0-9]+(ms|s|m)$"))]
    case .durationOrOff:
      members += [.init("type", .text("string")), .init("pattern", .text("^(off|[0-9]+(s|m|h|d))$"))]
    case .size:
      members += [
        .init("type", .array([.text("string"), .text("integer")])),
        .init("pattern", .text("^[0-9]+(KiB|MiB|GiB|TiB)?$")),
      ]
    case .slotName:
      members += [.init("type", .text("string")), .init("pattern", .text("^[a-z0-9_]{1,63}$"))]
    case .text, .file, .template, .templateOrNone, .address, .table, .name, .mediaType, .timeZone:
      members.append(.init("type", .text("string")))
    }
    if let text = key.defaultText {
      members.append(.init("default", key.kind == .boolean ? .boolean(text == "true") : .text(text)))
    }
    return .object(members)
  }
}
