// Owns: a YAML text as a tree of nodes, each with its place. libyaml does the reading.
// Must not know: which keys there are, or what a value means.
import CYaml

enum YAMLDocument {
  /// In bytes.
  static let maximumSize = 1 << 20
  /// The configuration has four levels.
  static let maximumDepth = 16

  /// The tree, or nil where the text is empty or cannot be read. Anchors, aliases, tags, duplicate keys and
  /// a second document are faults.
  static func parse(_ text: [UInt8], file: String, faults: inout [ConfigurationFault]) -> YAMLNode? {
    guard text.count <= maximumSize else {
      faults.append(
        ConfigurationFault(
          .file(file, SourcePosition(line: 1, column: 1)),
          "the file is larger than \(maximumSize) bytes"))
      return nil
    }
    return text.withUnsafeBufferPointer { bytes in
      var reader = YAMLEventReader(bytes, file: file)
      let root = reader.document()
      faults += reader.faults
      return root
    }
  }
}

/// Reads libyaml's events into the tree. Lives no longer than the text that it reads.
private struct YAMLEventReader: ~Copyable {
  private let text: UnsafeBufferPointer<UInt8>
  private let file: String
  // On the heap, because libyaml keeps the parser's own address in it.
  private let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
  private(set) var faults: [ConfigurationFault] = []

  /// What a parse event says, without libyaml's memory.
  private struct Event {
    enum Kind {
      case scalar(String, isPlain: Bool)
      case sequenceStart, sequenceEnd, mappingStart, mappingEnd
      case alias, documentStart, other, streamEnd
    }
    var kind: Kind
    var position: SourcePosition
    var hasAnchor = false
    var hasTag = false
  }

  /// Thrown after the fault has been recorded.
  private struct Unreadable: Error {}

  init(_ text: UnsafeBufferPointer<UInt8>, file: String) {
    self.text = text
    self.file = file
    // SAFETY: `parser` has room for one parser and is initialized here; `text` outlives this value, which
    // its only maker ensures with `withUnsafeBufferPointer`.
    parser.initialize(to: yaml_parser_t())
    yaml_parser_initialize(parser)
    yaml_parser_set_input_string(parser, text.baseAddress, text.count)
  }

  deinit {
    // SAFETY: initialized in `init`, and used by nobody after this.
    yaml_parser_delete(parser)
    parser.deallocate()
  }

  mutating func document() -> YAMLNode? {
    do throws(Unreadable) {
      var root: YAMLNode?
      while true {
        let event = try next()
        switch event.kind {
        case .streamEnd: return root
        case .documentStart where root != nil:
          fault(event.position, "a second document begins here", "keep one document in the file")
          return root
        case .documentStart:
          root = try node(from: try next(), depth: 0)
        default: break
        }
      }
    } catch {
      return nil
    }
  }

  private mutating func node(from event: Event, depth: Int) throws(Unreadable) -> YAMLNode {
    if event.hasAnchor { fault(event.position, "anchors (&) are not supported", "write the value out") }
    if event.hasTag { fault(event.position, "tags (!) are not supported", "remove the tag") }
    guard depth <= YAMLDocument.maximumDepth else {
      fault(event.position, "nested more than \(YAMLDocument.maximumDepth) levels deep")
      throw Unreadable()
    }
    switch event.kind {
    case .scalar(let text, let isPlain):
      return YAMLNode(content: .scalar(text, isPlain: isPlain), position: event.position)
    case .sequenceStart: return try sequence(from: event, depth: depth)
    case .mappingStart: return try mapping(from: event, depth: depth)
    case .alias:
      fault(event.position, "aliases (*) are not supported", "write the value out")
    default: break
    }
    return YAMLNode(content: .scalar("", isPlain: true), position: event.position)
  }

  private mutating func sequence(from start: Event, depth: Int) throws(Unreadable) -> YAMLNode {
    var nodes: [YAMLNode] = []
    while true {
      let event = try next()
      if case .sequenceEnd = event.kind { break }
      nodes.append(try node(from: event, depth: depth + 1))
    }
    return YAMLNode(content: .sequence(nodes), position: start.position)
  }

  private mutating func mapping(from start: Event, depth: Int) throws(Unreadable) -> YAMLNode {
    var entries: [YAMLEntry] = []
    var firstLines: [String: Int] = [:]
    while true {
      let event = try next()
      if case .mappingEnd = event.kind { break }
      let keyNode = try node(from: event, depth: depth + 1)
      let value = try node(from: try next(), depth: depth + 1)
      guard case .scalar(let key, _) = keyNode.content else {
        fault(keyNode.position, "a key must be a single value, not \(keyNode.kindName)")
        continue
      }
      if let line = firstLines[key] {
        fault(
          keyNode.position, "duplicate key \"\(key)\"", "the first is in line \(line)")
        continue
      }
      firstLines[key] = keyNode.position.line
      entries.append(YAMLEntry(key: key, keyPosition: keyNode.position, value: value))
    }
    return YAMLNode(content: .mapping(entries), position: start.position)
  }

  private mutating func next() throws(Unreadable) -> Event {
    var event = yaml_event_t()
    // SAFETY: the parser is initialized; the event is filled by libyaml, read below, and deleted at the end.
    guard yaml_parser_parse(parser, &event) == 1 else {
      recordProblem()
      throw Unreadable()
    }
    defer { yaml_event_delete(&event) }
    let position = SourcePosition(
      line: Int(event.start_mark.line) + 1, column: Int(event.start_mark.column) + 1)
    switch event.type {
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      // SAFETY: libyaml's value has `length` bytes, and lives until the event is deleted.
      let text = String(
        decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      return Event(
        kind: .scalar(text, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE), position: position,
        hasAnchor: scalar.anchor != nil, hasTag: scalar.tag != nil)
    case YAML_SEQUENCE_START_EVENT:
      let start = event.data.sequence_start
      return Event(
        kind: .sequenceStart, position: position, hasAnchor: start.anchor != nil, hasTag: start.tag != nil)
    case YAML_MAPPING_START_EVENT:
      let start = event.data.mapping_start
      return Event(
        kind: .mappingStart, position: position, hasAnchor: start.anchor != nil, hasTag: start.tag != nil)
    case YAML_SEQUENCE_END_EVENT: return Event(kind: .sequenceEnd, position: position)
    case YAML_MAPPING_END_EVENT: return Event(kind: .mappingEnd, position: position)
    case YAML_ALIAS_EVENT: return Event(kind: .alias, position: position)
    case YAML_DOCUMENT_START_EVENT: return Event(kind: .documentStart, position: position)
    case YAML_STREAM_END_EVENT, YAML_NO_EVENT: return Event(kind: .streamEnd, position: position)
    default: return Event(kind: .other, position: position)
    }
  }

  private mutating func fault(_ position: SourcePosition, _ message: String, _ suggestion: String? = nil) {
    faults.append(ConfigurationFault(.file(file, position), message, suggestion: suggestion))
  }

  /// libyaml's own words and place for what it could not read.
  private mutating func recordProblem() {
    // SAFETY: the parser is initialized, and its texts are constants of the library.
    let state = parser.pointee
    let problem = state.problem.map { String(cString: $0) } ?? "the text is not YAML"
    if state.error == YAML_READER_ERROR {
      fault(position(ofByte: Int(state.problem_offset)), problem)
      return
    }
    let mark = state.problem_mark
    let position = SourcePosition(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
    let context = state.context.map { String(cString: $0) + ": " } ?? ""
    let isTab = Int(mark.index) < text.count && character(at: Int(mark.index)) == "\t"
    fault(position, context + problem, isTab ? "YAML is indented with spaces; here is a tab" : nil)
  }

  /// libyaml counts characters, not bytes.
  private func character(at index: Int) -> Unicode.Scalar? {
    String(decoding: text, as: UTF8.self).unicodeScalars.dropFirst(index).first
  }

  private func position(ofByte offset: Int) -> SourcePosition {
    let before = text.prefix(offset)
    let lineStart = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    let line = before.reduce(1) { $1 == 0x0A ? $0 + 1 : $0 }
    return SourcePosition(
      line: line, column: String(decoding: before[lineStart...], as: UTF8.self).unicodeScalars.count + 1)
  }
}
