// Owns: the way from file, environment and flags to a `Configuration`, with all faults at once.
// Must not know: connections. Nothing is touched here but the file and the secrets' files.
import KafkaSink
import PostgresSource
import RelayCore

struct ConfigurationLoader {
  private let request: ConfigurationRequest
  private var faults: [ConfigurationFault] = []
  var warnings: [ConfigurationFault] = []
  /// Whose the file is. Nil: there is none.
  private(set) var fileStatus: SmallFile.Status?
  /// Where the file could not be read, what is missing in it would only be noise.
  private var isFileUnreadable = false

  /// - Throws: every fault that there is. No value is returned where there is one.
  static func load(_ request: ConfigurationRequest) throws(ConfigurationInvalid) -> LoadedConfiguration {
    var loader = ConfigurationLoader(request: request)
    let found = loader.readFile()
    var layer = found?.layer ?? ConfigurationLayer()
    layer.override(
      by: ConfigurationNames.layer(
        environment: request.environment, faults: &loader.faults, warnings: &loader.warnings))
    layer.override(
      by: ConfigurationNames.layer(
        settings: request.settings, faults: &loader.faults))
    let configuration = loader.configuration(from: layer, file: found?.file)
    guard loader.faults.isEmpty else { throw ConfigurationInvalid(faults: Self.sorted(loader.faults)) }
    return LoadedConfiguration(configuration: configuration, file: found?.file, warnings: loader.warnings)
  }

  private init(request: ConfigurationRequest) { self.request = request }

  /// By place within a file; files, variables and flags in the order in which they came up.
  private static func sorted(_ faults: [ConfigurationFault]) -> [ConfigurationFault] {
    var ranks: [String: Int] = [:]
    for fault in faults where ranks[fault.file] == nil { ranks[fault.file] = ranks.count }
    return faults.sorted { left, right in
      (ranks[left.file] ?? 0, left.line, left.column) < (ranks[right.file] ?? 0, right.line, right.column)
    }
  }

  // MARK: The file

  private mutating func readFile() -> (file: String, layer: ConfigurationLayer)? {
    var name = request.file
    if name == nil { name = request.searchPaths.first { SmallFile.exists($0) } }
    guard let name else { return nil }
    let text: [UInt8]
    do throws(SmallFile.Refusal) {
      (text, fileStatus) = try SmallFile.examine(
        name, .trustedOrPipe, limit: YAMLDocument.maximumSize + 1)
    } catch {
      faults.append(
        ConfigurationFault(.flag(name), "the file \(error.reason)", suggestion: error.remedy))
      isFileUnreadable = true
      return nil
    }
    let before = faults.count
    let root = YAMLDocument.parse(text, file: name, faults: &faults)
    guard let root else {
      isFileUnreadable = faults.count > before
      return (name, ConfigurationLayer())
    }
    var reader = ConfigurationFile(file: name, environment: request.environment)
    let layer = reader.layer(from: root)
    faults += reader.faults
    return (name, layer)
  }

  // MARK: The values

  private mutating func configuration(from layer: ConfigurationLayer, file: String?) -> Configuration {
    var configuration = Configuration()
    postgres(layer, file: file, into: &configuration.postgres)
    kafka(layer, file: file, into: &configuration.kafka)
    let allowed = value(layer, "kafka.allowed_topics", ConfigurationValues.allowedTopics) ?? AllowedTopics()
    if let items = layer.outboxes { configuration.outboxes = outboxes(items, allowed) }
    for index in configuration.outboxes.indices { configuration.outboxes[index].allowedTopics = allowed }
    if let address = value(layer, "admin.listen", ConfigurationValues.address) {
      configuration.admin = address
    }
    if let hosts = value(layer, "admin.hosts", ConfigurationValues.hosts) { configuration.adminHosts = hosts }
    if let timeout = value(layer, "relay.drain_timeout", ConfigurationValues.duration) {
      configuration.relay.drainTimeout = timeout
    }
    if let flag = value(layer, "relay.skip_delivered", ConfigurationValues.boolean) {
      configuration.relay.skipDelivered = flag
    }
    if let flag = value(layer, "relay.check_origin", ConfigurationValues.boolean) {
      configuration.relay.checkOrigin = flag
    }
    if let text = choice(layer, "relay.adaptive") { configuration.isAdaptive = text == "on" }
    if let name = choice(layer, "log.level"), let level = Log.Level(name: name) {
      configuration.log.level = level
    }
    choose(layer, "log.format", &configuration.log.format)
    return configuration
  }

  private mutating func postgres(
    _ layer: ConfigurationLayer, file: String?, into settings: inout PostgresSettings
  ) {
    let login = login(layer, "postgres.conninfo", "postgres.password_file")
    settings.passwordFile = login.passwordFile
    if let conninfo = login.conninfo {
      settings.conninfo = conninfo
    } else if !layer.faulty.contains("postgres.conninfo") {
      missingKey("postgres.conninfo", section: "postgres", layer: layer, file: file)
    }
    let reader = self.login(layer, "postgres.read_conninfo", "postgres.read_password_file")
    (settings.readConninfo, settings.readPasswordFile) = (reader.conninfo, reader.passwordFile)
    if reader.conninfo == nil, !layer.faulty.contains("postgres.read_conninfo"),
      let passwordFile = layer.values["postgres.read_password_file"]
    {
      fault(
        passwordFile.origin, "postgres.read_password_file is set without postgres.read_conninfo",
        "set both, or neither")
    }
    if let slot = checked(layer, "postgres.slot", ConfigurationValues.checkSlotName) { settings.slot = slot }
    if let publication = checked(layer, "postgres.publication", ConfigurationValues.checkName) {
      settings.publication = publication
    }
    choose(layer, "postgres.journal", &settings.journal)
    replay(layer, into: &settings)
  }

  /// What one role connects with.
  private mutating func login(
    _ layer: ConfigurationLayer, _ conninfoKey: String, _ passwordFileKey: String
  ) -> (conninfo: String?, passwordFile: String?) {
    let (conninfo, passwordFile) = (layer.values[conninfoKey], layer.values[passwordFileKey])
    if let conninfo {
      warnOfSecret(conninfo, conninfoKey, use: passwordFileKey) { PostgresSettings.conninfoHasSecret($0) }
      if let problem = PostgresSettings.conninfoProblem(conninfo.text, name: conninfoKey) {
        fault(conninfo.origin, problem.message, problem.suggestion)
      }
      if let passwordFile, PostgresSettings.conninfoHasPassword(conninfo.text) {
        fault(
          passwordFile.origin, "\(passwordFileKey) is set, and \(conninfoKey) has a password too",
          "keep one of them")
      }
    }
    if let passwordFile { checkFile(passwordFile, name: passwordFileKey, isSecret: true) }
    return (conninfo?.text, passwordFile?.text)
  }

  private mutating func replay(_ layer: ConfigurationLayer, into settings: inout PostgresSettings) {
    if let window = value(layer, "replay.window", ConfigurationValues.window) {
      settings.replayWindow = window
    }
    if let limit = value(layer, "replay.max_bytes", ConfigurationValues.size) {
      settings.replayMaxBytes = limit
    }
    if settings.replayWindow != nil, settings.journal == .off, let setting = layer.values["replay.window"] {
      fault(
        setting.origin, "replay.window needs the journal, which postgres.journal switches off",
        "remove one of them")
    }
  }

  private mutating func kafka(_ layer: ConfigurationLayer, file: String?, into settings: inout KafkaSettings)
  {
    let entries = layer.maps[ConfigurationKey.kafkaProperties] ?? []
    var origins: [String: SettingOrigin] = [:]
    // What is a fault already is not told twice.
    var faulty: Set<String> = []
    for entry in entries {
      let before = faults.count
      let name = ConfigurationLayer.withoutFileSuffix(entry.name)
      if origins[name] != nil {
        fault(
          entry.nameOrigin, "kafka.properties has both \(name) and \(name)_file", "keep one of them")
        faulty.insert(name)
        continue
      }
      origins[name] = entry.nameOrigin
      if entry.name == name {
        settings.properties[name] = entry.setting.text
        warnOfSecret(entry.setting, "kafka.properties.\(name)", use: "\(name)_file") {
          Redaction.isSecret(property: name) && !$0.isEmpty
        }
      } else {
        settings.propertyFiles[name] = entry.setting.text
        checkFile(
          entry.setting, name: "kafka.properties.\(entry.name)", isSecret: Redaction.isSecret(property: name))
      }
      if faults.count > before { faulty.insert(name) }
    }
    checkKafka(layer, settings, origins, faulty, file: file)
    choose(layer, "kafka.missing_topic", &settings.missingTopic)
  }

  /// What is wrong with the properties together.
  private mutating func checkKafka(
    _ layer: ConfigurationLayer, _ settings: KafkaSettings, _ origins: [String: SettingOrigin],
    _ faulty: Set<String>, file: String?
  ) {
    let entries = layer.maps[ConfigurationKey.kafkaProperties] ?? []
    let servers = ["bootstrap.servers", "metadata.broker.list"]
    for problem in KafkaPropertyProblem.all(in: settings) where !faulty.contains(problem.property) {
      // What is missing is told where its absence matters.
      let place =
        servers.contains(problem.property) ? nil : origins["security.protocol"] ?? entries.first?.nameOrigin
      guard let origin = origins[problem.property] ?? place else { continue }
      fault(origin, problem.message)
    }
    warnOfCode(settings, origins)
    let given = Set(origins.keys).union(
      layer.faulty.map {
        ConfigurationLayer.withoutFileSuffix(
          String($0.dropFirst("\(ConfigurationKey.kafkaProperties).".count)))
      })
    if given.isDisjoint(with: servers) {
      let section = layer.sections["kafka"] == nil ? "" : "kafka"
      missingKey("kafka.properties: bootstrap.servers", section: section, layer: layer, file: file)
    }
  }

  private mutating func outboxes(
    _ items: [ConfigurationLayer], _ allowed: AllowedTopics
  ) -> [OutboxMapping] {
    var mappings: [OutboxMapping] = []
    var tables: Set<String> = []
    for item in items {
      var mapping = outbox(item, allowed)
      if let name = value(item, "outboxes[].table", ConfigurationValues.table) {
        mapping.schema = name.schema
        mapping.table = name.table
        if !tables.insert("\(name.schema)\u{0}\(name.table)").inserted,
          let table = item.values["outboxes[].table"]
        {
          fault(
            table.origin, "duplicate outbox for table \(mapping.qualifiedName)", "remove one of them")
        }
      }
      mappings.append(mapping)
    }
    return mappings
  }

  private mutating func outbox(_ item: ConfigurationLayer, _ allowed: AllowedTopics) -> OutboxMapping {
    var mapping = OutboxMapping()
    if item.values["outboxes[].table"] == nil, !item.faulty.contains("outboxes[].table"),
      let origin = item.sections["outboxes[]"]
    {
      fault(origin, "this outbox has no table", "add table: schema.table")
    }
    if let source = value(item, "outboxes[].source", ConfigurationValues.template) { mapping.source = source }
    if let topic = value(item, "outboxes[].topic", ConfigurationValues.template) {
      let isValid = valid(item, "outboxes[].topic", topic) { (topic) throws(ValueFault) in
        try ConfigurationValues.checkTopic(topic, allowed)
      }
      if isValid { mapping.topic = topic }
    }
    if item.values["outboxes[].key"]?.text == "none" {
      mapping.key = nil
    } else if let key = value(item, "outboxes[].key", ConfigurationValues.template) {
      mapping.key = key
    }
    choose(item, "outboxes[].content_mode", &mapping.contentMode)
    choose(item, "outboxes[].on_rejection", &mapping.onRejection)
    mapping.datacontenttype = checked(item, "outboxes[].datacontenttype", ConfigurationValues.checkMediaType)
    mapping.dataschema = value(item, "outboxes[].dataschema", ConfigurationValues.template)
    if let flag = value(item, "outboxes[].partitionkey", ConfigurationValues.boolean) {
      mapping.partitionkey = flag
      if flag, mapping.key == nil, let setting = item.values["outboxes[].partitionkey"] {
        fault(setting.origin, "partitionkey carries the record's key, and key is none", "remove one of them")
      }
    }
    columns(item, into: &mapping.columns)
    extensions(item, into: &mapping)
    return mapping
  }

  private mutating func columns(_ item: ConfigurationLayer, into columns: inout OutboxMapping.Columns) {
    func read(_ name: String) -> String? {
      checked(item, "outboxes[].columns.\(name)", ConfigurationValues.checkName)
    }
    columns.id = read("id")
    columns.type = read("type")
    columns.payload = read("payload")
    columns.subject = read("subject")
    columns.aggregatetype = read("aggregatetype")
    columns.time = read("time")
    columns.timeZone = value(item, "outboxes[].columns.time_zone", ConfigurationValues.timeZone)
    columns.headers = read("headers")
    columns.datacontenttype = read("datacontenttype")
  }

  private mutating func extensions(_ item: ConfigurationLayer, into mapping: inout OutboxMapping) {
    for entry in item.maps["outboxes[].extensions"] ?? [] {
      do throws(ValueFault) {
        try ConfigurationValues.checkExtension(entry.name)
      } catch {
        fault(entry.nameOrigin, error.message, error.suggestion)
        continue
      }
      if entry.name == "partitionkey", mapping.partitionkey {
        fault(
          entry.nameOrigin, "partitionkey is an extension, and partitionkey: true adds it too",
          "keep one of them")
      }
      if entry.name.utf8.count > 20 {
        warnings.append(
          ConfigurationFault(
            entry.nameOrigin,
            "the extension \"\(entry.name)\" is longer than the 20 characters of CloudEvents' advice"))
      }
      do throws(ValueFault) {
        try ConfigurationValues.checkName(entry.setting.text)
        mapping.extensions.append(OutboxMapping.Extension(name: entry.name, column: entry.setting.text))
      } catch {
        fault(entry.setting.origin, error.message, error.suggestion)
      }
    }
  }

  // MARK: One value

  private mutating func value<Value>(
    _ layer: ConfigurationLayer, _ path: String, _ parse: (String) throws(ValueFault) -> Value
  ) -> Value? {
    guard let setting = layer.values[path] else { return nil }
    do throws(ValueFault) {
      try ConfigurationValues.checkPrintable(setting.text)
      return try parse(setting.text)
    } catch {
      fault(
        setting.origin, "\(ConfigurationKey.named(path)?.name ?? path): \(error.message)", error.suggestion)
      return nil
    }
  }

  private mutating func checked(
    _ layer: ConfigurationLayer, _ path: String, _ check: (String) throws(ValueFault) -> Void
  ) -> String? {
    value(layer, path) { (text) throws(ValueFault) -> String in
      try check(text)
      return text
    }
  }

  private mutating func valid<Value>(
    _ layer: ConfigurationLayer, _ path: String, _ candidate: Value,
    _ check: (Value) throws(ValueFault) -> Void
  ) -> Bool {
    value(layer, path) { (_) throws(ValueFault) -> Void in try check(candidate) } != nil
  }

  /// One of the key's choices, or nil.
  private mutating func choice(_ layer: ConfigurationLayer, _ path: String) -> String? {
    guard let setting = layer.values[path], case .choice(let names) = ConfigurationKey.named(path)?.kind
    else {
      return nil
    }
    if names.contains(setting.text) { return setting.text }
    let question = NearestName.of(setting.text, among: names).map { "did you mean \($0)?" }
    fault(
      setting.origin,
      "\(ConfigurationKey.named(path)?.name ?? path): \"\(setting.text)\" is not one of \(names.joined(separator: ", "))",
      question)
    return nil
  }

  private mutating func choose<Value: RawRepresentable<String>>(
    _ layer: ConfigurationLayer, _ path: String, _ target: inout Value
  ) {
    if let name = choice(layer, path), let value = Value(rawValue: name) { target = value }
  }

  private mutating func missingKey(
    _ name: String, section: String, layer: ConfigurationLayer, file: String?
  ) {
    let suggestion =
      name.hasPrefix("kafka")
      ? "set it in the file or as OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS"
      : "set it in the file or as OUTBOXD_POSTGRES_CONNINFO"
    if isFileUnreadable { return }
    guard let file else {
      let searched = request.file ?? request.searchPaths.joined(separator: ", ")
      fault(.flag("no configuration file (\(searched))"), "\(name) is missing", suggestion)
      return
    }
    let start = SettingOrigin.file(file, SourcePosition(line: 1, column: 1))
    fault(layer.sections[section] ?? start, "\(name) is missing", suggestion)
  }

  mutating func fault(_ origin: SettingOrigin, _ message: String, _ suggestion: String? = nil) {
    faults.append(ConfigurationFault(origin, message, suggestion: suggestion))
  }
}
