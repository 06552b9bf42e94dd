// Owns: what loading asks of the files that a configuration names, and the warnings about secrets and code.
// Must not know: how a value is parsed.
import KafkaSink
import PostgresSource
import RelayCore

extension ConfigurationLoader {
  mutating func checkFile(_ setting: Setting, name: String, isSecret: Bool) {
    do throws(SmallFile.Refusal) {
      let status = try SmallFile.status(setting.text)
      if isSecret, status.isWorldReadable {
        warnings.append(
          ConfigurationFault(
            setting.origin, "\(name): every user of the machine can read \(setting.text)",
            suggestion: "chmod 600 \(ShellText.quoted(setting.text))", isSecurity: true))
      }
    } catch {
      fault(setting.origin, "\(name): \(setting.text) \(error.reason)", error.remedy)
    }
  }

  /// Warns of a secret that stands where others can read it: on the command line, or in a file that everybody can read.
  /// - Parameters:
  ///   - use: what keeps the secret elsewhere.
  ///   - isSecret: whether a text, with its variables left out, holds one.
  mutating func warnOfSecret(
    _ setting: Setting, _ name: String, use: String, _ isSecret: (String) -> Bool
  ) {
    switch setting.origin {
    case .flag:
      if isSecret(setting.text) {
        warnings.append(ConfigurationNames.visibleSecret(setting.origin, use: use))
      }
    case .file(let file, _):
      guard fileStatus?.isWorldReadable == true,
        isSecret(setting.written.map(Expansion.withoutVariables) ?? setting.text)
      else { return }
      warnings.append(
        ConfigurationFault(
          setting.origin, "\(name) holds a secret, and every user of the machine can read the file",
          suggestion: "use \(use), or chmod 600 \(ShellText.quoted(file))", isSecurity: true))
    case .environment: break
    }
  }

  mutating func warnOfCode(_ settings: KafkaSettings, _ origins: [String: SettingOrigin]) {
    for (name, value) in KafkaProperties.codeSettings(settings) {
      guard let origin = origins[name] else { continue }
      warnings.append(
        ConfigurationFault(
          origin,
          "kafka.properties: \(name) lets librdkafka run a program or library as outboxd's user: \(value)",
          isSecurity: true))
    }
  }
}
