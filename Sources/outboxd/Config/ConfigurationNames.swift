// Owns: the names of settings outside the file: environment variables and `--set`.
// Must not know: what a value means.
import RelayCore

/// Names outside the file: environment variables and `--set`.
enum ConfigurationNames {
  static let prefix = "OUTBOXD_"
  private static let propertiesPrefix = "OUTBOXD_KAFKA_PROPERTIES_"

  /// What the environment sets. A variable that sets nothing is a warning: it may belong to somebody else.
  static func layer(
    environment: [String: String], faults: inout [ConfigurationFault], warnings: inout [ConfigurationFault]
  ) -> ConfigurationLayer {
    var layer = ConfigurationLayer()
    let keys = ConfigurationKey.all.compactMap { key in key.environmentVariable.map { ($0, key.path) } }
    let paths = Dictionary(uniqueKeysWithValues: keys)
    for (name, value) in environment.sorted(by: { $0.key < $1.key }) where name.hasPrefix(prefix) {
      let origin = SettingOrigin.environment(name)
      let isProperty = name.hasPrefix(propertiesPrefix) && name != propertiesPrefix
      guard isProperty || paths[name] != nil else {
        if isServiceLink(name) { continue }
        warnings.append(
          ConfigurationFault(
            origin, "this environment variable is not a setting",
            suggestion: NearestName.question(name, among: Array(paths.keys))))
        continue
      }
      guard !value.isEmpty else {
        faults.append(
          ConfigurationFault(
            origin, "this environment variable is empty", suggestion: "unset it, or give it a value"))
        layer.faulty.insert(
          paths[name] ?? "\(ConfigurationKey.kafkaProperties).\(property(ofVariable: name))")
        continue
      }
      let setting = Setting(text: value, origin: origin)
      if let path = paths[name] {
        layer.values[path] = setting
      } else {
        layer.maps[ConfigurationKey.kafkaProperties, default: []].append(
          MapEntry(name: property(ofVariable: name), nameOrigin: origin, setting: setting))
      }
    }
    return layer
  }

  /// `OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD_FILE` is `sasl.password_file`: no property ends with `.file`.
  private static func property(ofVariable name: String) -> String {
    let words = name.dropFirst(propertiesPrefix.count).lowercased().split(separator: "_")
    guard words.count > 1, words.last == "file" else { return words.joined(separator: ".") }
    return words.dropLast().joined(separator: ".") + ConfigurationLayer.fileSuffix
  }

  /// Kubernetes sets variables for a service of the name `outboxd`.
  private static func isServiceLink(_ name: String) -> Bool {
    let rest = name.dropFirst(prefix.count)
    return rest == "PORT" || rest.hasPrefix("PORT_") || rest == "SERVICE_HOST"
      || rest.hasPrefix("SERVICE_PORT")
  }

  /// `ps` shows the words of a command to everybody.
  static func visibleSecret(_ origin: SettingOrigin, use: String) -> ConfigurationFault {
    ConfigurationFault(
      origin, "every user of the machine can see a secret on the command line", suggestion: "use \(use)",
      isSecurity: true)
  }

  /// What `--set KEY=VALUE`, `--log-level` and `--log-format` say.
  static func layer(
    settings: [(key: String, value: String)], faults: inout [ConfigurationFault]
  ) -> ConfigurationLayer {
    var layer = ConfigurationLayer()
    let propertyPrefix = ConfigurationKey.kafkaProperties + "."
    for (key, value) in settings {
      let origin = SettingOrigin.flag("--set \(key)")
      let setting = Setting(text: value, origin: origin)
      if key.hasPrefix(propertyPrefix), key.count > propertyPrefix.count {
        let name = String(key.dropFirst(propertyPrefix.count))
        layer.maps[ConfigurationKey.kafkaProperties, default: []].removeAll { $0.name == name }
        layer.maps[ConfigurationKey.kafkaProperties, default: []].append(
          MapEntry(name: name, nameOrigin: origin, setting: setting))
      } else if let known = ConfigurationKey.named(key), known.environmentVariable != nil {
        if value.isEmpty {
          faults.append(ConfigurationFault(origin, "the value is empty"))
        } else {
          layer.values[key] = setting
        }
      } else if key == ConfigurationKey.outboxes || key.hasPrefix(ConfigurationKey.outboxes) {
        faults.append(
          ConfigurationFault(
            origin, "outboxes can only be set in the file", suggestion: "write them under outboxes:")
        )
      } else {
        let names = ConfigurationKey.all.filter { $0.environmentVariable != nil }.map(\.path)
        faults.append(
          ConfigurationFault(
            origin, "unknown key", suggestion: NearestName.question(key, among: names)))
      }
    }
    return layer
  }
}
