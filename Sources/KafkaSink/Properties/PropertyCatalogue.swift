// Owns: what librdkafka says about its own properties: names, aliases, who they are for.
// Must not know: which of them outboxd allows.
import CRdkafka
import Glibc
import RelayCore

/// The table that the linked librdkafka prints of its configuration properties.
struct PropertyCatalogue: Sendable {
  struct Entry: Sendable {
    /// False: only consumers read it.
    var isForProducers: Bool
    /// False: only producers read it.
    var isForConsumers: Bool
    /// The name that this one stands for.
    var alias: String?
    /// A callback or pointer, which no text can hold.
    var isProgrammatic: Bool
  }

  static let shared = PropertyCatalogue(table: printedTable())

  private(set) var entries: [String: Entry] = [:]

  init(table: String) {
    for line in table.split(separator: "\n") {
      let fields = line.split(separator: "|", maxSplits: 5, omittingEmptySubsequences: false)
      guard fields.count == 6 else { continue }
      let name = Self.trimmed(fields[0])
      let scope = Self.trimmed(fields[1])
      guard scope == "*" || scope == "P" || scope == "C" else { continue }
      let description = fields[5]
      var entry = Entry(
        isForProducers: scope != "C", isForConsumers: scope != "P", alias: Self.alias(in: description),
        isProgrammatic: description.contains("see dedicated API"))
      // A few stand in both tables, of the client and of the topic.
      if let known = entries[name] {
        entry.isForProducers = entry.isForProducers || known.isForProducers
        entry.isForConsumers = entry.isForConsumers || known.isForConsumers
      }
      entries[name] = entry
    }
  }

  /// The name itself, or the one that it is an alias of.
  func canonical(_ name: String) -> String { entries[name]?.alias ?? name }

  /// The known property whose name is nearest, if one is near enough to be meant.
  func nearest(to name: String) -> String? {
    let candidates = entries.filter { $0.value.isForProducers && !$0.value.isProgrammatic }.keys
    return NearestName.of(name, among: candidates.sorted())
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }

  /// `Alias for `name`: ...` at the start of a description.
  private static func alias(in description: Substring) -> String? {
    let mark = "Alias for `"
    var text = description
    while text.first == " " { text.removeFirst() }
    guard text.hasPrefix(mark) else { return nil }
    return String(text.dropFirst(mark.count).prefix { $0 != "`" })
  }

  private static func printedTable() -> String {
    var bytes: UnsafeMutablePointer<CChar>?
    var size = 0
    guard let stream = open_memstream(&bytes, &size) else { return "" }
    rd_kafka_conf_properties_show(stream)
    fclose(stream)
    guard let bytes else { return "" }
    defer { free(bytes) }
    // SAFETY: after fclose the stream has left a NUL-terminated buffer, which is ours to free.
    return String(cString: bytes)
  }
}
