// Owns: what `outboxd check` says of files: who may read and write the configuration, secrets, keys and certificates,
// and what of them runs code.
// Must not know: servers, how a line is printed.
import KafkaSink
import PostgresSource
import RelayCore

extension SecurityCheck {
  /// - Parameter warnings: of the loading of the configuration.
  static func files(
    _ configuration: Configuration, file: String?, warnings: [ConfigurationFault]
  ) -> [Finding] {
    let found = warnings.filter(\.isSecurity)
    var findings = [configurationFile(file)]
    findings += found.map { fault in
      var message = fault
      message.suggestion = nil
      return warning(message.description, fault.suggestion ?? "Remove it, if it is not needed.")
    }
    findings += secretFiles(configuration).filter { $0.level == .ok }
    if !found.contains(where: \.isOnCommandLine) {
      findings.append(ok("no secret is on the command line"))
    }
    if KafkaProperties.codeSettings(configuration.kafka).isEmpty {
      findings.append(ok("no property lets librdkafka run or load what the configuration names"))
    }
    return findings + tlsFiles(configuration)
  }

  /// Loading has refused one that others own or may write.
  private static func configurationFile(_ file: String?) -> Finding {
    guard let file else { return ok("the configuration comes from environment and flags, without a file") }
    return describe(file, "the configuration", isSecret: false)
  }

  /// Loading has warned of those that everybody can read.
  private static func secretFiles(_ configuration: Configuration) -> [Finding] {
    let postgres = configuration.postgres
    var files = [
      ("postgres.password_file", postgres.passwordFile),
      ("postgres.read_password_file", postgres.readPasswordFile),
    ].compactMap { name, path in path.map { (name, $0) } }
    files += configuration.kafka.propertyFiles.sorted { $0.key < $1.key }
      .filter { Redaction.isSecret(property: $0.key) }
      .map { ("kafka.properties.\($0.key)\(ConfigurationLayer.fileSuffix)", $0.value) }
    return files.map { describe($0.1, $0.0, isSecret: true) }
  }

  private static func tlsFiles(_ configuration: Configuration) -> [Finding] {
    let keys = ["sslkey", "passfile", "ssl.key.location", "ssl.keystore.location", "sasl.kerberos.keytab"]
    let conninfos = [
      ("postgres.conninfo", configuration.postgres.conninfo),
      ("postgres.read_conninfo", configuration.postgres.readConninfo ?? ""),
    ]
    let postgres = conninfos.filter { !$0.1.isEmpty }.flatMap { key, conninfo in
      PostgresSettings.conninfoFiles(conninfo).map {
        (name: "\($0.keyword) of \(key)", path: $0.path, isSecret: keys.contains($0.keyword))
      }
    }
    let kafka = KafkaProperties.tlsFiles(configuration.kafka)
      .map { (name: "kafka.properties.\($0.name)", path: $0.path, isSecret: keys.contains($0.name)) }
    return (postgres + kafka).map { describe($0.path, $0.name, isSecret: $0.isSecret) }
  }

  private static func describe(_ path: String, _ name: String, isSecret: Bool) -> Finding {
    let status: SmallFile.Status
    do throws(SmallFile.Refusal) {
      status = try SmallFile.status(path, .anyOwner)
    } catch {
      return warning(
        "\(path) (\(name)) was not examined: it \(error.reason)", "Correct \(name), or the file.")
    }
    if let refusal = status.distrust(path) {
      return warning("\(path) (\(name)) \(refusal.reason)", refusal.remedy ?? "Correct its owner and mode.")
    }
    if isSecret, status.isWorldReadable {
      return warning(
        "\(path) (\(name)) can be read by every user of the machine", "chmod 600 \(ShellText.quoted(path))")
    }
    return ok("\(path) (\(name)): \(status.text)")
  }
}
